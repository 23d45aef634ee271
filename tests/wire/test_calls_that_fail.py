"""Whatever call fails, and whenever: a server that cannot start says so in one line, and one that serves goes on.

Each fault is given to a running server by `faults.py`. What was attempted may fail; the next try works.
"""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import zcserve
from tests.support.client import Client
from tests.support.command import StartCommand
from tests.support.faults import Faults
from tests.support.site import Site
from tests.support.waiting import WaitUntil

pytestmark = pytest.mark.skipif(not Faults.can_be_made(), reason="needs a C compiler")

CHECKOUT = Path(zcserve.__file__).parents[1]
COLD = 6  # files of which not all are resident
COLD_BYTES = 200_000


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Faults:
    return Faults(tmp_path_factory.mktemp("faults"))


@pytest.fixture
def faults(compiled: Faults) -> Faults:
    compiled.clear()
    return compiled


@pytest.fixture(params=["python", "native"])
def engine(request: pytest.FixtureRequest) -> str:
    if request.param == "native":
        pytest.importorskip("zcserve.net._lane")
    return str(request.param)


# --- the start ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "after"),
    [
        # The closers', the access log's, the loaders', those of servlets in the pool, the asyncio loop, the folder and
        # the watch, the content's.
        *(("pthread_create", after) for after in (0, 1, 2, 4, 5, 6, 7, 8, 9, 10, 11, 12)),
        ("socketpair", 0),
        ("memfd_create", 0),
        ("memfd_create", 1),
        ("ftruncate64", 0),
        ("eventfd", 0),
        ("epoll_ctl", 1),
        ("epoll_ctl", 3),
    ],
)
def test_what_cannot_be_had_at_the_start_is_told_in_one_line(
    site: Site, tmp_path: Path, faults: Faults, name: str, after: int
) -> None:
    site.write("page", b"a page")
    faults.fail(name, errno.EAGAIN if name == "pthread_create" else errno.EMFILE, after=after)
    (tmp_path / "servlets").mkdir()
    flags = ["--root", str(site.root), "--port", "0", "--engine", "python", "--access-log", str(tmp_path / "log")]
    if name == "pthread_create":
        flags += ["--servlets", str(tmp_path / "servlets")]
    done = subprocess.run(
        [sys.executable, "-m", "zcserve", *flags],
        env=os.environ | faults.environ | {"PYTHONPATH": str(CHECKOUT)},
        stderr=subprocess.PIPE,
        text=True,
        timeout=60,
        check=False,
    )
    assert faults.struck(name) == 1
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith("zcserve: ")
    assert ("no thread can be had" if name == "pthread_create" else "cannot start: [Errno 24]") in line


# --- a server that serves -------------------------------------------------------------------------------------


class Running:
    """A server, or the process that has taken over from it, and what is done to it."""

    def __init__(self, server: Any, site: Site, wait_until: WaitUntil) -> None:
        self.server = server
        self.pid = server.pid
        self._site = site
        self._wait_until = wait_until
        self._count = 0

    def get(self, target: str) -> tuple[int, bytes]:
        """Status and content; 0 where the connection was ended."""
        try:
            with Client(self.server.port, timeout=10) as client:
                answer = client.get(target)
                return answer.status, answer.body
        except (EOFError, ConnectionError):
            return 0, b""

    def said(self, part: str) -> int:
        return sum(part in line for line in self.server.lines)

    def publish(self) -> bytes:
        """A new page and a new directory, by a rename each."""
        self._count += 1
        content = b"page %d" % self._count
        aside = self._site.root.parent / "aside"
        aside.write_bytes(content)
        aside.rename(self._site.root / "page")
        directory = self._site.root.parent / "aside-directory"
        directory.mkdir()
        (directory / "file").write_bytes(content)
        directory.rename(self._site.root / f"directory-{self._count}")
        return content

    def update(self, wait: Callable[[], Any] = lambda: False) -> None:
        """Publish, until it is seen or `wait` is true."""
        content = self.publish()
        places = "/page", f"/directory-{self._count}/file"
        self._wait_until(lambda: wait() or all(self.get(place) == (200, content) for place in places))

    def reload(self, wait: Callable[[], Any] = lambda: False) -> None:
        done = self.said("reloaded: ")
        os.kill(self.pid, signal.SIGHUP)
        self._wait_until(lambda: wait() or self.said("reloaded: ") > done)

    def cold(self, wait: Callable[[], Any] = lambda: False) -> None:
        """Ask for files of which some are not in memory."""
        answers = {}
        for number in range(COLD):
            answers[number] = self.get(f"/cold-{number}")
        right = {number: (200, b"%d" % number * COLD_BYTES) for number in range(COLD)}
        assert wait() or answers == right

    def upgrade(self, wait: Callable[[], Any] = lambda: False) -> None:
        done, failed = self.said("serves now"), self.said("does not serve, this process goes on")
        os.kill(self.pid, signal.SIGUSR2)
        self._wait_until(lambda: self.said("serves now") > done or self.said("this process goes on") > failed)
        if self.said("serves now") > done:
            told = [line for line in self.server.lines if "serves now" in line][-1]
            self.pid = int(told.split("process ")[1].split()[0])
        else:
            assert wait()


