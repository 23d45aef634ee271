"""Files are closed by threads that have nothing else to do: a file system may hang when it is told of a close.

FUSE asks its program (FLUSH), and not even SIGKILL ends that wait. An open file dies with the last reference to it: in
the loop, or while a lock is held. So its descriptor goes into a queue, whose `put` may be called from a destructor.
Files on a disk of this machine are closed at once.

When a process ends, the kernel closes what it has open, and that hangs as well. `leave` ends a process all the same,
unless one of its threads is in such a close.
"""

from __future__ import annotations

import ctypes
import os
import re
import sys
import time
from contextlib import suppress
from functools import partial
from queue import SimpleQueue
from typing import NoReturn

from zcserve import threads
from zcserve.cache.crew import Crew

# How often it is looked whether everything is closed, or another process has ended.
LOOKED_EVERY_S = 0.0005
# The task that keeps the table of descriptors lives so long: this process ends meanwhile, and the task hangs instead.
HELD_S = 5
# From <linux/sched.h>: the same memory, the same table of descriptors.
_CLONE_VM, _CLONE_FILES = 0x100, 0x400
# `sleep` needs less.
_STACK_BYTES = 64 * 1024


class _Closer:
    def __init__(self) -> None:
        """Raises NoThreadError."""
        self.waiting: set[object] = set()
        self.queue: SimpleQueue[tuple[object, int, bytes]] = SimpleQueue()
        self._crew = Crew(1, "zcserve-closer")
        threads.start(self._run, "zcserve-closing")

    def _run(self) -> None:
        while True:
            one, fd, device = self.queue.get()
            self._crew.submit(partial(self._close, one, fd), device)

    def _close(self, one: object, fd: int) -> None:
        with suppress(OSError):
            os.close(fd)
        self.waiting.discard(one)


_closer: _Closer | None = None


def start() -> None:
    """Have the threads, once for all servers of a process. Raises NoThreadError."""
    global _closer
    if _closer is None:
        _closer = _Closer()
        os.register_at_fork(after_in_child=_stop)


def _stop() -> None:
    global _closer
    _closer = None


def may_hang(device: bytes) -> bool:
    """Whether a device (of `entry.device_of`) is no disk of this machine: FUSE, NFS, and also tmpfs and overlays."""
    return bool(device) and not os.major(int.from_bytes(device, sys.byteorder))


def close(fd: int, device: bytes) -> None:
    """Close a file's descriptor, soon; it is not used any more. `device` as of `entry.device_of`."""
    closer = _closer
    if closer is None or not may_hang(device):
        os.close(fd)
        return
    one = object()
    closer.waiting.add(one)
    closer.queue.put((one, fd, device))


def wait(until: float) -> bool:
    """Wait until everything is closed; False where it is not by then (of `time.monotonic`)."""
    while _closer is not None and _closer.waiting:
        if time.monotonic() >= until:
            return False
        time.sleep(LOOKED_EVERY_S)
    return True


def leave(code: int) -> NoReturn:
    """End this process at once, though a close hangs: another task shares its table of descriptors, and is left with
    what is in it until the file system goes on. For the main thread, when nothing else is to be done.

    The other task sleeps in C, and has no Python: where threads want the GIL, one that has it waits until another takes
    it, and the task has no such thread. All that cannot hang is closed first: clients and readers wait for its end.
    """
    with suppress(AttributeError):  # a libc without clone
        libc = ctypes.CDLL(None)
        stack = ctypes.create_string_buffer(_STACK_BYTES)
        top = ctypes.c_void_p((ctypes.addressof(stack) + _STACK_BYTES) & ~15)
        libc.clone(libc.sleep, top, _CLONE_VM | _CLONE_FILES, ctypes.c_void_p(HELD_S))
        with suppress(OSError):  # no /proc
            for fd in filter(_cannot_hang, map(int, os.listdir("/proc/self/fd"))):
                with suppress(OSError):
                    os.close(fd)
    os._exit(code)


def _cannot_hang(fd: int) -> bool:
    """Whether a descriptor is no file of a file system: memory, a pipe, a socket."""
    try:
        return not re.match("/(?!memfd:)", os.readlink(f"/proc/self/fd/{fd}"))
    except OSError:
        return False
