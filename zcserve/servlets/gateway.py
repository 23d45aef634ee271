"""What the two kinds of mounted applications have in common, whichever way they are called (wsgi.py, asgi.py).

    GatewayRequest  what is told about a request
    Promised        what an application says before its content, checked and without framing; the content is held to it
    Pushed          content that its maker pushes, rather than the connection pulls it

Nothing here calls an application, or knows a thread.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from functools import partial
from urllib.parse import unquote_to_bytes

from zcserve.forwarded import UNIX, Origin
from zcserve.http import FieldLines, has_content
from zcserve.log import Log
from zcserve.net.request import authority
from zcserve.servlets.context import Context
from zcserve.servlets.files import Part, segments
from zcserve.servlets.response import RESERVED, checked_fields
from zcserve.servlets.streams import CallSoon
from zcserve.site.exchange import Exchange
from zcserve.site.reply import Give, Piece, Reply, Stream

_log = Log(__name__)

# These the server gives itself, so that an application's are left out without a word.
OUR_OWN = frozenset(("date", "server"))
# PEP 3333 forbids what is hop-by-hop by RFC 2616 section 13.5.1, which has these beside the connection's own fields.
HOP_BY_HOP: Mapping[str, str] = {name: why for name, why in RESERVED.items() if name not in OUR_OWN} | dict.fromkeys(
    ("proxy-authenticate", "proxy-authorization", "trailers"), "it is a proxy's"
)

# --- what is asked ----------------------------------------------------------------------------------------


class GatewayRequest:
    """What a mounted application is told about a request.

    prefix   where the application is mounted, decoded
    path     what stands behind that in the path as sent, percent-decoded once (`SentPath.behind`)
    raw_path, query   as sent, without the question mark
    lines    (name, value) as sent, in order; but the authority of a target in absolute-form stands for Host
    peer, own   host and port of the connection's ends; None for a unix socket, or when the client is gone already
    scheme      "http" or "https"

    What a trusted proxy says replaces the last three, and the Host among `lines`.
    """

    __slots__ = ("exchange", "lines", "own", "path", "peer", "prefix", "query", "raw_path", "scheme", "version")

    def __init__(self, prefix: bytes, exchange: Exchange) -> None:
        """In the loop's thread."""
        self.exchange = exchange
        self.raw_path = exchange.path.sent
        self.query = exchange.query or b""
        self.path = exchange.path.behind(prefix.count(b"/"))
        self.prefix = unquote_to_bytes(prefix)
        self.version = exchange.head.version.decode("latin-1")
        self.lines: Sequence[tuple[bytes, bytes]] = exchange.head.lines
        meant = authority(exchange.target)
        if meant is not None:
            self.lines = [(b"Host", meant), *(line for line in self.lines if line[0].lower() != b"host")]
        try:
            peer, own = exchange.addresses()
        except OSError:  # the client is gone
            peer = own = None
        self.peer = _host_and_port(peer)
        self.own = _host_and_port(own)
        self.scheme = "http"
        if exchange.origin is not None:
            self._believe(exchange.origin)

    def _believe(self, origin: Origin) -> None:
        name, port = origin.client
        self.scheme = origin.scheme or "http"
        self.own = origin.server(self.scheme) or self.own
        if name == UNIX:
            self.peer = None
        elif port is not None or self.peer is None or self.peer[0] != name:
            self.peer = name, port or 0
        if origin.host is not None:
            others = [line for line in self.lines if line[0].lower() != b"host"]
            self.lines = [(b"Host", origin.host), *others]


def _host_and_port(address: object) -> tuple[str, int] | None:
    match address:
        case (str(host), int(port), *_):
            return host.removeprefix("::ffff:"), port
        case _:
            return None


# --- what is promised -------------------------------------------------------------------------------------


