"""Heat, as clients and the next process see it: what is asked for most is in memory first, whoever comes after."""

from __future__ import annotations

import random
import signal
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.support.client import Client
from tests.support.command import StartCommand
from tests.support.engines import ENGINES
from tests.support.site import Site
from tests.support.upgrades import StartLine
from tests.support.waited import BYSTANDER_FILES, check_bystander
from tests.support.waiting import WaitUntil
from zcserve import Config, Server
from zcserve.cache.heat_lines import FileTold, RootTold, file_line, first_line, last_line, read, root_line
from zcserve.config.addresses import UnixAddress
from zcserve.ctl.client import Node, ask

LANES = [("python", 1), *[("native", lanes) for lanes in (1, 2) if "native" in ENGINES]]
FILES, SIZE, REQUESTS = 240, 6000, 3000


def zipf(seed: int) -> list[str]:
    """Targets of so many requests: the n-th file in an order of its own is asked for in the share of 1/n."""
    names = [f"/{number}" for number in range(FILES)]
    random.Random(1).shuffle(names)  # not the order of the disk
    return random.Random(seed).choices(names, [1 / (rank + 1) for rank in range(FILES)], k=REQUESTS)


def ask_for(port: int, targets: list[str]) -> None:
    """Some requests each on a connection, which lanes share."""
    for start in range(0, len(targets), 100):
        with Client(port) as client:
            for target in targets[start : start + 100]:
                client.send(f"GET {target} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
                assert len(client.read().body) == SIZE


def share_at_hand(server: Server, targets: list[str]) -> float:
    """Of these requests, those whose file is in memory now."""
    there = {entry.key.decode() for entry in server.site.live.entries() if entry.body is not None}
    return sum(target in there for target in targets) / len(targets)


@pytest.mark.parametrize(("engine", "lanes"), LANES)
def test_a_server_with_a_third_of_its_content_has_the_hot_third_after_a_restart(
    site: Site, tmp_path: Path, engine: Any, lanes: int
) -> None:
    for number in range(FILES):
        site.write(str(number), bytes(SIZE))
    config = Config(
        root=site.root, port=0, engine=engine, lanes=lanes, memory=FILES * (700 + SIZE // 3), slab_bytes=65536,
        small_body_bytes_max=8192, heat_file=str(tmp_path / "heat"),
    )  # fmt: skip
    before, after = zipf(2), zipf(3)
    with Server(config) as server:
        cold = share_at_hand(server, after)
        ask_for(server.port, before)
    with Server(config) as server:
        warm = share_at_hand(server, after)
        resident = sum(one.body is not None for one in server.site.live.entries())
    assert FILES / 5 < resident < FILES / 2
    counted = Counter(before)
    best = {target for target, _ in counted.most_common(resident)}
    wanted = sum(target in best for target in after) / len(after)
    assert warm == pytest.approx(wanted, abs=0.03)
    assert wanted > cold + 0.2


def heat_of(socket_path: str) -> dict[str, float]:
    answer = ask(Node(UnixAddress(socket_path)), "/heat")
    return {one.path: one.uses for one in read(answer.body.splitlines()) if isinstance(one, FileTold)}


def test_an_upgrade_goes_on_with_the_heat_of_the_process_before_and_the_last_one_writes_it_down(
    site: Site, line: StartLine, wait_until: WaitUntil, tmp_path: Path
) -> None:
    for name in ("page", "other"):
        site.write(name, bytes(SIZE))
    file, admin = tmp_path / "heat", str(tmp_path / "admin")
    file.write_bytes(first_line(0.0)[:-5])
    server = line(site.root, "--heat-file", str(file), "--admin", f"unix:{admin}")
    ask_for(server.port, ["/page"] * 20 + ["/other"])
    wait_until(lambda: heat_of(admin) == {"/page": 20, "/other": 1})
    server.upgrade()
    assert heat_of(admin) == pytest.approx({"/page": 20, "/other": 1}, rel=0.01)
    ask_for(server.port, ["/page"] * 5)
    server.signal(signal.SIGTERM)
    wait_until(lambda: file.read_bytes().endswith(last_line(2)))
    found = list(read(file.read_bytes().splitlines()))
    assert RootTold("default", str(site.root)) in found
    uses = {one.path: one.uses for one in found if isinstance(one, FileTold)}
    # Also those of the last second, of which a lane has told nothing by itself.
    assert uses == pytest.approx({"/page": 25, "/other": 1}, rel=0.01)
    assert len(server.said(r"(heat_file: nothing is known)")) == 1  # the file was spoilt at the first start


@pytest.mark.parametrize("engine", ENGINES)
def test_beside_the_heat_of_many_files_a_bystander_hardly_waits(
    site: Site, command: StartCommand, tmp_path: Path, engine: str
) -> None:
    site.write("by", b"by")
    lines = [first_line(1e12), root_line("default", str(site.root))]  # of later: nothing has decayed
    for number in range(BYSTANDER_FILES):
        site.write(f"{number % 10}/{number}", b"")
        lines.append(file_line("default", f"/{number % 10}/{number}".encode(), 0, number + 1.0))
    file, admin = tmp_path / "heat", str(tmp_path / "admin")
    file.write_bytes(b"".join([*lines, last_line(BYSTANDER_FILES)]))
    server = command(site.root, "--heat-file", str(file), "--admin", f"unix:{admin}", "--engine", engine)

    def ask_all() -> None:
        for query in ("", "?top=10") * 3:
            answer = ask(Node(UnixAddress(admin)), "/heat" + query)
            assert answer.status == 200
            files = 10 if query else BYSTANDER_FILES
            assert answer.body.splitlines()[-1] + b"\n" in (last_line(files), last_line(files + 1))

    check_bystander(server, engine, ask_all)
