"""One inotify(7) instance that several watchers share: a user may have 128 (fs.inotify.max_user_instances), and each
takes a descriptor, but a server may have a thousand sites.

    watcher --watch(fd)--> Instance --> the kernel    a directory has one number (wd), by which several may watch it:
    watcher <--take_in()-- Instance <-- the queue     a site's next generation beside the live one, or sites of which
                                                      one lies in another's root

- **An event is for all that watch its directory**, also with fewer flags: the kernel knows one mask for each directory,
  that of all together, so a watcher passes over what it has not asked for.
- **No event falls between the kernel's watch and its note.** While a watch is being added, its number is not known yet.
  So what is read meanwhile is kept, and told once it is.
- **The kernel's watch ends with its last watcher**, and not while a watch is being added, which might be of the same
  number: then a little later.
- **To read is to tell all.** Who reads, in any thread, hands out what there is, to whichever watcher; one reads at a
  time, and hands over to others between two reads. What a watcher does with an event is short and waits for no disk.
- **The kernel's queue is shared, too** (fs.inotify.max_queued_events): where it overflows, all watchers lose track.

- **It ends at once, but for what uses it.** A thread may add a watch, or read, while a server ends: the descriptor is
  given back when the last of them has gone on, for its number is another file's soon. Nothing opens another one.

A file system may hang while a watch is added. So no lock is held then.
"""

from __future__ import annotations

import errno
import os
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from math import inf
from typing import Protocol, TypeAlias

from zcserve.cache import inotify

READ_BYTES = 16384  # some hundred events, taken in within a millisecond or two
READS_MAX = 256  # the kernel queues 16,384 events (fs.inotify.max_queued_events), so there is an end, but for storms
# What is read while watches are added is kept up to so many events. Beyond that the watchers that add them lose track.
KEPT_EVENTS_MAX = 16384
# A thread that reads on sleeps for so long where another one waits for its turn.
HANDED_OVER_S = 0.0002

# wd, mask, name: as `inotify.events`.
Told: TypeAlias = tuple[int, int, bytes]
_LOST: Told = (-1, inotify.IN_Q_OVERFLOW, b"")


class Taker(Protocol):
    """What watches directories: a `Watcher`."""

    def take_in(self, events: list[Told], now: float) -> bool:
        """These were read, in order; some may have been told before, and some be none of this one's. Whether one
        was."""


class _Users:
    """The watchers of one directory: `all` are told of everything, those of `named` of what is called so, and of the
    directory itself. Above a thousand roots lie directories in which each site knows one name."""

    __slots__ = ("all", "named", "names_of")

    def __init__(self) -> None:
        self.all: tuple[Taker, ...] = ()
        self.named: dict[bytes, dict[Taker, None]] = {}
        self.names_of: dict[Taker, set[bytes]] = {}

    def add(self, taker: Taker, name: bytes | None) -> None:
        """Once for each name, and for None, which is all of them."""
        if name is not None:
            self.named.setdefault(name, {})[taker] = None
            self.names_of.setdefault(taker, set()).add(name)
        elif taker not in self.all:
            self.all = (*self.all, taker)

    def remove(self, taker: Taker) -> bool:
        """Whether none is left."""
        if taker in self.all:
            at = self.all.index(taker)
            self.all = self.all[:at] + self.all[at + 1 :]
        for name in self.names_of.pop(taker, ()):
            del self.named[name][taker]
            if not self.named[name]:
                del self.named[name]
        return not (self.all or self.named)

    def of(self, name: bytes) -> Iterable[Taker]:
        """Those that are told of this name; b"" is the directory itself. Each once."""
        some = self.named.get(name, ()) if name else self.names_of
        return dict.fromkeys((*self.all, *some)) if some else self.all


class _Adding:
    """A watch that is being added; `began` counts the events that were kept before."""

    __slots__ = ("began", "taker")

    def __init__(self, taker: Taker, began: int) -> None:
        self.taker = taker
        self.began = began


def _tell_nothing() -> None:
    """`told`, before something wants to hear it."""


