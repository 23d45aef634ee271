"""Heat, by laws: how uses are divided among looks does not matter, and bands lose nothing."""

from __future__ import annotations

from itertools import pairwise

import pytest

pytest.importorskip("hypothesis")

from hypothesis import given
from hypothesis import strategies as st

from zcserve.cache.entry import Entry
from zcserve.cache.heat import FORGOTTEN_BELOW, Heat, decay, in_bands

USES = st.lists(st.tuples(st.floats(0, 40_000), st.integers(0, 1000)), max_size=12)


def heat_of(steps: list[tuple[float, int]], at: float) -> float:
    """Of one file that is used so often each time, by looks at these times."""
    heat, entry = Heat(), Entry(b"/a", b"", 1, None)
    heat.at = 0.0
    for time, uses in steps:
        entry.uses += uses
        list(heat.look([entry], time))
    list(heat.look([entry], at))
    return heat.of(b"/a")


@given(USES)
def test_heat_is_the_sum_of_all_uses_each_decayed_by_its_age(steps: list[tuple[float, int]]) -> None:
    steps = sorted(steps)
    at = steps[-1][0] if steps else 0.0
    wanted = sum(uses * decay(at - time) for time, uses in steps)
    # What is below the bound at a look is forgotten then.
    assert heat_of(steps, at) == pytest.approx(wanted, rel=1e-6, abs=FORGOTTEN_BELOW * (len(steps) + 1))


@given(USES, st.lists(st.floats(0, 40_000), max_size=5))
def test_more_looks_change_nothing(steps: list[tuple[float, int]], more: list[float]) -> None:
    at = max([time for time, _ in steps] + more + [0.0])
    looks = [*steps, *((time, 0) for time in more)]
    assert heat_of(sorted(looks), at) == pytest.approx(heat_of(sorted(steps), at), rel=1e-6, abs=FORGOTTEN_BELOW * 20)


@given(st.lists(st.tuples(st.integers(0, 100), st.floats(0, 1000)), max_size=600), st.integers(0, 20_000))
def test_bands_have_each_file_once_and_what_fits_by_its_benefit(files: list[tuple[int, float]], room: int) -> None:
    entries = [Entry(b"/%d" % number, b"", size, None) for number, (size, _) in enumerate(files)]
    uses = {entry.key: used for entry, (_, used) in zip(entries, files, strict=True)}
    bands = in_bands(entries, lambda entry: uses[entry.key], lambda entry: entry.size, room)
    assert sorted(entry.key for band in bands for entry in band) == sorted(uses)
    *hot, rest = bands
    assert sum(entry.size for band in hot for entry in band) <= room
    assert all(uses[entry.key] for band in hot for entry in band)
    benefits = [[uses[entry.key] / (entry.size or 1) for entry in band] for band in hot]
    assert all(min(one) >= max(other) for one, other in pairwise(benefits))
    left = room - sum(entry.size for band in hot for entry in band)
    assert all(entry.size > left for entry in rest if uses[entry.key])
