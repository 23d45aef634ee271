"""Random redirects, and requests that they may answer (for hypothesis)."""

from __future__ import annotations

import re
from dataclasses import replace

from hypothesis import strategies as st

from tests.support import plain_rules as plain
from zcserve.http import canonical_of
from zcserve.rules.redirects import Redirect, parse_redirect
from zcserve.rules.where import RuleError, Where

SEGMENTS = ["a", "b", "ab", "A", ":x", ":y", ":x", "..", ".", "", "%61", "%C3%A9", "a.b", "x:y"]
ENDS = ["", "", "/", "/*", "/*", "/*/", "/a*", "/.*", "/*b", "/*.b", "/a*/b", "/*/b/", "*"]
CONSTANTS = ["", "/", "/a", "/a/", "/b?", "/a?b=1", "/%C3%A9/b#c", "/a/b", "https://c.example/a%2Fb"]
FILLED = ["/{}", "/a/{}", "/{}/b", "/x-{}.b", "/b/{}#{}", "/{}/{}", "/a?c={}", "/a?c={}&d={}", "https://c.example/{}"]
SEGMENT = st.sampled_from([b"a", b"b", b"ab", b"A", b"...", b"a..", b".b", b"x:y", b"*", b"%61"]) | st.binary(
    max_size=3
)
VALUES = ["1", "", ".", "..", "a%2Fb", "a/b", "%00", "a+b", "%0D%0Ax", "a%26b", "\u00e9", "%", "%ff", "a=b"]
PAIR = st.builds("{}{}{}".format, st.sampled_from([*"cccd", "e", ""]), st.sampled_from("=="), st.sampled_from(VALUES))
SENT = st.lists(PAIR | st.sampled_from(["c", "", "%63=1", "d=1"]), max_size=3).map("&".join)


@st.composite
def rules_of_a_site(draw: st.DrawFn) -> plain.Rule:
    """A rule whose target has names of its pattern, mostly."""
    parts = draw(st.lists(st.sampled_from(SEGMENTS), max_size=3))
    source = "".join(f"/{part}" for part in parts) + draw(st.sampled_from(ENDS))
    query: dict[str, str] = {}
    if not draw(st.integers(0, 2)):
        query = draw(st.dictionaries(st.sampled_from("cd"), st.sampled_from(["1", ":v", ""]), max_size=2))
    names = re.findall(r":[xyv](?!:)", source + "".join(query.values())) + [":splat"] * ("*" in source)
    target = draw(st.sampled_from(CONSTANTS))
    if names and not draw(st.booleans()):
        form = draw(st.sampled_from(FILLED))
        target = form.format(*(draw(st.sampled_from(names)) for _ in range(form.count("{}"))))
    status = draw(st.sampled_from([200, 301, 302, 308, 403, 404, 410, 451]))
    return plain.Rule(source, target, status, query, strict=not draw(st.integers(0, 3)))


RULES = st.lists(rules_of_a_site(), min_size=1, max_size=5)


@st.composite
def keys_for(draw: st.DrawFn, rules: list[plain.Rule]) -> bytes:
    """A key that the pattern of one of the rules may match, or any."""
    tail = st.lists(SEGMENT, max_size=3).map(b"/".join)
    path = draw(st.sampled_from([*(rule.source.encode() for rule in rules), b"/" + draw(tail)]))
    path = re.sub(rb"(?<=/):[xy]|[*]", lambda match: draw(tail if match[0] == b"*" else SEGMENT), path)
    return canonical_of(path.replace(b"%61", b"a").replace(b"\0", b""))


def parsed(rules: list[plain.Rule]) -> tuple[list[plain.Rule], list[Redirect]]:
    """The rules that are accepted, in both forms."""
    kept: list[tuple[plain.Rule, Redirect]] = []
    for number, rule in enumerate(rules):
        try:
            where = Where("_redirects", number + 1)
            found = parse_redirect(rule.source, rule.target, status=rule.status, query=rule.query, where=where)
        except RuleError:
            continue
        kept.append((rule, replace(found, is_strict=rule.strict)))
    return [rule for rule, _ in kept], [found for _, found in kept]
