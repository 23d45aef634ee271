"""The memory budget, as a process keeps it under load, and what is served while not all of it can be resident.

Small enough for every run; `python -m tools.bench budget` is the same at full size.
"""

from __future__ import annotations

import math
import os
import random
import threading
import time
import zlib
from pathlib import Path

import pytest

from tests.support.client import Client
from tests.support.command import StartCommand
from tests.support.site import Serve, Site
from tests.support.waiting import WaitUntil
from tools.bench.proc import memory_bytes

MIB = 1 << 20
BUDGET = 16 * MIB
SLACK = 64 * MIB


@pytest.fixture
def tree(site: Site) -> dict[str, tuple[int, int]]:
    """Ten times the budget, in files of 4 KB to 2 MB, as many of each size's order: target -> length and checksum."""
    rng = random.Random(1)
    pool = rng.randbytes(4 * MIB)
    made: dict[str, tuple[int, int]] = {}
    left = 10 * BUDGET
    while left > 0:
        size = int(math.exp(rng.uniform(math.log(4_000), math.log(2_000_000))))
        start = rng.randrange(len(pool) - size)
        content = pool[start : start + size]
        path = f"d{len(made) % 7}/f{len(made)}"
        site.write(path, content)
        made[f"/{path}"] = size, zlib.crc32(content)
        left -= size
    return made


def test_growth_stays_within_the_budget_while_ten_times_as_much_is_asked_for(
    site: Site, command: StartCommand, tree: dict[str, tuple[int, int]], tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    empty = memory_bytes(command(tmp_path / "empty", "--memory", str(BUDGET)).pid)
    server = command(site.root, "--memory", str(BUDGET))
    faults: list[str] = []
    targets = list(tree)

    def ask(seed: int) -> None:
        rng = random.Random(seed)
        try:
            with Client(server.port, timeout=60) as client:
                for _ in range(400):
                    target = rng.choice(targets)
                    response = client.get(target)
                    if (response.status, (len(response.body), zlib.crc32(response.body))) != (200, tree[target]):
                        faults.append(target)
        except Exception as error:
            faults.append(repr(error))

    threads = [threading.Thread(target=ask, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    peak = 0
    while any(thread.is_alive() for thread in threads):
        peak = max(peak, memory_bytes(server.pid))
        time.sleep(0.02)
    peak = max(peak, memory_bytes(server.pid))
    assert not faults
    assert BUDGET // 2 < peak - empty <= 1.15 * BUDGET + SLACK


def test_what_is_committed_never_exceeds_the_budget(site: Site, serve: Serve, tree: dict[str, tuple[int, int]]) -> None:
    server = serve(site.root, memory=BUDGET)
    rng = random.Random(2)
    targets = rng.choices(list(tree), k=300)
    peak = 0
    with Client(server.port) as client:
        for target in targets:
            response = client.get(target)
            assert (len(response.body), zlib.crc32(response.body)) == tree[target]
            peak = max(peak, server.store.committed)
    assert server.store.evictions > 50
    assert BUDGET // 2 < peak <= BUDGET - server.store.overhead


def test_memory_in_flight_counts_until_it_is_sent(site: Site, serve: Serve, wait_until: WaitUntil) -> None:
    contents = {f"/{number}": bytes([number]) * MIB for number in range(16)}
    for target, content in contents.items():
        site.write(target[1:], content)
    server = serve(site.root, memory=4 * MIB)
    pipeline = b"".join(b"GET %b HTTP/1.1\r\nHost: test\r\n\r\n" % target.encode() for target in contents)
    slow = [Client(server.port, receive_buffer=4096) for _ in range(8)]
    for client in slow:
        client.send(pipeline)
    with Client(server.port) as client:
        for target, content in contents.items():
            assert client.get(target).body == content
            assert server.store.committed <= 4 * MIB
    for client in slow:
        for content in contents.values():
            assert client.read().body == content
        client.close()
    assert server.store.committed <= 4 * MIB


@pytest.mark.parametrize("memory", ["4K", "1M"])
def test_files_larger_than_the_budget_are_served(site: Site, serve: Serve, memory: str) -> None:
    content = random.Random(3).randbytes(3 * MIB)
    site.write("file", content)
    site.write("small", b"small")
    server = serve(site.root, memory=memory)
    with Client(server.port) as client:
        for _ in range(3):
            response = client.get("/file")
            assert (response.status, response.body) == (200, content)
            assert client.get("/small").body == b"small"
        part = client.get("/file", "Range: bytes=1000000-2999999", f"If-Range: {response['ETag'].decode()}")
        assert (part.status, part.body) == (206, content[1_000_000:3_000_000])
        assert client.get("/file", method="HEAD").all("Content-Length") == [b"%d" % len(content)]
        assert client.get("/file", f"If-None-Match: {response['ETag'].decode()}").status == 304


@pytest.mark.parametrize("size", [10_000, 100_000, 3_000_000])
def test_a_file_deleted_while_it_was_not_resident_is_404(site: Site, serve: Serve, size: int) -> None:
    path = site.write("file", bytes(size))
    server = serve(site.root, memory="4K")
    with Client(server.port) as client:
        assert len(client.get("/file").body) == size
        path.unlink()
        absent = client.get("/absent")
        for _ in range(2):
            gone = client.get("/file")
            assert (gone.status, gone.body) == (404, absent.body)


def test_a_directorys_index_deleted_while_it_was_not_resident_is_404(site: Site, serve: Serve) -> None:
    path = site.write("dir/index.html", bytes(10_000))
    server = serve(site.root, memory="4K")
    with Client(server.port) as client:
        assert client.get("/dir/").status == 200
        path.unlink()
        assert client.get("/dir/").status == 404
        assert client.get("/dir/index.html").status == 404


def test_closed_connections_cost_nothing(site: Site, command: StartCommand) -> None:
    site.write("page", b"a page")
    server = command(site.root)

    def come_and_go(times: int) -> None:
        for _ in range(times):
            with Client(server.port) as client:
                assert client.get("/page").status == 200

    come_and_go(500)
    before = memory_bytes(server.pid)
    come_and_go(4000)
    assert memory_bytes(server.pid) - before < MIB


def test_descriptors_are_one_for_all_large_files_and_one_a_connection(site: Site, command: StartCommand) -> None:
    for number in range(100):
        site.write(f"{number}", bytes(20_000))
    site.write("small", b"small")
    server = command(site.root)

    def count() -> int:
        return len(os.listdir(f"/proc/{server.pid}/fd"))

    before = count()
    assert before < 30
    clients = [Client(server.port) for _ in range(10)]
    for number in range(100):
        assert len(clients[number % 10].get(f"/{number}").body) == 20_000
    assert count() == before + len(clients)
    for client in clients:
        client.close()
