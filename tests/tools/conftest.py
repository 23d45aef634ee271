"""The tree that the tests of the warmer load, or have a server serve."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from tests.support.lying import PAGE


@pytest.fixture(autouse=True)
def _few_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """A benchmark's 5,000 files are written for each of its runs: longer than a test's run lasts."""
    monkeypatch.setattr("tools.bench.rounds.FILES", 200)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A small site: an index, a directory with one, a file with a sibling, names that need encoding."""
    root = tmp_path / "root"
    (root / "sub").mkdir(parents=True)
    (root / "index.html").write_bytes(PAGE)
    (root / "sub" / "index.html").write_bytes(b"below")
    (root / "style.css").write_bytes(b"p { color: red }\n" * 100)
    (root / "style.css.gz").write_bytes(gzip.compress(b"p { color: red }\n" * 100))
    (root / "a b.txt").write_bytes(b"spaced")
    (root / "100%.txt").write_bytes(b"percent")
    (root / "\xe4.svg").write_bytes(b"<svg/>")
    (root / "large.bin").write_bytes(bytes(range(256)) * 400)
    (root / "empty.json").write_bytes(b"")
    return root
