"""zcserve.succession: what a server does at each step between the process before it and the one after it, on both
engines, with real content, a real loop and other processes at the end of a socket. Whole upgrades:
tests/wire/test_upgrade_live.py."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from tests.support.site import Site
from tests.support.trees import no_descriptors_left, publish
from tests.support.waiting import Predicate, T
from zcserve import Config, Server, succession, upgrade
from zcserve.cache.entry import Entry
from zcserve.content.looks import Looks
from zcserve.drain import Drain
from zcserve.errors import UsageError
from zcserve.succession import Succession
from zcserve.supervisor import Supervisor
from zcserve.upgrade import AWAITS_READY, VARIABLE, Handover, Predecessor

WITHIN_S = 20.0
READY = "control.send(b'ready'); assert control.recv(2) == b'go'; "
SERVES = READY + "control.send(b'serving'); control.recv(1)"


class Before:
    """The process before this one: `control` is its end of the socket."""

    def __init__(self, words: str = "asks") -> None:
        self.control, theirs = socket.socketpair()
        self.control.settimeout(WITHIN_S)
        handover = Handover(os.getpid(), theirs.detach(), [], os.memfd_create("manifest"), [], os.memfd_create("pages"))
        made = Predecessor.of({VARIABLE: json.dumps(asdict(handover)), AWAITS_READY: words})
        assert made is not None
        self.predecessor = made
        for fd in (handover.manifest, handover.pages):
            os.close(fd)


class Desk:
    """A server that is open, its succession, and a loop that the test turns."""

    def __init__(self, root: Path, stack: ExitStack, monkeypatch: pytest.MonkeyPatch, engine: Any) -> None:
        self.root = root
        self.server = server = Server(Config(root=root, port=0, engine=engine))
        server.open()
        stack.callback(server.close)
        self.stops: list[float] = []
        self.started: list[subprocess.Popen[bytes]] = []
        self.told_drained: list[bool] = []
        self.program = SERVES
        monkeypatch.setattr(upgrade, "run_again", self._start)
        self._stack = stack
        self.drain = Drain(server.service, [])
        self.succession = self.succeed(None)

    def succeed(self, predecessor: Predecessor | None) -> Succession:
        """A succession of this server; `predecessor` is the process before it."""
        server = self.server
        self.succession = Succession(
            predecessor,
            listeners=[],
            loader=server.loader,
            content=server.contents,
            service=server.service,
            drain=self.drain,
            supervisor=Supervisor(os.environ),
            stop=lambda: self.stops.append(time.monotonic()),
            looks=Looks(server.service),
        )
        return self.succession

    def _start(self, handover: Handover, *, is_drained: bool) -> subprocess.Popen[bytes]:
        self.told_drained.append(is_drained)
        code = f"import socket, sys, time; control = socket.socket(fileno={handover.control}); {self.program}"
        process = subprocess.Popen([sys.executable, "-S", "-c", code], pass_fds=[handover.control])
        self._stack.callback(process.wait, WITHIN_S)
        self._stack.callback(process.kill)
        self.started.append(process)
        return process

    def size(self) -> int:
        """Of the page that is served now."""
        page = self.server.site.live.resources[b"/page"]
        assert isinstance(page, Entry)
        return page.size

    def turn_until(self, is_true: Predicate[T]) -> T:
        deadline = time.monotonic() + WITHIN_S
        while not (value := is_true()):
            if time.monotonic() > deadline:
                pytest.fail(f"not true within {WITHIN_S} s: {is_true!r}")
            self.server.loop.wake_at(self.server.loop.now + 0.005, self)
            self.server.loop.run_once()
        return value


@pytest.fixture(params=["native", "python"])
def desk(
    site: Site, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture,
    supervisor: Callable[[], list[str]],
) -> Iterator[Desk]:  # fmt: skip
    if request.param == "native":
        pytest.importorskip("zcserve.net._lane")
    caplog.set_level("INFO")
    site.write("page", b"1")
    with ExitStack() as stack:
        yield Desk(site.root, stack, monkeypatch, request.param)


@pytest.fixture
def supervisor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], list[str]]]:
    """What systemd was told since the last call."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(str(tmp_path / "notify"))
        sock.setblocking(False)
        monkeypatch.setitem(os.environ, "NOTIFY_SOCKET", str(tmp_path / "notify"))

        def told() -> list[str]:
            found: list[str] = []
            try:
                while True:
                    found.append(sock.recv(1000).decode())
            except BlockingIOError:
                return found

        yield told


