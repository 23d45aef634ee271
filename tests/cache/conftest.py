"""A fresh directory to serve, and its stores closed afterwards."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.trees import Tree


@pytest.fixture
def tree(tmp_path: Path) -> Iterator[Tree]:
    """An empty root; every user may read it, with any umask."""
    path = tmp_path / "www"
    path.mkdir()
    path.chmod(0o755)
    made = Tree(path)
    yield made
    made.close()
