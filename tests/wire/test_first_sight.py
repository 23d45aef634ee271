"""Files that are asked for for the first time while they change, come and go: each answer is as old as it may be.

The fast lane finds such a file in Python without a hand-over (net/lane/finding.pxd), and forgets it when it changes:
so each change makes it a first sight again. Both engines are asked the same.
"""

from __future__ import annotations

import random
from pathlib import Path

from tests.support.client import Client
from tests.support.following import Known, asking, checked, publish
from tests.support.site import Serve, Site
from tests.support.waiting import WaitUntil
from zcserve import Server
from zcserve.cache.entry import Entry
from zcserve.net.fastlane import FastLane

FILES = 200


def share_of_lane(server: Server, requests: int) -> float:
    """Which share of the requests the fast lane has answered; 1, too, where there is none."""
    front = server.loop.front
    return front.lane.requests / requests if isinstance(front, FastLane) else 1.0


class Crawl:
    """Clients that ask for files at random, and what each answer has to be at least."""

    def __init__(self, server: Server, clients: int) -> None:
        self.least = [0] * FILES  # of each file no older version is served
        self.may_miss = [False] * FILES  # it is gone, or on its way
        self.requests = 0
        self._clients = [(Client(server.port), random.Random(number)) for number in range(clients)]

    def ask(self, number: int) -> None:
        """Ask for one file, and judge the answer."""
        client, rng = self._clients[number]
        file = rng.randrange(FILES)
        least, missed = self.least[file], self.may_miss[file]
        answer = client.get(f"/d/{file}" + rng.choice(("", "", "?v=1")))
        self.requests += 1
        if answer.status != 404:
            name, version = checked(answer).body.split()[:2]
            assert (int(name), int(version) >= least) == (file, True)
        else:
            assert missed or self.may_miss[file]

    def close(self) -> None:
        """Close the clients."""
        for client, _ in self._clients:
            client.close()


def content(file: int, version: int) -> bytes:
    """A version of a file, as large as no other one of it."""
    return b"%d %d " % (file, version) + b"x" * version


def test_no_answer_is_older_than_what_was_served_before(site: Site, live: Serve, known: Known) -> None:
    rng = random.Random(3)
    for file in range(FILES):
        site.write(f"d/{file}", content(file, 0))
    server = live(site.root)
    crawl = Crawl(server, 3)
    with asking(3, crawl.ask):
        for version in range(1, 25):
            files = rng.sample(range(FILES), 20)
            for file in files:
                path = site.root / f"d/{file}"
                if path.exists() and rng.random() < 0.3:
                    crawl.may_miss[file] = True
                    path.unlink()
                else:
                    publish(path, content(file, version))
            known(server)
            for file in files:
                crawl.least[file] = version
                crawl.may_miss[file] = not (site.root / f"d/{file}").exists()
    crawl.close()
    assert share_of_lane(server, crawl.requests) > 0.9


def test_no_answer_is_of_an_older_release_than_the_one_that_is_served(
    tmp_path: Path, live: Serve, known: Known, wait_until: WaitUntil
) -> None:
    def release(version: int) -> None:
        (tmp_path / f"{version}" / "d").mkdir(parents=True)
        for file in range(FILES):
            (tmp_path / f"{version}" / f"d/{file}").write_bytes(content(file, version))
        (tmp_path / "next").symlink_to(f"{version}")
        (tmp_path / "next").rename(tmp_path / "current")

    release(0)
    server = live(tmp_path / "current", keep_generations=1)
    crawl = Crawl(server, 2)
    with asking(2, crawl.ask):
        for version in range(1, 5):
            release(version)
            wait_until(lambda version=version: server.content.counters.flips >= version)
            known(server)
            crawl.least = [version] * FILES
    crawl.close()
    assert share_of_lane(server, crawl.requests) > 0.9


def test_a_crawl_of_more_than_fits_holds_on_to_nothing_that_was_evicted(
    site: Site, live: Serve, wait_until: WaitUntil
) -> None:
    for file in range(FILES):
        site.write(f"d/{file}", b"%d 0 " % file + bytes(15_000))
    server = live(site.root, memory=1 << 20)
    crawl = Crawl(server, 3)
    with asking(3, crawl.ask):
        wait_until(lambda: crawl.requests > 3 * FILES)
    crawl.close()
    assert server.store.evictions > FILES
    assert server.store.committed <= server.store.budget
    front = server.loop.front
    if isinstance(front, FastLane):
        entries = [one for one in server.site.live.resources.values() if isinstance(one, Entry)]
        wait_until(lambda: not any(front.lane.holds(entry) for entry in entries if entry.body is None))
