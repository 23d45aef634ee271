"""What a child that is forked inside the server lets go of.

A servlet may fork (`os.fork`, multiprocessing with its fork method), and the child has copies of all descriptors. As
long as it lives, a connection that the server closes does not end for its client, a port that the server gives up stays
taken, and clients in its queue wait for the child. So the child gives up what the loop waits for, at once: the numbers
then lead nowhere, so that Python objects that know a number, and close it some time, do no harm.

What other threads do meanwhile is in no table of the child: accept(2) has given one a descriptor that it has not noted
yet, and a fork copies the descriptors before the memory, so that a connection may be closed in between. So the child
looks at what it has, and finds connections by the address at which they were accepted (`kin`).

A child that does not end in the servlet comes back to the loop. It would be a second server, and take events away that
are the first one's. It ends there instead; in another thread that calls servlets or applications, servlets/workers.py
sees to it.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Collection
from typing import NoReturn, Protocol, TypeAlias
from weakref import WeakSet

from zcserve.log import Log
from zcserve.net.front import Front

_log = Log(__name__)

# The exit status of a child that came back: EX_SOFTWARE of sysexits.h.
CAME_BACK = 70
# Hosts of listeners that take clients of all addresses.
_ANY = ("0.0.0.0", "::")


class Holder(Protocol):
    """What has descriptors that a child must not keep: a loop."""

    def let_go(self, null: int) -> None:
        """In the child: have the numbers lead where `null` does."""


_holders: WeakSet[Holder] = WeakSet()


Name: TypeAlias = tuple[str, int] | str | bytes
"""Of a socket: host and port, or the path of a unix socket."""


def kin(known: Collection[int]) -> set[int]:
    """In a child: its descriptors, besides the `known` ones, of sockets that have the local name of a known one: what
    was accepted at the same address. Where there is no /proc, none is found."""
    try:
        others = {int(number) for number in os.listdir("/proc/self/fd")}.difference(known)
    except OSError:
        return set()
    timeout = socket.getdefaulttimeout()
    socket.setdefaulttimeout(None)  # else each socket that is looked at would not block any more, in the parent neither
    try:
        named = {fd: name for fd in others if (name := _local_name(fd))}
        names = {_local_name(fd) for fd in known} if named else set()
        return {fd for fd, name in named.items() if not names.isdisjoint(_listened_at(name))}
    finally:
        socket.setdefaulttimeout(timeout)


def _local_name(fd: int) -> Name | None:
    """None: it is closed, or no stream socket. One without a name has an empty one."""
    try:
        sock = socket.socket(fileno=fd)
    except OSError:
        return None
    try:
        if sock.type != socket.SOCK_STREAM:
            return None
        if sock.family == socket.AF_UNIX:
            return sock.getsockname()  # type: ignore[no-any-return]
        if sock.family in (socket.AF_INET, socket.AF_INET6):
            host, port, *_ = sock.getsockname()
            return host, port
        return None
    finally:
        sock.detach()


def _listened_at(name: Name) -> list[Name]:
    """What the listener may be called that has accepted a connection with this name."""
    return [name, *((host, name[1]) for host in _ANY)] if isinstance(name, tuple) else [name]


class Ended(Front):
    """The front of a loop in a child: nothing is watched."""

    def poll(self, timeout: float) -> list[tuple[int, int]]:
        """The servlet has returned."""
        end()


def let_go_in_children(holder: Holder) -> None:
    """Have each process that is forked from now on give up the descriptors of this loop."""
    _holders.add(holder)


def keep_in_children(holder: Holder) -> None:
    """This loop is closed: its numbers may belong to other files by now."""
    _holders.discard(holder)


def _let_go() -> None:
    """In the child, in the thread that forked, which is its only one."""
    if not _holders:
        return
    null = os.open("/", os.O_PATH | os.O_CLOEXEC)  # takes and gives nothing; a container may have no /dev/null
    for holder in list(_holders):
        holder.let_go(null)
    os.close(null)
    _holders.clear()  # a child of the child may have other files by these numbers


def end() -> NoReturn:
    """In the child: the servlet has returned."""
    _log.error("a process that a servlet forked came back from the servlet, and ends: it has to call os._exit")
    os._exit(CAME_BACK)


os.register_at_fork(after_in_child=_let_go)
