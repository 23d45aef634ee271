"""Lines for a file, a pipe, a terminal or a socket that may be slow, full or dead.

- `Outlet` is one descriptor. It takes whole lines, as many as fit now, and never waits long.
- `Writer` is a queue of lines in front of an outlet, and the thread that empties it. To put a line into the queue takes
  microseconds, whatever has become of the descriptor.

What cannot be written waits. A queue that is full drops what is new, counts it, and tells the number when there is
room.

What is odd: a descriptor that the process was started with is shared with other programs, so O_NONBLOCK cannot be set
on it: they would meet EAGAIN. A pipe or a terminal is asked (`poll`) whether it takes something, and gets at most
PIPE_BUF bytes at a time. A pipe that is asked takes so many without a wait. A terminal may take less, and is opened
anew for that. A pipe that has other writers may make the thread wait all the same; nothing else waits for the thread
without a deadline.

A file that is full takes half a line. It is cut off again, unless another process has written behind it.
"""

from __future__ import annotations

import os
import queue
import select
import socket
import stat
import threading
import time
from collections import deque
from contextlib import suppress
from math import inf
from typing import BinaryIO, Generic, TypeVar
from weakref import WeakSet

from zcserve import threads
from zcserve.errors import reason_of

# The most that is written to a file at once, so that the queue is seen to move.
FILE_BYTES = 1 << 20
# A pipe takes so many bytes as one piece (pipe(7)).
PIPE_BYTES = select.PIPE_BUF
# An outlet that takes nothing is asked for so long, then the thread looks whether it is to end.
ASKED_S = 0.1
# An outlet that has taken nothing for so long has a reader that has stopped.
STOPPED_AFTER_S = 1.0
# After an error (no space, no reader) the outlet is tried again so often.
RETRY_S = 0.2
# At the end an outlet that takes nothing for so long is given up.
LAST_S = 0.3
FILE_WITHIN_S = 5.0  # a disk may be slow
LOOKED_S = 0.02  # so often is looked whether it does
# While lines are being dropped the number is told so often, and that nothing can be written likewise.
TOLD_EVERY_S = 10.0

Item = TypeVar("Item")


