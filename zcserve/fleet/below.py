"""A directory, and what lies strictly below it, by names that a manifest gives.

A name is relative, of any bytes, and as `os.fsdecode` gives it (`Manifest.fetches`). It comes from outside, so it is
never given to the kernel as one path: each segment is opened in its directory, and no symlink is followed. So nothing
outside can be read or written, whatever lies below, and whatever is exchanged meanwhile.

Descriptors of directories are kept, since names come sorted and most lie in the directory of the one before.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections import OrderedDict
from collections.abc import Iterable, Iterator

from zcserve.errors import ZcserveError
from zcserve.fleet.names import NAME_BYTES_MAX
from zcserve.http import encode_path

_DIRECTORY_FLAGS = os.O_RDONLY | os.O_CLOEXEC | os.O_DIRECTORY | os.O_NOFOLLOW
_FILE_FLAGS = os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY
DIRECTORY_MODE, FILE_MODE = 0o755, 0o644

# So many directories are kept open: a name and its siblings are seldom further apart.
OPEN_MAX = 32

Segments = tuple[bytes, ...]
_NO_SEGMENTS = frozenset((b"", b".", b".."))


class UnsafeNameError(ZcserveError):
    """A name that no file of a release can have; the message begins with the name."""


def segments_of(name: str) -> Segments:
    """The parts of a name, outermost first. Raises UnsafeNameError."""
    found = tuple(os.fsencode(name).split(b"/"))
    for segment in found:
        if segment in _NO_SEGMENTS:
            raise UnsafeNameError(f"{path_of(found)}: has a segment that is empty, . or ..")
        if b"\0" in segment:
            raise UnsafeNameError(f"{path_of(found)}: has a NUL in it")
        if len(segment) > NAME_BYTES_MAX:
            raise UnsafeNameError(
                f"{path_of(found)}: has a segment of {len(segment)} bytes; accepted: {NAME_BYTES_MAX}"
            )
    return found


def path_of(segments: Segments) -> str:
    """What a file is called in messages, and asked for at a source: its path in a URL, percent-encoded."""
    return encode_path(b"/" + b"/".join(segments)).decode()


def check_names(names: Iterable[str]) -> dict[str, Segments]:
    """The segments of each, in the order in which a walk meets them. Raises UnsafeNameError, also where one name is a
    directory of another, or two are one file."""
    found = {name: segments_of(name) for name in names}
    order = sorted(found.items(), key=lambda item: item[1])
    last: Segments = ()
    for _, segments in order:
        if last and segments[: len(last)] == last:
            what = "are one file" if segments == last else "cannot both be there: the first is a file"
            raise UnsafeNameError(f"{path_of(last)} and {path_of(segments)} {what}")
        last = segments
    return dict(order)


class Below:
    """An open directory. For one thread at a time."""

    def __init__(self, fd: int) -> None:
        """`fd` is its own from then on."""
        self._fd = fd
        self._open: OrderedDict[Segments, int] = OrderedDict()

    @classmethod
    def at(cls, path: str | bytes, *, dir_fd: int | None = None, create: bool = False) -> Below:
        """The directory `path`, which is no symlink. Raises OSError."""
        if create:
            with contextlib.suppress(FileExistsError):
                os.mkdir(path, DIRECTORY_MODE, dir_fd=dir_fd)
        return cls(os.open(path, _DIRECTORY_FLAGS, dir_fd=dir_fd))

    def close(self) -> None:
        while self._open:
            os.close(self._open.popitem()[1])
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def directory(self, segments: Segments, *, create: bool = False) -> int:
        """A descriptor, which is good until the next call. Raises OSError."""
        if not segments:
            return self._fd
        if (known := self._open.get(segments)) is not None:
            self._open.move_to_end(segments)
            return known
        above = self.directory(segments[:-1], create=create)
        if create:
            with contextlib.suppress(FileExistsError):
                os.mkdir(segments[-1], DIRECTORY_MODE, dir_fd=above)
        fd = self._open[segments] = os.open(segments[-1], _DIRECTORY_FLAGS, dir_fd=above)
        if len(self._open) > OPEN_MAX:
            os.close(self._open.popitem(last=False)[1])
        return fd

    def status(self, segments: Segments) -> os.stat_result | None:
        """Of a regular file; None: there is none, or something else. Raises OSError."""
        try:
            found = os.stat(segments[-1], dir_fd=self.directory(segments[:-1]), follow_symlinks=False)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            if is_symlink(error):
                return None
            raise
        return found if stat.S_ISREG(found.st_mode) else None

    def open_file(self, segments: Segments, flags: int = os.O_RDONLY) -> int:
        """A descriptor of a file, that the caller closes; O_CREAT makes its directories, too. Raises OSError."""
        directory = self.directory(segments[:-1], create=bool(flags & os.O_CREAT))
        return os.open(segments[-1], flags | _FILE_FLAGS, FILE_MODE, dir_fd=directory)

    def files(self) -> Iterator[Segments]:
        """All that lies below and is no directory. Raises OSError."""
        pending: list[Segments] = [()]
        while pending:
            above = pending.pop()
            with os.scandir(self.directory(above)) as entries:
                found = [(os.fsencode(entry.name), entry.is_dir(follow_symlinks=False)) for entry in entries]
            for name, is_directory in found:
                if is_directory:
                    pending.append((*above, name))
                else:
                    yield (*above, name)


def is_symlink(error: OSError) -> bool:
    """Whether an open failed since what lies there is a symlink, which is not followed (`man 2 open`)."""
    return error.errno in (errno.ELOOP, errno.ENOTDIR)
