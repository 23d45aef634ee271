"""The benchmark of growth: its figures, and one run that is small but real."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from tools.bench import million
from tools.bench.content import keep_tree
from tools.bench.million import SIZES, Growth, Reload, Served, look_ups, run_million, table
from tools.bench.peers import zcserve

SMALL = Growth(
    files=1000,
    content_bytes=1_000_000,
    tar_s=0.1,
    ready_s=0.4,
    empty_ready_s=0.2,
    memory_bytes=11_800_000,
    empty_memory_bytes=10_000_000,
    reloads=(Reload(0.01, 0.001), Reload(0.03, 0.003)),
    served={"python": Served(12_000_000, 10.0)},
    dict_ns=100.0,
    table_ns=None,
)


def figures(*done: Growth) -> dict[str, tuple[str, ...]]:
    """The values of each line by its name."""
    return {row[0]: row[2:] for row in table(done).rows}


def test_figures_are_of_a_file_and_of_a_start() -> None:
    found = figures(SMALL)
    assert found["start / tar"][0] == "4.00"
    assert found["memory a file beyond its content"][0] == "800"
    assert found["memory a file, each asked for once, python"][0] == "1,000"
    assert found["reload, 1% changed"][0] == "0.020"
    assert found["reload / start"][0] == "5.0"
    assert found["longest wait for an answer meanwhile"][0] == "2.0"
    assert found["look-up in the lane's table"][0] == "-"


def test_growth_is_the_last_against_the_first() -> None:
    large = replace(SMALL, files=100_000, dict_ns=130.0)
    assert figures(SMALL, large)["look-up in the index"] == ("100", "130", "1.30")
    assert table([SMALL, large]).columns == ("figure", "unit", "1,000 files", "100,000 files", "last / first")


@pytest.mark.skipif(shutil.which("wrk") is None, reason="no wrk")
def test_a_small_tree_is_measured_and_left_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(million, "AFTERMATH_S", 0.3)
    tree = keep_tree(tmp_path / "250", 250, SIZES)
    before = [(tree.root / path[1:]).read_bytes() for path in tree.paths]
    (done,) = run_million({"python": zcserve("--engine", "python")}, [250], kept=tmp_path, seconds=1)
    assert done.files == 250
    assert done.content_bytes == sum(map(len, before))
    assert all(500 <= len(content) <= 1500 for content in before)
    assert [(tree.root / path[1:]).read_bytes() for path in tree.paths] == before
    assert len(done.reloads) == 2
    assert done.served["python"].cpu_us > 0


def test_look_ups_are_timed_in_a_process_of_their_own(tmp_path: Path) -> None:
    tree = keep_tree(tmp_path / "tree", 20)
    assert look_ups(tree.root, tree.paths)[0] > 0
