"""What the tests of servlets share: a folder of them, a client that reads chunks, and how a servlet and its test meet.

A server of a test runs in the test's own process. So a servlet may import this module, and wait for what the test sets
in `EVENTS`, or write into `JOURNAL` what happened to it. Both are empty when a folder is written.
"""

from __future__ import annotations

import re
import textwrap
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from tests.support.client import Client, Response
from zcserve import Server

# How long a servlet waits for its test: longer than a test waits for anything.
WAIT_S = 30.0


class Events(dict[str, threading.Event]):
    """By name; each is made when it is first asked for. Two threads that ask at once get the same one, which a
    `defaultdict` does not promise: one would wait for an event that is never set."""

    def __missing__(self, name: str) -> threading.Event:
        return self.setdefault(name, threading.Event())


EVENTS = Events()
JOURNAL: list[str] = []

IMPORTS = """
import asyncio, itertools, sys, threading, time
from zcserve import HttpError, Request, Response, servlet
from tests.support.stage import EVENTS, JOURNAL, WAIT_S
"""


def wait_for(name: str) -> None:
    """In a servlet that may block: until the test sets the event."""
    assert EVENTS[name].wait(WAIT_S), name


def write_servlet(folder: Path, name: str, source: str) -> Path:
    """Write NAME.py, with the imports that all need."""
    file = folder / f"{name}.py"
    file.write_text(IMPORTS + textwrap.dedent(source))
    return file


def write_servlets(parent: Path, **sources: str) -> Path:
    """A folder of servlets by name; nothing has happened yet."""
    EVENTS.clear()
    JOURNAL.clear()
    folder = parent / "servlets"
    folder.mkdir(exist_ok=True)
    for name, source in sources.items():
        write_servlet(folder, name, source)
    return folder


EDIT = b"POST /csp?edit HTTP/1.1\r\nHost: test\r\nContent-Length: 0\r\n\r\n"


def write_editor(folder: Path, **sources: str) -> None:
    """Write edit.py: each `EDIT` writes these servlets by name, with 0, 1, 2 and so on for TEXT, and is answered with
    the number."""
    write_servlet(
        folder,
        "edit",
        f"""
        from pathlib import Path
        from tests.support.stage import write_servlet

        number = itertools.count()

        def post(request):
            text = str(next(number))
            for name, source in {sources!r}.items():
                write_servlet(Path({str(folder)!r}), name, source.replace("TEXT", text))
            return text
        """,
    )


class StageClient(Client):
    """Reads what files are never sent as, too: chunks (RFC 9112 section 7.1), strictly in the server's own spelling."""

    def read(self, *, method: str = "GET") -> Response:
        """As `Client.read`; the body is what the chunks hold."""
        head = self.read_head()
        if b"\r\nTransfer-Encoding: " not in head:
            self.buffer = head + b"\r\n\r\n" + self.buffer
            return super().read(method=method)
        lines = head.split(b"\r\n")
        match = re.fullmatch(rb"HTTP/1\.1 ([2-5]\d\d) [ -~]*", lines[0])
        assert match is not None, f"not a status line: {lines[0]!r}"
        fields = [(name.lower(), value) for name, _, value in (line.partition(b": ") for line in lines[1:])]
        assert [value for name, value in fields if name == b"transfer-encoding"] == [b"chunked"]
        assert not [value for name, value in fields if name == b"content-length"]
        body = b"" if method == "HEAD" else b"".join(iter(self.read_chunk, b""))
        return Response(int(match[1]), fields, body, head)

    def read_chunk(self) -> bytes:
        """The next chunk's data, b"" for the last one, which has no trailers. Raises EOFError when nothing comes."""
        line = self.read_until(b"\r\n")
        assert re.fullmatch(rb"[1-9a-f][0-9a-f]*|0", line), f"not a chunk's size: {line!r}"
        data = self.read_exactly(int(line, 16) + 2)
        assert data.endswith(b"\r\n")
        return data[:-2]

    def ask(self, target: str, *lines: str, method: str = "GET", body: bytes = b"", version: str = "1.1") -> None:
        """Send a request, and leave its answer for `read`."""
        length = [f"Content-Length: {len(body)}"] if body or method in ("POST", "PUT", "PATCH") else []
        head = [f"{method} {target} HTTP/{version}", "Host: test", *lines, *length, "", ""]
        self.send("\r\n".join(head).encode("latin-1") + body)


# A fixture that makes an application importable, and tells its name.
NameApplication = Callable[[Any], str]


class Mounted(Protocol):
    """A fixture that starts a server with an application mounted: `config` is what `Config` takes besides."""

    def __call__(self, application: Any, **config: Any) -> Server: ...


class ConnectTo(Protocol):
    """A fixture that makes clients of a server; `more` is for `Client`."""

    def __call__(self, server: Server, **more: Any) -> StageClient: ...


def asked(
    client: StageClient, target: str, *lines: str, method: str = "GET", body: bytes = b"", version: str = "1.1"
) -> Response:
    """A request and its answer."""
    client.ask(target, *lines, method=method, body=body, version=version)
    return client.read(method=method)


def form(client: StageClient, target: str, content: bytes) -> Response:
    """The answer to an HTML form that is sent with POST."""
    return asked(client, target, "Content-Type: application/x-www-form-urlencoded", method="POST", body=content)
