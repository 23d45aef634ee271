"""What happened in a run: events with their times, for the timeline and for a record in words."""

from __future__ import annotations

import threading
import time
from typing import NamedTuple


class Event(NamedTuple):
    """at: seconds since the run began; lane: a node, or what else it is of; kind: one of KINDS."""

    at: float
    lane: str
    kind: str
    text: str = ""
    build: int | None = None


# live, prepared: a node reports a build, and "let go": none is prepared any more. down, up: a process is away, and
# there again. cut, restored: an agent has no link, or no room, and has it again. fault: one was found. note: all else.
KINDS = ("live", "prepared", "let go", "down", "up", "cut", "restored", "fault", "note")


class Record:
    """For several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._events: list[Event] = []
        self.began = time.monotonic()

    def now(self) -> float:
        """Seconds since the run began."""
        return time.monotonic() - self.began

    def add(self, lane: str, kind: str, text: str = "", build: int | None = None) -> None:
        """Something happens now."""
        assert kind in KINDS, kind
        with self._lock:
            self._events.append(Event(self.now(), lane, kind, text, build))

    @property
    def events(self) -> list[Event]:
        """All so far, in their order."""
        with self._lock:
            return list(self._events)
