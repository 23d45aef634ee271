"""tools.warm.merged, by laws: the order of sources does not matter, and older uses count less."""

from __future__ import annotations

import pytest

pytest.importorskip("hypothesis")

from hypothesis import given
from hypothesis import strategies as st

from tools.warm.merged import Merged, Worth, by_benefit
from zcserve.cache.heat import HALF_LIFE_S, decay

SOURCES = st.lists(
    st.tuples(
        st.sampled_from(["/a", "/b", "/c"]),
        st.integers(0, 1000),
        st.floats(0, 30 * HALF_LIFE_S),
        st.integers(0, 10_000),
    ),
    max_size=20,
)


def worth(sources: list[tuple[str, int, float, int]]) -> dict[str, Worth]:
    merged = Merged()
    for path, uses, at, size in sources:
        merged.add(path, uses, at, size)
    return {one.path: one for one in merged.worth()}


@given(SOURCES, st.randoms(use_true_random=False))
def test_the_order_of_sources_does_not_matter(sources: list[tuple[str, int, float, int]], random: object) -> None:
    mixed = list(sources)
    random.shuffle(mixed)  # type: ignore[attr-defined]
    one, other = worth(sources), worth(mixed)
    assert one.keys() == other.keys()
    for path, found in one.items():
        assert found.uses == pytest.approx(other[path].uses, rel=1e-9)
        assert found.bytes == other[path].bytes


@given(SOURCES)
def test_uses_are_the_sum_of_all_decayed_until_the_latest(sources: list[tuple[str, int, float, int]]) -> None:
    latest = max((at for _, _, at, _ in sources), default=0.0)
    for path, found in worth(sources).items():
        wanted = sum(uses * decay(latest - at) for name, uses, at, _ in sources if name == path)
        assert found.uses == pytest.approx(wanted, rel=1e-9)


@given(SOURCES)
def test_the_order_is_by_benefit_and_has_each_path_once(sources: list[tuple[str, int, float, int]]) -> None:
    order = by_benefit(iter(worth(sources).values()))
    assert sorted(one.path for one in order) == sorted({path for path, *_ in sources})
    assert [one.benefit for one in order] == sorted((one.benefit for one in order), reverse=True)


def test_times_that_lie_centuries_apart_are_no_trouble() -> None:
    times = (0.0, 1e10, 5.0, 1e10 - HALF_LIFE_S)
    found = worth([(f"/{number}", 8, at, 1) for number, at in enumerate(times)])
    assert [found[f"/{number}"].uses for number in range(4)] == pytest.approx([0, 8, 0, 4])
