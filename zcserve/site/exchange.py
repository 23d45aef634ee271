"""What a request and an application say to each other.

An *application* answers what no file does (zcserve/servlets). The request finds the *resource* that its target names,
reads its body, and asks the resource to `respond` to an `Exchange`. The answer is

- `Reply` (reply.py): status, fields, and content: bytes, segments (pieces of files, sent without a copy), or a stream;
- `Stored`: an entry of the cache, negotiated, conditioned and cut into ranges like any file;
- None: it comes later, from any thread, by `exchange.finish`.

An application knows no socket and no protocol, and a connection no servlet. Fields are names and values both ways.
Framing, Date, HEAD and the order of pipelined answers are the protocol's; an answer's fields hold none of them.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, NamedTuple, Protocol, TypeAlias

from zcserve.cache.entry import Entry
from zcserve.cache.index import Generation
from zcserve.forwarded import Origin
from zcserve.http import FieldLines
from zcserve.paths import SentPath
from zcserve.rules.compiled import Rules
from zcserve.site.reply import Reply


class Head(Protocol):
    """What the head of a request says, in whatever protocol it came.

    version  as the client named it: b"HTTP/1.1"
    lines    the fields as sent, without blanks around the values
    """

    @property
    def version(self) -> bytes: ...

    @property
    def lines(self) -> FieldLines: ...


class HeadLines(NamedTuple):
    """A `Head` that needs no reading."""

    version: bytes
    lines: FieldLines = ()


class Hold(Protocol):
    """What a request's body counts for (net/bodies.py)."""

    def release(self) -> None:
        """The request is done with. Harmless when repeated."""


class Stored:
    """A response made of an entry of the cache, with further `fields`. A `status` other than 200 goes with the whole
    content. `own`: the entry is the target's own, so that the fast lane may be taught it; where its content is not
    resident any more, the resource is asked again."""

    __slots__ = ("entry", "fields", "generation", "own", "status")

    def __init__(
        self, generation: Generation, entry: Entry, *, status: int = 200, fields: FieldLines = (), own: bool = False
    ) -> None:
        self.generation = generation
        self.entry = entry
        self.status = status
        self.fields = fields
        self.own = own

    def discard(self) -> None:
        """It is not sent."""


Answer: TypeAlias = Reply | Stored


class Exchange:
    """One request on its way through an application.

    method           as sent
    target           as sent, or what a rule makes of it
    path, query      the target's; a query of None: it has no question mark
    head             what else the request says
    body             complete
    client           the client's address without a port, "unix:" for a unix socket: the peer's, or what a trusted proxy
                     says
    original         the target as sent, where a rule has made another of it; else None
    origin           what a trusted proxy says of the request; None: nothing
    user             whose password the server asked for, and was right, in UTF-8; b"" for nobody's
    addresses        the socket's two ends as getpeername and getsockname tell them; in the loop's thread, in `respond`
    hold             what the body counts for, None without one; given back when this object goes, at the latest
    abandoned        the application may set it: called in the loop's thread, once, if the answer is not wanted any more
                     before it was given: the client has gone away, or it took too long
    """

    __slots__ = (
        "_finish",
        "abandoned",
        "addresses",
        "body",
        "client",
        "head",
        "hold",
        "method",
        "origin",
        "original",
        "path",
        "query",
        "target",
        "user",
    )

    def __init__(
        self,
        method: bytes,
        target: bytes,
        path: SentPath,
        query: bytes | None,
        head: Head,
        body: bytes,
        client: str,
        addresses: Callable[[], tuple[object, object]],
        finish: Callable[[Exchange, Answer | None], None],
        hold: Hold | None = None,
        origin: Origin | None = None,
        original: bytes | None = None,
        user: bytes = b"",
    ) -> None:
        self.user = user
        self.method = method
        self.target = target
        self.path = path
        self.query = query
        self.head = head
        self.body = body
        self.client = client
        self.addresses = addresses
        self.hold = hold
        self.origin = origin
        self.original = original
        self.abandoned: Callable[[], object] | None = None
        self._finish = finish

    def finish(self, answer: Answer) -> None:
        """Give the answer that `respond` left for later. Any thread; once. Discarded if the client is gone."""
        self._finish(self, answer)

    def decline(self) -> None:
        """Instead of `finish`: the application has nothing at this target after all. Any thread; once."""
        self._finish(self, None)

    def abandon(self) -> None:
        """The client is gone. In the loop's thread."""
        abandoned, self.abandoned = self.abandoned, None
        if abandoned is not None:
            abandoned()

    def end(self) -> None:
        """The answer is there, or is not wanted. What was to be told of the client's leaving may refer to what
        refers to this object: that circle ends here. In the loop's thread."""
        self.abandoned = None

    def discard(self, answer: Answer | None) -> None:
        """It ended when no answer was wanted any more: what came is not sent, and the body counts no more."""
        if answer is not None:
            answer.discard()
        if self.hold is not None:
            self.hold.release()


