"""Servers of several lanes: `ZCSERVE_TEST_LANES=2` gives so many to each that a test starts and says nothing of lanes.

A test about the inner numbers of one lane says `lanes=1`. What has no lanes, the Python engine, is not tested again.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import wraps
from typing import Any

import pytest

from zcserve import Config

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


def environ(argv: Sequence[str]) -> dict[str, str]:
    """What tells a process with these flags."""
    return {"ZCSERVE_LANES": str(COUNT)} if IS_WANTED and "python" not in argv else {}


def may_have(item: pytest.Item) -> bool:
    """Whether a test is not one of the Python engine."""
    callspec = getattr(item, "callspec", None)
    return callspec is None or "python" not in [value for value in callspec.params.values() if isinstance(value, str)]
