"""One server's side of connections, as the tests of what runs on one share it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.house import House
from zcserve import Config
from zcserve.net.fastlane import judge


@pytest.fixture
def house(tmp_path: Path) -> Iterator[Callable[..., House]]:
    (tmp_path / "root").mkdir()
    made: list[House] = []

    def build(**settings: Any) -> House:
        made.append(House(tmp_path / "root", **settings))
        return made[-1]

    yield build
    for one in made:
        one.loop.close()


@pytest.fixture
def lane(tmp_path: Path) -> Iterator[Any]:
    """A lane with sites 0 to 8; tests that want another one have a fixture of their own."""
    made = pytest.importorskip("zcserve.net._lane").Lane(Config(root=tmp_path), False, judge)
    for _ in range(8):
        made.add_site()
    yield made
    made.close()
