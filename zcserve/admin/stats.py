"""What a node counts, shown: `/stats` as JSON, `/metrics` for Prometheus. Both are views of a snapshot."""

from __future__ import annotations

from zcserve.admin.application import NO_STORE, json_reply
from zcserve.admin.guard import value_of
from zcserve.admin.metrics import OPENMETRICS_TYPE, TEXT_TYPE, prefers_openmetrics, text_of
from zcserve.admin.node import Node
from zcserve.admin.snapshot import snapshot_of
from zcserve.site.exchange import Exchange
from zcserve.site.reply import Reply

# A query with which no file is walked for the answer: a program that asks for ever, and for other things.
WITHOUT_SURVEY = b"survey=0"


class Stats:
    """The snapshot."""

    path, is_open = "/stats", False

    def get(self, node: Node, exchange: Exchange) -> Reply:
        """As `Route.get`."""
        return json_reply(snapshot_of(node, surveys=exchange.query != WITHOUT_SURVEY))


class Metrics:
    """The same without single files, in the form that the scraper likes better."""

    path, is_open = "/metrics", False

    def get(self, node: Node, exchange: Exchange) -> Reply:
        """As `Route.get`."""
        is_open = prefers_openmetrics(value_of(exchange.head.lines, b"accept") or "")
        fields = ((b"Content-Type", OPENMETRICS_TYPE if is_open else TEXT_TYPE), (b"Vary", b"Accept"), *NO_STORE)
        return Reply(200, fields, text_of(snapshot_of(node, surveys=False), is_open=is_open))


STATS = (Stats(), Metrics())
