"""What a protocol tells the connection that it speaks on: why it stopped answering, and what has come meanwhile."""

from __future__ import annotations

import enum
from typing import Protocol


class Stop(enum.Enum):
    """Why `Http1.fill` stopped answering."""

    BYTES = 1  # no complete request is left
    BODY = 2  # a body is not complete
    LOAD = 3  # a thread loads, or an application has not answered yet
    SHARE = 4  # this turn's share is answered, or a large body goes out first
    END = 5  # the connection ends after this answer
    STREAM = 6  # the answer's next piece is wanted
    TURN = 7  # the next request is an application's, which is called in its turn (calling.py)


class Owner(Protocol):
    """The connection."""

    def resumed(self) -> None:
        """As `Asker.resumed`: `Http1.go_on` may be called."""

    def proceed(self, stop: Stop) -> None:
        """A piece of a stream is in the output; what comes then is `stop`."""

    def end(self) -> None:
        """The answer at hand cannot be finished."""

    def fail(self) -> None:
        """A step raised."""