def never() -> bool:
    """It is not to end."""
    return False


# --- as the new process -----------------------------------------------------------------------------------------------


def test_a_process_without_one_before_it_is_ready_at_once(desk: Desk, supervisor: Callable[[], list[str]]) -> None:
    publish(desk.root / "page", b"22")
    desk.succession.begin(never)
    assert supervisor() == ["READY=1"]


def test_what_changed_before_it_is_ready_and_before_it_goes_is_known_when_it_serves(
    desk: Desk, supervisor: Callable[[], list[str]]
) -> None:
    before = Before()
    desk.succeed(before.predecessor)
    publish(desk.root / "page", b"22")
    sizes: list[int] = []

    def asked() -> bool:  # while it waits
        if not sizes:
            assert before.control.recv(9) == b"ready"
            sizes.append(desk.size())
            publish(desk.root / "page", b"333")
            before.control.send(b"go")
        return False

    desk.succession.begin(asked)
    assert (sizes, desk.size()) == ([2], 3)
    assert before.control.recv(64) == b"serving and knowing"
    assert supervisor() == []  # the process before it tells which one is the main process
    before.control.close()


@pytest.mark.parametrize("why", ["the old one says no", "it is to end", "it is to end while it looks"])
def test_it_does_not_serve(desk: Desk, why: str) -> None:
    before = Before()
    desk.succeed(before.predecessor)
    before.control.send(b"no" if why == "the old one says no" else b"go")
    asked: list[None] = []

    def is_stopping() -> bool:
        asked.append(None)
        return why == "it is to end" or (why == "it is to end while it looks" and len(asked) > 2)

    with pytest.raises(UsageError, match="the server was ended before it took over"):
        desk.succession.begin(is_stopping)
    assert before.control.recv(64) == b"ready"
    before.control.setblocking(False)
    with pytest.raises(BlockingIOError):
        before.control.recv(64)
    before.control.close()


