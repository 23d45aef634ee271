"""What a server of a tree must answer: a request for every resource and for each of its representations."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from zcserve.cache.entry import Entry, Redirect
from zcserve.cache.index import Generation


@dataclass(frozen=True, slots=True)
class Ask:
    """One request, and what must come back: a representation, or a redirect to `location`."""

    key: bytes
    entry: Entry | None = None
    location: bytes = b""

    @property
    def coding(self) -> str:
        """The content coding that is asked for; "" is identity."""
        return self.entry.encoding.decode() if self.entry is not None else ""

    @property
    def accept(self) -> str:
        """Accept-Encoding that leaves no choice (RFC 9110 section 12.5.3): a sibling may be larger than its base."""
        return f"{self.coding}, identity;q=0" if self.coding else "identity"


def asks_of(generation: Generation, listed: Iterable[Entry]) -> list[Ask]:
    """All requests, those for listed entries first."""
    asks = {}
    for key, resource in [*((entry.key, entry) for entry in listed), *generation.resources.items()]:
        if isinstance(resource, Redirect):
            asks[key, b""] = Ask(key, location=resource.location)
        elif isinstance(resource, Entry):
            for one in (resource, *resource.variants):
                asks[key, one.encoding] = Ask(key, one)
    return list(asks.values())
