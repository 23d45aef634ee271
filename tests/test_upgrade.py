"""zcserve.upgrade without a server: what is handed over, what is waited for, and listening sockets that are taken."""

from __future__ import annotations

import fcntl
import json
import os
import re
import resource
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

from tests.support.waiting import WaitUntil
from zcserve import upgrade
from zcserve.cache.takeover import Memory
from zcserve.config.addresses import TcpAddress, UnixAddress
from zcserve.net.inherited import Inherited
from zcserve.net.listener import bind
from zcserve.net.loop import Loop
from zcserve.net.poller import Poller
from zcserve.net.timers import Deadline
from zcserve.upgrade import VARIABLE, Handover, Predecessor, Successor

WITHIN_S = 20.0
LOCAL = TcpAddress("127.0.0.1", 0)


@pytest.fixture
def opened() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def in_time(run: Callable[[], object]) -> None:
    """Run what may never return in a thread."""
    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(WITHIN_S)
    assert not thread.is_alive()


# --- what is handed over --------------------------------------------------------------------------------------


def test_a_process_without_a_handover_has_no_predecessor() -> None:
    assert Predecessor.of({}) is None
    assert Predecessor.of({VARIABLE: ""}) is None


def test_what_is_handed_over_is_taken_once_and_goes_no_further(opened: ExitStack) -> None:
    ours, theirs = socket.socketpair()
    opened.enter_context(ours)
    (listener,) = bind(LOCAL)
    fds = [os.memfd_create("test", 0) for _ in range(3)]
    os.set_inheritable(theirs.fileno(), True)
    handover = Handover(1, theirs.detach(), [(listener.detach(), 0)], fds[0], [fds[1]], fds[2])
    environ = {VARIABLE: json.dumps(asdict(handover)), "PATH": "/bin"}
    got = Predecessor.of(environ)
    assert got is not None
    assert environ == {"PATH": "/bin"}
    assert got.pid == 1
    assert not any(os.get_inheritable(fd) for fd in handover.descriptors())
    got.listeners.close()
    for fd in handover.descriptors():
        if fd not in (handover.listeners[0][0], handover.control):  # `got` closes these
            os.close(fd)


# --- the program that is to take over -------------------------------------------------------------------------


class Outcome:
    """A successor in a loop, run until something is decided."""

    def __init__(self, program: str, monkeypatch: pytest.MonkeyPatch) -> None:
        self.loop = Loop(Poller())
        self.served: list[int] = []
        self.failed: list[str] = []
        self.program = program
        monkeypatch.setattr(upgrade, "run_again", self._start)
        self.successor = Successor(self.loop, self._on_served, self._on_failed, self._on_ready)
        self.ready = 0
        self.frozen_by = ""

    def _start(self, handover: Handover, *, is_drained: bool) -> subprocess.Popen[bytes]:
        code = f"import os, socket, sys, time; control = socket.socket(fileno={handover.control}); {self.program}"
        self.process = subprocess.Popen([sys.executable, "-c", code], pass_fds=[handover.control])
        return self.process

    def _on_served(self, pid: int) -> None:
        self.served.append(pid)
        self.loop.stop()

    def _on_ready(self) -> None:
        self.ready += 1
        self.successor.go()

    def _freeze(self) -> Memory:
        self.frozen_by = threading.current_thread().name
        return Memory((), 0)

    def _on_failed(self, why: str) -> None:
        self.failed.append(why)
        self.loop.stop()

    def run(self, write: Callable[[int, Memory], None] = lambda _, __: None) -> None:
        self.successor.begin([], self._freeze, write)
        late = Deadline(self.loop.stop)
        late.at = self.loop.now + WITHIN_S
        self.loop.timers.arm(late)
        self.loop.run()
        assert self.served or self.failed
        self.loop.timers.disarm(late)

    def close(self) -> None:
        self.loop.close()
        if hasattr(self, "process"):
            self.process.kill()
            self.process.wait(WITHIN_S)