class Outlet:
    """One descriptor, which this owns. Whole lines go to it; `write` belongs to one thread."""

    def __init__(self, fd: int) -> None:
        kind = os.fstat(fd).st_mode
        self.fd = fd = _own_terminal(fd) if os.isatty(fd) else fd
        self.is_file = stat.S_ISREG(kind)
        self._socket = socket.socket(fileno=fd) if stat.S_ISSOCK(kind) else None
        self._poll = select.poll()
        self._poll.register(fd, select.POLLOUT)

    def write(self, lines: memoryview, wait_s: float = ASKED_S) -> int:
        """How many bytes it has taken; 0 where it takes nothing within `wait_s`. Raises OSError."""
        if self.is_file:
            return self._write_file(lines[: _whole(lines, FILE_BYTES)])
        if not self._poll.poll(wait_s * 1000):
            return 0
        piece = lines[: _whole(lines, PIPE_BYTES)]
        try:
            if self._socket is not None:
                return self._socket.send(piece, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
            return os.write(self.fd, piece)
        except BlockingIOError:
            time.sleep(wait_s)
            return 0

    def _write_file(self, piece: memoryview) -> int:
        taken = 0
        try:
            while taken < len(piece):
                taken += os.write(self.fd, piece[taken:])
        except OSError:
            if taken := self._cut_off(piece, taken):
                return taken
            raise
        return taken

    def _cut_off(self, piece: memoryview, taken: int) -> int:
        """Cut off the half line at the end of what a full file took; how much of it stays."""
        whole = bytes(piece[:taken]).rfind(b"\n") + 1
        if whole < taken:
            if os.fstat(self.fd).st_size != os.lseek(self.fd, 0, os.SEEK_CUR):
                return taken
            os.ftruncate(self.fd, os.lseek(self.fd, whole - taken, os.SEEK_CUR))
        return whole

    def close(self) -> None:
        """Close the descriptor."""
        if self._socket is not None:
            self._socket.close()
        else:
            os.close(self.fd)


def _own_terminal(fd: int) -> int:
    """The same terminal, opened anew without waiting: it takes a part of what does not fit."""
    try:
        own = os.open(f"/proc/self/fd/{fd}", os.O_WRONLY | os.O_NOCTTY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return fd
    os.close(fd)
    return own


class Replaced:
    """What a program that uses zcserve has put into the place of sys.stdout, and that has no descriptor."""

    is_file = False

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream

    def write(self, lines: memoryview, wait_s: float = 0.0) -> int:
        """As `Outlet.write`."""
        self._stream.write(lines)
        self._stream.flush()
        return len(lines)

    def close(self) -> None:
        """As `Outlet.close`: what the program has put there stays open."""


def _whole(lines: memoryview, length: int) -> int:
    """The length of the whole lines in the first `length` bytes; `length` where the first line is longer."""
    if len(lines) <= length:
        return len(lines)
    return bytes(lines[:length]).rfind(b"\n") + 1 or length


_writers: WeakSet[Writer[bytes]] = WeakSet()


class Writer(Generic[Item]):
    """A queue of lines, or of what is made into lines by the thread (`render`), and the thread."""

    def __init__(self, outlet: Outlet | Replaced, name: str, waiting_max: int, every_s: float | None = None) -> None:
        """At most `waiting_max` bytes wait. They are written at once, or every `every_s`. Raises NoThreadError."""
        self._outlet = outlet
        self._waiting_max = waiting_max
        self._every_s = every_s
        self._queue: deque[Item] = deque()
        # Each pair is written by one side only: those that put, and the thread.
        self._come = self._gone = 0  # bytes
        self._dropped = self._told = 0  # lines
        self._rest = memoryview(b"")  # taken from the queue, not yet written
        self._rest_cost = 0
        self._wake: queue.SimpleQueue[None] = queue.SimpleQueue()  # the one that a signal's handler may put into
        self._lock = threading.RLock()  # likewise
        self._ended = False
        self._is_done = False  # the thread, of its own accord
        self._until = inf
        self._moved = time.monotonic()  # when the outlet took something last, or had nothing to take
        self._asked = inf  # since when the thread has been writing
        self._trouble = ""
        self._trouble_told_at = -inf  # a disk may be full again and again
        self._is_told = False
        self._tell_at = 0.0
        self._is_alone = False  # in a forked child, which has no such thread
        self._thread = threads.start(self._run, name)
        _writers.add(self)  # type: ignore[arg-type]

    # --- for any thread --------------------------------------------------------------------------------------

    def put(self, item: Item) -> None:
        """Have an item written. Any thread may ask, and a signal's handler."""
        if self._is_alone:
            self._write_alone(item)
            return
        with self._lock:
            self.put_unlocked(item, self.cost(item))
        if self._every_s is None and self._wake.empty():
            self._wake.put(None)

    def put_unlocked(self, item: Item, cost: int) -> None:
        """As `put`, in the one thread that ever puts, and that is no signal's handler. `cost` is what `cost` says."""
        if self._come - self._gone >= self._waiting_max:
            self._dropped += self.lines_in(item)
            return
        self._come += cost
        self._queue.append(item)

    @property
    def come(self) -> int:
        """The bytes that have been put, by `cost`."""
        return self._come

    @property
    def lost(self) -> int:
        """Lines that were lost: too much waited, or nothing took them."""
        return self._dropped

    @property
    def gone(self) -> int:
        """As many of these are written, or lost."""
        return self._gone

    def wake(self) -> None:
        """Have the thread look at once."""
        self._wake.put(None)

    def end(self, until: float = inf) -> None:
        """As `close`, without a wait."""
        if not self._ended:
            self._moved = time.monotonic()
            self._until = max(until, self._moved + LAST_S)
            self._ended = True
            self._wake.put(None)

    def close(self, until: float = inf) -> bool:
        """Write what waits, as long as the outlet takes something, and till `until` at most (time.monotonic). False
        where the thread hangs. Any thread may ask, and a signal's handler: that may come in the middle of a `join`, and
        until this goes on, `Thread.is_alive` says that the thread is alive."""
        self.end(until)
        while not self._is_done and self._thread.is_alive():
            within_s = ASKED_S + LAST_S
            if self._outlet.is_file:
                within_s = max(within_s, min(self._until - self._asked, FILE_WITHIN_S))
            if time.monotonic() > self._asked + within_s:
                return False
            self._thread.join(LOOKED_S)
        return True

    # --- for those that are writers of something -------------------------------------------------------------

    def cost(self, item: Item) -> int:
        """The bytes that an item takes while it waits. In any thread."""
        raise NotImplementedError

    def lines_in(self, item: Item) -> int:
        """How many lines will be made of it. In any thread."""
        raise NotImplementedError

    def render(self, item: Item) -> bytes:
        """An item's lines. In the thread."""
        raise NotImplementedError

    def between(self) -> None:
        """After each look at the queue. In the thread."""

    def amid(self) -> None:
        """Between lines that the outlet takes: it may be long until the queue is empty. In the thread."""

    def on_trouble(self, why: str) -> None:
        """Nothing can be written for now. In the thread."""

    def on_failure(self) -> None:
        """`render` has failed, and what it was given is lost; an exception is being handled. In the thread."""

    def on_room(self, dropped: int, *, ended: bool) -> None:
        """Something can be written again, or `dropped` lines were lost for want of time. `ended`: nothing is put any
        more. In the thread."""

    def exchange(self, outlet: Outlet | Replaced) -> None:
        """Close the outlet, and write to another one from now on. In the thread."""
        self._outlet.close()
        self._outlet = outlet

    # --- the thread -----------------------------------------------------------------------------------------

    def _run(self) -> None:
        while True:
            try:
                out = self._empty()
            except Exception:  # of `render`: what is left waits for the next look
                self.on_failure()
                out = False
            self.between()
            if self._ended and (out or self._is_over()):
                break
            if out or self._trouble:
                self._await_work(self._every_s if out else RETRY_S)
        self._give_up()
        self._outlet.close()
        self._is_done = True

    def _await_work(self, within_s: float | None) -> None:
        with suppress(queue.Empty):
            self._wake.get(timeout=within_s)
            while True:
                self._wake.get_nowait()

    def _empty(self) -> bool:
        """Write what waits, as far as the outlet takes it. Whether all of it is out."""
        while self._rest or self._take():
            self._asked = time.monotonic()
            try:
                taken = self._outlet.write(self._rest, ASKED_S)
            except OSError as error:
                self._stop(reason_of(error))
                if self._ended:
                    self._until = 0.0
                return False
            finally:
                self._asked = inf
            now = time.monotonic()
            if not taken:
                if now - self._moved > STOPPED_AFTER_S:
                    self._stop("its reader has stopped")
                return False
            self._moved = now
            self._rest = self._rest[taken:]
            if self._trouble or (self._dropped > self._told and now > self._tell_at):
                self._found_room()
            if self._ended and now > self._until:
                return False
        if self._dropped > self._told:
            self._found_room()
        return not self._queue

    def _take(self) -> bool:
        """Make lines of some items; False where there are none."""
        made: list[bytes] = []
        self._gone += self._rest_cost
        self._rest_cost = 0
        self.amid()
        while self._queue and self._rest_cost < FILE_BYTES:
            item = self._queue.popleft()
            self._rest_cost += self.cost(item)
            made.append(self.render(item))
        self._rest = memoryview(b"".join(made))
        self._moved = time.monotonic()
        return bool(self._rest)

    def _stop(self, why: str) -> None:
        now = time.monotonic()
        if not self._trouble and now > self._trouble_told_at + TOLD_EVERY_S:
            self._trouble_told_at = now
            self._is_told = True
            self.on_trouble(why)
        self._trouble = why

    def _found_room(self) -> None:
        dropped, self._trouble = self._dropped, ""
        self._tell_at = time.monotonic() + TOLD_EVERY_S
        told, self._told = self._told, dropped
        if self._is_told or dropped > told:
            self._is_told = False
            self.on_room(dropped - told, ended=self._ended)

    def _is_over(self) -> bool:
        now = time.monotonic()
        return now > self._until or now > self._moved + LAST_S

    def _give_up(self) -> None:
        """Count what is left."""
        self._dropped += bytes(self._rest).count(b"\n") + sum(map(self.lines_in, self._queue))
        if self._dropped > self._told:
            self._found_room()

    # --- in a forked child -----------------------------------------------------------------------------------

    def be_alone(self) -> None:
        """This process was forked, and has no such thread: write at once, and leave what waits to the parent."""
        self._queue.clear()
        self._lock = threading.RLock()
        self._is_alone = True

    def _write_alone(self, item: Item) -> None:
        rest = memoryview(self.render(item))
        with suppress(OSError):
            while rest and (taken := self._outlet.write(rest)):
                rest = rest[taken:]


def _let_go() -> None:
    for writer in list(_writers):
        writer.be_alone()


os.register_at_fork(after_in_child=_let_go)


class LineWriter(Writer[bytes]):
    """A writer of lines that are made already."""

    def cost(self, item: bytes) -> int:
        return len(item)

    def lines_in(self, item: bytes) -> int:
        return item.count(b"\n")

    def render(self, item: bytes) -> bytes:
        return item
