"""A WSGI application as a resource (PEP 3333), run by the pool's threads.

The application is called, and asked for its first piece, before anything is promised: what it raises until then is a
500. A response that is all there by then leaves as bytes; the rest of any other is a `PoolStream`, so that a slow
client holds no thread. `write()` does hold one, since it returns only when its piece is out.

One request may so be served by several threads, one after the other. They share one `contextvars` context, in which
Flask keeps what it knows of a request; an application that keeps such things in `threading.local` must not stream.
"""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from contextvars import Context as Variables
from functools import partial
from math import inf
from types import TracebackType
from typing import Any, TypeAlias

from zcserve.log import Log
from zcserve.servlets.context import Context
from zcserve.servlets.files import Part
from zcserve.servlets.gateway import ClientGoneError, GatewayRequest, LeftOut, Promised, Pushed, promise
from zcserve.servlets.gateways import call_wsgi
from zcserve.servlets.outcomes import Call
from zcserve.servlets.streams import EMPTY_MAX, SILENT_PAUSE_S, SILENT_TURNS_MAX, Begun, PoolStream
from zcserve.servlets.workers import BusyError
from zcserve.site.exchange import Answer, Exchange
from zcserve.site.reply import Reply

_log = Log(__name__)

ExcInfo: TypeAlias = tuple[type[BaseException], BaseException, TracebackType]
WsgiApplication: TypeAlias = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


# --- the resource -----------------------------------------------------------------------------------------


class Wsgi:
    """A WSGI application below `prefix` (canonical, no slash at its end); `name` is for the log."""

    def __init__(self, prefix: bytes, name: str, application: WsgiApplication, context: Context) -> None:
        self.prefix = prefix
        self.name = name
        self.application = application
        self.context = context
        self.body_bytes_max = context.config.servlet_body_bytes_max
        self.left_out = LeftOut(name)

    def start(self) -> None:
        """Nothing: PEP 3333 has no start."""

    def begin_to_end(self) -> None:
        """Nothing: nor an end."""

    def close(self, until: float = inf) -> None:
        """Nothing."""

    def respond(self, exchange: Exchange) -> Answer | None:
        """As `Resource.respond`."""
        call = _Call(self, GatewayRequest(self.prefix, exchange))
        exchange.abandoned = call.abandon
        try:
            self.context.pool.submit(call.run)
        except BusyError as error:
            exchange.abandoned = None
            return self.context.busy(exchange, error)
        return None