@pytest.fixture
def outcome(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], Outcome]]:
    with ExitStack() as stack:

        def make(program: str) -> Outcome:
            made = Outcome(program, monkeypatch)
            stack.callback(made.close)
            return made

        yield make


def test_a_program_that_serves_says_so(outcome: Callable[[str], Outcome]) -> None:
    one = outcome("control.send(b'serving'); control.recv(1)")
    one.run()
    assert (one.served, one.failed, one.ready) == ([one.process.pid], [], 0)  # an older program never says "ready"
    assert one.frozen_by == "zcserve-upgrade"  # the store's lock may be held for long: not in the loop


def test_a_program_that_is_ready_serves_when_it_may(outcome: Callable[[str], Outcome]) -> None:
    one = outcome("control.send(b'ready'); assert control.recv(9) == b'go'; control.send(b'serving'); control.recv(1)")
    one.run()
    assert (one.served, one.failed, one.ready) == ([one.process.pid], [], 1)


def test_a_program_that_does_not_wait_serves_all_the_same(outcome: Callable[[str], Outcome]) -> None:
    one = outcome("control.send(b'ready'); control.send(b'serving'); control.recv(9); control.recv(9)")
    one.run()
    assert (one.served, one.failed) == ([one.process.pid], [])


ASKED = "control.send(b'ready'); control.recv(2); control.send(b'serving and knowing'); "
KNOWS = "assert control.recv(1) == b'?'; control.send(b'!'); "
YIELDED = "assert control.recv(1) == b'.'; "  # what was asked before comes first


@pytest.mark.parametrize(
    ("program", "count"),
    [
        (ASKED + KNOWS + YIELDED + KNOWS + "control.recv(1)", 2),
        (ASKED + KNOWS + "os._exit(1)", 2),  # nothing is older then
        ("control.send(b'serving'); control.recv(1)", 2),  # an older program
        (ASKED + KNOWS + YIELDED + "control.recv(1); control.recv(1)", 1),
    ],
)
def test_the_new_program_is_asked_when_it_serves(
    outcome: Callable[[str], Outcome], program: str, count: int, wait_until: WaitUntil
) -> None:
    one = outcome(program)
    known: list[int] = []
    one.successor.ask(lambda: known.append(0))
    one.run()
    one.successor.ask(lambda: known.append(1))
    assert one.served == [one.process.pid]
    deadline = time.monotonic() + WITHIN_S
    while len(known) < count and time.monotonic() < deadline:
        one.loop.run_once()
    assert known == [0, 1][:count]


@pytest.mark.parametrize("program", ["sys.exit(3)", "control.send(b'ready'); control.recv(9); sys.exit(3)"])
def test_what_is_asked_of_a_program_that_does_not_serve_is_known(
    outcome: Callable[[str], Outcome], program: str
) -> None:
    one = outcome(program)
    known: list[int] = []
    one.successor.ask(lambda: known.append(0))
    one.run()
    assert known == [0]
    one.successor.ask(lambda: known.append(1))
    assert known == [0, 1]


@pytest.mark.parametrize(
    ("program", "why"),
    [
        ("sys.exit(3)", "exit code 3"),
        ("control.close(); time.sleep(0.1); sys.exit(3)", "exit code 3"),  # its end of the socket is seen first
        ("control.close(); time.sleep(600)", "signal 9"),
        ("control.send(b'nonsense'); time.sleep(600)", "signal 9"),
        ("control.send(b'ready'); sys.exit(3)", "exit code 3"),
        ("control.send(b'ready'); control.recv(9); control.send(b'nonsense'); time.sleep(600)", "signal 9"),
        ("os.kill(os.getpid(), 15)", "signal (15|9)"),
    ],
)
def test_a_program_that_does_not_serve_has_ended_when_it_is_told(
    outcome: Callable[[str], Outcome], program: str, why: str
) -> None:
    one = outcome(program)
    one.run()
    assert one.served == []
    assert one.process.returncode is not None
    (told,) = one.failed
    assert re.search(f"it ended before it served .*{why}", told)


