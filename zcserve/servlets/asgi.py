"""An ASGI application as a resource: the http scope and lifespan (asgi.readthedocs.io), in the asyncio thread.

An application pushes: `send` returns when its piece is out, so that nothing piles up here. When the client is gone,
`send` raises `ClientGoneError` (an OSError, as version 2.4 of the HTTP message format has it) and `receive` says
"http.disconnect"; what the application then raises is no failure.

The extensions http.response.pathsend and http.response.zerocopysend lead to files.py.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator
from concurrent.futures import Future
from math import inf
from typing import Any, TypeAlias

from zcserve.errors import UsageError
from zcserve.log import Block, Log
from zcserve.servlets.context import Context
from zcserve.servlets.files import Part
from zcserve.servlets.gateway import ClientGoneError, GatewayRequest, LeftOut, Promised, Pushed, promise
from zcserve.servlets.gateways import WrongGatewayError, call_asgi
from zcserve.servlets.outcomes import Call
from zcserve.servlets.streams import let_others_go_on
from zcserve.site.exchange import Answer, Exchange
from zcserve.site.reply import Reply, unavailable

_log = Log(__name__)

Scope: TypeAlias = dict[str, Any]
Message: TypeAlias = dict[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
AsgiApplication: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]

VERSIONS = {"version": "3.0", "spec_version": "2.4"}
LIFESPAN_VERSIONS = {"version": "3.0", "spec_version": "2.0"}

# Messages that are thrown away because the answer has no content, before the application is told that nothing listens:
# one that streams without end would do so for ever.
DISCARDED_MAX = 64
# What an application gets to end in; more, and it is cancelled.
SHUTDOWN_WITHIN_S = 5.0
# The time that one has to end in that said it could not start. One that waits for more messages never would.
FAILED_WITHIN_S = 1.0


class Asgi:
    """An ASGI application below `prefix` (canonical, no slash at its end); `name` is for the log."""

    def __init__(self, prefix: bytes, name: str, application: AsgiApplication, context: Context) -> None:
        self.prefix = prefix
        self.name = name
        self.application = application
        self.context = context
        self.body_bytes_max = context.config.servlet_body_bytes_max
        self.left_out = LeftOut(name)
        self.lifespan = Lifespan(application, name)
        self.calls: set[Future[None]] = set()  # that have not returned

    def start(self) -> None:
        """Tell the application that the server starts, and wait until it is ready. Raises UsageError if it says no."""
        self.lifespan.begin(self.context)

    def begin_to_end(self) -> None:
        """Tell the application that the server has ended. `close` waits for it."""
        self.lifespan.tell_end(self.context)

    def close(self, until: float = inf) -> None:
        """Tell the application that the server has ended, and wait for `SHUTDOWN_WITHIN_S` at most, or until then."""
        self.lifespan.end(self.context, until)

    def respond(self, exchange: Exchange) -> Answer | None:
        """As `Resource.respond`."""
        call = _Call(self, GatewayRequest(self.prefix, exchange))
        exchange.abandoned = call.lose
        running = self.context.tasks.start(call.run())
        self.calls.add(running)
        running.add_done_callback(self.calls.discard)
        return None

    def scope(self, request: GatewayRequest) -> Scope:
        """What the application is told (HTTP connection scope, version 2.4)."""
        scope: Scope = {
            "type": "http",
            "asgi": VERSIONS,
            "http_version": request.version.removeprefix("HTTP/"),
            "method": request.exchange.method.decode("latin-1"),
            "scheme": request.scheme,
            "path": (request.prefix + request.path).decode(errors="replace"),
            "raw_path": request.raw_path,
            "query_string": request.query,
            "root_path": request.prefix.decode(errors="replace"),
            "headers": [(name.lower(), value) for name, value in request.lines],
            "client": request.peer,
            "server": request.own,
            "extensions": {"http.response.pathsend": {}, "http.response.zerocopysend": {}},
        }
        if request.exchange.original is not None:
            scope["extensions"]["zcserve.original_target"] = {"target": request.exchange.original}
        if request.exchange.user:  # not scope["user"]: Channels and Starlette keep an object of theirs there
            scope["extensions"]["zcserve.auth"] = {"type": "Basic", "user": request.exchange.user.decode()}
        if self.lifespan.running:
            scope["state"] = self.lifespan.state.copy()
        return scope


class _Call:
    """One request, in the asyncio thread: a `receive`, a `send`, and what came of them."""

    def __init__(self, asgi: Asgi, request: GatewayRequest) -> None:
        self._asgi = asgi
        self._context = asgi.context
        self._request = request
        self._exchange = request.exchange
        self._call = Call(asgi.context.outcomes)
        self._received = False
        self._promised: Promised | None = None
        self._answered = False
        self._complete = False
        self._lost = False  # the client is gone
        self._over = asyncio.Event()  # complete or lost
        self._pushed: Pushed | None = None
        self._discarded = 0
        self._empty = 0  # messages in a row that said nothing

    async def run(self) -> None:
        """The application's whole task. Never raises but when cancelled: SystemExit would end the thread of all."""
        try:
            await call_asgi(self._asgi.application, self._asgi.scope(self._request), self._receive, self._send)
            if not self._complete and not self._lost:
                raise RuntimeError("the application returned before its response was complete")
        except asyncio.CancelledError:
            _log.warning("%s was cancelled", self._asgi.name)
            self._give_up(unavailable())
            raise
        except BaseException as error:
            self._fail(error)
        finally:
            self._call.end()  # also where the client is gone, and nothing was said
            self._over.set()

    def _fail(self, error: BaseException) -> None:
        if self._complete:
            _log.error("%s failed when its response was complete:", self._asgi.name, exc_info=error)
        elif self._lost:
            _log.debug("%s ended when its client was gone: %s", self._asgi.name, repr(error))
        elif self._answered:
            self._context.cut_short(self._asgi.name, self._exchange, error)
            self._give_up(None)
        else:
            self._give_up(self._context.fail(self._asgi.name, self._exchange, error))

    def _give_up(self, answer: Reply | None) -> None:
        """Answer so, or if the head is out already, cut the content short."""
        if not self._answered and answer is not None:
            self._finish_with(answer)
        elif self._pushed is not None and not self._complete:
            self._pushed.put(None)

    def lose(self) -> None:
        """The client is gone. In the loop's thread."""
        with contextlib.suppress(RuntimeError):  # the asyncio loop is closed: there is no application to be told
            self._context.tasks.loop.call_soon_threadsafe(self._on_lost)

    def _on_lost(self) -> None:
        self._lost = True
        self._over.set()

    async def _receive(self) -> Message:
        """The request, which is complete; then nothing until the response is, or the client is gone."""
        if not self._received:
            self._received = True
            return {"type": "http.request", "body": self._exchange.body, "more_body": False}
        await self._over.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Message) -> None:
        """Raises ClientGoneError; RuntimeError, ValueError, TypeError, OSError for what cannot be sent."""
        if self._complete:
            self._empty += 1
            await let_others_go_on(self._empty)
            return  # ignored, as the specification says
        if self._lost and self._is_incomplete():
            raise ClientGoneError("the client is gone")
        kind = message["type"]
        if kind == "http.response.start":
            if self._promised is not None:
                raise RuntimeError("http.response.start was sent twice")
            pairs = _pairs(message.get("headers", ()))
            self._promised = promise(self._exchange, int(message["status"]), pairs, self._asgi.left_out)
            return
        if self._promised is None:
            raise RuntimeError(f"{kind} was sent before http.response.start")
        if kind == "http.response.body":
            content = message.get("body", b"")
            if not isinstance(content, bytes):
                content = bytes(memoryview(content))
            await self._give(content, bool(message.get("more_body", False)))
        elif kind == "http.response.zerocopysend":
            part = Part.of_descriptor(message["file"], message.get("offset"), message.get("count"))
            await self._give(part, bool(message.get("more_body", False)))
        elif kind == "http.response.pathsend":
            if self._answered:
                raise RuntimeError("http.response.pathsend cannot be mixed with http.response.body")
            await self._give(Part.of_path(message["path"]), False)
        else:
            raise RuntimeError(f"{kind!r} is no message of a response")

    # --- what was said, to the connection -----------------------------------------------------------------

    async def _give(self, content: bytes | Part, more: bool) -> None:
        """Send a piece of content, and the head before the first."""
        promised = self._promised
        assert promised is not None
        if not promised.has_content:
            self._discard(promised, 0 if more else len(content), more)
            return
        promised.take(len(content), last=not more)
        if not self._answered and not more:
            self._finish(promised, content)
            return
        if self._pushed is None:
            self._answered = True
            self._pushed = Pushed(self._context.call_soon, self.lose)
            self._finish_with(promised.reply(self._pushed))
        if len(content):
            self._empty = 0
            await self._push(self._pushed, content)
        elif more:
            self._empty += 1
            await let_others_go_on(self._empty)
        if not more:
            self._end()
            self._pushed.put(b"")

    def _end(self) -> None:
        self._answered = self._complete = True
        self._over.set()

    def _is_incomplete(self) -> bool:
        """Whether content is still to come: behind a length that was promised nothing is waited for."""
        return self._promised is None or self._promised.left != 0

    def _finish_with(self, reply: Reply) -> None:
        """The outcome is known."""
        self._call.end()
        self._exchange.finish(reply)

    def _finish(self, promised: Promised, content: bytes | Part) -> None:
        """The whole content at once."""
        self._end()
        if isinstance(content, bytes):
            self._finish_with(promised.reply(content))
        else:
            self._call.end()
            self._context.call_soon(lambda: self._exchange.finish(promised.reply_with(content, self._context)))

    async def _push(self, pushed: Pushed, content: bytes | Part) -> None:
        """Wait until a piece is out. Raises ClientGoneError."""
        out = pushed.put(content if isinstance(content, bytes) else content.span())
        if not await asyncio.wrap_future(out) and self._is_incomplete():
            self._on_lost()
            raise ClientGoneError("the client is gone")

    def _discard(self, promised: Promised, size: int, more: bool) -> None:
        """A response without content: only its head is sent. Raises ClientGoneError when it does not end."""
        if not self._answered:
            self._answered = True
            self._finish_with(promised.without_content(size))
        self._discarded += 1
        if not more:
            self._end()
        elif self._discarded > DISCARDED_MAX:
            self._on_lost()
            raise ClientGoneError("the response has no content, and its end is not waited for")


