"""Ports that are free, for programs that are started anew on the port that they had, or cannot choose one."""

from __future__ import annotations

import errno
import socket
from contextlib import ExitStack


def free_port(*hosts: str) -> int:
    """A TCP port that is free just now at each of these addresses; of 127.0.0.1, where none is given."""
    while True:
        with ExitStack() as stack:
            port = 0
            try:
                for host in hosts or ("127.0.0.1",):
                    sock = stack.enter_context(socket.create_server((host, port)))
                    port = int(sock.getsockname()[1])
            except OSError as error:
                if error.errno != errno.EADDRINUSE:  # the address is none of this machine's
                    raise
                continue
            return port
