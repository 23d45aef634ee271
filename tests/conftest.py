"""What all tests share: a tree to serve, a server in a thread, a server as a process, and waiting without luck.

Everything a test starts ends with it. A server listens on a port of the kernel's choosing, so that any number of tests
run beside each other. With ZCSERVE_TEST_STRICT=1 (`.ci/run`, where everything is installed) a skip is a failure.
"""

from __future__ import annotations

import gc
import itertools
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import IO, Any

import pytest

import zcserve
from zcserve import Config, Server

try:
    from hypothesis import settings
except ImportError:
    pass
else:
    # The same inputs in every run: whether a change lands depends on it alone. New inputs are looked for by
    # --hypothesis-profile=thorough -o faulthandler_timeout=0
    settings.register_profile("zcserve", deadline=None, derandomize=True)
    settings.register_profile("thorough", deadline=None, max_examples=20_000)
    settings.load_profile("zcserve")

CHECKOUT = Path(zcserve.__file__).parents[1]
READY_WITHIN_S = 60.0  # a loaded machine with one process per core; nobody waits so long unless something is broken

# A closed server is cyclic garbage that holds descriptors; a run has hundreds of them, and select() ends at 1024.
SERVED_BETWEEN_COLLECTIONS = 25
_served = itertools.count(1)

STRICT = os.environ.get("ZCSERVE_TEST_STRICT") == "1"


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """`-n auto`: tests wait for deadlines and processes two fifths of their time, so three share two cores."""
    return max(len(os.sched_getaffinity(0)) * 3 // 2, 1)


def _fail_if_skipped(report: Any) -> None:
    if STRICT and report.skipped and not hasattr(report, "wasxfail"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
        report.outcome = "failed"
        report.longrepr = f"ZCSERVE_TEST_STRICT: nothing may be skipped here: {reason}"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Iterator[None]:
    report = yield
    _fail_if_skipped(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Iterator[None]:
    report = yield
    _fail_if_skipped(report)
    return report


def _wait_until(predicate: Callable[[], Any], timeout: float = 20.0) -> Any:
    """The first true value of `predicate`, asked again and again; fails after `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while not (value := predicate()):
        if time.monotonic() > deadline:
            pytest.fail(f"not true within {timeout} s: {predicate!r}")
        time.sleep(0.005)
    return value


@pytest.fixture
def wait_until() -> Callable[..., Any]:
    """`wait_until(predicate, timeout=20.0)`."""
    return _wait_until


def _growth(work: Callable[[int], object], size: int) -> float:
    """How many times as long `work(4 * size)` takes as `work(size)`: 4 when it is linear, 16 when it is quadratic.

    Processor time of this thread, the best of three, so that a busy machine does not matter."""

    def best(size: int) -> float:
        times = []
        for _ in range(3):
            began = time.thread_time()
            work(size)
            times.append(time.thread_time() - began)
        return min(times)

    return best(4 * size) / best(size)


@pytest.fixture
def growth() -> Callable[[Callable[[int], object], int], float]:
    """`growth(work, size)`: see `_growth`. Less than 8 is linear."""
    return _growth


class Site:
    """A directory to serve, under construction."""

    def __init__(self, root: Path) -> None:
        self.root = root
        root.mkdir(exist_ok=True)

    def write(self, path: str, content: bytes = b"", *, mtime: float | None = None) -> Path:
        """Write a file under the root, making its directories; `mtime` in seconds since 1970."""
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
        if mtime is not None:
            os.utime(file, (mtime, mtime))
        return file


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """An empty root with a `write`."""
    return Site(tmp_path / "site")


@pytest.fixture
def serve() -> Iterator[Callable[..., Server]]:
    """`serve(root, **config)`: a Server that serves from a thread, on 127.0.0.1 and any free port unless told."""
    with ExitStack() as stack:

        def start(root: Path, **config: Any) -> Server:
            return stack.enter_context(Server(Config(root=root, **{"port": 0} | config)))

        yield start
    if next(_served) % SERVED_BETWEEN_COLLECTIONS == 0:
        gc.collect()
        gc.collect()  # the first one's finalizers leave some for the second


class Command:
    """`python -m zcserve` as a process. `lines` is what it wrote to stderr so far; stdout goes to the file `stdout`.

    It leads a process group of its own, and with it ends all that it started: a successor that a failed test has not
    heard of yet, and that has stderr open, too."""

    def __init__(self, argv: tuple[str, ...], environ: dict[str, str], stdout: Path, **popen: Any) -> None:
        clean = {name: value for name, value in os.environ.items() if not name.startswith("ZCSERVE_")}
        self.stdout = stdout
        self.lines: list[str] = []
        self.url = ""
        self.port = 0
        with stdout.open("wb") as out:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "zcserve", *argv],
                env=clean | {"PYTHONPATH": str(CHECKOUT)} | environ,
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
            self.lines.append(line.rstrip("\n"))

    def wait_ready(self) -> None:
        """Wait for the banner's last lines, which tell the addresses. Fails if the process ends first."""

        def addresses() -> list[str]:
            if self.process.poll() is not None:
                self._reader.join(READY_WITHIN_S)
                pytest.fail(f"ended with {self.process.returncode}: " + "\n".join(self.lines))
            return [match[1] for line in self.lines if (match := re.fullmatch(r"serving +(\S+)", line))]

        self.url = _wait_until(addresses, READY_WITHIN_S)[0]
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


@pytest.fixture
def command(tmp_path: Path) -> Iterator[Callable[..., Command]]:
    """`command(root, *flags, environ={}, **popen)`: a process that serves, ready; `--port 0` unless flags tell."""
    with ExitStack() as stack:
        count = 0

        def start(root: Path, *flags: str, environ: dict[str, str] | None = None, **popen: Any) -> Command:
            nonlocal count
            count += 1
            where = () if {"--port", "--listen"} & {flag.partition("=")[0] for flag in flags} else ("--port", "0")
            argv = ("--root", str(root), *where, *flags)
            started = Command(argv, environ or {}, tmp_path / f"stdout-{count}", **popen)
            stack.callback(started.end)
            started.wait_ready()
            return started

        yield start
