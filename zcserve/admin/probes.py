"""Probes: is the process alive, is it to be asked, how far is its start?

`/readyz` is for what stands in front (HAProxy, a service mesh): 200 or 503. `/warmz` is for people and scripts that
wait: a line of JSON twice a second, until the node is ready and has warmed all lists that it was given. What waits for
the first alone leaves when a line says so.
"""

from __future__ import annotations

import json

from zcserve.admin.application import NO_STORE, json_reply
from zcserve.admin.node import Node
from zcserve.admin.tickers import Ticker
from zcserve.site.exchange import Exchange
from zcserve.site.reply import Reply

WARM_TOLD_EVERY_S = 0.5


class Livez:
    """200 as long as the loop turns."""

    path, is_open = "/livez", True

    def get(self, node: Node, exchange: Exchange) -> Reply:
        """As `Route.get`."""
        return json_reply({"is_alive": True})


class Readyz:
    """200 where the node is to be asked, else 503 and why not."""

    path, is_open = "/readyz", True

    def get(self, node: Node, exchange: Exchange) -> Reply:
        """As `Route.get`."""
        readiness = node.readiness()
        return json_reply(readiness, 200 if readiness["is_ready"] else 503)


class Warmz:
    """The same as lines, each with how far the list is that is being warmed, until it is ready and there is none."""

    path, is_open = "/warmz", True

    def get(self, node: Node, exchange: Exchange) -> Reply:
        """As `Route.get`."""
        told_last = False

        def tell() -> bytes:
            nonlocal told_last
            if told_last:
                return b""
            readiness, warming = node.readiness(), node.warming()
            told_last = readiness["is_ready"] and warming is None
            return json.dumps({**readiness, "warm_list": warming}).encode() + b"\n"

        fields = ((b"Content-Type", b"application/x-ndjson"), *NO_STORE)
        return Reply(200, fields, Ticker(node.loop, WARM_TOLD_EVERY_S, tell))


PROBES = (Livez(), Readyz(), Warmz())
