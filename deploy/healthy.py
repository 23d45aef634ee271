"""Exit 0 where a node is to be asked: `healthy.py PATH` asks the admin listener's unix socket for /readyz.

For a container's HEALTHCHECK, in an image that has neither curl nor a shell. Standard library alone.
"""

from __future__ import annotations

import socket
import sys

# Less than the health check's own timeout.
WITHIN_S = 2.0


def is_ready(path: str) -> bool:
    """Whether the answer is 200. Raises OSError where there is none."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(WITHIN_S)
        sock.connect(path)
        sock.sendall(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        return sock.recv(4096).startswith(b"HTTP/1.1 200 ")


def main(argv: list[str]) -> int:
    """The exit code: 0 or 1."""
    try:
        return 0 if is_ready(argv[0]) else 1
    except OSError as error:
        print(error, file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
