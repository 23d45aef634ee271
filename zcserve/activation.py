"""Listening sockets that systemd has opened for this process (sd_listen_fds(3)): a `.socket` unit.

    LISTEN_PID      whom they are for; another process leaves them alone
    LISTEN_FDS      how many, from descriptor 3 on
    LISTEN_FDNAMES  what each is called (FileDescriptorName=), with colons between

They are taken instead of bound: by their address, where --listen or --host and --port name that, or by name (`--listen
fd:NAME`, `--listen fd` for all). Without any address all of them are listened on, and the default address is not. One
that no address names is an error.
"""

from __future__ import annotations

import json
import os
import socket
import stat
from collections.abc import Iterator, MutableMapping

from zcserve.config.addresses import Address, FdAddress, TcpAddress, UnixAddress
from zcserve.config.keys import KEYS
from zcserve.config.table import Config
from zcserve.errors import UsageError
from zcserve.net.inherited import Inherited
from zcserve.net.listener import bind
from zcserve.upgrade import LENT

_VARIABLES = ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES")
# The first descriptor that is passed.
FIRST = 3
# What systemd calls a socket that has no name.
UNNAMED = "unknown"
_FAMILIES = (socket.AF_INET, socket.AF_INET6, socket.AF_UNIX)


def passed(environ: MutableMapping[str, str]) -> Inherited:
    """What was passed to this process; said once, but for the processes that take over from this one. Raises UsageError
    where something else than listening stream sockets was passed."""
    environ.pop(LENT, "")  # of a process that has started this one
    process, count, names = (environ.pop(name, "") for name in _VARIABLES)
    if process != str(os.getpid()) or not (count.isascii() and count.isdigit()):
        return Inherited()
    called = dict(enumerate(names.split(":"), FIRST)) if names else {}
    lent = {fd: called.get(fd) or UNNAMED for fd in range(FIRST, FIRST + int(count))}
    for fd, name in lent.items():
        if not _is_listening(fd):
            raise UsageError(
                f"descriptor {fd} ({name}), which systemd passed, is no listening stream socket: "
                "the socket unit needs ListenStream= and Accept=no"
            )
        os.set_inheritable(fd, False)
    if lent:
        environ[LENT] = json.dumps(lent)
    return Inherited([(fd, 0) for fd in lent], lent)


def _is_listening(fd: int) -> bool:
    try:
        if not stat.S_ISSOCK(os.fstat(fd).st_mode):
            return False
        sock = socket.socket(fileno=fd)
    except OSError:
        return False
    try:
        is_stream = sock.type == socket.SOCK_STREAM and sock.family in _FAMILIES
        return is_stream and bool(sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))
    finally:
        sock.detach()


def admin_address(config: Config, inherited: Inherited) -> TcpAddress | UnixAddress | None:
    """Where to answer the operator; of a socket that was passed, where it is bound. Raises UsageError."""
    address = config.admin_address()
    return inherited.find_named(address.name) if isinstance(address, FdAddress) else address


def listening(config: Config, inherited: Inherited) -> Iterator[tuple[socket.socket, int]]:
    """The sockets of all addresses, each with the port that was asked for, 0 for any. Raises UsageError."""
    if (admin := admin_address(config, inherited)) is not None:
        inherited.set_aside(admin)
    is_default = not config.listen and all(getattr(config, name) == KEYS[name].default for name in ("host", "port"))
    for address in (FdAddress(""),) if is_default and inherited.has_lent else config.addresses():
        for sock in bind(address, inherited):
            yield sock, port_of(address)
    inherited.refuse_left()


def port_of(address: Address) -> int:
    """The port that was asked for; 0 for any, and where there is none."""
    return address.port if isinstance(address, TcpAddress) else 0
