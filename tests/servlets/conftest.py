"""Kitchens of results, closed afterwards."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.result_kitchen import Kitchen


@pytest.fixture
def kitchen(tmp_path: Path) -> Iterator[Kitchen]:
    kitchen = Kitchen(tmp_path)
    yield kitchen
    kitchen.close()


@pytest.fixture
def small_kitchen(tmp_path: Path) -> Iterator[Kitchen]:
    """With room for three results, one thread, and a queue of one before it."""
    kitchen = Kitchen(tmp_path, servlet_results_max=3, servlet_threads=1, servlet_queue_max=1)
    yield kitchen
    kitchen.close()
