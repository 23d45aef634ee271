"""tools/sanitize.py: the race that it plants can be planted, and a flood's clients find wrong bytes."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.support import flood
from tests.support.client import Response
from tests.support.following import tag_of
from tools.sanitize import CHECKOUT, PLANTED, TESTS, plant

UNITS = CHECKOUT / "zcserve/net/lane"


@pytest.mark.parametrize("planted", PLANTED)
def test_what_a_planted_race_is_made_from_stands_in_the_lane(tmp_path: Path, planted: str) -> None:
    name, right, wrong = PLANTED[planted]
    shutil.copy(UNITS / name, tmp_path)
    plant(tmp_path, name, right, wrong)
    assert wrong in (tmp_path / name).read_text()
    with pytest.raises(SystemExit, match="plant another race"):
        plant(tmp_path, name, right, wrong)


@pytest.mark.parametrize("test", TESTS)
def test_the_tests_that_run_in_the_build_exist(test: str) -> None:
    assert (CHECKOUT / test).exists()


class Told:
    """A client that is answered with the next of these bodies."""

    def __init__(self, *bodies: bytes) -> None:
        self.bodies = list(bodies)

    def get(self, *_: Any, **__: Any) -> Response:
        body = self.bodies.pop(0)
        return Response(200, [(b"etag", tag_of(body))], body, b"")


def look_at(*bodies: bytes) -> None:
    """Have a client of a flood ask for the file "a", and be answered with each of these."""
    client: Any = Told(*bodies)
    asked = flood.Asked(client, Counter())
    for body in bodies:
        asked.look("a", len(body))


def test_a_client_of_a_flood_takes_whole_versions_in_their_order() -> None:
    look_at(flood.content("a", 1, 100), flood.content("a", 1, 100), flood.content("a", 2, 100))


@pytest.mark.parametrize(
    ("bodies", "wrong"),
    [
        ([flood.content("a", 2, 100), flood.content("a", 1, 100)], "1 after 2"),
        ([flood.content("a", 1, 50) + flood.content("a", 2, 100)[50:]], "mixed"),
        ([flood.content("b", 1, 100)], "mixed"),
    ],
)
def test_a_client_of_a_flood_finds_what_is_older_and_what_is_mixed(bodies: list[bytes], wrong: str) -> None:
    with pytest.raises(AssertionError, match=wrong):
        look_at(*bodies)