def test_when_the_old_one_has_ended_its_memory_is_this_ones_alone_and_an_upgrade_that_was_asked_for_begins(
    desk: Desk, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    released = note_release(desk, monkeypatch)
    before = take_over(desk)
    desk.succession.upgrade()
    assert f"upgrade: begun when process {os.getpid()} has ended" in caplog.messages
    desk.server.loop.run_once()
    assert desk.started == []
    before.control.close()
    desk.turn_until(lambda: desk.started)
    assert f"upgrade: process {os.getpid()} has ended" in caplog.messages
    assert released == ["zcserve-loader"]  # not in the loop: it may take long


def take_over(desk: Desk) -> Before:
    """Have the server serve after another process."""
    before = Before()
    desk.succeed(before.predecessor)
    before.control.send(b"go")
    desk.succession.begin(never)
    return before


def note_release(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """In which thread the store gets its memory alone."""
    released: list[str] = []
    release = desk.server.store.takeover.release

    def noted() -> None:
        release()
        released.append(threading.current_thread().name.rstrip("-_0123456789"))

    monkeypatch.setattr(desk.server.store.takeover, "release", noted)
    return released


def test_without_having_been_asked_nothing_is_upgraded_when_the_old_one_ends(
    desk: Desk, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    released = note_release(desk, monkeypatch)
    before = take_over(desk)
    before.control.close()
    desk.turn_until(lambda: released)
    behind: list[object] = []
    desk.server.service.fetcher.run("behind it", lambda: None, behind.append)
    desk.turn_until(lambda: behind)
    assert "upgrade: starting the new program" not in caplog.messages


# --- as the old process -----------------------------------------------------------------------------------------------


def test_the_new_one_serves_and_this_one_hands_over_follows_on_and_ends(
    desk: Desk,
    supervisor: Callable[[], list[str]],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(succession, "QUIET_S", 0.05)
    desk.succession.upgrade()
    assert desk.stops == []
    desk.turn_until(lambda: desk.server.service.draining)
    pid = desk.started[0].pid
    assert supervisor() == [f"MAINPID={pid}"]
    assert any(f"upgrade: process {pid} serves now" in message for message in caplog.messages)
    assert desk.server.store.frozen
    began = desk.server.loop.now
    desk.turn_until(lambda: desk.stops)
    assert desk.stops[0] >= began
    publish(desk.root / "page", b"22")  # nothing more is replaced
    desk.server.loop.run_once()
    assert desk.server.content.due == float("inf")


def test_from_ready_on_nothing_is_replaced_until_it_serves(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(succession, "QUIET_S", 60.0)
    dues: list[float] = []
    pause = desk.server.content.pause

    def paused(*given: Any) -> None:
        pause(*given)
        dues.append(desk.server.content.due)

    monkeypatch.setattr(desk.server.content, "pause", paused)
    desk.succession.upgrade()
    desk.turn_until(lambda: desk.server.service.draining)
    assert dues == [float("inf")]
    publish(desk.root / "page", b"22")  # what changes afterwards is followed, once that process knows of it
    desk.turn_until(lambda: desk.size() == 2)


def test_a_program_that_does_not_serve_is_told_of_and_this_process_goes_on(
    desk: Desk, caplog: pytest.LogCaptureFixture
) -> None:
    desk.program = READY + "sys.exit(3)"
    desk.succession.upgrade()
    told = "upgrade: the new program does not serve, this process goes on: "
    desk.turn_until(lambda: [message for message in caplog.messages if message.startswith(told)])
    assert not desk.server.store.frozen
    assert not desk.server.service.draining
    publish(desk.root / "page", b"22")
    desk.turn_until(lambda: desk.size() == 2)  # it replaces content again
    desk.program = SERVES
    desk.succession.upgrade()  # and may be upgraded again
    desk.turn_until(lambda: desk.server.service.draining)
    assert len(desk.started) == 2


def test_a_program_is_told_whether_this_process_is_drained_as_it_is_when_memory_is_frozen(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    frozen = threading.Event()
    freeze = desk.server.store.freeze

    def late() -> object:
        frozen.wait(WITHIN_S)
        return freeze()

    monkeypatch.setattr(desk.server.store, "freeze", late)
    desk.succession.upgrade()
    desk.drain.step_aside()  # nothing is frozen yet, so that is not refused
    frozen.set()
    desk.turn_until(lambda: desk.told_drained)
    assert desk.told_drained == [True]


@pytest.mark.parametrize(
    ("words", "is_drained"), [("asks yields drained", True), ("asks yields", False), ("asks", False)]
)
def test_a_process_steps_aside_where_the_one_before_it_was_drained(desk: Desk, words: str, is_drained: bool) -> None:
    before = Before(words)
    before.control.send(b"go.")
    desk.succeed(before.predecessor).begin(never)
    assert desk.server.service.draining is is_drained
    assert desk.drain.step_back() is is_drained
    before.control.close()


def test_an_upgrade_that_is_asked_for_twice_is_one(desk: Desk) -> None:
    for _ in range(2):
        assert desk.succession.upgrade() == ""
    desk.turn_until(lambda: desk.server.service.draining)
    assert len(desk.started) == 1


def test_an_upgrade_of_a_process_that_ends_is_refused(desk: Desk) -> None:
    desk.drain.hand_over()
    assert desk.succession.upgrade() == "refused, since this process ends"
    desk.server.loop.run_once()
    assert desk.started == []


def test_process_1_is_not_upgraded(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(os, "getpid", lambda: 1)
    assert "this is process 1" in desk.succession.upgrade()
    monkeypatch.undo()
    assert any("this is process 1" in message for message in caplog.messages)
    assert not desk.server.store.frozen
    desk.succession.give_up()  # there is none to be given up


def test_without_descriptors_it_is_told_that_nothing_could_be_started(
    desk: Desk, caplog: pytest.LogCaptureFixture
) -> None:
    with no_descriptors_left():
        desk.succession.upgrade()
    assert any("it could not be started: [Errno 24]" in message for message in caplog.messages)
    desk.succession.upgrade()  # it is to be had again
    desk.turn_until(lambda: desk.started)


# --- as one that ends -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["give_up", "forbid"])
def test_a_process_that_ends_leaves_no_program_that_would_take_over(desk: Desk, how: str) -> None:
    desk.program = "control.send(b'ready'); control.recv(2); time.sleep(600)"
    getattr(desk.succession, how)()  # there is none
    desk.succession.upgrade()
    desk.turn_until(lambda: desk.started)
    (process,) = desk.started
    deadline = time.monotonic() + WITHIN_S
    while process.poll() is None and time.monotonic() < deadline:
        getattr(desk.succession, how)()  # the thread may not have told yet which program it is
        desk.server.loop.wake_at(desk.server.loop.now + 0.005, desk)
        desk.server.loop.run_once()
    assert process.returncode == -9
    assert desk.stops == []
