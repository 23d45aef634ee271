"""The server of a soak, and those that come after it: started as a command, ended whatever happens, its words."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

WITHIN_S = 120.0


class SoakError(Exception):
    """The server does not do what the soak waits for."""


class Served:
    """`lines` is what it has written to standard error by now."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.pid = process.pid
        self.port = 0
        self.lines: list[str] = []
        self._process = process
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stderr is not None
        for line in self._process.stderr:
            self.lines.append(line.rstrip("\n"))

    def said(self, pattern: str) -> list[re.Match[str]]:
        """The lines that it matches."""
        return [found for line in list(self.lines) if (found := re.search(pattern, line))]

    def await_said(self, pattern: str, count: int) -> re.Match[str]:
        """Wait for so many lines; the last of them. Raises SoakError."""
        self.wait_until(lambda: len(self.said(pattern)) >= count, f"{pattern!r} is not said {count} times")
        return self.said(pattern)[count - 1]

    def wait_until(self, holds: Callable[[], bool], what: str) -> None:
        """Raises SoakError where it does not come to that."""
        until = time.monotonic() + WITHIN_S
        while not holds():
            if self._process.poll() is not None and not self.said("serves now"):
                raise SoakError(f"the server has ended with {self._process.returncode}: {self.lines[-3:]}")
            if time.monotonic() > until:
                raise SoakError(f"{what}: {self.lines[-3:]}")
            time.sleep(0.01)

    def signal(self, number: int) -> None:
        """To the present process."""
        os.kill(self.pid, number)

    def end(self, pid: int | None = None) -> None:
        """End all of its processes."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGTERM)
        until = time.monotonic() + 10
        while _is_alive(self.pid) and time.monotonic() < until:
            self._process.poll()
            time.sleep(0.01)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._reader.join(10)


def _is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@contextlib.contextmanager
def serving(root: Path, *options: str) -> Iterator[Served]:
    """zcserve over `root` on any free port; it is ended with the block. Raises SoakError when it does not start."""
    argv = [sys.executable, "-m", "zcserve", str(root), "--port", "0", *options]
    with subprocess.Popen(
        argv, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, process_group=0
    ) as process:
        served = Served(process)
        try:
            told = served.await_said(r"^serving http://127\.0\.0\.1:(\d+)", 1)
            served.port = int(told[1])
            yield served
        finally:
            served.end()
