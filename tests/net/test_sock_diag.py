"""zcserve.net.sock_diag: what the kernel tells of sockets. Of TCP's: tests/net/test_deferral.py."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from zcserve.net.sock_diag import FILE_BITS, UnixSocket, ask, unix_sockets


def test_a_unix_socket_is_told_with_its_file(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(path))
        told = UnixSocket(os.fstat(sock.fileno()).st_ino, os.fsencode(path), path.stat().st_ino & FILE_BITS)
        assert told in list(unix_sockets())
    assert told not in list(unix_sockets())


def test_what_the_kernel_does_not_understand_is_an_error() -> None:
    with pytest.raises(OSError, match="tells nothing"):
        list(ask(b"\xff" * 24))
