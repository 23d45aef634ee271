"""The directory that is served, and the only way to open what lies in it.

The root is held as a descriptor, so that renaming it changes nothing for what is already known. Whatever is opened is
then asked what it really is (`/proc/self/fd`): a symlink may point where it likes, and be swapped when it likes, but a
descriptor outside the root is closed again. Requests never reach this module with a path of their own: all
paths come from a walk.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat

from zcserve.errors import UsageError, reason_of
from zcserve.rules.compiled import NO_RULES, Rules

_FILE_FLAGS = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY  # NONBLOCK: never wait for a FIFO's writer
_DIRECTORY_FLAGS = os.O_RDONLY | os.O_CLOEXEC | os.O_DIRECTORY

# A step is an open and a close, 3 us; to ask what was opened takes two links of /proc, 14 us.
STEPS_MAX = 4


# Errors that say nothing about a file: the process or the machine has no more to give.
SCARCE = frozenset((errno.EMFILE, errno.ENFILE, errno.ENOMEM))
# Where a file is opened for a request, these say nothing, too: what is known of it stays, and the client may ask again.
NO_NEWS = SCARCE | {errno.EIO}

# Errors of a file system that may work again at any time: they say nothing about what lies there.
DISTURBED = frozenset(
    (errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.ENOTCONN, errno.EHOSTDOWN, errno.EREMOTEIO, errno.ECONNABORTED)
)


def _where(path: str) -> str:
    """Where a path was looked for, if it does not say so itself: a file that names it may lie elsewhere."""
    try:
        return "" if os.path.isabs(path) else f" in {os.getcwd()!r}, the working directory"
    except FileNotFoundError:  # it was removed
        return " in the working directory"


class OutsideRootError(OSError):
    """What a path led to lies outside the root."""


class RootError(UsageError):
    """What is to be a root is no directory that can be opened: the key is wrong that names it."""


class Root:
    """An open root directory. `path` is what the user named; the descriptor is what counts.

    device what it lies on, as `Crew` tells devices apart
    site   the number of the site whose directory it is
    rules  what its files are served with; they do not change once a walk has begun
    """

    __slots__ = ("_fd", "device", "path", "rules", "site")

    def __init__(self, path: str | os.PathLike[str], rules: Rules = NO_RULES, site: int = 0) -> None:
        """Raises UsageError when there is no such directory or it cannot be read."""
        self.path = os.fspath(path)
        self.rules = rules
        self.site = site
        self._fd = -1
        try:
            self._fd = os.open(self.path, _DIRECTORY_FLAGS)
        except FileNotFoundError:
            raise RootError(f"root {self.path!r} does not exist{_where(self.path)}") from None
        except NotADirectoryError:
            raise RootError(f"root {self.path!r} is not a directory") from None
        except OSError as error:
            raise RootError(f"root {self.path!r} cannot be opened: {reason_of(error)}") from None
        self.device = b"%d" % os.fstat(self._fd).st_dev
        try:
            os.readlink(f"/proc/self/fd/{self._fd}")
        except FileNotFoundError:
            raise UsageError(
                "there is no /proc here, which tells where a symlink leads: mount it (mount -t proc proc /proc)"
            ) from None

    def of_site(self, site: int) -> Root:
        """The same directory with the same rules, as another site's. Raises UsageError."""
        other = Root(f"/proc/self/fd/{self._fd}", self.rules, site)
        other.path = self.path
        return other

    def __del__(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)

    def is_same(self, other: Root) -> bool:
        """Whether both are the same directory, whatever the paths."""
        return os.path.samestat(os.fstat(self._fd), os.fstat(other._fd))

    def is_in_place(self) -> bool:
        """Whether the path that the user named still leads here."""
        try:
            return os.path.samestat(os.stat(self.path), os.fstat(self._fd))
        except OSError:
            return False

    def directory(self) -> str:
        """Where the directory lies now, without symlinks. Raises OSError."""
        return os.readlink(f"/proc/self/fd/{self._fd}")

    def open_directory(self, path: bytes) -> int:
        """A descriptor of the directory `path` (relative, b"" is the root itself); the caller closes it.

        Step by step without a symlink no path leads outside, and some steps cost less than to ask what was opened.
        """
        names = path.rstrip(b"/").split(b"/")
        if path and len(names) <= STEPS_MAX and b".." not in names:
            with contextlib.suppress(OSError):  # a symlink, most likely; anything else is told below
                return self._step_down(names)
        return self._checked(os.open(path or b".", _DIRECTORY_FLAGS, dir_fd=self._fd))

    def _step_down(self, names: list[bytes]) -> int:
        fd = self._fd
        for name in names:
            try:
                below = os.open(name, _DIRECTORY_FLAGS | os.O_NOFOLLOW, dir_fd=fd)
            finally:
                if fd != self._fd:
                    os.close(fd)
            fd = below
        return fd

    def open_file(self, path: bytes) -> tuple[int, os.stat_result]:
        """A descriptor of the regular file `path` and its status; the caller closes it.

        Raises FileNotFoundError, OutsideRootError, or another OSError.
        """
        fd = self._checked(os.open(path, _FILE_FLAGS, dir_fd=self._fd))
        return fd, require_regular(fd)

    def status(self, path: bytes) -> os.stat_result:
        """What lies at `path`, b"" for the root itself, wherever it leads; it is not to be read. Raises OSError."""
        return os.stat(path, dir_fd=self._fd) if path else os.fstat(self._fd)

    def link_status(self, path: bytes) -> os.stat_result:
        """As `status`, of a symlink itself."""
        return os.stat(path, dir_fd=self._fd, follow_symlinks=False)

    def open_in(self, directory: int, name: bytes) -> int:
        """Open a file beside others of one directory that `open_directory` has checked, without checking it again."""
        try:
            return os.open(name, _FILE_FLAGS | os.O_NOFOLLOW, dir_fd=directory)
        except OSError as error:
            if error.errno != errno.ELOOP:  # it is a symlink, so ask where it leads
                raise
        return self._checked(os.open(name, _FILE_FLAGS, dir_fd=directory))

    def real_path(self, fd: int) -> bytes:
        """Where `fd` lies below the root, b"" for the root itself. Raises OutsideRootError."""
        top = os.readlink(b"/proc/self/fd/%d" % self._fd)
        real = os.readlink(b"/proc/self/fd/%d" % fd)
        if real == top:
            return b""
        if not real.startswith(top.rstrip(b"/") + b"/"):
            raise OutsideRootError("leads outside the root")
        return real[len(top.rstrip(b"/")) + 1 :]

    def _checked(self, fd: int) -> int:
        try:
            self.real_path(fd)
        except OSError:
            os.close(fd)
            raise
        return fd


def require_regular(fd: int) -> os.stat_result:
    """fstat of `fd`; closes it and raises OSError where it is no regular file."""
    status = os.fstat(fd)
    if not stat.S_ISREG(status.st_mode):
        os.close(fd)
        raise OSError("is not a regular file")
    return status
