"""Processes of a run: each is ended by its id, whatever happens. And ports that are free."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

CHECKOUT = Path(__file__).parents[2]
# What is not ready after this, in seconds, is broken.
READY_WITHIN_S = 60.0
END_WITHIN_S = 10.0
LOOK_EVERY_S = 0.02
# Where Debian has servers, for those that have no such PATH.
SERVERS_PATH = "/usr/sbin:/usr/local/sbin:/sbin"


class StageError(Exception):
    """The stage is not as a scene needs it: says what."""


def program(name: str) -> str:
    """Where a program lies. Raises StageError that says how to get it."""
    found = _place_of(name)
    if found is None:
        raise StageError(f"{name} is missing: apt-get install {name}")
    return found


def missing(names: Iterable[str]) -> list[str]:
    """Those of these programs that this machine lacks. Debian's packages have the same names."""
    return [name for name in names if _place_of(name) is None]


def _place_of(name: str) -> str | None:
    return shutil.which(name) or shutil.which(name, path=SERVERS_PATH)


def wait_until(what: str, is_so: Callable[[], object], within_s: float = READY_WITHIN_S) -> None:
    """Raises StageError where it is not so in time."""
    until = time.monotonic() + within_s
    while not is_so():
        if time.monotonic() > until:
            raise StageError(f"{what}: not within {within_s:g} s")
        time.sleep(LOOK_EVERY_S)


class Process:
    """A program that runs from `start` until it is ended; it may be started again. What it writes goes to `log`."""

    def __init__(self, argv: Sequence[str], log: Path, environ: Mapping[str, str] | None = None) -> None:
        self.argv = list(argv)
        self.log = log
        clean = {name: value for name, value in os.environ.items() if not name.startswith("ZCSERVE_")}
        self._environ = clean | {"PYTHONPATH": str(CHECKOUT)} | dict(environ or {})
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """Raises StageError where it does not run."""
        if self._process is None or self._process.poll() is not None:
            raise StageError(f"{self.argv[0]} does not run:\n{self.tail()}")
        return self._process.pid

    @property
    def runs(self) -> bool:
        """Whether it does."""
        return self._process is not None and self._process.poll() is None

    def start(self, preexec: Callable[[], None] | None = None) -> None:
        """Begin; its log goes on."""
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self.argv,
                env=self._environ,
                cwd=CHECKOUT,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                process_group=0,
                preexec_fn=preexec,
            )

    def tail(self, lines: int = 12) -> str:
        """The last that it has said."""
        if not self.log.exists():
            return ""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])

    def kill(self) -> None:
        """SIGKILL, to all that it started, too."""
        self._signal(signal.SIGKILL)
        if self._process is not None:
            self._process.wait(END_WITHIN_S)

    def end(self) -> None:
        """SIGTERM, then SIGKILL."""
        if self._process is None or self._process.poll() is not None:
            return
        self._signal(signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(END_WITHIN_S)
        self.kill()

    def _signal(self, number: signal.Signals) -> None:
        """To its group, of which it is the first: faketime and nginx are not alone."""
        if self._process is not None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, number)


def zcserve(*words: str) -> list[str]:
    """A command line of this checkout's server."""
    return [sys.executable, "-m", "zcserve", *words]