def test_a_program_that_has_ended_when_it_is_heard_to_serve_does_not(
    outcome: Callable[[str], Outcome], monkeypatch: pytest.MonkeyPatch
) -> None:
    one = outcome("control.send(b'ready'); control.recv(2); control.send(b'serving'); sys.exit(3)")
    go = one.successor.go

    def go_and_stand_still() -> None:
        go()
        one.process.wait(WITHIN_S)

    monkeypatch.setattr(one.successor, "go", go_and_stand_still)
    one.run()
    assert (one.served, len(one.failed)) == ([], 1)
    assert "exit code 3" in one.failed[0]


def test_a_program_that_takes_too_long_is_ended(
    outcome: Callable[[str], Outcome], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upgrade, "READY_WITHIN_S", 0.2)
    one = outcome("time.sleep(600)")
    one.run()
    assert one.process.returncode == -9
    assert "did not serve within 0.2 s" in one.failed[0]


def test_a_program_that_cannot_be_ended_is_told_of_once(
    outcome: Callable[[str], Outcome], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upgrade, "READY_WITHIN_S", 0.2)
    monkeypatch.setattr(upgrade, "KILLED_WITHIN_S", 0.2)
    monkeypatch.setattr(subprocess.Popen, "kill", lambda _: None)
    one = outcome("time.sleep(600)")
    one.run()
    told = f"did not serve within 0.2 s (process {one.process.pid} was killed, but waits"
    assert told in one.failed[0]
    monkeypatch.undo()
    one.process.kill()
    one.process.wait(WITHIN_S)
    assert len(one.failed) == 1


def test_a_manifest_that_cannot_be_written_starts_nothing(outcome: Callable[[str], Outcome]) -> None:
    def write(_: int, __: Memory) -> None:
        raise OSError(28, "No space left on device")

    one = outcome("time.sleep(600)")
    one.run(write)
    assert "could not be started: [Errno 28] No space left on device" in one.failed[0]
    assert not hasattr(one, "process")


# --- the program that takes over ------------------------------------------------------------------------------


def follower(control: int, **more: str) -> Predecessor:
    """Of a process at the other end of `control`, with no memory."""
    handover = Handover(os.getpid(), control, [], os.memfd_create("manifest"), [], os.memfd_create("pages"))
    made = Predecessor.of({VARIABLE: json.dumps(asdict(handover)), **more})
    assert made is not None
    for fd in (handover.manifest, handover.pages):
        os.close(fd)
    return made


def test_it_says_that_it_is_ready_and_waits_for_go() -> None:
    ours, theirs = socket.socketpair()
    with ours:
        one = follower(theirs.detach(), **{upgrade.AWAITS_READY: "1"})
        seen: list[bytes] = []

        def is_stopping() -> bool:  # asked while it waits
            if not seen:
                seen.append(ours.recv(9))
                ours.send(b"go")
            return False

        in_time(lambda: one.await_go(is_stopping))
        assert seen == [b"ready"]


