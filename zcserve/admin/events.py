"""`/events`: the snapshot of `/stats`, each second, as server-sent events (HTML standard, "Server-sent events").

The first event is `whole`. Those behind it are a `change`: the members of the snapshot that are not as they were, each
with its new value. So what stays the same for hours (the hottest entries, the curve, warnings) is not sent each second.
A connection begins with a whole one, and nothing is sent later that was missed: the totals in it tell.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from zcserve.admin.application import NO_STORE
from zcserve.admin.node import Node
from zcserve.admin.snapshot import snapshot_of
from zcserve.admin.tickers import Ticker
from zcserve.http import FieldLines
from zcserve.site.exchange import Exchange
from zcserve.site.reply import Reply

EVERY_S = 1.0
# After so long a browser connects again.
RETRY_MS = 2000

_FIELDS: FieldLines = ((b"Content-Type", b"text/event-stream"), *NO_STORE)


class Events:
    """A `Route`."""

    path, is_open = "/events", False

    def get(self, node: Node, exchange: Exchange) -> Reply:
        """As `Route.get`."""
        changes = _Changes()
        return Reply(200, _FIELDS, Ticker(node.loop, EVERY_S, lambda: changes.event(snapshot_of(node))))


class _Changes:
    """What one client was told."""

    def __init__(self) -> None:
        self._told: Mapping[str, Any] = {}
        self._count = 0

    def event(self, now: Mapping[str, Any]) -> bytes:
        """The next event."""
        before, self._told = self._told, now
        self._count += 1
        if self._count == 1:
            return b"retry: %d\n" % RETRY_MS + _event(1, "whole", now)
        changed = {name: value for name, value in now.items() if name not in before or before[name] != value}
        return _event(self._count, "change", changed)


def _event(number: int, kind: str, data: Mapping[str, Any]) -> bytes:
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"))  # which has no line end
    return f"id: {number}\nevent: {kind}\ndata: {text}\n\n".encode(errors="backslashreplace")
