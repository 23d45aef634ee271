"""A request's body, on its way in: it is read before the answer is made, so that the connection stays in step.

The client owes it, and sends it piece by piece. So it has a pace that the client must keep (pace.py), and a share of
each turn, since its chunks and trailers count like requests. Where a body ends is received.py's. It is not known here
which request a body belongs to, nor what comes of it.
"""

from __future__ import annotations

from math import inf

from zcserve.net.owner import Stop
from zcserve.net.pace import Pace
from zcserve.net.received import Discard
from zcserve.net.service import Service


class Receiving:
    """The body of one request.

    body  what takes its bytes
    """

    __slots__ = ("_pace", "_service", "body")

    def __init__(self, service: Service, body: Discard) -> None:
        self._service = service
        self.body = body
        self._pace: Pace | None = None  # until some of the body is missing

    def take(self, data: bytes, at: int, share: int) -> tuple[int, int]:
        """Take what is here of it, from `data[at:]`. The offset behind that, and how many chunks and trailers have
        begun, of which `share` are left in this turn. Raises HttpError as `Discard.feed`."""
        body = self.body
        before = body.lines
        at = body.feed(data, at, share)
        if self._pace is None and not body.done:
            self._pace = Pace(self._service.config, self._service.loop.now)
        return at, body.lines - before

    @property
    def stop(self) -> Stop | None:
        """What is waited for; None: it is complete."""
        if self.body.done:
            return None
        return Stop.SHARE if self.body.rests else Stop.BODY

    def due(self) -> float:
        """When the client must have sent enough; inf for never."""
        return self._pace.due() if self._pace is not None else inf

    def suffices(self) -> bool:
        """It is due: whether enough has come, so that it goes on."""
        return self._pace is not None and self._pace.suffices(self.body.taken, self._service.loop.now)

    def rest(self) -> None:
        """The server has read nothing for a while, for which the client need not pay: its time begins now."""
        if self._pace is not None:
            self._pace.since = self._service.loop.now
