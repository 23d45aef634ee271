"""A server process and all that come after it, one upgrade after the other, and clients that ask meanwhile."""

from __future__ import annotations

import os
import re
import signal
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Protocol

from tests.support.client import Client, Response
from tests.support.command import Command
from tests.support.processes import end, is_alive, started_by
from tests.support.waiting import WaitUntil

WITHIN_S = 20.0
PAUSE_S = 0.002


def join(threads: Iterable[threading.Thread]) -> None:
    """Wait for threads that are to end now."""
    until = time.monotonic() + WITHIN_S
    for thread in threads:
        thread.join(max(until - time.monotonic(), 0.0))
        assert not thread.is_alive()


class Line:
    """A server and all that come after it."""

    def __init__(self, first: Command, wait_until: WaitUntil) -> None:
        self.first = first
        self.port: int = first.port
        self.pid: int = first.pid
        self._wait_until = wait_until
        self._pids: list[int] = []

    def said(self, pattern: str) -> list[str]:
        """What the lines that match have in the pattern's group."""
        return [match[1] for line in self.first.lines if (match := re.search(pattern, line))]

    def await_said(self, pattern: str, count: int = 1) -> list[str]:
        """Wait for so many of them."""
        self._wait_until(lambda: len(self.said(pattern)) >= count)
        return self.said(pattern)

    def signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def children(self) -> list[int]:
        """What the present process has started."""
        return started_by(Path(f"/proc/{self.pid}/task/{self.pid}"))

    def upgrade(self) -> int:
        """Have the present process succeeded; the process id of the one before."""
        old, count = self.pid, len(self._pids)
        self.signal(signal.SIGUSR2)
        self.await_successor(count)
        return old

    def await_successor(self, count: int) -> None:
        """Wait until so many upgrades and one more have been made; the last process is the present one."""
        pids = self.await_said(r"process (\d+) serves now", count + 1)
        self.pid = int(pids[count])
        self._pids = [int(pid) for pid in pids]

    def await_end(self, pid: int) -> None:
        self._wait_until(lambda: not is_alive(pid))

    def end(self) -> None:
        """End all that are left, also those that have not said that they serve; `command` waits for the first one."""
        told = self.said(r"process (\d+)\b(?! of user)")  # that would be who has told a verb, such as this process
        end(pid for pid in {int(pid) for pid in told} - {self.first.pid} if is_alive(pid))
        if self.first.process.poll() is None:
            end([self.first.pid])


class StartLine(Protocol):
    """A fixture that starts the first of a line; `flags` and `popen` as for `Command`."""

    def __call__(self, root: Path, *flags: str, environ: dict[str, str] | None = None, **popen: Any) -> Line: ...


class Load:
    """Clients that ask hundreds of times a second each, of a server at a port or an address: without their pause the
    processes that they look at would wait for them. `faults` are the answers that are not as expected."""

    def __init__(self, where: int | tuple[str, int], expected: dict[str, bytes]) -> None:
        self.faults: list[str] = []
        self.counts = [0] * 6
        self._where = where
        self._expected = expected
        self._ended = threading.Event()
        self._threads = [
            threading.Thread(target=self._run, args=(which, self._keep_alive if which % 2 else self._anew), daemon=True)
            for which in range(len(self.counts))
        ]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        join(self._threads)

    def _run(self, which: int, ask: Callable[[int], None]) -> None:
        try:
            while not self._ended.is_set():
                ask(which)
        except Exception as error:
            self.faults.append(repr(error))

    def _check(self, which: int, target: str, response: Response) -> None:
        if (response.status, response.body) != (200, self._expected[target]):
            self.faults.append(f"{target}: {response.status}, {response.body[:20]!r}")
        self.counts[which] += 1
        self._ended.wait(PAUSE_S)

    def _anew(self, which: int) -> None:
        """A connection for each request."""
        for target in self._expected:
            with Client(self._where) as client:
                self._check(which, target, client.get(target, "Connection: close"))

    def _keep_alive(self, which: int) -> None:
        """One connection until the server says that it is the last answer."""
        with Client(self._where) as client:
            while not self._ended.is_set():
                for target in self._expected:
                    response = client.get(target)
                    self._check(which, target, response)
                    if response["Connection"] == b"close":
                        return
