"""A WSGI application as a resource (PEP 3333), run by the pool's threads.

The application is called, and asked for its first piece, before anything is promised: what it raises until then is a
500. A response that is all there by then leaves as bytes; the rest of any other is a `PoolStream`, so that a slow
client holds no thread. Who uses `write()` does hold one, since it returns only when its piece is out.

One request may so be served by several threads, one after the other. They share one `contextvars` context, in which
Flask keeps what it knows of a request; an application that keeps such things in `threading.local` must not stream.

What both kinds of mounted applications need stands here, too: what a head says (`Asked`), the part of a response that
an application promises before its content (`Promised`), and content that is pushed rather than pulled (`Pushed`).
"""

from __future__ import annotations

import io
import logging
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from contextvars import Context as Variables
from functools import partial
from types import TracebackType
from typing import Any, NamedTuple, TypeAlias
from urllib.parse import unquote_to_bytes

from zcserve.http import canonical_path
from zcserve.net.exchange import Answer, Exchange, Give, Made, Piece
from zcserve.net.request import split_target
from zcserve.servlets.context import Context, busy
from zcserve.servlets.files import Part, segments
from zcserve.servlets.response import encode_fields
from zcserve.servlets.streams import Begun, CallSoon, PoolStream
from zcserve.servlets.workers import BusyError

_log = logging.getLogger(__name__)

# Responses that have no content, and the Content-Length that says so (RFC 9110 sections 15.3.5, 15.3.6, 15.4.5).
WITHOUT_CONTENT: dict[int, int | None] = {204: None, 205: 0, 304: None}

# These the server gives itself.
OUR_OWN = frozenset(("date", "server"))

ExcInfo: TypeAlias = tuple[type[BaseException], BaseException, TracebackType]
WsgiApplication: TypeAlias = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


# --- what is asked ----------------------------------------------------------------------------------------


class Asked:
    """What a mounted application is told about a request.

    path     decoded from the canonical path, so that it is what the mount was found by; `prefix` is its beginning
    raw_path, query   as sent, without the question mark
    lines    (name, value) as sent, in order
    peer, own   host and port of the connection's ends; None for a unix socket, or when the client is gone already
    """

    __slots__ = ("exchange", "lines", "own", "path", "peer", "prefix", "query", "raw_path", "version")

    def __init__(self, prefix: bytes, exchange: Exchange) -> None:
        """In the loop's thread."""
        self.exchange = exchange
        raw_path, query = split_target(exchange.target)
        self.raw_path = raw_path
        self.query = query or b""
        self.path = unquote_to_bytes(canonical_path(raw_path))
        self.prefix = unquote_to_bytes(prefix)
        request_line, *lines = exchange.head.split(b"\r\n")
        self.version = request_line.rpartition(b" ")[2].decode("latin-1")
        self.lines = [_split_line(line) for line in lines if line]
        try:
            peer, own = exchange.addresses()
        except OSError:  # the client is gone
            peer = own = None
        self.peer = _host_and_port(peer)
        self.own = _host_and_port(own)


def _split_line(line: bytes) -> tuple[bytes, bytes]:
    name, _, value = line.partition(b":")
    return name, value.strip(b" \t")


def _host_and_port(address: object) -> tuple[str, int] | None:
    match address:
        case (str(host), int(port), *_):
            return host.removeprefix("::ffff:"), port
        case _:
            return None


# --- what is promised -------------------------------------------------------------------------------------


class Promised(NamedTuple):
    """The beginning of a response: status, header lines, and the Content-Length that it named, if it did."""

    status: int
    fields: bytes
    length: int | None

    def has_content(self, method: bytes) -> bool:
        """Whether content is sent (RFC 9110 section 6.4.1)."""
        return method != b"HEAD" and self.status not in WITHOUT_CONTENT

    def without_content(self, size: int) -> Answer:
        """The answer where none is. `size` is that of the content that there would be, 0 where nobody knows: a HEAD
        tells it (section 9.3.2)."""
        length = WITHOUT_CONTENT.get(self.status, size or None if self.length is None else self.length)
        return Answer(self.status, self.fields, (), length)


def promise(status: int, pairs: Iterable[tuple[str, str]]) -> Promised:
    """Check what an application says before its content. Raises ValueError, for fields that frame the message, too."""
    if not 200 <= status <= 599:
        raise ValueError(f"a response's status must be from 200 to 599, not {status}")
    kept: list[tuple[str, str]] = []
    length: int | None = None
    for name, value in pairs:
        lower = name.lower()
        if lower == "content-length":
            if not (value.isascii() and value.isdigit()) or length not in (None, int(value)):
                raise ValueError(f"{value!r} is not a Content-Length, or not the only one")
            length = int(value)
        elif lower not in OUR_OWN:
            kept.append((name, value))
    return Promised(status, encode_fields(kept), length)