def test_it_waits_at_a_descriptor_with_any_number() -> None:
    """A server with a thousand clients gives the new program numbers that select(2) does not know."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    try:
        ours, theirs = socket.socketpair()
        with ours, theirs:
            one = follower(fcntl.fcntl(theirs, fcntl.F_DUPFD_CLOEXEC, 1500), **{upgrade.AWAITS_READY: "1"})
            ours.send(b"go")
            goes: list[bool] = []
            in_time(lambda: goes.append(one.await_go()))
            assert goes == [True]
            assert ours.recv(9) == b"ready"
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.parametrize("why", ["the other ends", "it is to end"])
def test_it_waits_for_go_no_more(monkeypatch: pytest.MonkeyPatch, why: str) -> None:
    monkeypatch.setattr(upgrade, "STOPPING_SEEN_S", 0.01)
    ours, theirs = socket.socketpair()
    with ours:
        one = follower(theirs.detach(), **{upgrade.AWAITS_READY: "1"})
        count = 0

        def is_stopping() -> bool:
            nonlocal count
            count += 1
            if why == "the other ends":
                ours.close()
            return why == "it is to end" and count > 3

        in_time(lambda: one.await_go(is_stopping))
        assert count


@pytest.mark.parametrize("is_there", [True, False])
def test_it_does_not_take_over_where_the_old_process_says_no(is_there: bool) -> None:
    ours, theirs = socket.socketpair()
    with ours:
        one = follower(theirs.detach(), **{upgrade.AWAITS_READY: "1"})
        ours.send(b"no")
        if not is_there:
            ours.close()
        goes: list[bool] = []
        in_time(lambda: goes.append(one.await_go()))
        assert goes == [False]


def test_it_says_nothing_to_an_older_program() -> None:
    ours, theirs = socket.socketpair()
    with ours:
        one = follower(theirs.detach())
        one.await_go()
        ours.setblocking(False)
        with pytest.raises(BlockingIOError):
            ours.recv(9)


# --- listening sockets ----------------------------------------------------------------------------------------


def handed(sockets: list[socket.socket], port: int = 0) -> Inherited:
    """These sockets in another process."""
    return Inherited((os.dup(sock.fileno()), port) for sock in sockets)


def listening(stack: ExitStack, *addresses: Any) -> list[socket.socket]:
    sockets = [stack.enter_context(sock) for address in addresses for sock in bind(address)]
    for sock in sockets:
        sock.listen()
    return sockets


def test_a_listener_of_the_same_address_is_taken_with_the_clients_in_its_queue(opened: ExitStack) -> None:
    (old,) = listening(opened, LOCAL)
    inherited = handed([old])
    client = opened.enter_context(socket.create_connection(old.getsockname()))
    (new,) = bind(LOCAL, inherited)
    opened.enter_context(new)
    assert new.getsockname() == old.getsockname()
    assert not new.getblocking()
    old.close()
    accepted, peer = new.accept()
    accepted.close()
    assert peer == client.getsockname()


def test_a_port_is_taken_by_number_and_by_what_was_asked_for(opened: ExitStack) -> None:
    old = listening(opened, LOCAL, LOCAL)
    ports = [sock.getsockname()[1] for sock in old]
    inherited = handed(old)
    (second,) = bind(TcpAddress("127.0.0.1", ports[1]), inherited)
    (first,) = bind(LOCAL, inherited)
    (anew,) = bind(LOCAL, inherited)
    for sock in (first, second, anew):
        opened.enter_context(sock)
    assert [sock.getsockname()[1] for sock in (first, second)] == ports
    assert anew.getsockname()[1] not in ports


def test_what_is_no_address_of_ours_any_more_is_closed(opened: ExitStack, tmp_path: Path) -> None:
    paths = [tmp_path / "kept", tmp_path / "gone"]
    old = listening(opened, *(UnixAddress(str(path)) for path in paths))
    inherited = handed(old)
    (kept,) = bind(UnixAddress(str(paths[0])), inherited)
    opened.enter_context(kept)
    inherited.close()
    assert [path.exists() for path in paths] == [True, False]
    assert kept.getsockname() == str(paths[0])


def test_a_process_that_fails_leaves_the_other_name_and_takes_its_own(opened: ExitStack, tmp_path: Path) -> None:
    paths = [tmp_path / "theirs", tmp_path / "ours"]
    inherited = handed(listening(opened, UnixAddress(str(paths[0]))))
    for path in paths:
        (sock,) = bind(UnixAddress(str(path)), inherited)
        inherited.unbind(sock)
    assert [path.exists() for path in paths] == [True, False]
