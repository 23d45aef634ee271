"""A file is replaced as a whole: a reader finds the old one or the new one, and so does a start after a power cut.

The new one is written beside its place, brought to the disk and renamed, and then the directory is brought to the disk.
Where there is no room for it, or it cannot be written, the old one stays. One thread at a time may replace a file.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import suppress

# What is written beside a file has its name with this behind it.
BESIDE = ".new"
# Only the user of the process may read it: it may say what is behind a password, or what an operator wants.
_MODE = 0o600
# In bytes: content comes in lines.
_BUFFER_BYTES = 1 << 16


def replace(path: str, content: Iterable[bytes]) -> None:
    """Have a file hold this content, piece by piece. Raises OSError; what `content` raises goes through."""
    beside = path + BESIDE
    try:
        fd = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, _MODE)
        with open(fd, "wb", _BUFFER_BYTES) as file:
            file.writelines(content)
            file.flush()
            os.fsync(fd)
        os.rename(beside, path)
        _sync(os.path.dirname(path) or ".")
    except BaseException:
        with suppress(OSError):
            os.unlink(beside)
        raise


def _sync(directory: str) -> None:
    """Bring a rename in it to the disk."""
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
