"""Requests made to break the budget: scans, files larger than it, everything in flight at once; and what is pinned.

Whatever is asked for, in whatever order, what is committed stays within the budget at all times, and every body that
arrives is right.
"""

from __future__ import annotations

import random
import threading
import zlib

import pytest

from tests.support.client import Client
from tests.support.command import StartCommand
from tests.support.connections import connections_of
from tests.support.eviction import PAIRS, POLICIES, entry_of, within_budget
from tests.support.site import Serve, Site
from tests.support.waiting import WaitUntil
from zcserve import Server
from zcserve.net.states import State

KIB, MIB = 1 << 10, 1 << 20
BUDGET = 2 * MIB


def plant(site: Site, total: int, sizes: tuple[int, int], seed: int = 1) -> dict[str, bytes]:
    """Files of `total` bytes together: target -> content."""
    rng = random.Random(seed)
    made: dict[str, bytes] = {}
    while total > 0:
        content = rng.randbytes(rng.randint(*sizes))
        path = f"d{len(made) % 5}/f{len(made)}.bin"
        site.write(path, content)
        made[f"/{path}"] = content
        total -= len(content)
    return made


@pytest.mark.parametrize(("policy", "engine"), PAIRS)
def test_a_scan_of_ten_times_the_budget(site: Site, serve: Serve, policy: str, engine: str) -> None:
    contents = plant(site, 10 * BUDGET, (500, 200 * KIB))
    server = serve(site.root, memory=BUDGET, evict=policy, engine=engine)
    with within_budget(server), Client(server.port) as client:
        for _ in range(2):
            wrong = [target for target, content in contents.items() if client.get(target).body != content]
            assert wrong == []
    assert server.store.evictions > len(contents)


@pytest.mark.parametrize("policy", ["sieve", "s3-fifo"])
def test_a_scan_does_not_displace_what_was_asked_for_again(site: Site, serve: Serve, policy: str) -> None:
    # To be sent because it was loaded is no hit, or all that a scan brings in would count as used again. The native
    # engine tells of its hits once a second.
    contents = plant(site, 10 * BUDGET, (500, 100 * KIB))
    used = list(contents)[:8]
    server = serve(site.root, memory=BUDGET, evict=policy, engine="python")
    with Client(server.port) as client:
        for target in used * 4:
            assert client.get(target).body == contents[target]
        for target in contents:
            if target not in used:
                client.get(target)
    assert server.store.evictions > 200
    assert None not in [entry_of(server, target).body for target in used]


