"""Memory for content: files without a name (memfd_create(2)), whose pages are given back one by one.

The module must not know what lies in them.
"""

from __future__ import annotations

import ctypes
import fcntl
import mmap
import os

PAGE_BYTES = mmap.PAGESIZE

_KEEP_SIZE, _PUNCH_HOLE = 1, 2  # linux/falloc.h
_libc = ctypes.CDLL(None, use_errno=True)
_fallocate = getattr(_libc, "fallocate64", None) or _libc.fallocate  # musl has but the latter
_fallocate.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)


def round_up(length: int, unit: int = PAGE_BYTES) -> int:
    """The least multiple of `unit` that is >= length."""
    return -(-length // unit) * unit


def open_memfd(name: str) -> int:
    """A new empty one, which may be sealed; its descriptor. Raises OSError."""
    return os.memfd_create(name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)


def seal(fd: int, seals: int) -> None:
    """Add F_SEAL_... of fcntl(2): any process that has the memfd is bound by them."""
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, seals)


def write(fd: int, piece: memoryview, at: int) -> None:
    """Write all of a piece at an offset; without the GIL, and without a fault for each page. Raises OSError."""
    done = 0
    while done < len(piece):
        done += os.pwrite(fd, piece[done:], at + done)


def punch(fd: int, offset: int, length: int) -> None:
    """Give pages back; they read as zeros. Not by `madvise`, for which Python holds the GIL: 2 ms for 16 MiB.

    Raises OSError.
    """
    if _fallocate(fd, _PUNCH_HOLE | _KEEP_SIZE, offset, length):
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
