"""What the kernel knows of sockets, also of other processes' in the same network namespace: sock_diag(7).

One request has all sockets of a family that it asks for told, each in a message of its own. A sandbox may have none of
it: OSError.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from typing import NamedTuple

# linux/netlink.h, linux/sock_diag.h.
_NETLINK_SOCK_DIAG = 4
_SOCK_DIAG_BY_FAMILY = 20
_NLM_F_REQUEST_DUMP = 0x301
_NLMSG_ERROR, _NLMSG_DONE = 2, 3
_HEADER = struct.Struct("=IHHII")  # length, kind, flags, number, port
_REPLY_BYTES_MAX = 1 << 16
# A kernel that says nothing is not waited for.
_REPLY_WITHIN_S = 1.0

# linux/unix_diag.h.
_UNIX = struct.Struct("=BBxxIIII8x")  # family, protocol, states, inode, what to show, cookie
_INODE = struct.Struct("=4xI")  # what is told of a socket begins with family, type and state
_UNIX_BYTES = 16  # of what is told of a socket before its attributes
_SHOW_NAME, _SHOW_VFS = 1, 2
_ATTRIBUTE = struct.Struct("=HH")  # length, kind
_NAME, _VFS = 0, 1
_FILE = struct.Struct("=II")  # inode, device
FILE_BITS = 0xFFFFFFFF


def ask(request: bytes) -> Iterator[bytes]:
    """What the kernel answers to a request of sock_diag, a message for each socket. Raises OSError."""
    header = _HEADER.pack(_HEADER.size + len(request), _SOCK_DIAG_BY_FAMILY, _NLM_F_REQUEST_DUMP, 1, 0)
    with socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC, _NETLINK_SOCK_DIAG) as diag:
        diag.settimeout(_REPLY_WITHIN_S)
        diag.send(header + request)
        while True:
            for kind, message in _messages(diag.recv(_REPLY_BYTES_MAX), _HEADER, 0):
                if kind == _NLMSG_DONE:
                    return
                if kind == _NLMSG_ERROR:
                    raise OSError("the kernel tells nothing of such sockets")
                yield message


class UnixSocket(NamedTuple):
    """A unix socket that is bound to a file.

    inode  its own, as fstat tells it
    path   as it was given
    file   the file's inode, of which the kernel tells FILE_BITS
    """

    inode: int
    path: bytes
    file: int


def unix_sockets() -> Iterator[UnixSocket]:
    """Those that are bound to a file. Raises OSError."""
    every_state = 0xFFFFFFFF
    request = _UNIX.pack(socket.AF_UNIX, 0, every_state, 0, _SHOW_NAME | _SHOW_VFS, 0)
    for message in ask(request):
        told = dict(_messages(message[_UNIX_BYTES:], _ATTRIBUTE, 0))
        if _VFS in told:
            inode = _INODE.unpack_from(message)[0]
            yield UnixSocket(inode, told.get(_NAME, b"").rstrip(b"\0"), _FILE.unpack_from(told[_VFS])[0])


def _messages(data: bytes, header: struct.Struct, at: int) -> Iterator[tuple[int, bytes]]:
    """Netlink's messages and attributes: each has its length, with the header, and begins at a multiple of 4 bytes."""
    while at + header.size <= len(data):
        length, kind = header.unpack_from(data, at)[:2]
        if length < header.size:
            return
        yield kind, data[at + header.size : at + length]
        at += (length + 3) & ~3
