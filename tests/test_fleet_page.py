"""docs/fleet.md keeps its promise: typing its walk gives three nodes, and each line prints what the page says."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from tests.support import typed

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "fleet.md").read_text()
WALK = PAGE.partition("## From nothing to three nodes")[2].partition("\n## ")[0]

# The walk takes some 5 s of processor time: 38 s of a clock on two cores with a load of 38.
WALK_WITHIN_S = 150.0


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_three_nodes_come_from_nothing_as_the_page_says(tmp_path: Path) -> None:
    pytest.importorskip("cryptography")
    pytest.importorskip("urllib3")
    typed.programs(tmp_path / "bin", zcserve="-m zcserve", python="")
    shutil.copytree(ROOT / "www", tmp_path / "www")
    # `pip install .` leaves this in the checkout: the walk must not release it.
    (tmp_path / "build" / "lib").mkdir(parents=True)
    (tmp_path / "tools").symlink_to(ROOT / "tools")
    environ = {"PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
    # A network of this process's own: the page's ports are free there, whatever else runs.
    network = f"127.{64 + os.getpid() // 250 % 128}.{os.getpid() % 250 + 1}."
    walk = typed.commands_of(WALK)
    assert len(walk) == 21
    assert typed.astray(walk, tmp_path, {"127.0.0.": network}, environ, WALK_WITHIN_S) == []
