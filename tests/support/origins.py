"""An origin over HTTP that misbehaves on purpose: each path has tricks for its first requests, and answers rightly
then."""

from __future__ import annotations

import re
import socket
import socketserver
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field


@dataclass
class Asked:
    """A request: its path and its fields, with names in lower case."""

    path: str
    fields: dict[str, str]

    @property
    def start(self) -> int:
        """Where the range begins that it asks for."""
        return int(re.fullmatch(r"bytes=([0-9]+)-", self.fields.get("range", "bytes=0-"))[1])  # type: ignore[index]


class Cut(Exception):
    """End the connection; `reset`: with a reset."""

    def __init__(self, reset: bool = False) -> None:
        self.reset = reset


# What to send for a request and a content; raises Cut.
Trick = Callable[["Exchange"], None]


@dataclass
class Exchange:
    asked: Asked
    content: bytes
    connection: socket.socket
    origin: Origin

    def send(self, status: str, body: bytes = b"", **fields: object) -> None:
        """An answer; its Content-Length is that of the body, unless it is given."""
        given = {"Content-Length": len(body), **{name.replace("_", "-"): value for name, value in fields.items()}}
        head = "".join(f"{name}: {value}\r\n" for name, value in given.items() if value is not None)
        self.connection.sendall(f"HTTP/1.1 {status}\r\n{head}\r\n".encode() + body)

    @property
    def etag(self) -> str:
        return f'"{hash(self.content) & 0xFFFFFFFF:x}"'


def rightly(exchange: Exchange) -> None:
    """As RFC 9110 has it, with ranges and If-Range."""
    start, content = exchange.asked.start, exchange.content
    if start and exchange.asked.fields.get("if-range", exchange.etag) == exchange.etag:
        if start >= len(content):
            exchange.send("416 Range Not Satisfiable", Content_Range=f"bytes */{len(content)}")
            return
        held = f"bytes {start}-{len(content) - 1}/{len(content)}"
        exchange.send("206 Partial Content", content[start:], Content_Range=held, ETag=exchange.etag)
    else:
        exchange.send("200 OK", content, ETag=exchange.etag)


def answers(status: str, body: bytes = b"", **fields: object) -> Trick:
    return lambda exchange: exchange.send(status, body, **fields)


def cut(at: int, *, reset: bool = False) -> Trick:
    """The right head, the first bytes, and the end of the connection."""

    def trick(exchange: Exchange) -> None:
        length = len(exchange.content)
        exchange.send("200 OK", exchange.content[:at], Content_Length=length, ETag=exchange.etag)
        raise Cut(reset)

    return trick


def becomes(content: bytes, then: Trick = rightly) -> Trick:
    """From this request on the object is another one."""

    def trick(exchange: Exchange) -> None:
        exchange.origin.contents[exchange.asked.path] = exchange.content = content
        then(exchange)

    return trick


def stalls(at: int) -> Trick:
    """The first bytes, and nothing more until the origin ends."""

    def trick(exchange: Exchange) -> None:
        exchange.send("200 OK", exchange.content[:at], Content_Length=len(exchange.content), ETag=exchange.etag)
        exchange.origin.ended.wait(30)
        raise Cut

    return trick


@dataclass
class Origin:
    """contents  by path
    tricks    by path, for its next requests; a list that is empty has no more
    asked     all requests, in order
    """

    contents: dict[str, bytes] = field(default_factory=dict)
    tricks: dict[str, list[Trick]] = field(default_factory=dict)
    asked: list[Asked] = field(default_factory=list)
    connections: int = 0
    url: str = ""
    ended: threading.Event = field(default_factory=threading.Event)

    def of(self, path: str) -> list[Asked]:
        return [asked for asked in self.asked if asked.path == path]


@contextmanager
def running_origin(contents: dict[str, bytes] | None = None) -> Iterator[Origin]:
    origin = Origin(dict(contents or {}))

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            origin.connections += 1
            try:
                while line := self.rfile.readline():
                    fields: dict[str, str] = {}
                    while (one := self.rfile.readline().strip()) != b"":
                        name, _, value = one.decode().partition(":")
                        fields[name.lower()] = value.strip()
                    asked = Asked(line.split()[1].decode(), fields)
                    origin.asked.append(asked)
                    self.answer(asked)
            except Cut as end:
                if end.reset:
                    self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    self.connection.close()
            except OSError:
                pass

        def answer(self, asked: Asked) -> None:
            content = origin.contents.get(asked.path)
            exchange = Exchange(asked, content or b"", self.connection, origin)
            tricks = origin.tricks.get(asked.path)
            if tricks:
                tricks.pop(0)(exchange)
            elif content is None:
                exchange.send("404 Not Found", b"no such page")
            else:
                rightly(exchange)

    class Server(socketserver.ThreadingTCPServer):
        allow_reuse_address = daemon_threads = True
        block_on_close = False
        request_queue_size = 128

    with Server(("127.0.0.1", 0), Handler) as server:
        origin.url = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        try:
            yield origin
        finally:
            origin.ended.set()
            server.shutdown()
            thread.join()
