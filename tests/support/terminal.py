"""A program in a terminal of its own: what it writes, keys, another size."""

from __future__ import annotations

import fcntl
import os
import pty
import signal
import struct
import subprocess
import termios
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

from tests.support.waiting import is_readable

TIMEOUT_S = 20.0
ROWS, COLUMNS = 40, 120


class Terminal:
    """`argv` as the leader of a session whose terminal is ours. `text` is all that it has written."""

    def __init__(self, argv: list[str], environ: dict[str, str], **popen: Any) -> None:
        self.text = ""
        self._ours, self.theirs = pty.openpty()
        self._set(ROWS, COLUMNS)
        self.modes = self.look()
        self.process = subprocess.Popen(
            argv,
            env=environ | {"TERM": "xterm", "LC_ALL": "C.UTF-8"},
            stdin=self.theirs,
            stdout=self.theirs,
            stderr=self.theirs,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # so that it is told of signals
            **popen,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(TIMEOUT_S)
        os.close(self._ours)
        os.close(self.theirs)

    def _set(self, rows: int, columns: int) -> None:
        fcntl.ioctl(self._ours, termios.TIOCSWINSZ, struct.pack("4H", rows, columns, 0, 0))

    def look(self) -> list[Any]:
        """The terminal's modes (termios(3))."""
        return termios.tcgetattr(self.theirs)

    def resize(self, rows: int, columns: int) -> None:
        """Another size, of which the program is told."""
        self._set(rows, columns)
        self.process.send_signal(signal.SIGWINCH)

    def is_stopped(self) -> bool:
        """Whether it has stopped itself, as after Ctrl-Z."""
        state = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()[0]
        return state == "T"

    def type(self, keys: str) -> None:
        """Keys that are pressed."""
        os.write(self._ours, keys.encode())

    def read_until(self, is_there: Callable[[str], object]) -> str:
        """All that was written so far, once it is as wanted."""
        until = time.monotonic() + TIMEOUT_S
        while not is_there(self.text):
            assert time.monotonic() < until, self.text
            if is_readable(self._ours, 0.2):
                self.text += os.read(self._ours, 1 << 16).decode(errors="replace")
        return self.text

    def wait(self) -> int:
        """The exit code, and in `text` all that was written."""
        until = time.monotonic() + TIMEOUT_S
        while self.process.poll() is None:
            assert time.monotonic() < until, self.text
            if is_readable(self._ours, 0.05):
                self.text += os.read(self._ours, 1 << 16).decode(errors="replace")
        while is_readable(self._ours):
            self.text += os.read(self._ours, 1 << 16).decode(errors="replace")
        assert self.process.returncode is not None
        return self.process.returncode
