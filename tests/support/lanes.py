"""Servers of several lanes: `ZCSERVE_TEST_LANES=2` gives so many to each that a test starts and says nothing of lanes.

A test about the inner numbers of one lane says `lanes=1`. What has no lanes is not tested again: the Python engine, and
some modules.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import wraps
from typing import Any

import pytest

from zcserve import Config

# These are about the start, the walk, what is compressed, applications' modules and what a request means to them: no
# lane has a part in it.
_WITHOUT_LANES = {
    "test_compress_live", "test_environment", "test_examples", "test_hanging", "test_large_index", "test_memory_limit",
    "test_mounts_reload", "test_mounts_told", "test_odd_names", "test_servlets_against_werkzeug", "test_siblings",
    "test_soak", "test_types", "test_unseen_changes",
}  # fmt: skip
# The same of single tests: what ends before it serves.
_TESTS_WITHOUT_LANES = {
    "test_what_cannot_be_had_at_the_start_is_told_in_one_line", "test_what_cannot_be_is_one_line_and_exit_code_2",
    "test_what_cannot_be_meant_is_one_line_and_exit_code_2",
}  # fmt: skip
COUNT = int(os.environ.get("ZCSERVE_TEST_LANES", "1"))
IS_WANTED = COUNT > 1


def begin() -> None:
    """Have each configuration of an engine with lanes say so many from now on."""
    init = Config.__init__

    @wraps(init)
    def told(self: Config, *args: Any, **named: Any) -> None:
        lanes = {} if named.get("engine") == "python" else {"lanes": COUNT}
        init(self, *args, **lanes | named)

    Config.__init__ = told  # type: ignore[method-assign]


def ordered(lines: Sequence[str]) -> list[str]:
    """What two logs of the same requests have alike: with several lanes, the log's lines have an order within each."""
    return sorted(lines) if IS_WANTED else list(lines)


def environ(argv: Sequence[str]) -> dict[str, str]:
    """What tells a process with these flags."""
    return {"ZCSERVE_LANES": str(COUNT)} if IS_WANTED and "python" not in argv else {}


def may_have(item: pytest.Item) -> bool:
    """Whether a test is not one of the Python engine, nor of what lanes have no part in."""
    if item.path.stem in _WITHOUT_LANES or getattr(item, "originalname", None) in _TESTS_WITHOUT_LANES:
        return False
    callspec = getattr(item, "callspec", None)
    return callspec is None or "python" not in [value for value in callspec.params.values() if isinstance(value, str)]
