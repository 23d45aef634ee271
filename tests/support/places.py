"""An application with one resource, which answers what a test says."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from zcserve.paths import SentPath
from zcserve.rules.compiled import Rules
from zcserve.site.exchange import Answer, Exchange


class Place:
    """A resource of an application that answers with `made`, or later."""

    body_bytes_max = 100

    def __init__(self, made: Answer | None) -> None:
        self.made = made
        self.exchanges: list[Exchange] = []

    def respond(self, exchange: Exchange) -> Answer | None:
        self.exchanges.append(exchange)
        return self.made


class Places:
    """An application with one resource, at /app."""

    def __init__(self, place: Place) -> None:
        self.place = place

    def find(self, path: SentPath, query: bytes | None, *, websocket: bool = False) -> Place | None:
        return self.place if path.key == b"/app" else None

    def look_up(self, method: bytes, target: bytes) -> None:
        """Nothing is answered at once."""

    def may_have(self, key: bytes) -> bool:
        return True

    def forget(self, keys: Collection[bytes]) -> None:
        """It knows nothing of files."""

    def own_with(self, rules: Sequence[Rules]) -> None:
        """Its front asks about every path."""
