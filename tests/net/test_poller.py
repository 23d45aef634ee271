"""zcserve.net.poller: real descriptors, and when each is reported."""

from __future__ import annotations

import os
import socket

import pytest

from zcserve.net.front import Kind
from zcserve.net.poller import READ, WRITE, Poller


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
    assert front.turn == 3
    front.close()
    assert front.descriptors() == []


def test_the_pollers_descriptor_is_its_own_and_is_not_inherited() -> None:
    front = Poller()
    (fd,) = front.descriptors()
    assert not os.get_inheritable(fd)
    front.close()
