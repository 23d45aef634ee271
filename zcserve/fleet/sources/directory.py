"""A directory of this machine as a source: a build's output, or a file system of the network that is mounted here.

What the server would serve is what can be fetched: a symlink may lead to another place below the directory, and
nowhere else (`zcserve.cache.root`).
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from io import FileIO
from urllib.parse import unquote_to_bytes

from zcserve.cache.root import DISTURBED, SCARCE, OutsideRootError, Root
from zcserve.errors import reason_of
from zcserve.fleet.sources.source import Opened, SourceError

# Larger than what comes over a network: a read costs a turn of the interpreter, and nothing is waited for.
PIECE_BYTES = 1 << 18


class DirectorySource:
    def __init__(self, path: str) -> None:
        """Raises UsageError where there is no such directory."""
        self.name = path
        self._root = Root(path)

    def open(self, path: str, start: int, version: str) -> Opened:
        try:
            fd, status = self._root.open_file(unquote_to_bytes(path.removeprefix("/")))
        except OutsideRootError as error:
            raise SourceError(str(error), retry=False) from None
        except OSError as error:
            raise _told(error) from None
        now = f"{status.st_ino}-{status.st_mtime_ns}-{status.st_size}"
        if start > status.st_size or version not in ("", now):
            start = 0
        file = open(fd, "rb", buffering=0)  # noqa: SIM115  # `Opened.close` closes it
        return Opened(_pieces(file, start), file.close, start, status.st_size, now)

    def close(self) -> None:
        pass


def _pieces(file: FileIO, start: int) -> Iterator[bytes]:
    try:
        file.seek(start)
        while piece := file.read(PIECE_BYTES):
            yield piece
    except OSError as error:
        raise _told(error) from None


def _told(error: OSError) -> SourceError:
    missing = error.errno in (errno.ENOENT, errno.ENOTDIR)
    words = "is not there" if missing else reason_of(error)
    return SourceError(words, retry=error.errno in SCARCE | DISTURBED)
