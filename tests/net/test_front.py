"""zcserve.net.front: the contract, what a front without a lane does, and which modules know that there are two.

What the fast lane does with each call stands in test_fastlane.py.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import zcserve
from zcserve.cache.entry import Entry
from zcserve.net.fastlane import KEYS_FORGOTTEN_MAX, FastLane, FastShelf
from zcserve.net.front import Front, Shelf
from zcserve.net.prefixes import Prefixes

PACKAGE = Path(zcserve.__file__).parent


def test_the_fast_lane_leaves_nothing_of_the_contract_undone() -> None:
    bound_when_made = {"poll", "take", "hash_seed"}
    assert contract_of(Front) - bound_when_made <= vars(FastLane).keys()
    assert contract_of(Shelf) <= vars(FastShelf).keys()


def contract_of(kind: type) -> set[str]:
    return {name for name in vars(kind) if not name.startswith("_")}


def test_only_the_fast_lane_knows_the_compiled_module() -> None:
    files = [file for file in PACKAGE.rglob("*.py") if re.search(r"import Lane\b|net\._lane", file.read_text())]
    assert sorted(file.name for file in files) == ["engine.py", "fastlane.py"]  # whether it is there, and what it does


def test_only_what_makes_a_server_asks_which_front_there_is() -> None:
    asks = re.compile(r"isinstance\([^)]*(FastLane|Poller)\)|\b(lane|teacher|front) is (not )?None")
    assert [file.name for file in PACKAGE.rglob("*.py") if asks.search(file.read_text())] == []


def test_a_front_without_a_lane_has_no_client_and_nothing_to_tell() -> None:
    front = Front()
    assert front.count(3) == 3
    assert (front.take(5), front.give(5, 0.0), front.shed(16)) == (None, False, 0)
    front.shelf(0).forget_keys([b"/a"] * 5000, 5000)
    assert (front.take_sightings(), front.descriptors()) == ([], [])
    assert front.running() == (None, 0)
    front.drop(Entry(b"/a", b"", 0, None))
    front.set_hosts({b"a.test": 1}, 0, None)
    front.drop_shelf(1)
    front.drain()
    front.end(idle_only=True)


class NotedLane:
    """A lane that notes what it is told."""

    all_count = 9
    hash_seed = 0
    poll = take = None

    numbers: Iterator[int]

    def __init__(self) -> None:
        self.told: list[tuple[object, ...]] = []

    def __getattr__(self, name: str) -> Callable[..., object]:
        return lambda *said: self.told.append((name, *said)) or ["given up"]


def fast() -> tuple[FastLane, NotedLane]:
    lane: Any = NotedLane()
    front = FastLane(lane, Prefixes(), None)
    lane.told.clear()
    return front, lane


def test_few_keys_are_forgotten_one_by_one_and_many_all_at_once() -> None:
    front, lane = fast()
    shelf = front.shelf(0)
    shelf.forget_keys([b"/a", b"/b"], 7)
    assert lane.told == [("void_leads", 0), ("forget_key", b"/a", 0), ("forget_key", b"/b", 0)]
    shelf.forget_keys([b"/a"] * (KEYS_FORGOTTEN_MAX + 1), 7)
    assert lane.told[3:] == [("void_leads", 0), ("clear", 7, 0)]


def test_a_site_has_the_lanes_number_and_one_that_is_gone_is_told_nothing() -> None:
    front, lane = fast()
    lane.numbers = iter((1, 2))
    lane.add_site = lambda: next(lane.numbers)  # type: ignore[attr-defined]
    shelves = [front.shelf(number) for number in (5, 7, 5, 9)]
    assert shelves[0] is shelves[2]
    front.set_hosts({b"a.test": 7, b"*.b.test": 9}, 5, None)
    assert lane.told == [("set_hosts", {b"a.test": 1, b"*.b.test": 2}, 0, None)]
    front.drop_shelf(7)
    front.drop_shelf(6)  # of which nothing was told
    shelves[1].forget_keys([b"/a"], 7)
    assert lane.told[1:] == [("drop_site", 1)]
    assert front.shelf(9) is shelves[3]
    front.shelf(7).forget_keys([b"/a"], 7)  # a request of the site that is gone may be under way: no shelf is made anew
    assert lane.told[2:] == []


def test_hosts_may_be_told_in_any_order_of_their_sites() -> None:
    front, lane = fast()
    lane.numbers = iter((1, 2))
    lane.add_site = lambda: next(lane.numbers)  # type: ignore[attr-defined]
    front.set_hosts({b"a.test": 8, b"*.b.test": 6}, 7, None)  # a start, at which no site was told of before
    assert lane.told == [("set_hosts", {b"a.test": 2, b"*.b.test": 0}, 1, None)]


def test_at_most_half_of_the_lanes_connections_are_shed() -> None:
    front, lane = fast()
    front.shed(16)
    front.shed(2)
    assert lane.told == [("shed", 5), ("shed", 2)]


def test_the_lane_is_told_a_peer_by_its_address() -> None:
    front, lane = fast()
    front.introduce(5, socket.AF_INET, "127.0.0.1")
    front.introduce(6, socket.AF_INET6, "::1")
    front.introduce(7, socket.AF_UNIX, "unix:")
    assert [address for _, _, _, address in lane.told] == [b"\x7f\0\0\1", bytes(15) + b"\1", b""]
