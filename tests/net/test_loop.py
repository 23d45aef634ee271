"""zcserve.net.loop: events, calls from other threads, steps for the next turn, and failures that end nothing."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from math import inf
from pathlib import Path

import pytest

from tests.support.begun import open_descriptors
from zcserve.net.loop import STEPS_MAX, Loop
from zcserve.net.poller import Poller

JOIN_S = 20


@pytest.fixture
def loop() -> Iterator[Loop]:
    made = Loop(Poller())
    yield made
    made.close()


class Pipes:
    """Pipes with a byte in each, so that all are ready in one batch of events."""

    def __init__(self, count: int) -> None:
        self.ends = [os.pipe2(os.O_NONBLOCK) for _ in range(count)]
        self.readers = [reader for reader, _ in self.ends]
        for _, writer in self.ends:
            os.write(writer, b"x")

    def close(self) -> None:
        for reader, writer in self.ends:
            os.close(reader)
            os.close(writer)


@pytest.fixture
def two() -> Iterator[Pipes]:
    pipes = Pipes(2)
    yield pipes
    pipes.close()


def test_what_is_ready_reaches_its_handler_once(loop: Loop, two: Pipes) -> None:
    called: list[int] = []
    for reader in two.readers:
        loop.add(reader, lambda mask, reader=reader: called.append(reader))  # type: ignore[misc]
    loop.again(lambda: loop.again(loop.stop))  # two turns: edge-triggered tells once
    loop.run()
    assert sorted(called) == sorted(two.readers)


def test_a_handler_that_was_forgotten_in_this_batch_is_not_called(loop: Loop, two: Pipes) -> None:
    called: list[int] = []

    def first_come(mine: int) -> None:
        called.append(mine)
        for reader in two.readers:
            loop.forget(reader)

    for reader in two.readers:
        loop.add(reader, lambda mask, reader=reader: first_come(reader))  # type: ignore[misc]
    loop.again(loop.stop)
    loop.run()
    assert len(called) == 1


@pytest.mark.parametrize("give_up", ["forget", "release"])
def test_a_report_for_a_number_that_was_given_up_in_this_batch_is_not_for_its_next_owner(
    loop: Loop, two: Pipes, give_up: str
) -> None:
    called: list[int] = []
    told: list[str] = []
    early: list[str] = []
    reader, writer = os.pipe2(os.O_NONBLOCK)

    def first_come(mine: int) -> None:
        """The other one's number goes to a newcomer, as accept does it, while its report lies in the batch."""
        called.append(mine)
        (other,) = set(two.readers) - {mine}
        getattr(loop, give_up)(other)
        os.dup2(reader, other)  # closes what it was
        loop.add(other, lambda mask: told.append("newcomer"))

    for each in two.readers:
        loop.add(each, lambda mask, each=each: first_come(each))  # type: ignore[misc]

    def write() -> None:
        early.extend(told)
        os.write(writer, b"x")
        loop.again(lambda: loop.again(loop.stop))

    loop.again(lambda: loop.again(lambda: loop.again(write)))
    loop.run()
    assert len(called) == 1
    assert (early, told) == ([], ["newcomer"])  # of its own
    os.close(reader)
    os.close(writer)


def test_a_number_that_was_given_up_after_a_batch_is_heard_in_the_next(loop: Loop, two: Pipes) -> None:
    """Only reports of the batch at hand are dropped."""
    told: list[int] = []

    def step() -> None:
        for reader in two.readers:
            loop.add(reader, lambda mask: told.append(0))
            loop.forget(reader)
            loop.add(reader, lambda mask, reader=reader: told.append(reader))  # type: ignore[misc]

    loop.again(step)
    loop.again(lambda: loop.again(lambda: loop.again(loop.stop)))
    loop.run()
    assert sorted(told) == sorted(two.readers)


def test_of_many_steps_the_oldest_are_done_in_a_turn_and_what_has_come_is_not_kept_waiting(
    loop: Loop, two: Pipes
) -> None:
    told: list[int] = []
    for reader in two.readers:
        loop.add(reader, lambda mask: told.append(-1))
    for number in range(STEPS_MAX + 4):
        loop.again(partial(told.append, number))
    loop.run_once()
    assert told == [-1, -1, *range(STEPS_MAX)]
    loop.again(partial(told.append, STEPS_MAX + 4))
    loop.run_once()
    assert told[-5:] == list(range(STEPS_MAX, STEPS_MAX + 5))


def test_what_a_handler_leaves_for_the_next_turn_is_done_in_the_next(loop: Loop, two: Pipes) -> None:
    rounds: list[tuple[str, int]] = []

    def handle(_: int) -> None:
        rounds.append(("handler", loop.rounds))
        loop.again(step)

    def step() -> None:
        rounds.append(("step", loop.rounds))
        loop.stop()

    loop.add(two.readers[0], handle)
    loop.run()
    assert rounds == [("handler", 1), ("step", 2)]


