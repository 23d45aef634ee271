"""What one request has with its application: the body that is kept for it, the exchange whose answer is waited for, and
the answer that came.

An exchange ends in the loop's thread, perhaps when its answer is not wanted any more, or another exchange of the same
request is waited for: its answer is discarded then, and its body counts no more. An application that is told that its
answer is not wanted may go on with the body, which counts until it is done.
"""

from __future__ import annotations

from collections.abc import Callable

from zcserve.config.table import Config
from zcserve.net.asker import Asker
from zcserve.net.bodies import Allowance, Hold
from zcserve.net.received import Collect
from zcserve.net.rewriting import Asked
from zcserve.site.exchange import Answer, Exchange, Head, Resource


class Exchanges:
    """Of one request: one at a time. All in the loop's thread."""

    __slots__ = ("_answer", "_body", "_hold", "_pending")

    def __init__(self) -> None:
        self._body = b""  # kept for the resource
        self._hold: Hold | None = None  # what the body counts for
        self._pending: Exchange | None = None  # whose answer is waited for
        self._answer: Answer | None = None  # that came, until it is taken

    @property
    def is_pending(self) -> bool:
        """Whether the application owes an answer."""
        return self._pending is not None

    def collect(self, resource: Resource, size: int, bodies: Allowance, config: Config) -> Collect:
        """What keeps the request's body for a resource; `size` as `Fields.body`. Raises HttpError 413, 503."""
        self._hold = Hold(bodies)
        # A body that alone is too much would be so the next time, too.
        bytes_max = min(resource.body_bytes_max, bodies.bytes_max)
        return Collect(size, bytes_max, config.head_bytes_max, self._hold)

    def keep(self, body: Collect) -> None:
        """All of the body is there."""
        self._body = body.content()

    def give(self, answer: Answer, size: int, bodies: Allowance) -> None:
        """The application has answered already, and may keep its body of this size."""
        if size:
            self._hold = Hold(bodies)
            self._hold.count(size)
        self._answer = answer

    def begin(
        self,
        asked: Asked,
        asker: Asker,
        method: bytes,
        head: Head,
        user: bytes,
        finish: Callable[[Exchange, Answer | None], None],
    ) -> Answer | None:
        """Ask the application, which gets the body. None: `finish` is called when the answer is there, in any
        thread."""
        resource, target, path, query, original = asked
        body, self._body = self._body, b""
        exchange = Exchange(
            method,
            target,
            path,
            query,
            head,
            body,
            asker.client,
            asker.addresses,
            finish,
            self._hold,
            asker.origin,
            original,
            user,
        )
        answer = resource.respond(exchange)
        if answer is None:
            self._pending = exchange
        return answer

    def end(self, exchange: Exchange, answer: Answer | None) -> bool:
        """An exchange has ended, with an answer for `take`, or with none: then the body is there for the next one.
        False: it is not waited for."""
        exchange.end()
        if exchange is not self._pending:
            exchange.discard(answer)
            return False
        self._pending = None
        if answer is None:
            self._body = exchange.body
        self._answer = answer
        return True

    def take(self) -> Answer:
        """The answer that came. Once."""
        answer, self._answer = self._answer, None
        assert answer is not None
        return answer

    def abandon(self) -> None:
        """Tell the application that its answer is not wanted. It may go on with the body, which counts until then."""
        self._hold = None
        exchange, self._pending = self._pending, None
        if exchange is not None:
            exchange.abandon()

    def cancel(self) -> None:
        """As `abandon`, and what came is not wanted either."""
        answer, self._answer = self._answer, None
        if answer is not None:
            answer.discard()
        self.abandon()

    def release(self) -> None:
        """The answer is on its way: the body counts no more."""
        if self._hold is not None:
            self._hold.release()
            self._hold = None