class ClientGoneError(ConnectionAbortedError):
    """Nobody takes what an application still has to say. To raise it further is no failure."""


class Pushed:
    """A stream whose maker says when there is a piece, and is told when it is out, so that it does not run ahead.

    Everything happens in the loop's thread, but for the call of `put`. `closed` hears that nobody wants more, after the
    end, too.
    """

    def __init__(self, call_soon: CallSoon, closed: Callable[[], object] = lambda: None) -> None:
        self._call_soon = call_soon
        self._tell_closed = closed
        self._give: Give | None = None
        self._waiting: deque[tuple[Piece | None, Future[bool]]] = deque()
        self._leaving: Future[bool] | None = None  # of the piece that is being sent
        self._closed = False

    def put(self, piece: Piece | None) -> Future[bool]:
        """Send `piece`; b"" ends the content, None cuts it short.

        The future is True when the piece is out, and False when nobody wants it, or any after it.
        """
        future: Future[bool] = Future()
        future.set_running_or_notify_cancel()  # whoever waits may give up, but not cancel it
        self._call_soon(partial(self._arrive, piece, future))
        return future

    def _arrive(self, piece: Piece | None, future: Future[bool]) -> None:
        if self._closed:
            future.set_result(False)
            return
        self._waiting.append((piece, future))
        self._hand_on()

    def pull(self, give: Give) -> None:
        """As `Stream.pull`."""
        if self._leaving is not None:
            self._leaving.set_result(True)
            self._leaving = None
        self._give = give
        self._hand_on()

    def _hand_on(self) -> None:
        if self._give is not None and self._waiting:
            give, self._give = self._give, None
            piece, self._leaving = self._waiting.popleft()
            give(piece)

    def close(self) -> None:
        """As `Stream.close`."""
        self._closed = True
        if self._leaving is not None:
            self._leaving.set_result(False)
            self._leaving = None
        for _, future in self._waiting:
            future.set_result(False)
        self._waiting.clear()
        self._tell_closed()


# --- the resource -----------------------------------------------------------------------------------------


class Wsgi:
    """A WSGI application below `prefix` (canonical, no slash at its end); `name` is for the log."""

    def __init__(self, prefix: bytes, name: str, application: WsgiApplication, context: Context) -> None:
        self.prefix = prefix
        self.name = name
        self.application = application
        self.context = context
        self.body_bytes_max = context.config.servlet_body_bytes_max
        self.quick = False

    def start(self) -> None:
        """Nothing: PEP 3333 has no start."""

    def close(self) -> None:
        """Nothing: nor an end."""

    def respond(self, exchange: Exchange) -> Made | None:
        """As `Resource.respond`."""
        call = _Call(self, Asked(self.prefix, exchange))
        exchange.abandoned = call.abandon
        try:
            self.context.pool.submit(call.run)
        except BusyError:
            exchange.abandoned = None
            return busy()
        return None


