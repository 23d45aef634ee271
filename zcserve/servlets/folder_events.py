"""Whether something may have changed in a directory, for the price of one ioctl.

The kernel queues an event before the call returns that changed something: so a look after that finds something to
read here (FIONREAD), and need not ask every file for its status at each request. What the kernel does not tell of (a
directory further up that was exchanged, another host's writing on a shared file system) is to be looked for besides.
Where a symlink is in play, or there is no inotify to be had, nothing is told at all, and `fd` is -1.
"""

from __future__ import annotations

import fcntl
import os
import termios
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from zcserve.cache import inotify

_OF_FILES = inotify.IN_MODIFY | inotify.IN_ATTRIB | inotify.IN_CLOSE_WRITE | inotify.IN_CREATE | inotify.IN_DELETE
_OF_NAMES = inotify.IN_MOVED_FROM | inotify.IN_MOVED_TO | inotify.IN_DELETE_SELF | inotify.IN_MOVE_SELF
_READ_BYTES = 4096


class FolderEvents:
    """Of one directory. One thread uses it."""

    def __init__(self, directory: Path, names: Iterable[str]) -> None:
        """`names`: the files in it that matter."""
        self.fd = -1
        told_by_it = os.path.realpath(directory) == str(directory) and not any(
            os.path.islink(directory / name) for name in names
        )
        if told_by_it:
            with suppress(OSError):
                self._watch(directory)

    def _watch(self, directory: Path) -> None:
        watched = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fd = inotify.start()
            try:
                inotify.add_watch(fd, watched, _OF_FILES | _OF_NAMES)
            except OSError:
                os.close(fd)
                raise
        finally:
            os.close(watched)
        self.fd = fd

    @property
    def is_told(self) -> bool:
        """Whether there is something to `take`."""
        return self.fd >= 0 and fcntl.ioctl(self.fd, termios.FIONREAD, b"\0\0\0\0") != b"\0\0\0\0"

    def take(self) -> bool:
        """Whether something may have changed since this was last asked."""
        if self.fd < 0:
            return True
        if not self.is_told:
            return False
        with suppress(BlockingIOError):
            while os.read(self.fd, _READ_BYTES):
                pass
        return True

    def close(self) -> None:
        """Give the descriptor back."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1