class Failing:
    """A handler that raises, and its owner is told."""

    def __init__(self) -> None:
        self.failed = 0

    def handle(self, *_: object) -> None:
        raise RuntimeError("on purpose")

    def fail(self) -> None:
        self.failed += 1


def test_a_handler_that_raises_fails_alone(loop: Loop, two: Pipes, caplog: pytest.LogCaptureFixture) -> None:
    failing = Failing()
    called: list[int] = []
    loop.add(two.readers[0], failing.handle)
    loop.add(two.readers[1], called.append)
    loop.again(failing.handle)
    loop.call_soon(failing.handle)
    loop.call_soon(loop.stop)
    loop.run()
    assert (failing.failed, len(called)) == (3, 1)
    assert sum("on purpose" in str(record.exc_info) for record in caplog.records) == 3


def test_what_each_turn_does_may_raise(loop: Loop, caplog: pytest.LogCaptureFixture) -> None:
    turns: list[int] = []

    def raises() -> None:
        turns.append(loop.rounds)
        if len(turns) > 2:
            loop.stop()
        raise RuntimeError("on purpose")

    def turn_on() -> None:
        loop.again(turn_on)

    loop.each_turn.subscribe(raises)
    loop.again(turn_on)
    loop.run()
    assert len(turns) == 3
    assert "on purpose" in caplog.text


def test_a_failure_that_cannot_be_dealt_with_ends_nothing(loop: Loop, caplog: pytest.LogCaptureFixture) -> None:
    class Hopeless(Failing):
        def fail(self) -> None:
            raise OSError("on purpose, too")

    loop.call_soon(Hopeless().handle)
    loop.call_soon(loop.stop)
    loop.run()
    assert "could not be closed" in caplog.text


def test_a_call_that_raises_and_has_no_owner_is_logged(loop: Loop, caplog: pytest.LogCaptureFixture) -> None:
    def raises() -> None:
        raise RuntimeError("on purpose")

    loop.call_soon(raises)
    loop.call_soon(loop.stop)
    loop.run()
    assert "a handler failed" in caplog.text


def test_steps_for_the_next_turn_come_in_the_next_turn_and_once(loop: Loop) -> None:
    turns: list[int] = []

    def step() -> None:
        turns.append(loop.rounds)
        if len(turns) < 3:
            loop.again(step)
            loop.again(step)
        else:
            loop.stop()

    loop.again(step)
    loop.run()
    assert turns == [1, 2, 3]


