"""Releases that a node has given up on: why, and when each is tried again.

What cannot become right (a sequence that is too old) is never tried again. What takes a person (a signature, a rule
that the server refuses, files that are at the source no more) is, after the long waits of backoff.py.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from zcserve.fleet import backoff
from zcserve.fleet.messages import Release


@dataclass(slots=True)
class Refusal:
    """A release that was refused so often, why, and when it is tried again: never, where it cannot become right."""

    release: Release
    why: str
    tries: int = 0
    due: float = math.inf


class Refusals:
    """Of one node."""

    def __init__(self, node: str) -> None:
        self._node = node
        self._all: list[Refusal] = []  # the last one last

    def clear(self) -> None:
        """Something else is desired: all is to be tried."""
        self._all.clear()

    def add(self, release: Release, why: str, now: float = math.inf) -> None:
        """It is given up: for good, or from `now` on for a wait that is longer each time."""
        found = self.of(release)
        if found:
            self._all.remove(found)
        tries = 1 + (found.tries if found else 0)
        due = now + backoff.refused_wait_s(tries, f"{self._node} {release.manifest}")
        self._all.append(Refusal(release, why, tries, due))

    def of(self, release: Release) -> Refusal | None:
        """What was refused of it last, whether it is tried again by now or not."""
        return next((one for one in self._all if one.release.is_same(release)), None)

    def holds(self, release: Release, now: float) -> bool:
        """Whether it is not to be tried now."""
        found = self.of(release)
        return found is not None and now < found.due

    def last(self, now: float) -> Refusal | None:
        """The newest that holds."""
        return next((one for one in reversed(self._all) if now < one.due), None)

    def due(self, now: float) -> float | None:
        """When the first is tried again; None: none is."""
        return min((one.due for one in self._all if now < one.due < math.inf), default=None)
