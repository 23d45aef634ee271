"""zcserve.net.unix_names: whether a name is held, and why it cannot be had.

Whole servers: tests/wire/test_addresses.py.
"""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from zcserve.errors import UsageError
from zcserve.net.unix_names import bind_unix, give_back, is_held


def refuse() -> None:
    """As a kernel that tells nothing."""
    raise OSError


def test_a_name_is_held_from_its_socket_s_bind_to_its_end(tmp_path: Path) -> None:
    path = str(tmp_path / "s")
    assert not is_held(path)
    with bind_unix(path, "--listen") as sock:
        assert is_held(path)  # also as long as it does not listen
        sock.listen(0)
        with socket.socket(socket.AF_UNIX) as waiting:
            waiting.connect(path)
            assert is_held(path)  # also where its queue is full
    assert not is_held(path)
    bind_unix(path, "--listen").close()  # what is stale is replaced


@pytest.mark.parametrize("is_told", [True, False])
def test_a_name_that_leads_to_the_file_of_another_is_left_alone(
    tmp_path: Path, is_told: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not is_told:
        monkeypatch.setattr("zcserve.net.unix_names.unix_sockets", refuse)
    path = tmp_path / "s"
    first = bind_unix(str(path), "--listen")
    path.unlink()
    second = bind_unix(str(path), "--listen")
    second.listen()
    give_back(first)
    assert path.is_socket()
    give_back(second)
    assert not path.exists()


def test_a_name_is_removed_though_another_process_has_the_socket_still(tmp_path: Path) -> None:
    path = tmp_path / "s"
    sock = bind_unix(str(path), "--listen")
    with sock.dup():  # the one that hands over; the one that takes over has another address by now
        give_back(sock)
        assert not path.exists()


def test_what_is_no_socket_is_never_removed(tmp_path: Path) -> None:
    path = tmp_path / "precious"
    sock = bind_unix(str(path), "--listen")
    path.unlink()
    path.write_bytes(b"precious")
    give_back(sock)
    with pytest.raises(UsageError, match="no socket"):
        bind_unix(str(path), "--listen")
    assert path.read_bytes() == b"precious"


def test_where_the_kernel_tells_nothing_connecting_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zcserve.net.unix_names.unix_sockets", refuse)
    path = str(tmp_path / "s")
    with bind_unix(path, "--listen") as sock:
        sock.listen()
        assert is_held(path)
    assert not is_held(path)


@pytest.mark.parametrize(
    ("error", "why"),
    [
        (PermissionError(13, "Permission denied"), "Permission denied; this user can make no file in"),
        (OSError(30, "Read-only file system"), "Read-only file system; this user can make no file in"),
        (OSError(28, "No space left on device"), "No space left on device; name another path with --admin"),
    ],
)
def test_what_the_kernel_refuses_is_told_with_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: OSError, why: str
) -> None:
    class Refused(socket.socket):
        def bind(self, address: object) -> None:
            raise error

    monkeypatch.setattr("socket.socket", Refused)
    with pytest.raises(UsageError, match=why):
        bind_unix(str(tmp_path / "s"), "--admin")
