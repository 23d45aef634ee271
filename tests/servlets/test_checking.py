"""zcserve.servlets.checking: what a server would have besides files, and what of it does not load."""

from __future__ import annotations

import gc
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tests.support.begun import Begun
from tests.support.stage import write_servlet, write_servlets
from tests.support.waiting import WaitUntil
from zcserve import Config
from zcserve.errors import UsageError
from zcserve.servlets.checking import Checked, check


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    page = "def get(request):\n    return 'page'\n"
    return write_servlets(tmp_path, page=page, write=page)


@pytest.fixture
def mount(monkeypatch: pytest.MonkeyPatch) -> str:
    """A module with an application of WSGI."""

    def application(environ: Any, start_response: Any) -> list[bytes]:
        raise AssertionError("a check calls nothing")

    module = ModuleType("zcserve_test_checked")
    module.application = application  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, module.__name__, module)
    return module.__name__


def test_a_check_tells_what_there_is_and_what_does_not_load(
    tmp_path: Path, folder: Path, mount: str, wait_until: WaitUntil
) -> None:
    write_servlet(folder, "broken", "1 / 0\n")
    mounts = (f"/app={mount}:application", f"/no={mount}:absent")
    begun = Begun()
    told, (servlet, application), _ = check(Config(root=tmp_path, servlets=str(folder), mount=mounts))
    assert told == f"3 in {folder}, 1 of them broken; mounted {mounts[0]}; mounted {mounts[1]}"
    assert servlet == "servlets/broken.py:5: ZeroDivisionError: division by zero"
    assert application == f"mount {mounts[1]}: {mount} has no absent"
    gc.collect()
    wait_until(lambda: not begun.left())
    assert check(Config(root=tmp_path)) == Checked("", [], [])


def test_a_check_refuses_what_is_wrong_for_another_reason(tmp_path: Path, mount: str) -> None:
    with pytest.raises(UsageError, match="is not a directory"):
        check(Config(root=tmp_path, servlets=str(tmp_path / "absent")))
    twice = (f"/app={mount}:application",) * 2
    with pytest.raises(UsageError, match="for the same path"):
        check(Config(root=tmp_path, mount=twice))