class Promised:
    """The beginning of a response to an exchange, and how much of its content is still to be given.

    length       the Content-Length that the application named; None: it named none
    left         bytes of that which were not given yet
    has_content  whether content is sent
    """

    __slots__ = ("_fields", "_status", "has_content", "left", "length")

    def __init__(self, exchange: Exchange, status: int, fields: FieldLines, length: int | None) -> None:
        self._status = status
        self._fields = fields
        self.length = self.left = length
        self.has_content = has_content(exchange.method, status)

    def take(self, size: int, *, last: bool = False) -> None:
        """Count a piece of content, perhaps the last. Raises ValueError where the length that was promised is passed,
        or is not reached."""
        if self.left is None:
            return
        left = self.left - size
        if left < 0:
            raise ValueError("more content than the Content-Length says")
        if last and left:
            raise ValueError(f"{left} bytes less than the Content-Length says")
        self.left = left

    def reply(self, content: bytes | Stream) -> Reply:
        """The answer with its whole content, or with a stream that brings the length that was promised."""
        return Reply(self._status, self._fields, content, self.length)

    def reply_with(self, part: Part, context: Context) -> Reply:
        """The answer whose content is a part of a file. In the loop's thread."""
        content, body = segments(context.site, part)
        return Reply(self._status, self._fields, content, part.length, body)

    def without_content(self, size: int) -> Reply:
        """The answer where none is sent. `size` is that of the content that there would be, 0 where it is not known: a
        HEAD tells it (RFC 9110 section 9.3.2)."""
        return Reply(self._status, self._fields, (), size or None if self.length is None else self.length)


class LeftOut:
    """Fields that an application may not send and sends all the same: each is told once."""

    def __init__(self, name: str) -> None:
        """`name` is the application's, for the log."""
        self._name = name
        self._told: set[str] = set()

    def tell(self, field: str) -> None:
        """A hop-by-hop field, in lower case, is left out. Any thread."""
        if field not in self._told:
            self._told.add(field)
            why = HOP_BY_HOP.get(field, "its Connection names it").partition(":")[0]
            _log.warning("%s sends the field %s, which is left out: %s (told once)", self._name, field, why)


def _named_by_connection(pairs: Iterable[tuple[str, str]]) -> set[str]:
    """Fields that an application says are for its next hop alone (RFC 9110 section 7.6.1)."""
    values = [value for name, value in pairs if name.lower() == "connection"]
    return {option.strip(" \t").lower() for value in values for option in value.split(",")}


def promise(exchange: Exchange, status: int, pairs: Iterable[tuple[str, str]], left_out: LeftOut) -> Promised:
    """Check what an application says before its content. Which server will send it no application knows, so what is
    hop-by-hop (RFC 9110 section 7.6.1) is left out. Raises ValueError."""
    if not 200 <= status <= 599:
        raise ValueError(f"a response's status must be from 200 to 599, not {status}")
    pairs = list(pairs)
    hop_by_hop = HOP_BY_HOP.keys() | _named_by_connection(pairs)
    kept: list[tuple[str, str]] = []
    length: int | None = None
    for name, value in pairs:
        lower = name.lower()
        if lower == "content-length":
            if not (value.isascii() and value.isdigit()) or length not in (None, int(value)):
                raise ValueError(f"{value!r} is not a Content-Length, or not the only one")
            length = int(value)
        elif lower in hop_by_hop:
            left_out.tell(lower)
        elif lower not in OUR_OWN:
            kept.append((name, value))
    return Promised(exchange, status, checked_fields(kept), length)


class ClientGoneError(ConnectionAbortedError):
    """The client takes nothing more of what an application has to say. To raise it further is no failure."""


class Pushed:
    """A stream whose maker says when there is a piece, and is told when it is out, so that it does not run ahead.

    Everything happens in the loop's thread, but for the call of `put`. `closed` hears that no more is wanted, after the
    end, too; `is_closed` tells it to any thread.
    """

    def __init__(self, call_soon: CallSoon, closed: Callable[[], object] | None = None) -> None:
        self._call_soon = call_soon
        self._tell_closed = closed or _tell_nothing
        self._give: Give | None = None
        self._waiting: deque[tuple[Piece | None, Future[bool]]] = deque()
        self._leaving: Future[bool] | None = None  # of the piece that is being sent
        self.is_closed = False

    def put(self, piece: Piece | None) -> Future[bool]:
        """Send `piece`; b"" ends the content, None cuts it short.

        The future is True when the piece is out, and False when it is not wanted, nor any after it.
        """
        future: Future[bool] = Future()
        future.set_running_or_notify_cancel()  # what waits for it may give up, but not cancel it
        self._call_soon(partial(self._arrive, piece, future))
        return future

    def _arrive(self, piece: Piece | None, future: Future[bool]) -> None:
        if self.is_closed:
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
        self.is_closed = True
        self._give = None
        if self._leaving is not None:
            self._leaving.set_result(False)
            self._leaving = None
        for _, future in self._waiting:
            future.set_result(False)
        self._waiting.clear()
        tell, self._tell_closed = self._tell_closed, _tell_nothing  # its maker refers to this object
        tell()


def _tell_nothing() -> None:
    """As `closed`, where nothing is to be told."""
