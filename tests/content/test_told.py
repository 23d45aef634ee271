"""zcserve.content.told: what became of the content, in words."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.support.contents import Shop
from zcserve.cache.index import Problem
from zcserve.cache.preload import Preloaded
from zcserve.content.told import (
    PROBLEMS_NAMED_MAX,
    loading,
    report_problems,
    resident,
    tell_problems,
    warn_of_memory,
)

MIB = 1 << 20


def problems(count: int) -> list[Problem]:
    return [Problem(f"file{number}", "is no good") for number in range(count)]


def test_progress_is_told_in_files_and_percent() -> None:
    assert loading(1, 3) == "loading   1 of 3 files (33%)"


@pytest.mark.parametrize(
    ("count", "named", "more"),
    [(0, 0, []), (1, 1, []), (PROBLEMS_NAMED_MAX, PROBLEMS_NAMED_MAX, []),
     (PROBLEMS_NAMED_MAX + 2, PROBLEMS_NAMED_MAX, ["and 2 more"])],
)  # fmt: skip
def test_some_problems_are_named_and_the_rest_is_counted(
    count: int, named: int, more: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    tell_problems(problems(count))
    assert caplog.messages == [f"file{number}: is no good" for number in range(named)] + more
    caplog.clear()
    report_problems(problems(count))
    last = ["not served as they lie there: " + ("1 file" if count == 1 else f"{count} files")] if count else []
    assert caplog.messages[named:] == more + last


@pytest.mark.parametrize(
    ("report", "told"),
    [
        (Preloaded(3, 3 * MIB, 3, 3 * MIB), "3 resident (3.0 MiB)"),
        (Preloaded(5, 3 * MIB, 5, 3 * MIB, 2, 2), "3 resident with 2 variants (3.0 MiB)"),
        (Preloaded(3, 3 * MIB, 1, 1 * MIB), "1 resident (1.0 MiB), 2 stay on disk until asked for (2.0 MiB)"),
        (
            Preloaded(7, 9 * MIB, 3, 4 * MIB, 4, 1),
            "2 resident with 1 variant (4.0 MiB), 1 and 3 variants stay on disk until asked for (5.0 MiB)",
        ),
    ],
)
def test_what_is_in_memory_is_told_with_its_variants_and_what_stays_out(report: Preloaded, told: str) -> None:
    assert resident(report) == told


def test_too_little_memory_is_told_where_something_stays_out(
    shop: Callable[..., Shop], caplog: pytest.LogCaptureFixture
) -> None:
    store = shop({}, memory=MIB).store
    store.count_index(0, MIB // 2)
    warn_of_memory(store, Preloaded(10, 9 * MIB, 10, 9 * MIB))
    assert caplog.messages == []
    warn_of_memory(store, Preloaded(12, 9 * MIB, 1, MIB, 2, 1))
    (told,) = caplog.messages
    assert "the entries of 10 files take" in told  # variants are no files of their own
    store.count_index(0, 0)
    caplog.clear()
    warn_of_memory(store, Preloaded(10, 9 * MIB, 1, MIB))
    assert caplog.messages == []