class _Call:
    """One request, in the pool: the application's call, and what came of it."""

    def __init__(self, wsgi: Wsgi, asked: Asked) -> None:
        self._wsgi = wsgi
        self._context = wsgi.context
        self._asked = asked
        self._exchange = asked.exchange
        self._variables = Variables()
        self._abandoned = False
        self._promised: Promised | None = None
        self._answered = False  # what was promised cannot be taken back
        self._written: Pushed | None = None
        self._left: int | None = None  # bytes that were promised and not given yet
        self._result: Iterable[bytes] = ()
        self._iterator: Iterator[bytes] | None = None

    def abandon(self) -> None:
        """The client is gone: who has not begun need not."""
        self._abandoned = True

    def run(self) -> None:
        """In a thread."""
        if self._abandoned:
            return
        made = self._variables.run(self._make)
        if isinstance(made, Answer):
            self._exchange.finish(made)
            if isinstance(made.content, Begun):
                return  # which closes it
        self._variables.run(self._close)

    def _make(self) -> Answer | None:
        """Call the application; None where its answer is on its way already."""
        try:
            self._result = self._wsgi.application(self._environ(), self._start_response)
            if self._written is None:
                return self._answer()
            self._write_rest()
        except ClientGoneError:
            pass
        except BaseException as error:  # SystemExit, too: it is the request that ends
            return self._failed(error)
        return None

    def _failed(self, error: BaseException) -> Answer | None:
        if not self._answered:
            return self._context.fail(self._wsgi.name, self._exchange, error)
        self._cut_short(error)
        if self._written is not None:
            self._written.put(None)
        return None

    def _cut_short(self, error: BaseException) -> None:
        self._context.cut_short(self._wsgi.name, self._exchange, error)

    def _close(self) -> None:
        try:
            if (close := getattr(self._result, "close", None)) is not None:
                close()
        except BaseException:
            _log.exception("%s: close() of a response's content failed", self._wsgi.name)

    # --- the answer ---------------------------------------------------------------------------------------

    def _answer(self) -> Answer | None:
        """What the application returned, as far as it can be known now. Raises what the application raises."""
        result, promised = self._result, self._promised
        if isinstance(result, FileWrapper) and promised is not None and promised.has_content(self._exchange.method):
            part = result.part()
            if part is not None:
                self._send_part(promised, part)
                return None
        pieces = (b"".join(result),) if isinstance(result, (list, tuple)) else result
        self._iterator = iter(pieces)
        first = _first(self._iterator)
        promised = self._promised  # until its first piece it may change its mind
        if promised is None:
            raise AssertionError("the application returned without having called start_response")
        if not promised.has_content(self._exchange.method):
            return promised.without_content(len(first) if isinstance(pieces, tuple) else 0)
        self._left = promised.length
        self._take(first)
        if not first or self._left == 0 or isinstance(pieces, tuple):
            self._check_complete()
            return Answer(promised.status, promised.fields, first)
        self._answered = True
        rest = PoolStream(_Pieces(self), self._context.pool, self._context.call_soon, self._cut_short)
        return Answer(promised.status, promised.fields, Begun(first, rest), promised.length)

    def _take(self, piece: bytes) -> None:
        """Count a piece against the Content-Length. Raises ValueError."""
        if self._left is not None:
            self._left -= len(piece)
            if self._left < 0:
                raise ValueError("more content than the Content-Length says")

    def _check_complete(self) -> None:
        if self._left:
            raise ValueError(f"{self._left} bytes less than the Content-Length says")

    def next_piece(self) -> bytes:
        """The next piece of a response whose first is out. Raises StopIteration, or what the application raises."""
        return self._variables.run(self._next)

    def _next(self) -> bytes:
        if self._left == 0 or self._iterator is None:
            raise StopIteration  # enough: PEP 3333, "Handling the Content-Length Header"
        try:
            piece = _checked(next(self._iterator))
        except StopIteration:
            self._check_complete()
            raise
        self._take(piece)
        return piece

    def close(self) -> None:
        """The stream has ended, however that was."""
        self._variables.run(self._close)

    def _send_part(self, promised: Promised, part: Part) -> None:
        """A file, without a copy, from its position to its end or as far as was promised."""
        if promised.length is not None:
            if promised.length > part.length:
                raise ValueError("the file is shorter than the Content-Length says")
            part.cut(promised.length)
        self._answered = True
        self._context.call_soon(partial(self._finish_part, promised, part))

    def _finish_part(self, promised: Promised, part: Part) -> None:
        """In the loop's thread."""
        content, body = segments(self._context.generation(), part, self._context.turn())
        self._exchange.finish(Answer(promised.status, promised.fields, content, part.length, body))

    # --- start_response and write -------------------------------------------------------------------------

    def _start_response(
        self, status: str, headers: list[tuple[str, str]], exc_info: ExcInfo | None = None
    ) -> Callable[[bytes], None]:
        """PEP 3333, "The start_response() Callable"."""
        if exc_info is not None:
            try:
                if self._answered:
                    raise exc_info[1].with_traceback(exc_info[2])
            finally:
                exc_info = None  # a traceback that holds its own frame is garbage for the collector
        elif self._promised is not None:
            raise AssertionError("start_response was called again, and without exc_info")
        if not (status[:3].isascii() and status[:3].isdigit() and status[3:4] in ("", " ")):
            raise ValueError(f"{status!r} is not a status, such as '200 OK'")
        self._promised = promise(int(status[:3]), headers)
        return self._write

    def _write(self, data: bytes) -> None:
        """Send `data`, and wait until it is out. Raises ClientGoneError."""
        if self._promised is None:
            raise AssertionError("write() was called before start_response")
        if self._iterator is not None:
            raise AssertionError("write() was called by the content that was returned, which PEP 3333 forbids")
        if not _checked(data):
            return
        if self._written is None:
            self._left = self._promised.length
            self._take(data)
            self._answered = True
            self._written = Pushed(self._context.call_soon)
            status, fields, length = self._promised
            self._exchange.finish(Answer(status, fields, self._written, length))
        else:
            self._take(data)
        if not self._written.put(data).result() and self._left != 0:
            raise ClientGoneError("the client does not read any more")

    def _write_rest(self) -> None:
        """What the application returned after it had written."""
        assert self._written is not None
        for piece in self._result:
            self._write(piece)
        self._check_complete()
        self._written.put(b"")

    # --- environ ------------------------------------------------------------------------------------------

    def _environ(self) -> dict[str, Any]:
        """PEP 3333, "environ Variables"; text is latin-1 of the bytes ("A Note On String Types")."""
        asked, exchange = self._asked, self._exchange
        host, port = asked.own or ("localhost", 80)
        environ: dict[str, Any] = {
            "REQUEST_METHOD": exchange.method.decode("latin-1"),
            "SCRIPT_NAME": asked.prefix.decode("latin-1"),
            "PATH_INFO": asked.path[len(asked.prefix) :].decode("latin-1"),
            "QUERY_STRING": asked.query.decode("latin-1"),
            "REQUEST_URI": exchange.target.decode("latin-1"),
            "SERVER_NAME": host,
            "SERVER_PORT": str(port),
            "SERVER_PROTOCOL": asked.version,
            "REMOTE_ADDR": exchange.client if asked.peer else "",
            "wsgi.version": (1, 0),
            "wsgi.url_scheme": "http",
            "wsgi.input": io.BytesIO(exchange.body),
            "wsgi.errors": _ErrorLog(self._wsgi.name),
            "wsgi.multithread": True,
            "wsgi.multiprocess": False,
            "wsgi.run_once": False,
            "wsgi.file_wrapper": FileWrapper,
        }
        if asked.peer:
            environ["REMOTE_PORT"] = str(asked.peer[1])
        for name, value in asked.lines:
            _add_line(environ, name, value.decode("latin-1"), len(exchange.body))
        return environ


