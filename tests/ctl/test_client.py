"""One request to a node, and why it cannot be had."""

from __future__ import annotations

import errno
import socket
import threading
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from tests.support.canned import CannedNode, answer
from zcserve import Server
from zcserve.config.addresses import TcpAddress, UnixAddress
from zcserve.ctl.client import Answer, Node, NodeError, ask, follow


def told(node: Node) -> str:
    with pytest.raises(NodeError) as caught:
        ask(node, "/livez")
    return str(caught.value)


def test_a_node_answers_and_is_told(node: Server, socket_path: str) -> None:
    where = Node(UnixAddress(socket_path), timeout_s=20)
    assert ask(where, "/livez") == Answer(200, b'{"is_alive": true}\n')
    assert ask(where, "/reload", b"{}") == Answer(200, b'{"reloading": true}\n')
    assert ask(where, "/none").status == 404
    assert [b'"is_ready": true' in line for line in follow(where, "/warmz")][-1]


def test_what_is_sent(canned: Callable[[Mapping[str, bytes]], CannedNode], socket_path: str) -> None:
    node = canned({"/a": answer({})})
    ask(Node(UnixAddress(socket_path), "a-token", 20), "/a", b'{"b": 1}')
    (asked,) = node.asked
    assert (asked.method, asked.body) == ("POST", b'{"b": 1}')
    assert asked.fields["authorization"] == "Bearer a-token"
    assert asked.fields["content-type"] == "application/json"


def test_why_no_socket_can_be_used(tmp_path: Path, socket_path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    node = Node(UnixAddress(socket_path), timeout_s=20)
    assert told(node).startswith(f"there is no socket {socket_path}: is the node started, with --admin unix:")
    Path(socket_path).write_text("")
    assert told(node) == f"{socket_path} is no socket that answers requests"
    Path(socket_path).unlink()
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(socket_path)
    assert told(node) == f"nobody listens at unix:{socket_path}: the node that made {socket_path} has ended without" + (
        " taking it away"
    )

    def refuse(self: socket.socket, address: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(socket, "socket", type("Denied", (socket.socket,), {"connect": refuse}))
    assert "may not be used by this user: it is that of the user with the id" in told(node)


def test_why_no_port_can_be_used() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert told(Node(TcpAddress("127.0.0.1", port), timeout_s=0.05)).endswith("does not answer within 0.05 s")
    assert told(Node(TcpAddress("127.0.0.1", port), timeout_s=20)) == (
        f"nobody listens at 127.0.0.1:{port}: is the node started?"
    )


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", "has closed the connection without an answer"),
        (b"220 mail.example ESMTP\r\n\r\n", "does not speak HTTP"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{", "in the middle of its answer"),
    ],
)
def test_what_is_no_answer_is_told(
    canned: Callable[[Mapping[str, bytes]], CannedNode], socket_path: str, data: bytes, expected: str
) -> None:
    canned({"/livez": data})
    assert expected in told(Node(UnixAddress(socket_path), timeout_s=20))


def test_a_line_comes_before_the_next_is_there(socket_path: str) -> None:
    seen = threading.Event()

    def serve() -> None:
        sock, _ = server.accept()
        with sock:
            sock.recv(1 << 16)
            sock.sendall(b"HTTP/1.1 200 OK\r\n\r\none\nt")
            assert seen.wait(20)
            sock.sendall(b"wo\nthree")

    with socket.socket(socket.AF_UNIX) as server:
        server.bind(socket_path)
        server.listen()
        thread = threading.Thread(target=serve)
        thread.start()
        lines = follow(Node(UnixAddress(socket_path), timeout_s=20), "/")
        assert next(lines) == b"one"
        seen.set()
        assert list(lines) == [b"two"]  # what has no end is left out
        thread.join(20)
