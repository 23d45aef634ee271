"""The name that a unix socket has in the file system: how it is had, and given back.

The kernel gives a name to a socket and never takes it away. So a name may be *stale*: no process has a socket of it any
more. It is replaced by the next server that wants it. One that is *held* is left alone: a process listens at it
(connecting says so, in any namespace), or has bound a socket to the very file and does not listen yet, since it loads
its content (the kernel says so by the file's inode: sock_diag.py).

At the end a server removes the name of its socket, if that still leads to the file that the socket was bound to. When
the file was removed meanwhile, another server may have been given the name.
"""

from __future__ import annotations

import errno
import os
import socket
import stat
from contextlib import suppress

from zcserve.errors import UsageError, reason_of
from zcserve.net.sock_diag import FILE_BITS, unix_sockets


def bind_unix(path: str, flags: str) -> socket.socket:
    """A socket with this name, not yet listening. `flags` are those that name an address. Raises UsageError."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        try:
            sock.bind(path)
        except OSError as error:
            if error.errno != errno.EADDRINUSE or not _is_socket(path) or is_held(path):
                raise
            os.unlink(path)
            sock.bind(path)
    except OSError as error:
        sock.close()
        raise UsageError(f"cannot listen on unix:{path}: {_why_not(path, error)} with {flags}") from None
    sock.setblocking(False)
    return sock


def is_held(path: str) -> bool:
    """Whether a process has a socket of this name. What cannot be found out is held."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as probe:
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            pass
        except FileNotFoundError:
            return False
        except OSError:  # its queue is full, or it is another user's
            return True
        else:
            return True
    try:
        file, name = _file_at(path), os.path.basename(os.fsencode(path))
        return any(one.file == file and os.path.basename(one.path) == name for one in unix_sockets())
    except OSError:  # a sandbox without sock_diag
        return False


def give_back(sock: socket.socket) -> None:
    """Close a socket, and remove its name where that is still its own. Before it is closed: as long as it is there no
    other file has its file's inode."""
    path = sock.getsockname()
    with suppress(OSError):
        inode = os.fstat(sock.fileno()).st_ino
        try:
            is_own = any(one.inode == inode and one.file == _file_at(path) for one in unix_sockets())
        except OSError:  # a sandbox without sock_diag
            sock.close()
            is_own = not is_held(path)
        if is_own and _is_socket(path):
            os.unlink(path)
    sock.close()


def _file_at(path: str) -> int:
    """A file as the kernel tells it of a socket. Raises OSError."""
    return os.stat(path).st_ino & FILE_BITS


def _is_socket(path: str) -> bool:
    try:
        return stat.S_ISSOCK(os.stat(path).st_mode)
    except OSError:
        return False


def _why_not(path: str, error: OSError) -> str:
    """Why a socket cannot have this name, and what to do: the end of it is which flags name another."""
    directory = os.path.dirname(path) or "."
    if error.errno == errno.EADDRINUSE and _is_socket(path):
        return f"{reason_of(error)}; a running program listens there: stop that, or name another path"
    if os.path.isdir(path):
        return f"it is a directory; name a path in it, such as unix:{os.path.join(path, 'zcserve.sock')},"
    if error.errno == errno.EADDRINUSE:
        return "a file is there that is no socket; remove it, or name another path"
    if error.errno == errno.ENOENT:
        return f"{reason_of(error)}; make the directory {directory}, or name a path in another"
    if error.errno == errno.ENOTDIR:
        return f"{reason_of(error)}; a part of {directory} is a file: name another path"
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return f"{reason_of(error)}; this user can make no file in {directory}: give it the right, or name another path"
    return f"{reason_of(error)}; name another path"
