"""What a lane remembers by a text (net/lane/memos.pxd): the site of a Host, and that a target is absent.

Whatever is remembered, an answer is the one that is found out anew.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.client import Client
from tests.support.driver import Driver, packed

Lane: Any = pytest.importorskip("zcserve.net._lane").Lane

PLACES = 4096
SITES = (b"one.test", b"two.test", b"else.test")


def get(host: bytes, target: bytes = b"/") -> bytes:
    return b"GET %s HTTP/1.1\r\nHost: %s\r\n\r\n" % (target, host)


# --- which site a host is for -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(lambda number: b"%d" % number, id="short"),
        pytest.param(lambda number: b"site%04d.example.org" % number, id="usual"),
        pytest.param(lambda number: b"a" * 9 + b"%05d" % number + b"b" * 36, id="of one hash"),
        pytest.param(lambda number: b"%05d" % number + b"a." * 52 + b"org", id="too long to be remembered"),
    ],
)
def test_each_of_more_hosts_than_are_remembered_is_for_its_own_site_whatever_sites_it_was_for(
    lane: Any, name: Callable[[int], bytes]
) -> None:
    names = [name(number) for number in range(PLACES + 500)]
    for shift in range(3):  # at each reload the names change hands
        sites = {host: (number + shift) % 8 for number, host in enumerate(names[shift:])}
        lane.set_hosts(sites, 0, 8)
        for some in (names, names[:300], names[:300]):
            assert [lane.site_of(get(host)) for host in some] == [sites.get(host, 8) for host in some]


def test_what_is_remembered_of_a_host_is_of_its_very_spelling(lane: Any) -> None:
    lane.set_hosts({b"a.test": 1, b"*.a.test": 2, b"a.test.test": 3}, 0, None)
    said = {
        b"a.test": 1, b"A.test": 1, b"a.test.": 1, b"a.test:80": 1, b"A.TEST.:8080": 1,
        b"a.test..": None, b"a.test:65536": None, b"b.a.test": 2, b".a.test": None,
        b"a.test.test": 3, b"a.tes": None, b"a.testt": None, b"a test": None, b"": 0,
    }  # fmt: skip
    for _ in range(3):
        assert {host: lane.site_of(get(host)) for host in said} == said
    lane.set_hosts({b"a.test": 4}, 5, 6)
    for _ in range(3):
        assert [lane.site_of(get(host)) for host in (b"a.test", b"b.a.test", b"")] == [4, 6, 5]


# --- what is absent ---------------------------------------------------------------------------------------------


class House:
    """A driver of three sites; what each has is taught when it is asked for."""

    def __init__(self, driver: Driver, lanes: int) -> None:
        self.driver, self.lane = driver, driver.lane
        self.has: list[set[bytes]] = [set(), set(), set()]
        for site in range(3):
            if site:
                self.lane.add_site()
            self.lane.know([[]], 0, site)
            self.lane.set_not_found(b"Content-Length: 1\r\n\r\n", b"%d" % site, site)
            self.lane.learn(lambda path, site=site: self._teach(path, site), site)
        self.lane.set_hosts(dict(zip(SITES, range(3), strict=True)), None, None)
        self.client = Client(driver.where if lanes == 1 else driver.add_lane())

    def _teach(self, path: bytes, site: int) -> None:
        if path in self.has[site]:
            entry = packed(b"%s of %d" % (path, site))
            entry.key = path
            self.lane.put(path, (entry,), site, any_query=True)

    def add(self, site: int, keys: set[bytes]) -> None:
        self.lane.void_leads(site)
        self.lane.add_keys(keys, site)
        self.has[site] |= keys

    def remove(self, site: int, keys: set[bytes]) -> None:
        self.lane.void_leads(site)
        self.lane.remove_keys(keys, site)
        self.has[site] -= keys

    def judge(self, asked: list[tuple[int, bytes]]) -> None:
        """Each gets what its site has now."""
        got = self.driver.ask(self.client, b"".join(get(SITES[site], path) for site, path in asked), len(asked))
        assert [(one.status, one.body) for one in got] == [
            (200, b"%s of %d" % (key, site)) if key in self.has[site] else (404, b"%d" % site)
            for site, key in ((site, path.partition(b"?")[0]) for site, path in asked)
        ]

    def settle(self) -> None:
        """Each lane has begun a turn since."""
        epoch = self.lane.await_lanes()
        self.driver.until(lambda: self.lane.has_passed(epoch))


@pytest.fixture(params=[1, 2])
def house(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[House]:
    """With one lane, and asked of the second of two."""
    driver = Driver(tmp_path)
    made = House(driver, request.param)
    yield made
    made.client.close()
    assert driver.taken == []
    driver.close()


def test_a_target_is_absent_until_its_key_comes_and_again_when_it_is_gone(house: House) -> None:
    asked = [(site, path) for site in range(3) for path in (b"/a", b"/a?q", b"/b")]
    for _ in range(2):
        for step in (house.judge, house.judge):
            step(asked)
        house.add(1, {b"/a"})
        house.settle()
        house.judge(asked * 2)
        house.remove(1, {b"/a"})
        house.settle()


def test_answers_are_those_of_what_there_is_whatever_was_asked_for_before(house: House) -> None:
    rng = random.Random(5)
    keys = [b"/%d/page" % number for number in range(30)]
    for _ in range(60):
        house.judge([(rng.randrange(3), rng.choice(keys) + rng.choice([b"", b"", b"?q"])) for _ in range(40)])
        change = rng.choice([house.add, house.remove])
        change(rng.randrange(3), set(rng.sample(keys, rng.choice([1, 5]))))
        house.settle()


def test_a_crawl_of_ever_new_paths_changes_no_answer(house: House) -> None:
    house.add(0, {b"/page"})
    for first in range(0, PLACES + 1000, 50):
        house.judge([(0, b"/new/%d" % (first + number)) for number in range(50)] + [(0, b"/page"), (0, b"/none")])
    house.judge([(0, b"/new/%d" % number) for number in range(50)])


def test_a_page_for_what_is_absent_is_the_one_that_was_set_last(house: House) -> None:
    house.judge([(0, b"/a")] * 2)
    house.lane.set_not_found(b"Content-Length: 5\r\n\r\n", b"other", 0)
    house.settle()
    assert house.driver.ask(house.client, get(SITES[0], b"/a"))[0].body == b"other"


@pytest.mark.parametrize("lanes", [1, 2])
def test_what_an_application_may_own_is_no_longer_called_absent(tmp_path: Path, lanes: int) -> None:
    driver = Driver(tmp_path)
    house = House(driver, lanes)
    house.judge([(0, b"/app/a"), (0, b"/other")] * 2)
    house.lane.consult(None, ({b"app"}, -1, 1.0, None), 0)
    house.settle()
    house.judge([(0, b"/other"), (1, b"/app/a")])
    house.client.send(get(SITES[0], b"/app/a"))
    assert driver.next_taken()[1][1] == get(SITES[0], b"/app/a")
    house.client.close()
    driver.close()
