"""One request as it is sent, and what a right answer to it is; servers are asked, and their answers proven.

It must not know how often a request is sent, or by what. Some words in a request's text are replaced: `{port}`;
`{etag}` and `{modified}`, the validators that this server gives the request's file; and those of steady.py, the
numbers of the run and of the request: a request with both of them was never sent before.
"""

from __future__ import annotations

import contextlib
import http.client
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from http import HTTPStatus
from pathlib import Path

from tools.bench.content import PAGE
from tools.bench.errors import BenchError
from tools.bench.peers import ANSWER_TIMEOUT_S, Server
from tools.bench.steady import ANY_LENGTH, NO_CONTENT, NUMBER, RUN, Record

CODINGS = {"": "", "br": ".br", "gzip": ".gz"}  # a Content-Encoding -> the suffix of the file with these bytes
VALIDATORS = {"{etag}": "ETag", "{modified}": "Last-Modified"}


@dataclass(frozen=True)
class Found:
    """A server's answer; a field that it does not have is empty."""

    status: int
    body: bytes
    fields: http.client.HTTPMessage

    def field(self, name: str) -> str:
        """The value of one field."""
        return str(self.fields.get(name, ""))


@dataclass(frozen=True)
class Request:
    """A request, and the status of the right answer, whose content is the bytes of `file`.

    `parts` of it, from and to, where there are any: one is the content, several are in it. Without a file the server
    answers in words of its own or, where a request with a body gets 200, with this body. `chunked`: it is one chunk.
    """

    target: str = PAGE
    headers: tuple[tuple[str, str], ...] = ()
    method: str = "GET"
    body: str = ""
    host: str = "127.0.0.1:{port}"
    status: int = 200
    file: str = PAGE
    parts: tuple[tuple[int, int], ...] = ()
    chunked: bool = False

    def fitted(self, validators: dict[str, str], port: int) -> Request:
        """The request as it is for one server."""
        words = {**validators, "{port}": str(port)}
        headers = tuple((name, replaced(value, words)) for name, value in self.headers)
        return replace(self, target=replaced(self.target, words), headers=headers, host=replaced(self.host, words))

    @property
    def text(self) -> bytes:
        """The bytes that are sent."""
        body, framing = self.body, (("Content-Length", str(len(self.body))),) if self.body else ()
        if self.chunked:
            body, framing = f"{len(body):x}\r\n{body}\r\n0\r\n\r\n", (("Transfer-Encoding", "chunked"),)
        fields = "".join(f"{name}: {value}\r\n" for name, value in (("Host", self.host), *self.headers, *framing))
        return f"{self.method} {self.target} HTTP/1.1\r\n{fields}\r\n{body}".encode()

    def record(self, found: Found) -> Record:
        """What steady.c is to send and to expect, where `found` is the right answer."""
        if self.method == "HEAD" or self.status == HTTPStatus.NOT_MODIFIED:
            return Record(self.text, self.status, NO_CONTENT)
        # What stands between several parts is the server's own, and need not be as long each time.
        return Record(self.text, self.status, ANY_LENGTH if len(self.parts) > 1 else len(found.body))

    def is_answered_by(self, found: Found, root: Path) -> bool:
        """Whether that is the right answer to it where `root` is served."""
        if found.status != self.status:
            return False
        if self.status == HTTPStatus.NOT_MODIFIED:
            return not found.body
        if not self.file:
            return not self.body or self.status != HTTPStatus.OK or found.body == self.body.encode()
        path = Path(f"{root}{self.file}{CODINGS[found.field('Content-Encoding')]}")
        if self.method == "HEAD":
            return not found.body and found.field("Content-Length") == str(path.stat().st_size)
        parts = [read_part(path, first, end) for first, end in self.parts] or [path.read_bytes()]
        return found.body == parts[0] if len(parts) == 1 else all(part in found.body for part in parts)


def read_part(path: Path, first: int, end: int) -> bytes:
    """The bytes of a file from and to."""
    with path.open("rb") as file:
        file.seek(first)
        return file.read(end - first)


def replaced(text: str, words: dict[str, str]) -> str:
    """The text with each of these words replaced."""
    for word, value in words.items():
        text = text.replace(word, value)
    return text


@dataclass(frozen=True)
class Asking:
    """A server that serves `root`, asked for one thing after the other.

    `validators`: those that it has given, by file; `proven`: what it has answered rightly.
    """

    server: Server
    root: Path
    connection: http.client.HTTPConnection
    validators: dict[str, dict[str, str]] = field(default_factory=dict)
    proven: dict[Request, Record] = field(default_factory=dict)

    def answer(self, request: Request) -> Found:
        """What the server answers, in whatever way. Raises BenchError when it does not."""
        text = request.text.replace(RUN, b"0000").replace(NUMBER.encode(), b"0" * len(NUMBER))
        try:
            if self.connection.sock is None:
                self.connection.connect()
            self.connection.send(text)
            response = http.client.HTTPResponse(self.connection.sock, method=request.method)
            response.begin()
            found = Found(response.status, response.read(), response.headers)
            if response.will_close:
                self.connection.close()
        except (OSError, http.client.HTTPException) as failure:
            raise BenchError(f"{self.server.name}: {request.target} was not answered ({failure!r})") from None
        return found

    def fit(self, request: Request) -> Request:
        """The request as it is for this server. Raises BenchError when it needs a validator that there is not."""
        asked = [word for word in VALIDATORS if any(word in value for _, value in request.headers)]
        known = self.validators.setdefault(request.file, {})
        if not all(word in known for word in asked):
            found = self.answer(Request(request.target, method="HEAD").fitted({}, self.server.port))
            known |= {word: found.field(name) for word, name in VALIDATORS.items()}
        if absent := [VALIDATORS[word] for word in asked if not known[word]]:
            raise BenchError(f"{self.server.name} gives {request.target} no {' and '.join(absent)}")
        return request.fitted(known, self.server.port)

    def prove(self, request: Request) -> Record:
        """Ask once, and compare. Raises BenchError when the answer is not the right one."""
        fitted = self.fit(request)
        if fitted not in self.proven:
            found = self.answer(fitted)
            if not fitted.is_answered_by(found, self.root):
                got, due = f"{found.status} with {len(found.body)} bytes", f"{fitted.status} and the right ones"
                raise BenchError(f"{self.server.name} answers {fitted.target} with {got}, not {due}")
            self.proven[fitted] = fitted.record(found)
        return self.proven[fitted]


@contextlib.contextmanager
def asking(server: Server, root: Path) -> Iterator[Asking]:
    """Ask a server that serves `root`."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=ANSWER_TIMEOUT_S)
    with contextlib.closing(connection):
        yield Asking(server, root, connection)