def _pairs(headers: Iterable[tuple[bytes, bytes]]) -> Iterator[tuple[str, str]]:
    """Fields as text."""
    return ((bytes(name).decode("latin-1"), bytes(value).decode("latin-1")) for name, value in headers)


# --- lifespan ---------------------------------------------------------------------------------------------


class Lifespan:
    """The application's life between the server's start and end (lifespan protocol, version 2.0).

    `running` tells that it takes part: one that raises or returns before it is ready does not, and is served without.
    """

    def __init__(self, application: AsgiApplication, name: str) -> None:
        self._application = application
        self._name = name
        self.running = False
        self.state: dict[str, Any] = {}
        self._task: Future[None] | None = None
        self._messages: asyncio.Queue[Message] = asyncio.Queue()
        self._started: Future[str] = Future()  # "" or why not
        self._ended: Future[None] = Future()
        self._told = False  # that it is to end

    def begin(self, context: Context) -> None:
        """Raises UsageError. Waits as long as the application takes."""
        self._messages.put_nowait({"type": "lifespan.startup"})
        self._task = context.tasks.start(self._run())
        if trouble := self._started.result().strip():
            _log.error("%s could not start: %s", self._name, Block(trouble))
            self._leave(FAILED_WITHIN_S)
            raise UsageError(f"{self._name} could not start: {trouble.splitlines()[-1]}")  # often a whole traceback

    def tell_end(self, context: Context) -> None:
        """The application has nothing to do any more. Once."""
        if self.running and not self._told and not self._ended.done():
            self._told = True
            context.tasks.loop.call_soon_threadsafe(self._messages.put_nowait, {"type": "lifespan.shutdown"})

    def end(self, context: Context, until: float) -> None:
        """Blocks for `SHUTDOWN_WITHIN_S` at most, and no longer than until then."""
        self.tell_end(context)
        if not self._told or self._task is None:
            return
        if not self._leave(max(min(until - time.monotonic(), SHUTDOWN_WITHIN_S), 0)):
            _log.warning("%s did not end within the %g s that all have", self._name, SHUTDOWN_WITHIN_S)

    def _leave(self, within_s: float) -> bool:
        """Wait until it has ended; whether it has, within this time. Else it is cancelled."""
        assert self._task is not None
        try:
            self._ended.result(within_s)
        except TimeoutError:
            self._task.cancel()
            return False
        return True

    async def _run(self) -> None:
        scope = {"type": "lifespan", "asgi": LIFESPAN_VERSIONS, "state": self.state}
        try:
            await call_asgi(self._application, scope, self._messages.get, self._send)
        except asyncio.CancelledError:
            raise
        except WrongGatewayError as error:
            _settle(self._started, error.reason)
        except BaseException as error:
            if self.running:
                _log.error("%s failed in its lifespan:", self._name, exc_info=error)
            else:
                _log.debug("%s takes no part in lifespan: %s", self._name, repr(error))
        finally:
            _settle(self._started, "")
            _settle(self._ended, None)

    async def _send(self, message: Message) -> None:
        kind = message["type"]
        said = str(message.get("message", "")).strip() or f"it said {kind}"
        if kind == "lifespan.startup.complete":
            self.running = not self._started.done()
            _settle(self._started, "")
        elif kind == "lifespan.startup.failed":
            _settle(self._started, said)
        elif kind in ("lifespan.shutdown.complete", "lifespan.shutdown.failed"):
            if kind.endswith("failed"):
                _log.error("%s failed at its end: %s", self._name, Block(said))
            _settle(self._ended, None)
        else:
            raise RuntimeError(f"{kind!r} is no message of a lifespan")


def _settle(future: Future[Any], result: object) -> None:
    if not future.done():
        future.set_result(result)