class Instance:
    """Any thread may call it.

    fd      becomes readable when there is something to `read`; -1 before the first watcher has joined, and at the end
    told    called after a read that told a watcher something, in the thread that read: ask `touched` which
    """

    def __init__(self) -> None:
        self.fd = -1
        self.told: Callable[[], object] = _tell_nothing
        self._lock = threading.Lock()  # for the tables; held for no system call but those that end a watch
        self._reading = threading.Lock()
        self._in_line = 0  # threads that wait to read
        self._is_read = False  # a thread uses the descriptor
        self._is_closed = False
        self._takers: dict[Taker, None] = {}
        self._users: dict[int, _Users] = {}
        self._adding: set[_Adding] = set()
        self._kept: list[Told] = []  # read while watches are added
        self._unused: list[int] = []  # numbers whose watch is to end when none is being added
        self._touched: set[Taker] = set()

    def __len__(self) -> int:
        """How many directories the kernel watches."""
        return len(self._users)

    # --- watchers ---------------------------------------------------------------------------------------------

    def join(self, taker: Taker) -> None:
        """A further watcher. Raises OSError where there is no inotify to be had (EMFILE:
        fs.inotify.max_user_instances; EBADF: this is closed)."""
        with self._lock:
            self._check_open()
            if self.fd < 0:
                self.fd = inotify.start()
            self._takers[taker] = None

    def watch(
        self,
        taker: Taker,
        fd: int,
        mask: int,
        noted: Callable[[int], object],
        now: float,
        name: bytes | None = None,
    ) -> None:
        """Have the kernel watch the directory that `fd` is open for, for what happens to a `name` in it, or for
        everything (None); `noted` is told the number, and from then on the
        watcher knows its events. What one watcher watches is changed by one thread at a time. Raises OSError, as
        `inotify.add_watch`."""
        with self._lock:
            self._check_open()
            adding = _Adding(taker, len(self._kept))
            self._adding.add(adding)
        wd = -1
        try:
            wd = inotify.add_watch(self.fd, fd, mask | inotify.IN_MASK_ADD)
            self._note(taker, wd, name)
            noted(wd)
        finally:
            self._end_adding(adding, wd, now)

    def _note(self, taker: Taker, wd: int, name: bytes | None) -> None:
        with self._lock:
            if taker not in self._takers:
                self._unused.append(wd)
                raise OSError(errno.EBADF, "the watcher is closed")
            users = self._users.get(wd)
            if users is None:
                users = self._users[wd] = _Users()
            users.add(taker, name)

    def _end_adding(self, adding: _Adding, wd: int, now: float) -> None:
        """The watch is noted: tell what was read of it meanwhile, before what is read from now on."""
        with self._lock:
            if len(self._kept) == adding.began:
                self._forget_adding(adding)
                return
        with self._reading:
            with self._lock:
                missed = [event for event in self._kept[adding.began :] if event[0] == wd]
                self._forget_adding(adding)
            if missed:
                self._tell(adding.taker, missed, now)
        if missed:
            self.told()

    def _forget_adding(self, adding: _Adding) -> None:
        """With the lock."""
        self._adding.discard(adding)
        if not self._adding:
            self._kept = []
            self._end_unused()
            self._give_back_if_done()

    def unwatch(self, taker: Taker, wd: int) -> None:
        """This watcher does not watch the directory of this number any more."""
        with self._lock:
            users = self._users.get(wd)
            if users is not None and users.remove(taker):
                del self._users[wd]
                self._unused.append(wd)
                if not self._adding:
                    self._end_unused()

    def leave(self, taker: Taker, watched: list[int]) -> None:
        """A watcher is done with, and so are these numbers of its own."""
        for wd in watched:
            self.unwatch(taker, wd)
        with self._lock:
            self._takers.pop(taker, None)
            self._touched.discard(taker)

    def _end_unused(self) -> None:
        """With the lock."""
        unused, self._unused = self._unused, []
        for wd in unused:
            if wd not in self._users:
                with suppress(OSError):  # the directory is gone, and the kernel knew it first
                    inotify.remove_watch(self.fd, wd)

    def touched(self) -> set[Taker]:
        """The watchers that were told something since this was asked last."""
        with self._lock:
            touched, self._touched = self._touched, set()
        return touched

    # --- reading ----------------------------------------------------------------------------------------------

    def read(self, now: float, within_s: float = inf) -> bool:
        """Hand out what the kernel has queued, for about so long. False when there may be more (read again without
        waiting for `fd`), also where another thread is at it. Raises OSError."""
        end = time.monotonic() + within_s
        for _ in range(READS_MAX):
            if not self._await_turn(within_s):
                return False
            try:
                if not self._begin_to_read():
                    return True
                data = os.read(self.fd, READ_BYTES)
                self._hand_out(list(inotify.events(data)), now)
            except BlockingIOError:
                return True
            finally:
                self._end_reading()
            if self._touched:
                self.told()
            if time.monotonic() > end:
                break
            if self._in_line:
                time.sleep(HANDED_OVER_S)
        return False

    def _await_turn(self, within_s: float) -> bool:
        if self._reading.acquire(blocking=False):
            return True
        self._in_line += 1
        try:
            return self._reading.acquire(timeout=within_s if within_s < inf else -1)
        finally:
            self._in_line -= 1

    def _begin_to_read(self) -> bool:
        """While it is this thread's turn: False where nothing is to be read any more."""
        with self._lock:
            self._is_read = not self._is_closed
            return self._is_read

    def _end_reading(self) -> None:
        with self._lock:
            self._is_read = False
            self._give_back_if_done()
        self._reading.release()

    def _hand_out(self, events: list[Told], now: float) -> None:
        """While it is this thread's turn."""
        batches: dict[Taker, list[Told]] = {}
        with self._lock:
            if self._adding and len(self._kept) + len(events) <= KEPT_EVENTS_MAX:
                self._kept += events
            elif self._adding:
                batches.update((adding.taker, [_LOST]) for adding in self._adding)
            for event in events:
                wd, mask, name = event
                users = self._users.get(wd)
                for taker in self._takers if mask & inotify.IN_Q_OVERFLOW else users.of(name) if users else ():
                    batches.setdefault(taker, []).append(event)
                if mask & inotify.IN_IGNORED:
                    self._users.pop(wd, None)
        for taker, batch in batches.items():
            self._tell(taker, batch, now)

    def _tell(self, taker: Taker, events: list[Told], now: float) -> None:
        """While it is this thread's turn."""
        if taker.take_in(events, now):
            with self._lock:
                if taker in self._takers:
                    self._touched.add(taker)

    # --- ending -----------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Nothing is watched any more. The descriptor is given back at once, or by the last thread that uses it."""
        with self._lock:
            self._is_closed = True
            self._give_back_if_done()

    def _give_back_if_done(self) -> None:
        """With the lock."""
        if self._is_closed and self.fd >= 0 and not (self._is_read or self._adding):
            os.close(self.fd)
            self.fd = -1

    def _check_open(self) -> None:
        """With the lock. Raises OSError."""
        if self._is_closed:
            raise OSError(errno.EBADF, "the server ends")
