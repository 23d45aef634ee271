"""A server that answers every GET with the same bytes, right or wrong, for the tests of the warmer."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import mmh3

from zcserve.cache.tags import content_tag

PAGE = b"<!doctype html><p>hello</p>\n"
TAG = content_tag(mmh3.mmh3_x64_128_digest(PAGE))
RIGHT = b"HTTP/1.1 200 OK\r\nContent-Length: 28\r\nETag: %b\r\n\r\n%b" % (TAG, PAGE)


def read_head(client: socket.socket) -> bytes:
    data = b""
    while b"\r\n\r\n" not in data:
        piece = client.recv(4096)
        if not piece:
            return b""
        data += piece
    return data


@contextmanager
def lying_server(answer: bytes, *, answers_max: int = 10**6, kept: bool = True) -> Iterator[str]:
    """Answers HEAD with an empty 200, and up to `answers_max` GETs with `answer`; an empty one closes. `kept` False
    closes after each. The URL."""
    listener = socket.create_server(("127.0.0.1", 0))
    left = iter(range(answers_max))

    def talk(client: socket.socket) -> None:
        with client:
            while head := read_head(client):
                if head.startswith(b"HEAD"):
                    client.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
                elif next(left, None) is None or not answer:
                    return
                else:
                    client.sendall(answer)
                    if not kept:
                        return

    def accept() -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=talk, args=(client,), daemon=True).start()

    thread = threading.Thread(target=accept, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()
