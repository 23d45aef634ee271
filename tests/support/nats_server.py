"""nats-server as a process, with JetStream, on loopback, with its store in a folder of the test's own."""

from __future__ import annotations

import contextlib
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

from tests.support.waiting import wait_until
from tools.ports import free_port

READY_WITHIN_S = 60.0


class NatsServer:
    """It runs between `start` and `end`, and may be started anew.

    more           of its configuration
    has_jetstream  it is configured here; else `more` does it
    """

    def __init__(self, folder: Path, more: str = "", *, has_jetstream: bool = True) -> None:
        program = shutil.which("nats-server") or shutil.which("nats-server", path="/usr/sbin")
        assert program is not None, "apt-get install nats-server"
        self.program = program
        self.port = free_port()
        self.store = folder / "store"
        self._file = folder / "nats-server.conf"
        self._log = folder / "nats-server.log"
        self._said = folder / "said"
        jetstream = f'jetstream {{ store_dir: "{self.store}", max_file_store: 64GB }}' if has_jetstream else ""
        self._file.write_text(f'listen: "127.0.0.1:{self.port}"\n{jetstream}\n{more}\n')
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"nats://127.0.0.1:{self.port}"

    @property
    def log(self) -> str:
        """What it has said since it was started last."""
        return self._log.read_text(errors="replace") if self._log.exists() else ""

    def start(self) -> None:
        """Returns when it takes connections."""
        self._log.unlink(missing_ok=True)
        argv = [self.program, "-c", str(self._file), "-l", str(self._log)]
        with self._said.open("wb") as said:
            self._process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=said, stderr=said)

        def is_ready() -> bool:
            assert self._process is not None
            assert self._process.poll() is None, self.log + self._said.read_text()
            return "Server is ready" in self.log

        wait_until(is_ready, READY_WITHIN_S)

    def end(self, how: signal.Signals = signal.SIGTERM) -> None:
        """By a signal, and it is gone."""
        if self._process is None:
            return
        self._process.send_signal(signal.SIGCONT)
        self._process.send_signal(how)
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(READY_WITHIN_S)
        self._process = None

    def kill(self) -> None:
        """At once."""
        self.end(signal.SIGKILL)

    def stand_still(self) -> None:
        """It runs no more, and its connections stay, until `go_on`."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """After `stand_still`."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def lose_store(self) -> None:
        """All that it had, while it is away."""
        assert self._process is None
        shutil.rmtree(self.store)


@contextlib.contextmanager
def nats_server(folder: Path, more: str = "", *, has_jetstream: bool = True) -> Iterator[NatsServer]:
    """One that runs in the block."""
    folder.mkdir(parents=True, exist_ok=True)
    server = NatsServer(folder, more, has_jetstream=has_jetstream)
    server.start()
    try:
        yield server
    finally:
        server.end()