def _add_line(environ: dict[str, Any], name: bytes, value: str, body_bytes: int) -> None:
    """A header line as a variable (RFC 3875 section 4.1.18)."""
    if b"_" in name:
        return  # or it would pass for the same name with a dash, which a proxy in front may vouch for
    key = name.decode("latin-1").upper().replace("-", "_")
    if key in ("CONTENT_LENGTH", "TRANSFER_ENCODING"):
        environ["CONTENT_LENGTH"] = str(body_bytes)  # it was read, and is not chunked any more
        return
    if key != "CONTENT_TYPE":
        key = f"HTTP_{key}"
    if key in environ:
        value = f"{environ[key]}{'; ' if key == 'HTTP_COOKIE' else ', '}{value}"
    environ[key] = value


def _first(iterator: Iterator[bytes]) -> bytes:
    """The first piece that is not empty; b"" at the end."""
    for piece in iterator:
        if _checked(piece):
            return piece
    return b""


def _checked(piece: bytes) -> bytes:
    if not isinstance(piece, bytes):
        raise TypeError(f"a WSGI application's content must be bytes, not {type(piece).__name__}")
    return piece


class _Pieces:
    """What an application still has to yield, as the iterator of a `PoolStream`."""

    def __init__(self, call: _Call) -> None:
        self._call = call

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        return self._call.next_piece()

    def close(self) -> None:
        self._call.close()


class _ErrorLog(io.TextIOBase):
    """`wsgi.errors`: each line an ERROR in the log."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._begun = ""

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        *lines, self._begun = (self._begun + text).split("\n")
        for line in lines:
            _log.error("%s: %s", self._name, line)
        return len(text)

    def flush(self) -> None:
        if self._begun:
            self.write("\n")


class FileWrapper:
    """`wsgi.file_wrapper` (PEP 3333, "Optional Platform-Specific File Handling"): an iterator over a file's blocks,
    which is sent without a copy where the application returns it as it is and a regular file stands behind it."""

    def __init__(self, filelike: Any, block_size: int = 8192) -> None:
        self._filelike = filelike
        self._block_size = block_size

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        block: bytes = self._filelike.read(self._block_size)
        if not block:
            raise StopIteration
        return block

    def part(self) -> Part | None:
        """The rest of the file, from its position; None where it can only be read."""
        if not _is_its_descriptor(self._filelike):
            return None
        try:
            return Part.of_descriptor(self._filelike)
        except (AttributeError, TypeError, OSError, ValueError):
            return None

    def close(self) -> None:
        """Close the file, if that can be closed."""
        if (close := getattr(self._filelike, "close", None)) is not None:
            close()


def _is_its_descriptor(file: Any) -> bool:
    """Whether reading `file` gives what its descriptor does: not so for gzip.GzipFile and text, which have one, too."""
    if isinstance(file, (io.BufferedReader, io.BufferedRandom)):
        file = file.raw
    return isinstance(file, io.FileIO) or not isinstance(file, io.IOBase)
