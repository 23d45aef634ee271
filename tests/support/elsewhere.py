"""Which lane a connection of a server in this process is in: the kernel tells which epoll descriptor watches it."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from tests.support.own_sockets import own_sockets, peer_of
from tests.support.stage import StageClient
from tests.support.waiting import wait_until
from zcserve import Server
from zcserve.net.fastlane import FastLane

_CONNECTIONS_MAX = 64
_WATCHED = re.compile(r"^tfd:\s+(\d+) ", re.MULTILINE)


def _watched_by(epoll: int | str) -> set[int]:
    """The descriptors that an epoll descriptor of this process watches; none where it is something else."""
    with suppress(FileNotFoundError):  # closed meanwhile
        if os.readlink(f"/proc/self/fd/{epoll}") == "anon_inode:[eventpoll]":
            return {int(fd) for fd in _WATCHED.findall(Path(f"/proc/self/fdinfo/{epoll}").read_text())}
    return set()


def _watched() -> set[int]:
    """The descriptors that this process watches."""
    return set().union(*map(_watched_by, os.listdir("/proc/self/fd")))


def descriptors_by_client() -> dict[object, int]:
    """A client's address -> the descriptor at the server's end of its TCP connection; there may be others."""
    return {peer: fd for fd, sock in own_sockets() if (peer := peer_of(sock)) is not None}


def are_elsewhere(server: Server, clients: list[StageClient]) -> list[StageClient]:
    """Those of these clients, which have been accepted, that are in another lane than the first.

    A lane answers what a new client has sent already, and watches it then: so each has to be watched by some lane.
    """
    front = server.loop.front
    assert isinstance(front, FastLane)
    all_ends = descriptors_by_client()
    ends = [all_ends[client.socket.getsockname()] for client in clients]
    wait_until(lambda: _watched() >= set(ends))
    in_first = _watched_by(front.lane.descriptors()[0])
    return [client for client, end in zip(clients, ends, strict=True) if end not in in_first]


@contextmanager
def elsewhere(server: Server, target: str = "/file") -> Iterator[StageClient]:
    """A client in another lane than the first, which was answered once."""
    with ExitStack() as stack:
        for _ in range(_CONNECTIONS_MAX):
            client = stack.enter_context(StageClient(server.port))
            client.get(target)
            if are_elsewhere(server, [client]):
                yield client
                return
        raise AssertionError("all clients are in the first lane")
