"""What a child that is forked inside the server lets go of.

A servlet may fork (`os.fork`, multiprocessing with its fork method), and the child has copies of all descriptors. As
long as it lives, a connection that the server closes does not end for its client, a port that the server gives up stays
taken, and clients in its queue wait for the child. So the child gives up what the loop waits for, at once: the numbers
then lead nowhere, so that Python objects that know a number, and close it some time, do no harm.

A child that does not end in the servlet comes back to the loop. It would be a second server, and take events away that
are the first one's. It ends there instead; in another thread that calls servlets or applications, servlets/workers.py
sees to it.
"""

from __future__ import annotations

import os
from typing import NoReturn, Protocol
from weakref import WeakSet

from zcserve.log import Log
from zcserve.net.front import Front

_log = Log(__name__)

# The exit status of a child that came back: EX_SOFTWARE of sysexits.h.
CAME_BACK = 70


class Holder(Protocol):
    """What has descriptors that a child must not keep: a loop."""

    def note(self) -> None:
        """A fork is near. It copies the descriptors before the memory: what other lanes close in between is open in
        the child, and in no table of it."""

    def let_go(self, null: int) -> None:
        """In the child: have the numbers lead where `null` does."""


_holders: WeakSet[Holder] = WeakSet()


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


def _note() -> None:
    """In the parent, in the thread that forks."""
    for holder in list(_holders):
        holder.note()


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


os.register_at_fork(before=_note, after_in_child=_let_go)
