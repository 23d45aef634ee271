"""inotify(7) as it is: three system calls by ctypes, the flags, and the layout of an event.

`os` has no inotify, and the libraries that have one hide its descriptor behind a thread. Nothing is decided here.
"""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Iterator

IN_MODIFY = 0x2
IN_ATTRIB = 0x4
IN_CLOSE_WRITE = 0x8
IN_MOVED_FROM = 0x40
IN_MOVED_TO = 0x80
IN_CREATE = 0x100
IN_DELETE = 0x200
IN_DELETE_SELF = 0x400
IN_MOVE_SELF = 0x800
IN_UNMOUNT = 0x2000
IN_Q_OVERFLOW = 0x4000
IN_IGNORED = 0x8000
IN_ONLYDIR = 0x1000000
IN_EXCL_UNLINK = 0x4000000  # nothing about files that have no name any more
IN_MASK_ADD = 0x20000000
IN_ISDIR = 0x40000000

_NONBLOCK_CLOEXEC = os.O_NONBLOCK | os.O_CLOEXEC  # IN_NONBLOCK and IN_CLOEXEC are these
_EVENT = struct.Struct("=iIII")  # wd, mask, cookie, length of the name with its padding

_libc = ctypes.CDLL(None, use_errno=True)
_libc.inotify_add_watch.argtypes = (ctypes.c_int, ctypes.c_char_p, ctypes.c_uint32)


def _checked(result: int) -> int:
    if result < 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))
    return result


def start() -> int:
    """A new inotify descriptor, which does not block. Raises OSError (EMFILE: fs.inotify.max_user_instances)."""
    return _checked(_libc.inotify_init1(_NONBLOCK_CLOEXEC))


def add_watch(inotify: int, fd: int, mask: int) -> int:
    """Watch the directory that `fd` is open for, also with O_PATH, by whatever name; a directory watched already keeps
    its number. Raises OSError (ENOSPC: fs.inotify.max_user_watches; EACCES: it may not be read)."""
    return _checked(_libc.inotify_add_watch(inotify, b"/proc/self/fd/%d" % fd, mask))


def remove_watch(inotify: int, wd: int) -> None:
    """Raises OSError (EINVAL: there is none any more)."""
    _checked(_libc.inotify_rm_watch(inotify, wd))


def events(data: bytes) -> Iterator[tuple[int, int, bytes]]:
    """(wd, mask, name) of each event in what one read gave; the name is b"" where the directory itself is meant."""
    at = 0
    while at < len(data):
        wd, mask, _, length = _EVENT.unpack_from(data, at)
        at += _EVENT.size
        yield wd, mask, data[at : at + length].rstrip(b"\0")
        at += length
