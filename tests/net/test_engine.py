"""zcserve.net.engine: which engine answers, and with how many lanes; where there is no lane, why."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

from zcserve import Config
from zcserve.errors import UsageError
from zcserve.net.engine import HERE, is_native, lanes_of, why_not_native


def test_where_the_lane_is_not_built_auto_is_python_and_native_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "zcserve.net._lane", None)
    assert not is_native(Config(root=tmp_path, engine="auto"))
    assert not is_native(Config(root=tmp_path, engine="python"))
    with pytest.raises(UsageError, match=r"^engine: native is not built here: .*, or use --engine auto or python$"):
        is_native(Config(root=tmp_path, engine="native"))


@pytest.mark.parametrize(
    ("file", "why"),
    [
        (None, "there was no C compiler when zcserve was installed"),
        ("_lane.cpython-39-none.so", "_lane.cpython-39-none.so is for another Python, this is "),
        ("_lane.so", "_lane.so cannot be loaded ("),
    ],
)
def test_what_is_wrong_with_a_lane_is_told_by_its_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file: str | None, why: str
) -> None:
    monkeypatch.setitem(sys.modules, "zcserve.net._lane", None)
    if file is not None:
        (tmp_path / file).touch()
    assert f"native is not built here: {why}" in why_not_native(tmp_path)


def test_a_lane_that_is_not_of_the_sources_beside_it_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without sources, as where only what is compiled was installed, there is nothing to compare."""
    pytest.importorskip("zcserve.net._lane")
    shutil.copytree(HERE, tmp_path / "net", ignore=shutil.ignore_patterns("*.so", "*.c", "*.py", "__pycache__"))
    assert why_not_native() == why_not_native(tmp_path / "net") == why_not_native(tmp_path) == ""
    with (tmp_path / "net/lane/text.pxd").open("a") as unit:
        unit.write("# changed\n")
    assert "_lane.cpython" in why_not_native(tmp_path / "net")
    assert "was compiled from other sources than those beside it; have a C compiler" in why_not_native(tmp_path / "net")
    monkeypatch.delattr("zcserve.net._lane.sources")  # one that was built before this was compared
    with pytest.raises(UsageError, match="was compiled from other sources"):
        is_native(Config(root=tmp_path, engine="native"))


def test_several_lanes_with_the_python_engine_are_refused_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"^lanes: 2 need the native engine: --engine python has one loop; or use "):
        lanes_of(Config(root=tmp_path, lanes=2, engine="python"))
    asked: tuple[Any, ...] = (1, "auto")
    assert [lanes_of(Config(root=tmp_path, lanes=count, engine="python")) for count in asked] == [1, 1]


def test_several_lanes_are_refused_where_the_lane_is_not_built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "zcserve.net._lane", None)
    with pytest.raises(UsageError, match=r"^lanes: 2 need the native engine: native is not built here: .*pip install"):
        lanes_of(Config(root=tmp_path, lanes=2))
    asked: tuple[Any, ...] = (1, "auto")
    assert [lanes_of(Config(root=tmp_path, lanes=count)) for count in asked] == [1, 1]
