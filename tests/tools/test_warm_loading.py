"""A root loaded without a socket: what is resident, and what did not fit."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tools.warm.loading import load_root
from zcserve import Config


def make_many(root: Path, count: int, size: int) -> list[str]:
    """`count` different pages of `size` bytes, which compress to about half; their names."""
    root.mkdir()
    for number in range(count):
        (root / f"{number:03}.html").write_text(random.Random(number).randbytes(size // 2).hex())
    return [f"/{number:03}.html" for number in range(count)]


@pytest.mark.parametrize("size", [3_000, 30_000], ids=["small", "large"])
@pytest.mark.parametrize("compress", [False, True])
def test_what_is_listed_is_resident_when_not_all_fits(tmp_path: Path, size: int, compress: bool) -> None:
    names = make_many(tmp_path / "root", 60, size)
    listed = names[:20:-8]  # from the walk's end, which a plain load would not reach
    config = Config(root=tmp_path / "root", memory=25 * (size + 1_500) + 60 * 700, compress=compress)
    report = load_root(config, [name.encode() for name in listed])
    left_out = {one.path for one in report.left_out if not one.coding}
    assert left_out, "the budget holds everything: nothing is tested"
    assert not left_out & set(listed)
    assert report.committed <= report.budget


def test_a_list_that_does_not_fit_loses_its_end(tmp_path: Path) -> None:
    names = make_many(tmp_path / "root", 40, 30_000)[::-1]
    report = load_root(Config(root=tmp_path / "root", memory=400_000), [name.encode() for name in names])
    left_out = [one.path for one in report.left_out]
    assert 20 < len(left_out) < 40
    assert sorted(left_out) == sorted(names[-len(left_out) :])


def test_a_listed_file_larger_than_may_be_resident_displaces_nothing(tree: Path) -> None:
    report = load_root(Config(root=tree, memory=160 * 1024), [b"index.html", b"large.bin", b"style.css"])
    assert [one.path for one in report.left_out] == ["/large.bin"]