def test_calls_from_other_threads_wake_a_loop_that_sleeps(loop: Loop) -> None:
    called: list[int] = []
    thread = threading.Thread(target=loop.run, daemon=True)
    thread.start()
    callers = [threading.Thread(target=lambda n=n: loop.call_soon(lambda: called.append(n))) for n in range(20)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join(JOIN_S)
    loop.call_soon(loop.stop)
    thread.join(JOIN_S)
    assert not thread.is_alive()
    assert sorted(called) == list(range(20))


def test_calls_are_made_in_order_and_those_they_make_later(loop: Loop) -> None:
    called: list[str] = []

    def first() -> None:
        called.append("a")
        loop.call_soon(last)

    def last() -> None:
        called.append("c")
        loop.stop()

    loop.call_soon(first)
    loop.call_soon(lambda: called.append("b"))
    loop.run()
    assert called == ["a", "b", "c"]


def test_each_turn_is_told_and_counted(loop: Loop) -> None:
    told: list[int] = []
    loop.each_turn.subscribe(lambda: told.append(loop.rounds))
    loop.again(lambda: loop.again(loop.stop))
    loop.run()
    assert told == [1, 2]


def test_each_that_wants_a_turn_has_it_at_its_time(loop: Loop) -> None:
    early, late = object(), object()
    began = time.monotonic()
    loop.wake_at(loop.now + 0.01, early)
    loop.wake_at(loop.now + JOIN_S, late)
    loop.run_once()
    loop.wake_at(inf, early)
    loop.wake_at(loop.now + 0.01, late)
    loop.run_once()
    assert 0.01 < time.monotonic() - began < JOIN_S


def test_a_deadline_wakes_the_loop(loop: Loop) -> None:
    class Deadline:
        armed = inf

        def due(self) -> float:
            return began + 0.05

        def expire(self) -> None:
            loop.stop()

    began = time.monotonic()
    loop.timers.arm(Deadline())
    loop.run()
    assert time.monotonic() >= began + 0.05
    assert loop.now >= began + 0.05


def test_a_deadline_that_fails_ends_nothing(loop: Loop, caplog: pytest.LogCaptureFixture) -> None:
    class Deadline:
        armed = inf
        failed = False

        def due(self) -> float:
            return 0.0 if not self.failed else inf

        def expire(self) -> None:
            raise RuntimeError("on purpose")

        def fail(self) -> None:
            self.failed = True

    deadline = Deadline()
    loop.timers.arm(deadline)
    loop.again(lambda: loop.again(loop.stop))
    loop.run()
    assert deadline.failed
    assert "on purpose" in caplog.text


def test_closing_gives_the_descriptors_back() -> None:
    before = open_descriptors()
    loops = [Loop(Poller()) for _ in range(5)]
    assert open_descriptors() > before
    for loop in loops:
        loop.close()
    assert open_descriptors() == before


def test_a_loop_that_is_closed_tells_that_no_deadline_passes_any_more() -> None:
    loop = Loop(Poller())
    told: list[str] = []
    loop.timers.call_later(0.0, lambda: told.append("deadline"))
    loop.timers.ended.subscribe(lambda: told.append("end"))
    loop.close()
    assert told == ["end"]


def test_a_call_after_the_end_writes_into_no_other_file(tmp_path: Path) -> None:
    loop = Loop(Poller())
    loop.close()
    with ExitStack() as stack:
        files = [stack.enter_context((tmp_path / str(number)).open("wb", buffering=0)) for number in range(8)]
        loop.call_soon(lambda: None)
        assert [os.fstat(file.fileno()).st_size for file in files] == [0] * 8


def test_a_call_that_is_late_while_the_loop_ends_writes_into_no_other_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop = Loop(Poller())
    writes, go = threading.Event(), threading.Event()
    write = os.write

    def written_late(fd: int, data: bytes) -> int:
        writes.set()
        assert go.wait(20)
        return write(fd, data)

    monkeypatch.setattr(os, "write", written_late)
    thread = threading.Thread(target=loop.call_soon, args=(lambda: None,), daemon=True)
    thread.start()
    assert writes.wait(20)
    loop.close()
    with ExitStack() as stack:
        files = [stack.enter_context((tmp_path / str(number)).open("wb", buffering=0)) for number in range(8)]
        go.set()
        thread.join(20)
        assert [os.fstat(file.fileno()).st_size for file in files] == [0] * 8


def in_a_child(fd: int) -> bytes:
    """What a forked child reads from this descriptor."""
    told, tell = os.pipe()
    child = os.fork()
    if not child:
        try:
            os.write(tell, os.read(fd, 1))
        finally:
            os._exit(0)
    os.close(tell)
    os.waitpid(child, 0)
    with open(told, "rb") as file:
        return file.read()


def test_a_child_has_none_of_what_a_loop_waits_for(loop: Loop, two: Pipes) -> None:
    loop.add(two.readers[0], lambda mask: None)
    assert in_a_child(two.readers[0]) == b""
    assert os.read(two.readers[0], 1) == b"x"  # which the parent still has
    loop.forget(two.readers[0])
    assert in_a_child(two.readers[1]) == b"x"


def test_a_child_keeps_what_has_the_number_of_a_closed_loop(two: Pipes) -> None:
    loop = Loop(Poller())
    (number,) = loop.handlers  # its wake-up
    loop.close()
    os.dup2(two.readers[0], number)
    assert in_a_child(number) == b"x"
    os.close(number)


def test_a_child_gives_up_the_others_where_its_own_descriptor_has_a_number_that_is_listed(
    loop: Loop, two: Pipes
) -> None:
    null, other = two.readers
    front = loop.front
    numbers: list[int] = []
    with pytest.MonkeyPatch.context() as patched:  # no longer: pytest moves descriptors, too
        patched.setattr(os, "dup2", lambda _, fd, *, inheritable: numbers.append(fd))
        patched.setattr(front, "descriptors", lambda: [null, other])
        loop.let_go(null)
    loop.front = front  # with which it is closed
    assert other in numbers
    assert null not in numbers


def test_a_child_has_no_connection_that_its_loop_does_not_know(loop: Loop) -> None:
    with ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        client = stack.enter_context(socket.create_connection(listener.getsockname()))
        client.sendall(b"x")
        accepted = stack.enter_context(listener.accept()[0])  # another thread has it, and has not noted it
        assert in_a_child(accepted.fileno()) == b"x"
        client.sendall(b"x")
        loop.add(listener.fileno(), lambda mask: None)
        assert in_a_child(accepted.fileno()) == b""
        loop.forget(listener.fileno())


# --- in a thread of its own, for a while ------------------------------------------------------------------------


def test_it_turns_while_its_thread_does_something_else_and_is_left_as_it_was(loop: Loop) -> None:
    where: list[str] = []
    turned = threading.Event()
    with loop.turning():
        loop.call_soon(lambda: where.append(threading.current_thread().name))
        loop.call_soon(turned.set)
        assert turned.wait(JOIN_S)
        rounds = loop.rounds
    assert where == ["zcserve-start"]
    assert loop.rounds > rounds  # the one that ended it
    assert "zcserve-start" not in [thread.name for thread in threading.enumerate()]
    loop.call_soon(loop.stop)
    loop.run()


def test_what_the_thread_raises_meanwhile_ends_the_turns(loop: Loop) -> None:
    with pytest.raises(MemoryError), loop.turning():
        raise MemoryError
    assert "zcserve-start" not in [thread.name for thread in threading.enumerate()]
