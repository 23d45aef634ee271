"""A server in a control group that has less memory than the files, and than the default budget.

Where this process may make a group the kernel itself is asked; else the limit is one that only the server reads.
"""

from __future__ import annotations

import gzip
import os
import signal
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest

import zcserve.server
from tests.support.client import Client
from tests.support.command import StartCommand
from tests.support.site import Serve, Site
from tests.support.waiting import WaitUntil
from zcserve.cache.budget import RESERVE_BYTES, budget_of, own_bytes
from zcserve.check import check

MIB = 1 << 20
LIMIT = 80 * MIB
FILES, FILE_BYTES = 40, 5 * MIB

# Where a group for memory can be made, and what its limit is called.
GROUPS = ((Path("/sys/fs/cgroup/memory"), "memory.limit_in_bytes"), (Path("/sys/fs/cgroup"), "memory.max"))


def made_group(limit: int) -> Path | None:
    """A new control group with a limit on memory; None where there is none to be had."""
    for parent, name in GROUPS:
        group = parent / f"zcserve-test-{os.getpid()}"
        with suppress(OSError):
            group.mkdir()
            with suppress(OSError):
                (group / name).write_text(str(limit))
                return group
            group.rmdir()
    return None


@pytest.fixture
def group(wait_until: WaitUntil) -> Iterator[Path | None]:
    made = made_group(LIMIT)
    yield made
    if made is not None:
        wait_until(lambda: not (made / "cgroup.procs").read_text())
        made.rmdir()


@pytest.fixture
def large(site: Site) -> list[str]:
    """200 MB of files, of which each holds its own number; they take no room on the disk."""
    for number in range(FILES):
        with site.write(f"{number}.bin", b"%d" % number).open("r+b") as file:
            file.truncate(FILE_BYTES)
    return [f"/{number}.bin" for number in range(FILES)]


def ask_for_all(port: int, targets: list[str]) -> None:
    with Client(port, timeout=60) as client:
        for number, target in enumerate(targets):
            response = client.get(target)
            assert (response.status, len(response.body)) == (200, FILE_BYTES)
            assert response.body[:3].rstrip(b"\0") == b"%d" % number


if made_group(LIMIT) is not None:
    for _parent, _ in GROUPS:
        with suppress(OSError):
            (_parent / f"zcserve-test-{os.getpid()}").rmdir()

    @pytest.mark.parametrize("engine", ["python", "native"])
    def test_a_process_lives_in_a_group_with_less_memory_than_the_default(
        command: StartCommand, site: Site, large: list[str], group: Path, engine: str
    ) -> None:
        def join() -> None:
            (group / "cgroup.procs").write_text(str(os.getpid()))

        server = command(site.root, "--engine", engine, preexec_fn=join)
        (told,) = (line for line in server.lines if line.startswith("budget: "))
        assert (
            f"of 80.0 MiB (memory.{'max' if (group / 'memory.max').exists() else 'limit_in_bytes'} of {group}" in told
        )
        assert any("stay on disk until asked for" in line for line in server.lines)
        assert str(server.pid) in (group / "cgroup.procs").read_text()
        ask_for_all(server.port, large)
        server.process.send_signal(signal.SIGTERM)
        assert server.wait() == 0


def test_the_default_budget_is_what_a_group_leaves(
    live: Serve, site: Site, large: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    proc = tmp_path / "proc"
    proc.mkdir()
    left = 20 * MIB
    (proc / "meminfo").write_text(f"MemTotal: {(RESERVE_BYTES + left) // 1024} kB\n")
    assert own_bytes(proc) == 0  # this process is not only the server
    monkeypatch.setattr(zcserve.server, "budget_of", partial(budget_of, proc=proc))
    server = live(site.root)
    assert server.config.memory == left
    assert 0 < server.store.committed <= server.config.memory
    ask_for_all(server.port, large)
    assert server.store.committed <= server.config.memory


@pytest.mark.parametrize("engine", ["python", "native"])
def test_a_budget_above_the_machine_is_one_warning(command: StartCommand, site: Site, engine: str) -> None:
    site.write("index.html", b"x")
    server = command(site.root, "--engine", engine, "--memory", "900T")
    (told,) = (line for line in server.lines if "WARNING memory:" in line)
    assert "the budget of 900.0 TiB is too much" in told
    assert "of which the process needs " in told
    with Client(server.port) as client:
        assert client.get("/").body == b"x"


def test_entries_that_eat_the_budget_are_told(command: StartCommand, site: Site) -> None:
    for number in range(3000):
        (site.root / f"{number}.txt").write_bytes(b"x")
    server = command(site.root, "--memory", "1M")
    (told,) = (line for line in server.lines if "WARNING memory:" in line)
    assert "the entries of 3000 files take 1.9 MiB, which leaves 0 B of the 1.0 MiB budget for content" in told
    least = told.rpartition(" ")[2]
    server = command(site.root, "--memory", least)
    assert any(line.startswith("files: 3000, 3000 resident") for line in server.lines)
    assert not any("WARNING" in line for line in server.lines)


def test_the_check_says_the_same_of_memory_as_the_server(
    serve: Serve, site: Site, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(300):
        site.write(f"{number}.txt", b"x", mtime=1000)
        site.write(f"{number}.txt.gz", gzip.compress(b"x"), mtime=1000)
    server = serve(site.root, memory="64K")
    server.content.warn_of_memory()
    (told,) = (line for line in caplog.messages if line.startswith("memory:"))
    check(server.config)
    assert "the entries of 300 files" in told
    assert told in capsys.readouterr().out.splitlines()
