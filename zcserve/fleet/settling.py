"""What was written is brought to the disk, so that it is there after a power cut, too: all of a file system at once.

10,000 fsyncs take a minute, and one syncfs(2) for the same files some hundred milliseconds. What others have written to
that file system goes with it.
"""

from __future__ import annotations

import ctypes
import os

_libc = ctypes.CDLL(None, use_errno=True)


def settle(fd: int) -> None:
    """Return when what was written to the file system in which `fd` is open lies on its disk. Raises OSError."""
    if _libc.syncfs(fd):
        raise OSError(number := ctypes.get_errno(), os.strerror(number))
