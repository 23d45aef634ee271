"""What an agent keeps on its disk, beside the release folders: small files, each replaced as a whole.

    RELEASES/.agent/memory.json          what its machine knows (node_memory.py)
    RELEASES/.agent/lock                 held while an agent runs: two of them would each move `current`
    RELEASES/.agent/desired.json ...     what a node keeps that has no other store (http_shelf.py)

After a power cut a file is the old one or the new one (replacing.py).

Where all of it is deleted beneath a running agent, `find_again` writes anew what lies at the top. What lies in folders
of it is not kept in memory: manifests, which the bus or other nodes have, and commands that wait, which are done.
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
        self._top: dict[str, bytes] = {}  # what the files at the top hold, by name
        try:
            self._lock = self._locked()
        except BlockingIOError:
            raise UsageError(f"{releases}: another agent has these releases; accepted: one for each folder") from None
        except OSError as error:
            raise UsageError(f"{self.path} cannot be used: {reason_of(error)}") from None

    def _locked(self) -> int:
        """Raises OSError: BlockingIOError where another agent has it."""
        os.makedirs(self.path, 0o700, exist_ok=True)
        fd = os.open(os.path.join(self.path, "lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(fd)
            raise
        return fd

    def find_again(self) -> bool:
        """Whether the folder was gone: it is made anew, with the files at the top. Raises OSError."""
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(self._lock), os.stat(os.path.join(self.path, "lock"))):
                return False
        fd = self._locked()
        self.close()
        self._lock = fd
        for name, data in [*self._top.items()]:
            if not os.path.lexists(os.path.join(self.path, name)):
                self.write(name, data)
        return True

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
            data = file.read()
            self._remember(name, data)
            return data
        return None

    def _remember(self, name: str, data: bytes) -> None:
        if "/" not in name:
            self._top[name] = data

    def write(self, name: str, data: bytes) -> None:
        """Replace a file. Raises OSError: then it is what it was."""
        path = os.path.join(self.path, name)
        os.makedirs(os.path.dirname(path), 0o700, exist_ok=True)
        replace(path, [data])
        self._remember(name, data)

    def remove(self, name: str) -> None:
        """Have it gone, if it is there. Raises OSError."""
        self._top.pop(name, None)
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
