"""A server as a process of its own, and what it says."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, Protocol

import pytest

import zcserve
from tests.support import lanes, unhurried
from tests.support.waiting import wait_until

CHECKOUT = Path(zcserve.__file__).parents[1]
PROGRAM = unhurried.PROGRAM if unhurried.IS_WANTED else ("-m", "zcserve")
READY_WITHIN_S = 60.0  # a loaded machine with one process per core; only what is broken takes so long


class Command:
    """`python -m zcserve` as a process. `lines` is what it wrote to stderr so far; stdout goes to the file `stdout`.

    It leads a process group of its own, and with it ends all that it started: a successor that a failed test has not
    heard of yet, and that has stderr open, too."""

    def __init__(
        self,
        argv: tuple[str, ...],
        environ: dict[str, str],
        stdout: Path,
        *,
        before: tuple[str, ...] = (),
        **popen: Any,
    ) -> None:
        """`before` is a program that becomes this one, with its arguments."""
        clean = {name: value for name, value in os.environ.items() if not name.startswith("ZCSERVE_")}
        self.stdout = stdout
        self.lines: list[str] = []
        self.url = ""
        self.port = 0
        with stdout.open("wb") as out:
            self.process = subprocess.Popen(
                [*before, sys.executable, *PROGRAM, *argv],
                env=clean | lanes.environ(argv) | {"PYTHONPATH": str(CHECKOUT)} | environ,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.PIPE,
                text=True,
                **{"process_group": 0} | popen,
            )
        self.pid = self.process.pid
        assert self.process.stderr is not None
        self._reader = threading.Thread(target=self._read, args=(self.process.stderr,), daemon=True)
        self._reader.start()

    def _read(self, stderr: IO[str]) -> None:
        for line in stderr:
            if unhurried.IS_WANTED:
                unhurried.come_late(1)
            self.lines.append(line.rstrip("\n"))

    def wait_ready(self) -> None:
        """Wait for the banner's last lines, which tell the addresses. Fails if the process ends first."""

        def addresses() -> list[str]:
            if self.process.poll() is not None:
                self._reader.join(READY_WITHIN_S)
                pytest.fail(f"ended with {self.process.returncode}: " + "\n".join(self.lines))
            return [match[1] for line in self.lines if (match := re.fullmatch(r"serving +(\S+)", line))]

        self.url = wait_until(addresses, READY_WITHIN_S)[0]
        if port := re.fullmatch(r"http://.*:(\d+)", self.url):
            self.port = int(port[1])

    def wait(self, timeout: float = READY_WITHIN_S) -> int:
        """The exit code, once the process has ended by itself and all of stderr is in `lines`."""
        code = self.process.wait(timeout)
        self._reader.join(timeout)
        return code

    def end(self) -> None:
        """End the process, gently if it lets itself, and its group."""
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(5)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait(READY_WITHIN_S)
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self._reader.join(READY_WITHIN_S)
        assert not self._reader.is_alive(), "a process that the server started has left its group, and goes on"
        assert self.process.stderr is not None
        self.process.stderr.close()


class StartCommand(Protocol):
    """The fixture `command`."""

    def __call__(self, root: Path, *flags: str, environ: dict[str, str] | None = None, **popen: Any) -> Command: ...
