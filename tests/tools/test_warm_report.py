"""The findings in words."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools.warm.loading import load_root
from tools.warm.progress import bar
from tools.warm.report import text_of
from zcserve import Config


@pytest.mark.parametrize(
    ("done", "expected"),
    [
        (0, f"[{'.' * 30}]   0%  0 of 60"),
        (30, f"[{'#' * 15}{'.' * 15}]  50%  30 of 60"),
        (60, f"[{'#' * 30}] 100%  60 of 60"),
    ],
)
def test_the_bar_grows_with_what_is_done(done: int, expected: str) -> None:
    assert bar(done, 60) == expected


def test_the_table_names_what_would_not_fit(tree: Path) -> None:
    text = text_of(load_root(Config(root=tree, memory=64 << 10), []), 20)
    assert "would not fit: 1\n  /large.bin: 100.0 KiB" in text
    assert text.splitlines()[2].split()[:3] == ["class", "files", "bytes"]
    assert "\nall " in text


def test_of_an_empty_root_there_is_nothing_to_tell(tmp_path: Path) -> None:
    assert text_of(load_root(Config(root=tmp_path), []), 20).endswith("\nnothing to serve")


def test_of_many_only_so_many_are_named(tmp_path: Path) -> None:
    for number in range(5):
        (tmp_path / f"{number}.bin").write_bytes(bytes(40_000))
    text = text_of(load_root(Config(root=tmp_path, memory=16 << 10), []), 2)
    assert "would not fit: 5\n  /0.bin: 39.1 KiB\n  /1.bin: 39.1 KiB\n  and 3 more" in text


def test_a_line_that_names_nothing_cannot_play_with_the_terminal(tree: Path) -> None:
    text = text_of(load_root(Config(root=tree), [b"/index.html", b"/gone\x1b.html"]), 20)
    assert "listed, but not there: 1\n  '/gone\\x1b.html'" in text
