"""Content that comes piece by piece, on its way: the next piece is asked for when the one before is out.

So the client sets the pace, and one piece is in memory at a time. How a piece is framed is framing.py's.
"""

from __future__ import annotations

from collections.abc import Callable

from zcserve.net.framing import CutShortError, Outgoing
from zcserve.net.output import Output
from zcserve.net.owner import Owner, Stop
from zcserve.site.reply import Piece


class Sending:
    """The content of one reply, from its head to its end.

    is_awaited   the next piece was asked for, and has not come
    """

    __slots__ = ("_ended", "_outgoing", "_output", "_owner", "is_awaited")

    def __init__(self, outgoing: Outgoing, output: Output, owner: Owner, ended: Callable[[Outgoing], object]) -> None:
        """`ended` is called once, when nothing more is put into `output`."""
        self._outgoing = outgoing
        self._output = output
        self._owner: Owner | None = owner  # None when it has ended
        self._ended = ended
        self.is_awaited = False

    def pull(self) -> bool:
        """Have the next piece brought, now that the last one is out. Whether it is waited for."""
        self.is_awaited = True
        self._outgoing.stream.pull(self._on_piece)
        return self.is_awaited

    def _on_piece(self, piece: Piece | None) -> None:
        self.is_awaited = False
        owner = self._owner
        if owner is None:
            return  # the client is gone
        try:
            owner.proceed(self._take(piece))
        except CutShortError:
            owner.end()  # before the end that was promised: the client sees that something is missing
        except Exception:  # what made the piece calls here, and cannot tell the connection
            owner.fail()
            raise

    def _take(self, piece: Piece | None) -> Stop:
        """Put a piece into the output. Raises CutShortError."""
        if piece is None:
            raise CutShortError
        outgoing = self._outgoing
        self._output.add(outgoing.frame(piece))
        if not outgoing.ended:
            return Stop.STREAM
        self.close()
        return Stop.END if outgoing.last else Stop.SHARE

    def close(self) -> None:
        """No more is sent. Once."""
        self.is_awaited = False
        self._owner = None
        self._outgoing.stream.close()
        self._ended(self._outgoing)
