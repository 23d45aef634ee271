"""`GET /heat`: how hot each file is, as lines of JSON (cache/heat_lines.py), for a person and for other nodes.

    /heat?site=NAME&top=20

`site` is one alone. With `top` the hottest come, and first the one with most uses; else all that were ever used, in the
order of the disk. What was counted since the last look is in it.

A node may have a hundred thousand files. So the answer comes piece by piece: a piece is what a step of the loop makes,
and between two steps it answers others. With `top` nothing is sent until all have been looked at.
"""

from __future__ import annotations

import heapq
import time
from collections.abc import Iterator
from typing import TypeAlias
from urllib.parse import parse_qsl

from zcserve.admin.application import NO_STORE
from zcserve.admin.node import Node
from zcserve.admin.words import HEAT, VerbError
from zcserve.cache import heat_lines
from zcserve.cache.heat import LOOKED_AT_ONCE, size_of
from zcserve.content.heat_file import Kept
from zcserve.http import FieldLines
from zcserve.net.loop import Loop
from zcserve.net.steps import STEP_S
from zcserve.site.exchange import Exchange
from zcserve.site.reply import Give, Reply
from zcserve.site.site import Site

# The lines of one request at most, where so many of the hottest are asked for: they are sorted in one step.
TOP_MAX = 10_000
_FIELDS: FieldLines = ((b"Content-Type", b"application/x-ndjson"), *NO_STORE)

# Uses, site, key, bytes.
Warm: TypeAlias = tuple[float, str, bytes, int]


class ShownHeat:
    """A `Route`."""

    path, is_open = "/heat", False

    def get(self, node: Node, exchange: Exchange) -> Reply:
        """As `Route.get`."""
        site, top = _words_of(exchange.query or b"")
        if node.service is None:
            raise VerbError(503, "the node starts: nothing is served yet")
        sites = [one for one in node.service.sites if site in (None, one.name)]
        if not sites:
            raise VerbError(404, f"no site is called {site!r:.100}", tuple(one.name for one in node.service.sites))
        return Reply(200, _FIELDS, Steadily(node.loop, _lines(sites, top)))


class Steadily:
    """A `Stream` of what is made in steps of the loop. `pieces` yields often, also b"" where nothing is to be sent."""

    def __init__(self, loop: Loop, pieces: Iterator[bytes]) -> None:
        self._loop = loop
        self._pieces = pieces
        self._give: Give | None = None

    def pull(self, give: Give) -> None:
        """As `Stream.pull`."""
        self._give = give
        self._loop.call_soon(self._bring)

    def close(self) -> None:
        """As `Stream.close`."""
        self._give = None
        self._pieces = iter(())

    def _bring(self) -> None:
        if (give := self._give) is None:
            return
        made = []
        until = time.monotonic() + STEP_S
        try:
            for piece in self._pieces:
                made.append(piece)
                if time.monotonic() >= until:
                    break
            else:
                until = 0.0  # all of it was made
        except Exception:
            self._give = None
            give(None)  # the response is cut short
            raise
        if (content := b"".join(made)) or not until:
            self._give = None
            give(content)
        else:
            self._loop.call_soon(self._bring)


def _words_of(query: bytes) -> tuple[str | None, int]:
    """The site that is meant, None for all; and how many are wanted, 0 for all. Raises VerbError."""
    try:
        pairs = parse_qsl(query.decode("latin-1"), keep_blank_values=True, max_num_fields=10)
    except ValueError:
        raise VerbError(400, "more than 10 parameters") from None
    given = dict(pairs)
    for name in given:
        if name not in HEAT.words:
            raise VerbError(400, f"{name[:100]} is no parameter of /heat", tuple(HEAT.words))
    top = given.get("top", "0")
    if not (top.isascii() and top.isdigit() and len(top) < 10 and int(top) <= TOP_MAX):
        raise VerbError(400, f"top cannot be {top[:100]!r}", (f"0 to {TOP_MAX}",))
    return given.get("site"), int(top)


def _lines(sites: list[Site], top: int) -> Iterator[bytes]:
    yield heat_lines.first_line(time.time())
    for site in sites:
        yield heat_lines.root_line(site.name, Kept.of(site).place)
    files = 0
    for one in _hottest(_found(sites), top) if top else _found(sites):
        if one is None:
            yield b""
        else:
            uses, name, key, size = one
            files += 1
            yield heat_lines.file_line(name, key, size, uses)
    yield heat_lines.last_line(files)


def _found(sites: list[Site]) -> Iterator[Warm | None]:
    """All files that were used, with a None now and then."""
    for site in sites:
        for _ in site.heat.count_left():
            yield None
        for number, entry in enumerate(site.live.entries()):
            if uses := site.heat.now(entry):
                yield uses, site.name, entry.key, size_of(entry)
            elif not number % LOOKED_AT_ONCE:
                yield None


def _hottest(found: Iterator[Warm | None], top: int) -> Iterator[Warm | None]:
    """The `top` with most uses, most first; before them a None for each that was looked at."""
    hottest: list[Warm] = []
    for one in found:
        if one is not None:
            (heapq.heappush if len(hottest) < top else heapq.heappushpop)(hottest, one)
        yield None
    yield from sorted(hottest, reverse=True)
