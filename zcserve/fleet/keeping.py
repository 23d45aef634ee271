"""What an agent keeps on its disk, beside the release folders: small files, each replaced as a whole.

    RELEASES/.agent/memory.json          what its machine knows (node_memory.py)
    RELEASES/.agent/lock                 held while an agent runs: two of them would each move `current`
    RELEASES/.agent/desired.json ...     what a node keeps that has no other store (http_shelf.py)

After a power cut a file is the old one or the new one (replacing.py).
"""

from __future__ import annotations

import fcntl
import os
from contextlib import suppress

from zcserve.errors import UsageError, reason_of
from zcserve.replacing import BESIDE, replace

FOLDER = ".agent"


class Kept:
    """The folder of an agent. One process has it at a time."""

    def __init__(self, releases: str) -> None:
        """`releases` is the directory of the release folders. Raises UsageError."""
        self.path = os.path.join(releases, FOLDER)
        self._lock = -1
        try:
            os.makedirs(self.path, 0o700, exist_ok=True)
            self._lock = os.open(os.path.join(self.path, "lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UsageError(f"{releases}: another agent has these releases; accepted: one for each folder") from None
        except OSError as error:
            raise UsageError(f"{self.path} cannot be used: {reason_of(error)}") from None

    def close(self) -> None:
        """Let another one have it."""
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def __del__(self) -> None:
        self.close()

    def read(self, name: str) -> bytes | None:
        """A file; None: there is none. Raises OSError."""
        with suppress(FileNotFoundError), open(os.path.join(self.path, name), "rb") as file:
            return file.read()
        return None

    def write(self, name: str, data: bytes) -> None:
        """Replace a file. Raises OSError: then it is what it was."""
        path = os.path.join(self.path, name)
        os.makedirs(os.path.dirname(path), 0o700, exist_ok=True)
        replace(path, [data])

    def remove(self, name: str) -> None:
        """Have it gone, if it is there. Raises OSError."""
        with suppress(FileNotFoundError):
            os.unlink(os.path.join(self.path, name))

    def newest(self, folder: str) -> list[str]:
        """As `names`, the one that was written last first. Raises OSError."""
        return sorted(self.names(folder), key=lambda name: -os.stat(os.path.join(self.path, name)).st_mtime_ns)

    def names(self, folder: str) -> list[str]:
        """Of the files in a folder of it, in order, without those that were never complete. Raises OSError."""
        with suppress(FileNotFoundError):
            found = os.listdir(os.path.join(self.path, folder))
            return sorted(f"{folder}/{name}" for name in found if not name.endswith(BESIDE))
        return []
