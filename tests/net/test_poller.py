"""zcserve.net.poller: real descriptors, and when each is reported."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from zcserve.net.front import Kind
from zcserve.net.poller import EVENTS_MAX, HANG_UP, READ, WRITE, Poller


@pytest.mark.parametrize(("kind", "told"), [(Kind.CLIENT, READ | WRITE), (Kind.SOURCE, READ), (Kind.LISTENER, READ)])
def test_the_poller_reports_once_what_is_ready_of_each_kind(kind: Kind, told: int) -> None:
    front = Poller()
    ours, theirs = socket.socketpair()
    with ours, theirs:
        front.watch(ours.fileno(), kind)
        theirs.send(b"x")
        assert front.poll(5) == [(ours.fileno(), told)]
        assert front.poll(0) == []
        front.forget(ours.fileno())
        front.forget(ours.fileno())  # it is not watched any more
        theirs.send(b"x")
        assert front.poll(0) == []
    front.close()
    assert front.descriptors() == []


def test_the_pollers_descriptor_is_its_own_and_is_not_inherited() -> None:
    front = Poller()
    (fd,) = front.descriptors()
    assert not os.get_inheritable(fd)
    front.close()


@pytest.fixture
def front() -> Iterator[Poller]:
    made = Poller()
    yield made
    made.close()


@pytest.mark.parametrize("closes", [True, False], ids=["it closes", "it ends its side"])
def test_a_client_that_ends_is_told_as_a_hang_up(front: Poller, closes: bool) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        front.watch(ours.fileno(), Kind.CLIENT)
        assert front.poll(5) == [(ours.fileno(), WRITE)]
        if closes:
            theirs.close()
        else:
            theirs.shutdown(socket.SHUT_WR)
        ((_, mask),) = front.poll(5)
        assert mask & READ
        assert mask & HANG_UP


def test_it_waits_until_something_comes(front: Poller) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        front.watch(ours.fileno(), Kind.SOURCE)
        late = threading.Timer(0.05, theirs.send, (b"x",))
        late.start()
        assert front.poll(20) == [(ours.fileno(), READ)]
        late.join()


def test_a_turn_takes_so_many_events_and_the_next_one_the_others(front: Poller) -> None:
    pairs = [socket.socketpair() for _ in range(EVENTS_MAX // 2 + 3)]
    with ExitStack() as stack:
        for pair in pairs:
            for sock in pair:
                stack.enter_context(sock)
                front.watch(sock.fileno(), Kind.CLIENT)
        first, second = front.poll(5), front.poll(5)
        assert (len(first), len(second)) == (EVENTS_MAX, 6)
        assert {fd for fd, _ in first + second} == {sock.fileno() for pair in pairs for sock in pair}
        for fd, _ in first + second:
            front.forget(fd)


def test_a_descriptor_that_cannot_be_watched_is_an_error(front: Poller) -> None:
    with pytest.raises(OSError, match="Bad file descriptor"):
        front.watch(1 << 20, Kind.CLIENT)