class _Call:
    """One request, in the pool: the application's call, and what came of it."""

    def __init__(self, wsgi: Wsgi, request: GatewayRequest) -> None:
        self._wsgi = wsgi
        self._context = wsgi.context
        self._request = request
        self._exchange = request.exchange
        self._call = Call(wsgi.context.outcomes)
        self._variables = Variables()
        self._abandoned = False
        self._promised: Promised | None = None
        self._answered = False  # what was promised cannot be taken back
        self._written: Pushed | None = None
        self._result: Iterable[bytes] = ()
        self._pieces: Iterable[bytes] = ()
        self._silent = 0  # how often in a row the first piece was asked for and not given
        self._wrote_nothing = 0  # how often in a row
        self._iterator: Iterator[bytes] | None = None

    def abandon(self) -> None:
        """The client is gone: a call that has not begun is not made. In the loop's thread."""
        self._abandoned = True
        self._context.pool.withdraw(self.run)

    def run(self) -> None:
        """In a thread."""
        if not self._abandoned:
            self._proceed(self._make)

    def _proceed(self, step: Callable[[], Reply | None]) -> None:
        made = self._variables.run(self._attempt, step)
        if self._silent:
            self._context.call_soon(partial(self._context.again, self._silent, self._resume))
            return
        self._call.end()
        if isinstance(made, Reply):
            self._exchange.finish(made)
            if isinstance(made.content, Begun):
                return  # which closes it
        self._variables.run(self._close)

    def _resume(self) -> None:
        """The content has not begun yet: ask again, in a thread. In the loop's thread."""
        with suppress(BusyError):  # the server ends
            self._context.pool.submit(self._run_on, begun=True)

    def _run_on(self) -> None:
        self._proceed(self._begin_content)

    def _attempt(self, step: Callable[[], Reply | None]) -> Reply | None:
        try:
            return step()
        except ClientGoneError:
            self._silent = 0
        except BaseException as error:  # SystemExit, too: it is the request that ends
            self._silent = 0
            return self._failed(error)
        return None

    def _make(self) -> Reply | None:
        """Call the application; None where its answer is on its way already."""
        self._result = call_wsgi(self._wsgi.application, self._environ(), self._start_response)
        if self._written is None:
            return self._answer()
        self._write_rest()
        return None

    def _failed(self, error: BaseException) -> Reply | None:
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

    def _answer(self) -> Reply | None:
        """What the application returned, as far as it can be known now. Raises what the application raises."""
        result, promised = self._result, self._promised
        if isinstance(result, FileWrapper) and promised is not None and promised.has_content:
            part = result.part()
            if part is not None:
                self._send_part(promised, part)
                return None
        self._pieces = (b"".join(result),) if isinstance(result, (list, tuple)) else result
        self._iterator = iter(self._pieces)
        return self._begin_content()

    def _begin_content(self) -> Reply | None:
        """The answer, with its first piece; None, and `_silent`, where too many pieces were empty. Raises what the
        application raises."""
        assert self._iterator is not None
        first = self._first(self._iterator)
        if first is None:
            self._silent += 1
            return None
        self._silent = 0
        promised = self._promised  # until its first piece it may change its mind
        if promised is None:
            raise AssertionError("the application returned without having called start_response")
        is_complete = isinstance(self._pieces, tuple)
        if not promised.has_content:
            return promised.without_content(len(first) if is_complete else 0)
        promised.take(len(first), last=is_complete or not first)
        if is_complete or not first or promised.left == 0:
            return promised.reply(first)
        self._answered = True
        context = self._context
        rest = PoolStream(_Pieces(self), context.pool, context.call_soon, context.again, self._cut_short)
        return promised.reply(Begun(first, rest))

    def _is_unwanted(self) -> bool:
        """Whether the client is gone; to be asked where nothing is said, so that nothing is sent that would tell."""
        if self._written is None or self._promised is None:
            return self._abandoned
        return self._abandoned or (self._written.is_closed and self._promised.left != 0)

    def _first(self, iterator: Iterator[bytes]) -> bytes | None:
        """As `next_piece`, but for pieces of WSGI. Raises ClientGoneError."""
        for _ in range(EMPTY_MAX):
            try:
                piece = _checked(next(iterator))
            except StopIteration:
                return b""
            if piece:
                return piece
            if self._is_unwanted():
                raise ClientGoneError("the client is gone")
        return None

    def next_piece(self) -> bytes:
        """The next piece of a response whose first is out. Raises StopIteration, or what the application raises."""
        return self._variables.run(self._next)

    def _next(self) -> bytes:
        promised = self._promised
        assert promised is not None
        if promised.left == 0 or self._iterator is None:
            raise StopIteration  # enough: PEP 3333, "Handling the Content-Length Header"
        try:
            piece = _checked(next(self._iterator))
        except StopIteration:
            promised.take(0, last=True)
            raise
        promised.take(len(piece))
        return piece

    def close(self) -> None:
        """The stream has ended, however that was."""
        self._variables.run(self._close)

    def _send_part(self, promised: Promised, part: Part) -> None:
        """A file, without a copy, from its position to its end or as far as was promised."""
        if promised.length is not None:
            part.cut(promised.length)
        promised.take(part.length, last=True)
        self._answered = True
        self._context.call_soon(lambda: self._exchange.finish(promised.reply_with(part, self._context)))

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
        self._promised = promise(self._exchange, int(status[:3]), headers, self._wsgi.left_out)
        return self._write

    def _write(self, data: bytes) -> None:
        """Send `data`, and wait until it is out. Raises ClientGoneError."""
        if self._promised is None:
            raise AssertionError("write() was called before start_response")
        if self._iterator is not None:
            raise AssertionError("write() was called by the content that was returned, which PEP 3333 forbids")
        if not _checked(data):
            if self._is_unwanted():
                raise ClientGoneError("the client is gone")
            self._wrote_nothing += 1
            if self._wrote_nothing > EMPTY_MAX * SILENT_TURNS_MAX:
                time.sleep(SILENT_PAUSE_S)
            return
        self._wrote_nothing = 0
        self._promised.take(len(data))
        if self._written is None:
            self._answered = True
            self._call.end()
            self._written = Pushed(self._context.call_soon)
            self._exchange.finish(self._promised.reply(self._written))
        if not self._written.put(data).result() and self._promised.left != 0:
            raise ClientGoneError("the client does not read any more")

    def _write_rest(self) -> None:
        """What the application returned after it had written."""
        assert self._written is not None
        assert self._promised is not None
        for piece in self._result:
            self._write(piece)
        self._promised.take(0, last=True)
        self._written.put(b"")

    # --- environ ------------------------------------------------------------------------------------------

    def _environ(self) -> dict[str, Any]:
        """PEP 3333, "environ Variables"; text is latin-1 of the bytes ("A Note On String Types")."""
        request, exchange = self._request, self._exchange
        host, port = request.own or ("localhost", 80)
        environ: dict[str, Any] = {
            "REQUEST_METHOD": exchange.method.decode("latin-1"),
            "SCRIPT_NAME": request.prefix.decode("latin-1"),
            "PATH_INFO": request.path.decode("latin-1"),
            "QUERY_STRING": request.query.decode("latin-1"),
            "REQUEST_URI": (exchange.original or exchange.target).decode("latin-1"),
            "SERVER_NAME": host,
            "SERVER_PORT": str(port),
            "SERVER_PROTOCOL": request.version,
            "REMOTE_ADDR": exchange.client if request.peer else "",
            "wsgi.version": (1, 0),
            "wsgi.url_scheme": request.scheme,
            "wsgi.input": io.BytesIO(exchange.body),
            "wsgi.errors": _ErrorLog(self._wsgi.name),
            "wsgi.multithread": True,
            "wsgi.multiprocess": False,
            "wsgi.run_once": False,
            "wsgi.file_wrapper": FileWrapper,
        }
        if request.peer and request.peer[1]:  # a proxy need not tell it
            environ["REMOTE_PORT"] = str(request.peer[1])
        if exchange.user:  # RFC 3875 sections 4.1.1 and 4.1.11
            environ |= {"AUTH_TYPE": "Basic", "REMOTE_USER": exchange.user.decode("latin-1")}
        environ |= _variables(request.lines, len(exchange.body))
        return environ


def _variables(lines: Iterable[tuple[bytes, bytes]], body_bytes: int) -> dict[str, str]:
    """Header lines as variables (RFC 3875 section 4.1.18)."""
    values: dict[str, list[str]] = {}
    for name, value in lines:
        if b"_" in name:
            continue  # or it would pass for the same name with a dash, which a proxy in front may vouch for
        key = name.decode("latin-1").upper().replace("-", "_")
        if key in ("CONTENT_LENGTH", "TRANSFER_ENCODING"):
            values["CONTENT_LENGTH"] = [str(body_bytes)]  # it was read, and is not chunked any more
            continue
        values.setdefault(key if key == "CONTENT_TYPE" else f"HTTP_{key}", []).append(value.decode("latin-1"))
    return {key: ("; " if key == "HTTP_COOKIE" else ", ").join(parts) for key, parts in values.items()}


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
        self._begun: list[str] = []  # pieces of a line

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        first, *more = text.split("\n")
        self._begun.append(first)
        for line in more:
            _log.error("%s: %s", self._name, "".join(self._begun))
            self._begun = [line]
        return len(text)

    def flush(self) -> None:
        if any(self._begun):
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