class Resource(Protocol):
    """What an application has at a target.

    body_bytes_max   the largest body that is read for it
    """

    @property
    def body_bytes_max(self) -> int: ...

    def respond(self, exchange: Exchange) -> Answer | None:
        """Answer in the loop's thread, or return None and `exchange.finish` later. Must not raise."""


class Quick(NamedTuple):
    """The answer to plain requests for one target at once: a function that the fast lane calls with a request.

    function  what a request is answered with; bytes are the content of a 200 with `fields`
    request   the class of the request. It has no `__new__` of its own, and its `__init__` is not called
    slots     of that class, in this order: method, target, the head's bytes as sent, client, body, `params`, and what a
              trusted proxy says (`Exchange.origin`)
    where     the function's place, should it take long
    body_bytes_max   requests with larger bodies are not its
    notice    a descriptor that has something to read when things may have changed, -1 for none
    sure_s    for how long it need not be asked otherwise
    is_fresh  asked then, but not twice a turn: False when the request must be asked for by `Application.find`
    fields    in HTTP/1's form (`heads.encode_fields`), made once
    finish    (method, what else was returned) -> the fields, in that form, and the content of a 200, whatever the
              method; or another answer, for the connection that takes over; may raise what an iterator raises
    fail      (method, what was raised) -> the same
    """

    function: Callable[[Any], object]
    request: type
    slots: Sequence[str]
    params: Mapping[str, str]
    fields: bytes
    where: str
    body_bytes_max: int
    notice: int
    sure_s: float
    is_fresh: Callable[[], bool]
    finish: Callable[[bytes, object], tuple[bytes, bytes] | Answer]
    fail: Callable[[bytes, BaseException], Answer]


class Owned(NamedTuple):
    """What an application may have an answer for where there is no file.

    segments  the first segments that its paths have, as in an index's keys; None: it may own every path
    notice    as of `Quick`
    sure_s    likewise
    is_fresh  likewise: False when a request may lead to what is not loaded yet; None: there is no such thing
    """

    segments: Collection[bytes] | None
    notice: int = -1
    sure_s: float = 0.0
    is_fresh: Callable[[], bool] | None = None


class Application(Protocol):
    """Answers what no file does. All methods belong to the loop's thread."""

    def find(self, path: SentPath, query: bytes | None, *, websocket: bool = False) -> Resource | None:
        """The resource that a target names, by its path and its query; `websocket` tells that the client wants to go on
        in that protocol. None: nothing of the application's."""

    def look_up(self, method: bytes, target: bytes) -> Quick | None:
        """What answers such requests at once, for the fast lane, which calls it from then on; GET stands for HEAD, too.
        None: there is nothing."""

    def may_have(self, key: bytes) -> bool:
        """Whether it has something at a path, or may come to have something there and tell nobody before it is asked.
        Where it says no, a front may be taught what else answers that path."""

    def forget(self, keys: Collection[bytes]) -> None:
        """What the site's files are has changed at these keys of the index."""

    def own_with(self, rules: Sequence[Rules]) -> None:
        """Have the front ask about what one of these rules may have an answer for, as about what the application owns
        itself."""
