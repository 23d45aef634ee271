"""Laws of zcserve.rules.protected: what is compiled is what a plain reading of the rules says, and nothing less."""

from __future__ import annotations

import pytest

pytest.importorskip("hypothesis")
from hypothesis import given
from hypothesis import strategies as st

from zcserve.auth.users import Users
from zcserve.config.globs import parse_glob
from zcserve.config.tables import Table
from zcserve.http import canonical_path, encode_path
from zcserve.paths import decoded
from zcserve.rules.compiled import Rules
from zcserve.rules.protected import Protection, Protections

SEGMENTS = ("a", "b", "a b", "é", "x.gz", "a.csv", "*", "**", "a*", "?")
GLOBS = st.builds(
    lambda slash, parts, end: slash + "/".join(parts) + end,
    st.sampled_from(["/", ""]),
    st.lists(st.sampled_from(SEGMENTS), min_size=1, max_size=3),
    st.sampled_from(["", "/", ".gz"]),
)
RULES = st.lists(st.tuples(st.lists(GLOBS, min_size=1, max_size=2), st.booleans()), min_size=1, max_size=4)
PATHS = st.builds(
    lambda parts, end: "/" + "/".join(parts) + end,
    st.lists(st.sampled_from(["a", "b", "a b", "é", "x.gz", "a.csv", "ab", "x"]), max_size=3),
    st.sampled_from(["", "/", ".gz", ".br"]),
)


def first(rules: list[tuple[list[str], bool]], path: str) -> int | None:
    """The first rule of which a glob matches, by the globs themselves."""
    return next(
        (number for number, (globs, _) in enumerate(rules) if any(parse_glob(one).fullmatch(path) for one in globs)),
        None,
    )


@given(RULES, PATHS)
def test_the_first_rule_that_matches_decides_and_the_front_is_told_of_its_first_segment(
    rules: list[tuple[list[str], bool]], path: str
) -> None:
    made = [
        Protection(tuple(globs), str(number), None if is_open else Users({b"a": "hash"}), Table({}, ("auth", number)))
        for number, (globs, is_open) in enumerate(rules)
    ]
    compiled = Rules(protections=Protections(made))
    key = canonical_path(encode_path(path.encode()))
    asks = compiled.protection(key)
    exact = first(rules, decoded(key))
    if exact is not None and not rules[exact][1]:
        assert asks is made[exact]
    elif asks is not None:  # of what it is another name of
        others = [decoded(key) + "/", *(decoded(key).removesuffix(ending) for ending in (".gz", ".br", ".zst"))]
        assert any(first(rules, other) == made.index(asks) for other in others)
    if asks is not None:
        assert asks.users is not None
        assert compiled.first_segments is None or key.split(b"/")[1] in compiled.first_segments
        assert compiled.fields_of(key).is_private
