"""The content of a site, as its parts' tests share it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.support.contents import Shop, Show, Shown


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Callable[..., Shop]]:
    """`shop(files, **settings)`: a root with these files, and a builder for it."""
    with ExitStack() as stack:

        def open_one(files: dict[str, bytes], **settings: Any) -> Shop:
            made = Shop(tmp_path / "site", **settings)
            stack.callback(made.close)
            made.tree.plant(files)
            return made

        yield open_one


@pytest.fixture
def show(tmp_path: Path) -> Iterator[Show]:
    """`show(files, **settings)`: a root with these files, which is served."""
    with ExitStack() as stack:

        def open_one(files: dict[str, bytes], **settings: Any) -> Shown:
            made = Shown(tmp_path / "site", files, **settings)
            stack.callback(made.close)
            return made

        yield open_one
