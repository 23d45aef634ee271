"""Which lane of a server has which connection, and which thread it is, as the kernel tells it: each lane waits with an
epoll descriptor of its own, and that names the sockets that it waits for (proc(5), fdinfo).

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
    clients, _ = _sockets(port)
    found = [frozenset(clients[one] for one in waited if one in clients) for waited in _waited_for(pid, port).values()]
    if len(found) > count:
        raise BenchError(f"{len(found)} epoll descriptors wait for clients, and there are {count} lanes")
    return Lanes((*found, *[frozenset[int]()] * (count - len(found))))


def threads_of(pid: int, port: int, count: int) -> tuple[int, ...]:
    """The threads of these lanes, of which each waits soon and has something to wait for. Raises BenchError when they
    are not found."""
    until = time.monotonic() + ARRIVE_TIMEOUT_S
    found: dict[int, int] = {}
    while len(found) < count:
        if time.monotonic() > until:
            raise BenchError(f"of {count} lanes {len(found)} wait for clients")
        lanes = _waited_for(pid, port)
        for name in os.listdir(f"/proc/{pid}/task"):
            words = _text(f"/proc/{pid}/task/{name}/syscall").split()  # its number, or "running", and arguments
            if len(words) > 1 and words[0] != "-1" and int(words[1], 16) in lanes:
                found[int(words[1], 16)] = int(name)
        time.sleep(PAUSE_S)
    return tuple(found[number] for number in sorted(found))


def _waited_for(pid: int, port: int) -> dict[int, set[int]]:
    """The inodes of what an epoll descriptor of the process waits for, by the descriptor's number; only of those that
    wait for a socket of the port."""
    clients, listeners = _sockets(port)
    folder = Path(f"/proc/{pid}/fd")
    found = {}
    for number in sorted(int(name) for name in os.listdir(folder)):
        with suppress(FileNotFoundError):  # closed meanwhile
            if os.readlink(folder / str(number)) == "anon_inode:[eventpoll]":
                text = _text(f"/proc/{pid}/fdinfo/{number}")
                found[number] = {int(one, 16) for one in re.findall(r"^tfd:.* ino:([0-9a-f]+)", text, re.MULTILINE)}
    return {number: waited for number, waited in found.items() if waited & (clients.keys() | listeners)}


def _text(path: str) -> str:
    """What /proc says there; nothing of what is gone."""
    try:
        return Path(path).read_text()
    except (FileNotFoundError, ProcessLookupError):
        return ""


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