@pytest.mark.parametrize("policy", POLICIES)
def test_scans_from_many_clients_at_once(site: Site, serve: Serve, policy: str) -> None:
    contents = plant(site, 5 * BUDGET, (500, 100 * KIB))
    server = serve(site.root, memory=BUDGET, evict=policy)
    faults: list[str] = []

    def scan(seed: int) -> None:
        targets = list(contents)
        random.Random(seed).shuffle(targets)
        try:
            with Client(server.port) as client:
                faults.extend(target for target in targets if client.get(target).body != contents[target])
        except Exception as error:
            faults.append(repr(error))

    with within_budget(server):
        threads = [threading.Thread(target=scan, args=(seed,)) for seed in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert faults == []


@pytest.mark.parametrize("policy", POLICIES)
def test_files_larger_than_the_budget_evict_nobody(site: Site, serve: Serve, policy: str) -> None:
    small = plant(site, BUDGET // 2, (500, 50 * KIB))
    large = random.Random(2).randbytes(3 * BUDGET)
    site.write("large", large)
    server = serve(site.root, memory=BUDGET, evict=policy)
    with within_budget(server), Client(server.port) as client, Client(server.port) as other:
        for target, content in small.items():
            assert client.get(target).body == content
        for _ in range(3):
            assert other.get("/large").body == large
        assert other.get("/large", "Range: bytes=-1000").body == large[-1000:]
    assert entry_of(server, "/large").body is None
    assert all(entry_of(server, target).body is not None for target in small)
    assert server.store.evictions == 0


def in_flight(server: Server) -> bool:
    """Whether something is being sent, from memory or from a file."""
    if any(connection.clock.state in (State.WRITE, State.WAIT) for connection in connections_of(server.service)):
        return True
    return any(entry.body is not None and server.store.is_sending(entry) for entry in server.site.live.entries())


@pytest.mark.parametrize(("policy", "engine"), PAIRS)
def test_everything_in_flight_at_once(
    site: Site, serve: Serve, wait_until: WaitUntil, policy: str, engine: str
) -> None:
    # Three times the budget, each body asked for again and again, more than a socket takes, by one that reads nothing.
    contents = plant(site, 3 * BUDGET, (100 * KIB, 300 * KIB))
    asked = 12
    site.write("small", b"small")
    server = serve(site.root, memory=BUDGET, evict=policy, engine=engine)
    slow = {target: Client(server.port, receive_buffer=4096) for target in contents}
    with within_budget(server):
        for target, client in slow.items():
            client.send(b"GET %b HTTP/1.1\r\nHost: test\r\n\r\n" % target.encode() * asked)
        with Client(server.port) as client:
            for target, content in contents.items():
                assert client.get(target).body == content
                assert client.get("/small").body == b"small"
        wait_until(lambda: in_flight(server))
        sums = {target: zlib.crc32(content) for target, content in contents.items()}

        def read(targets: list[str], wrong: list[str]) -> None:
            for target in targets:
                bodies = [slow[target].read().body for _ in range(asked)]
                wrong.extend(target for body in bodies if zlib.crc32(body) != sums[target])
                slow[target].close()

        wrong: list[str] = []
        readers = [threading.Thread(target=read, args=(list(slow)[number::4], wrong)) for number in range(4)]
        for reader in readers:
            reader.start()
        for reader in readers:
            reader.join()
        assert wrong == []
        assert not any(client.socket.fileno() >= 0 for client in slow.values())  # each was read to its end
        with Client(server.port) as client:
            target = next(target for target in contents if entry_of(server, target).body is None)
            assert client.get(target).body == contents[target]
            wait_until(lambda: entry_of(server, target).body is not None)  # there is room again


# --- pinned -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("policy", POLICIES)
def test_what_is_pinned_outlives_a_scan(site: Site, serve: Serve, policy: str) -> None:
    contents = plant(site, 5 * BUDGET, (500, 100 * KIB))
    pinned = {f"/assets/{size}.css": random.Random(size).randbytes(size) for size in (100, 10_000, 100_000, 500_000)}
    for target, content in pinned.items():
        site.write(target[1:], content)
    server = serve(site.root, memory=BUDGET, evict=policy, pin=["/assets/*.css"])
    assert None not in [entry_of(server, target).body for target in pinned]
    with within_budget(server), Client(server.port) as client:
        for target, content in contents.items():
            assert client.get(target).body == content
    assert server.store.evictions > 0
    assert None not in [entry_of(server, target).body for target in pinned]
    with Client(server.port) as client:
        assert {target: client.get(target).body for target in pinned} == pinned


def test_pinned_content_beyond_the_budget_is_told_and_served(site: Site, command: StartCommand) -> None:
    contents = plant(site, 2 * BUDGET, (100 * KIB, 200 * KIB))
    server = command(site.root, "--memory", str(BUDGET), "--pin", "*.bin")
    warnings = [line for line in server.lines if "WARNING" in line]
    assert len(warnings) == 1
    assert "pinned" in warnings[0]
    with Client(server.port) as client:
        for target, content in contents.items():
            assert client.get(target).body == content


def test_a_pinned_file_that_changes_stays_pinned(site: Site, serve: Serve, wait_until: WaitUntil) -> None:
    plant(site, 2 * BUDGET, (1000, 50 * KIB))
    site.write("page.css", b"old")
    server = serve(site.root, memory=BUDGET, pin=["*.css"])
    site.write("new", b"new and pinned").rename(site.root / "page.css")
    old = server.site.live
    server.reload()
    wait_until(lambda: server.site.live is not old)
    assert entry_of(server, "/page.css").body is not None
    with Client(server.port) as client:
        assert client.get("/page.css").body == b"new and pinned"


def test_a_glob_that_matches_nothing_is_told(
    site: Site, live: Serve, caplog: pytest.LogCaptureFixture, wait_until: WaitUntil
) -> None:
    site.write("a.css", b"a")
    server = live(site.root, pin=["*.css", "*.wof2"])

    def told() -> list[str]:
        return [record.getMessage() for record in caplog.records if "--pin" in record.getMessage()]

    assert told() == ["--pin *.wof2 matches no file"]
    (site.root / "a.css").unlink()
    wait_until(lambda: server.content.counters.patches)
    server.reload()
    wait_until(lambda: server.content.counters.flips == 1)
    assert told()[1:] == ["--pin *.css matches no file"]