@pytest.fixture
def running(site: Site, command: StartCommand, engine: str, faults: Faults, wait_until: WaitUntil) -> Iterator[Running]:
    site.write("page", b"page 0")
    for number in range(COLD):
        site.write(f"cold-{number}", b"%d" % number * COLD_BYTES)
    made = Running(command(site.root, "--engine", engine, "--memory", "900K", environ=faults.environ), site, wait_until)
    yield made
    if made.pid != made.server.pid:
        os.kill(made.pid, signal.SIGTERM)


UPDATE = [
    ("openat64", errno.EMFILE, 0),
    ("openat64", errno.ENOMEM, 3),
    ("read", errno.EIO, 0),
    ("read", errno.EIO, 1),
    ("read", errno.EIO, 2),
    ("inotify_add_watch", errno.ENOSPC, 0),
    ("pwritev64v2", errno.ENOSPC, 0),
    ("write", errno.EAGAIN, 0),
]
RELOAD = [
    ("open64", errno.EMFILE, 0),
    ("openat64", errno.EMFILE, 0),
    ("openat64", errno.ENFILE, 2),
    ("inotify_add_watch", errno.ENOSPC, 0),
]
COLD_FILES = [
    ("openat64", errno.EMFILE, 0),
    ("preadv64v2", errno.EIO, 0),
    ("pwrite64", errno.ENOSPC, 0),
    ("ftruncate64", errno.ENOMEM, 0),
    ("write", errno.EAGAIN, 0),
]
UPGRADE = [
    ("pthread_create", errno.EAGAIN, 0),
    ("pthread_create", errno.EAGAIN, 1),
    ("socketpair", errno.EMFILE, 0),
    ("memfd_create", errno.EMFILE, 0),
    ("posix_spawn", errno.EAGAIN, 0),
    ("epoll_ctl", errno.ENOSPC, 0),
]


@pytest.mark.parametrize(
    ("what", "calls"), [("update", UPDATE), ("reload", RELOAD), ("cold", COLD_FILES), ("upgrade", UPGRADE)]
)
def test_what_fails_once_works_the_next_time(
    running: Running, faults: Faults, what: str, calls: list[tuple[str, int, int]]
) -> None:
    act = getattr(running, what)
    for name, error, after in calls:
        faults.fail(name, error, after=after)
        act(lambda name=name: faults.struck(name))
        assert faults.struck(name), name
        faults.clear()
        if what != "upgrade":
            act()
        running.update()
        running.cold()
    act()
    running.update()
    assert os.path.exists(f"/proc/{running.pid}")


def test_a_connection_that_breaks_is_alone(running: Running, faults: Faults) -> None:
    for name in ("send", "sendmsg", "sendfile64", "recv"):
        faults.fail(name, errno.EPIPE)
        running.get("/page")
        running.get("/cold-0")
        faults.clear()
        running.cold()
        assert running.get("/page") == (200, b"page 0")


def test_a_server_without_any_more_threads_does_all_that_it_did(running: Running, faults: Faults) -> None:
    faults.fail("pthread_create", errno.EAGAIN, times=1_000_000)
    for _ in range(2):
        running.update()
        running.cold()
        running.reload()
        running.upgrade(lambda: running.said("no thread can be had"))
    faults.clear()
    running.upgrade()
    running.update()
