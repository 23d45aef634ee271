"""Which lane of a server has which connection, as the kernel tells it: each lane waits with an epoll descriptor of its
own, and that names the sockets that it waits for (proc(5), fdinfo).

It must not know what a lane is in the server's code. A lane is an epoll descriptor that waits for a socket of the
server's port, be it a client's or the one that listens; the first of them by its number is the first lane's.
"""

from __future__ import annotations

import os
import re
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from tools.bench.errors import BenchError
from tools.bench.idle import REQUEST, make_room, read_answer

ARRIVE_TIMEOUT_S = 20.0
PAUSE_S = 0.02


@dataclass(frozen=True)
class Lanes:
    """For each lane the clients' ports that it has, the first lane's first."""

    ports: tuple[frozenset[int], ...]

    @property
    def counts(self) -> tuple[int, ...]:
        """How many connections each has."""
        return tuple(map(len, self.ports))

    def others(self, connections: Sequence[socket.socket]) -> list[socket.socket]:
        """Those of the connections that lanes but the first have."""
        return [one for one in connections if any(one.getsockname()[1] in ports for ports in self.ports[1:])]


def lanes_of(pid: int, port: int, count: int) -> Lanes:
    """The lanes of a process that serves 127.0.0.1:`port` and was started with so many; those that have nothing are the
    last. Raises BenchError where there are more."""
    clients, listeners = _sockets(port)
    known = clients.keys() | listeners
    found = [
        frozenset(clients[one] for one in waited if one in clients) for waited in _waited_for(pid) if waited & known
    ]
    if len(found) > count:
        raise BenchError(f"{len(found)} epoll descriptors wait for clients, and there are {count} lanes")
    return Lanes((*found, *[frozenset[int]()] * (count - len(found))))


def _waited_for(pid: int) -> Iterator[set[int]]:
    """The inodes of what each epoll descriptor of the process waits for, by the descriptors' numbers."""
    folder = Path(f"/proc/{pid}/fd")
    for number in sorted(int(name) for name in os.listdir(folder)):
        with suppress(FileNotFoundError):  # closed meanwhile
            if os.readlink(folder / str(number)) == "anon_inode:[eventpoll]":
                text = Path(f"/proc/{pid}/fdinfo/{number}").read_text()
                yield {int(inode, 16) for inode in re.findall(r"^tfd:.* ino:([0-9a-f]+)", text, re.MULTILINE)}


def _sockets(port: int) -> tuple[dict[int, int], set[int]]:
    """The sockets of 127.0.0.1:`port` on the server's side by their inodes: clients' ports, and what listens."""
    clients, listeners = {}, set()
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        words = line.split()
        if int(words[1].rpartition(":")[2], 16) != port:
            continue
        if words[3] == "0A":  # LISTEN
            listeners.add(int(words[9]))
        else:
            clients[int(words[9])] = int(words[2].rpartition(":")[2], 16)
    return clients, listeners


def settled(pid: int, port: int, count: int, connections: int) -> Lanes:
    """The lanes once they have so many connections together. Raises BenchError when they do not come to that."""
    until = time.monotonic() + ARRIVE_TIMEOUT_S
    while sum((lanes := lanes_of(pid, port, count)).counts) != connections:
        if time.monotonic() > until:
            raise BenchError(f"the lanes have {lanes.counts} connections, and not {connections} together")
        time.sleep(PAUSE_S)
    return lanes


@contextmanager
def at_once(port: int, count: int) -> Iterator[list[socket.socket]]:
    """`count` connections to 127.0.0.1:`port` that are made and ask together, each used once, closed afterwards.

    Raises BenchError where one is not answered.
    """
    make_room(count)
    made = [socket.socket() for _ in range(count)]
    try:
        for one in made:
            one.setblocking(False)
            with suppress(BlockingIOError):
                one.connect(("127.0.0.1", port))
        for one in made:
            one.settimeout(ARRIVE_TIMEOUT_S)
            one.sendall(REQUEST)
        for one in made:
            read_answer(one)
        yield made
    except OSError as error:
        raise BenchError(f"{count:,} connections at once: {error}") from None
    finally:
        for one in made:
            one.close()
