"""What a node finds of itself after a restart."""

from __future__ import annotations

import pytest

from zcserve.fleet.forms import FormError
from zcserve.fleet.messages import Desired, Release, Trial
from zcserve.fleet.node_memory import Memory

OLD = Release("www-7", 7, "a" * 64, "b" * 64, "https://origin.example/7/é")
NEW = Release("www-8", 8, "c" * 64, "d" * 64)


@pytest.mark.parametrize(
    "memory",
    [Memory(), Memory(Desired("www", 3, OLD, Trial(NEW, frozenset({"n1"}))), NEW, OLD, True), Memory(None, OLD)],
    ids=["new", "all", "live"],
)
def test_a_memory_is_read_as_it_was_written(memory: Memory) -> None:
    assert Memory.parse(memory.dump()) == memory


def test_the_memory_of_a_canary_among_a_thousand_has_room() -> None:
    names = frozenset(f"{number:063}" for number in range(1000))
    memory = Memory(Desired("w" * 63, 3, OLD, Trial(NEW, names)), NEW, OLD)
    assert Memory.parse(memory.dump()) == memory


@pytest.mark.parametrize("data", [b"", b'{"version": 1, "live": 3}', b'{"version": 1, "desired": "{}"}'], ids=repr)
def test_what_is_no_memory_is_refused(data: bytes) -> None:
    with pytest.raises(FormError):
        Memory.parse(data)
