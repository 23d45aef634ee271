"""`GET /explain?url=...`: what the node would answer a request with, and why, as JSON. As `zcserve explain`,
but of what is served at this moment.

Nothing is read from disk, since the loop waits for none: of a file that was not read yet the ETag is not known, and the
answer says so.
"""

from __future__ import annotations

from urllib.parse import parse_qsl

from zcserve.admin.application import json_reply
from zcserve.admin.node import Node
from zcserve.admin.words import VerbError
from zcserve.cache.entry import Body, Entry
from zcserve.cache.index import Generation
from zcserve.errors import UsageError
from zcserve.net.explanation import Explainer, HeadAlone, request_of
from zcserve.net.request import Parser
from zcserve.net.service import Service
from zcserve.site.exchange import Exchange
from zcserve.site.listing_page import Page, content_type
from zcserve.site.listings import Listed, Made, composed
from zcserve.site.reply import Reply
from zcserve.site.site import Site

WORDS = ("url", "method", "header")
# Far more than a request has that the server takes by default (--head-fields-max 100).
WORDS_MAX = 200


class _Live:
    """A `Source` (net/explanation.py): what is served."""

    def __init__(self, service: Service) -> None:
        self._fetcher = service.fetcher

    def open(self, site: Site) -> None:
        """As `Source.open`."""

    def prepare(self, site: Site, generation: Generation, base: Entry) -> None:
        """As `Source.prepare`."""

    def body(self, site: Site, generation: Generation, base: Entry, chosen: Entry) -> tuple[Body, str]:
        """As `Source.body`."""
        if chosen.body is not None:
            return chosen.body, ""
        note = "it is not in memory" if chosen.etag else "it was not read yet: its ETag is not known"
        return HeadAlone(self._fetcher.head_of(generation, chosen), chosen.size), note

    def page(self, site: Site, listed: Listed) -> Made:
        """As `Source.page`."""
        made = site.listings.kept(listed) if site.listings is not None else None
        if made is not None:
            return made
        entry = composed(listed, Page(content_type(is_json=listed.is_json), [], 0, b"", -1))
        return Made(entry, HeadAlone(self._fetcher.head_of(listed.generation, entry), 0), -1)

    def has_application(self, site: Site) -> bool:
        """As `Source.has_application`."""
        return site.application is not None


class Explain:
    """A `Route`. `url` as of `request_of`; `method`; `header`, repeatable, a line of the request."""

    path, is_open = "/explain", False

    def get(self, node: Node, exchange: Exchange) -> Reply:
        """As `Route.get`."""
        url, method, lines = _words_of(exchange.query or b"")
        if (service := node.service) is None:
            raise VerbError(503, "the node starts: nothing is served yet")
        try:
            request = request_of(url, method, lines)
        except UsageError as error:
            raise VerbError(400, str(error)) from None
        explainer = Explainer(Parser(service.config), service.site_of, _Live(service), service.config.ranges_max)
        return json_reply(explainer.explain(request).told())


def _words_of(query: bytes) -> tuple[str, str, list[str]]:
    """URL, method and lines of a query. Raises VerbError."""
    try:
        pairs = parse_qsl(query.decode("latin-1"), keep_blank_values=True, max_num_fields=WORDS_MAX)
    except ValueError:
        raise VerbError(400, f"more than {WORDS_MAX} parameters") from None
    found: dict[str, list[str]] = {name: [] for name in WORDS}
    for name, value in pairs:
        if name not in found:
            raise VerbError(400, f"{name[:100]} is no parameter of /explain", WORDS)
        found[name].append(value)
    if len(found["url"]) != 1 or len(found["method"]) > 1:
        raise VerbError(
            400, "one url is explained, with one method: /explain?url=/docs/a.css&header=Range:bytes=0-9", WORDS
        )
    return found["url"][0], (found["method"] or ["GET"])[0], found["header"]


EXPLAIN = Explain()
