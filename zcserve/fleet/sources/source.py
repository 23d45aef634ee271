"""What all sources have in common: how an object is opened, and how a failure is told.

A source may be asked by several threads at the same time. It blocks, and comes back in some time whatever happens: each
wait for the network has a limit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

from zcserve.errors import ZcserveError

# What is asked for at once: large enough that a piece costs little, small enough that a rate is even.
PIECE_BYTES = 1 << 16

# How long a connection, and then each next byte, is waited for.
CONNECT_S, READ_S = 10.0, 20.0


class SourceError(ZcserveError):
    """An object did not come, or not all of it; the message says why, without its path.

    retry    whether it may come when it is asked for again
    after_s  when the source wants to be asked again, in seconds; None: it did not say
    """

    def __init__(self, message: str, *, retry: bool, after_s: float | None = None) -> None:
        super().__init__(message)
        self.retry = retry
        self.after_s = after_s


@dataclass(slots=True)
class Opened:
    """An object that is coming.

    pieces     its bytes from `start` on; raises SourceError
    close      lets go of it, also in the middle; to be called in any case
    start      what was asked for; or 0, where the source gives all of it
    size       bytes of the whole object, as the source has it; None: it does not say
    version    what tells this version of it from others, for the next `open`; "" for nothing
    remark     what is unusual about it, and why it may be wrong; "" for nothing
    interrupt  ends a wait for its next bytes, in which another thread may be
    """

    pieces: Iterator[bytes]
    close: Callable[[], object]
    start: int
    size: int | None
    version: str = ""
    remark: str = ""
    interrupt: Callable[[], object] = lambda: None


class Source(Protocol):
    """Gives objects by their paths: as a URL has them, from the root of the release, percent-encoded.

    name  what to call it in messages, without its password
    """

    @property
    def name(self) -> str: ...

    def open(self, path: str, start: int, version: str) -> Opened:
        """An object from byte `start` on, if it is still the version that an earlier `open` gave; else all of it.
        `version` "" is any. Raises SourceError."""
        ...

    def close(self) -> None: ...
