"""What a connection and an application say to each other.

An *application* answers what no file does (zcserve/servlets). The connection finds the *resource* that a target names,
reads the request's body, and asks the resource to `respond` to an `Exchange`. The answer is

- `Answer`: status, fields, and content: bytes, segments (pieces of files, sent without a copy), or a `Stream`;
- `Stored`: an entry of the cache, negotiated, conditioned and cut into ranges like any file;
- None: it comes later, from any thread, by `exchange.finish`.

An application knows no socket, and a connection no servlet. Framing (net/framing.py), Date, HEAD and the order of
pipelined answers are the connection's business; an answer's fields hold none of them.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any, NamedTuple, Protocol, TypeAlias

from zcserve.cache.entry import Body, DiskSpan, Entry, Segment
from zcserve.cache.index import Generation
from zcserve.forwarded import Origin
from zcserve.http import WITHOUT_CONTENT
from zcserve.net import spans
from zcserve.net.bodies import Hold
from zcserve.paths import SentPath

Piece: TypeAlias = Segment
Give: TypeAlias = Callable[["Piece | None"], None]


# Statuses that have neither content nor a length, whatever the answer holds.
BODILESS = frozenset(status for status, length in WITHOUT_CONTENT.items() if length is None)


class Stream(Protocol):
    """Content that comes piece by piece, each when the one before is out: the client sets the pace."""

    def pull(self, give: Give) -> None:
        """Have the next piece brought. `give` is called once, in the loop's thread, now or later: with a piece, with
        b"" at the end, or with None when it failed, so that the response is cut short. Must not raise."""

    def close(self) -> None:
        """No more is wanted. Called once, in the loop's thread, after the end, too; a piece may be on its way. Must not
        raise."""


class Answer:
    """A response that an application made.

    status   200 to 599 (RFC 9110 section 15)
    fields   header lines, each with its CRLF, checked; none of those that are the connection's business
    content  bytes; or segments and their `length` in bytes; or a stream, `length` None where it is not known
    body     whose memory the segments refer to
    """

    __slots__ = ("body", "content", "fields", "length", "status")

    def __init__(
        self,
        status: int,
        fields: bytes,
        content: bytes | tuple[Segment, ...] | Stream = b"",
        length: int | None = None,
        body: Body | None = None,
    ) -> None:
        self.status = status
        self.fields = fields
        self.content = content
        self.length = len(content) if isinstance(content, bytes) else length
        self.body = body

    def first_span(self) -> DiskSpan | None:
        """As `spans.first_span`."""
        if not isinstance(self.content, tuple) or not self.length or self.status in BODILESS:
            return None
        return spans.first_span(self.content, self.body)

    def begin(self, span: DiskSpan, piece: memoryview) -> None:
        """As `spans.begun`."""
        assert isinstance(self.content, tuple)
        self.content = spans.begun(self.content, span, piece)

    def discard(self) -> None:
        """It is not sent."""
        if not isinstance(self.content, (bytes, tuple)):
            self.content.close()


class Stored:
    """A response made of an entry of the cache; `fields` are further header lines. A `status` other than 200 goes with
    the whole content. `own`: the entry is the target's own, so that the fast lane may be taught it; where its content
    is not resident any more, the resource is asked again."""

    __slots__ = ("entry", "fields", "generation", "own", "status")

    def __init__(
        self, generation: Generation, entry: Entry, *, status: int = 200, fields: bytes = b"", own: bool = False
    ) -> None:
        self.generation = generation
        self.entry = entry
        self.status = status
        self.fields = fields
        self.own = own

    def discard(self) -> None:
        """It is not sent."""


Made: TypeAlias = Answer | Stored


class Exchange:
    """One request on its way through an application.

    method, target   as sent
    head             the request line and header lines, as sent, with the empty line
    body             complete
    client           the client's address without a port, "unix:" for a unix socket: the peer's, or what a trusted proxy
                     says
    origin           what a trusted proxy says of the request; None: nothing
    addresses        the socket's two ends as getpeername and getsockname tell them; in the loop's thread, in `respond`
    hold             what the body counts for, None without one; given back when this object goes, at the latest
    abandoned        the application may set it: called in the loop's thread, once, if the answer is not wanted any more
                     before it was given: the client has gone away, or it took too long
    """

    __slots__ = ("_finish", "abandoned", "addresses", "body", "client", "head", "hold", "method", "origin", "target")

    def __init__(
        self,
        method: bytes,
        target: bytes,
        head: bytes,
        body: bytes,
        client: str,
        addresses: Callable[[], tuple[object, object]],
        finish: Callable[[Exchange, Made], None],
        hold: Hold | None = None,
        origin: Origin | None = None,
    ) -> None:
        self.method = method
        self.target = target
        self.head = head
        self.body = body
        self.client = client
        self.addresses = addresses
        self.hold = hold
        self.origin = origin
        self.abandoned: Callable[[], object] | None = None
        self._finish = finish

    def finish(self, made: Made) -> None:
        """Give the answer that `respond` left for later. Any thread; once. Discarded if the client is gone."""
        self._finish(self, made)

    def abandon(self) -> None:
        """The client is gone. In the loop's thread."""
        abandoned, self.abandoned = self.abandoned, None
        if abandoned is not None:
            abandoned()

    def end(self) -> None:
        """The answer is there, or is not wanted. What was to be told of the client's leaving may refer to what
        refers to this object: that circle ends here. In the loop's thread."""
        self.abandoned = None


class Resource(Protocol):
    """What an application has at a target.

    body_bytes_max   the largest body that is read for it
    """

    @property
    def body_bytes_max(self) -> int: ...

    def respond(self, exchange: Exchange) -> Made | None:
        """Answer in the loop's thread, or return None and `exchange.finish` later. Must not raise."""


class Quick(NamedTuple):
    """The answer to one target's plain GETs and HEADs at once: a function that the fast lane calls with a request.

    function  what a request is answered with; bytes are the content of a 200 with `fields`
    request   makes the request of method, target, head as sent, client, body (none) and `params`
    where     the function's place, should it take long
    notice    a descriptor that has something to read when things may have changed, -1 for none
    sure_s    for how long it need not be asked otherwise
    is_fresh  asked then, but not twice a turn: False when the request must be asked for by `Application.find`
    finish    (method, what else was returned) -> the fields and the content of a 200, whatever the method; or what was
              made and is not so simple, for the connection that takes over; may raise what an iterator raises
    fail      (method, what was raised) -> the same
    """

    function: Callable[[Any], object]
    request: Callable[..., object]
    params: Mapping[str, str]
    fields: bytes
    where: str
    notice: int
    sure_s: float
    is_fresh: Callable[[], bool]
    finish: Callable[[bytes, object], tuple[bytes, bytes] | Made]
    fail: Callable[[bytes, BaseException], Made]


class Application(Protocol):
    """Answers what no file does. All methods belong to the loop's thread."""

    def find(self, path: SentPath, query: bytes | None, *, websocket: bool = False) -> Resource | None:
        """The resource that a target names, by its path and its query; `websocket` tells that the client wants to go on
        in that protocol. None: nothing of the application's."""

    def look_up(self, target: bytes) -> Quick | None:
        """What answers a target at once, for the fast lane, which calls it from then on. None: there is nothing."""

    def forget(self, keys: Collection[bytes]) -> None:
        """What the site's files are has changed at these keys of the index."""
