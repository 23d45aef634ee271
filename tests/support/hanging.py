"""A file system that can be made to hang: bindfs (FUSE) over a directory, stopped and continued.

While it is stopped every access that the kernel cannot answer from memory waits, as with NFS whose server is away.
Needs Debian's bindfs and /dev/fuse.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

WITHIN_S = 20.0


class Hanging:
    """`path` shows what lies in `source`, until it is stopped."""

    def __init__(self, source: Path, path: Path) -> None:
        if shutil.which("bindfs") is None or shutil.which("fusermount3") is None:
            pytest.skip("no bindfs")
        if not os.access("/dev/fuse", os.R_OK | os.W_OK):
            pytest.skip("no /dev/fuse")
        self.source = source
        self.path = path
        source.mkdir(exist_ok=True)
        path.mkdir(exist_ok=True)
        # It dies with the tests' process: a mount that is left behind and hangs would stop the next run's cleaning.
        argv = ["setpriv", "--pdeathsig", "KILL", "bindfs", "-f", str(source), str(path)]
        self._process = subprocess.Popen(argv, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + WITHIN_S
        while not os.path.ismount(path):
            if self._process.poll() is not None or time.monotonic() > deadline:
                self._process.kill()
                self._process.wait(WITHIN_S)
                pytest.skip("bindfs cannot mount here")
            time.sleep(0.01)

    def write(self, path: str, content: bytes) -> None:
        """Write a file that lies in it."""
        (self.source / path).write_bytes(content)

    def forget(self, path: str) -> None:
        """Have the kernel know nothing of a file's content."""
        with (self.path / path).open("rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)

    def stop(self) -> None:
        """From now on it hangs. What it has taken up before it stands still could not even be killed."""
        self._process.send_signal(signal.SIGSTOP)
        deadline = time.monotonic() + WITHIN_S
        while not self._stands_still():
            assert time.monotonic() < deadline
            time.sleep(0.001)

    def _stands_still(self) -> bool:
        tasks = Path(f"/proc/{self._process.pid}/task").iterdir()
        return all(") T " in (task / "stat").read_text() for task in tasks)

    def go_on(self) -> None:
        """It answers again, what was asked meanwhile, too."""
        self._process.send_signal(signal.SIGCONT)

    def __enter__(self) -> Hanging:
        return self

    def __exit__(self, *_: Any) -> None:
        self.go_on()
        try:
            unmount = ["fusermount3", "-u", "-z", str(self.path)]
            subprocess.run(unmount, check=False, capture_output=True, timeout=WITHIN_S)
        finally:
            self._process.kill()  # what waits for it gets an error
            self._process.wait(WITHIN_S)
