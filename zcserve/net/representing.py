"""What a request makes of a representation whose content is at hand: all of it, a part, 304, 412, 416; and 406 where no
representation is acceptable.

What conditions and ranges mean is decided in negotiate.py. Here each decision becomes a `Reply`, with what rules say of
the content. Nothing here waits, and nothing knows a connection.
"""

from __future__ import annotations

from zcserve.cache import heads
from zcserve.cache.entry import Body, ComposedEntry, Entry
from zcserve.net import negotiate
from zcserve.net.fields import Fields
from zcserve.rules.compiled import of_failure
from zcserve.site import reply
from zcserve.site.exchange import Stored
from zcserve.site.reply import Reply
from zcserve.site.site import Site


def not_acceptable(site: Site) -> Reply:
    """The answer where no representation is one that the client takes."""
    return reply.page(406, site.root.rules.everywhere + reply.VARY)


def answer_of(
    fields: Fields, method: bytes, chosen: Entry, body: Body, ranges_max: int, stored: Stored | None = None
) -> Reply:
    """The answer with a representation whose content is at hand; `stored`: what named it, if it was no target."""
    answer = None
    # Conditions and ranges are about a successful GET or HEAD (RFC 9110 sections 13.2.1, 14.2).
    if not fields.plain and method in (b"GET", b"HEAD") and (stored is None or stored.status == 200):
        answer = represent(fields, method, chosen, body, ranges_max)
    if answer is None:
        answer = reply.whole(body)
    return answer if stored is None else answer.dressed(stored.status, stored.fields)


def represent(fields: Fields, method: bytes, chosen: Entry, body: Body, ranges_max: int) -> Reply | None:
    """What the conditions and ranges of a GET or HEAD make of a representation; None: all of it is the answer."""
    decision = negotiate.decide(fields, chosen, is_get=method == b"GET", ranges_max=ranges_max)
    if decision.status == 200:
        return None
    if decision.status == 206:
        return reply.partial(body, decision.ranges)
    if decision.status == 304:
        return reply.not_modified(body)
    more = reply.VARY if chosen.variants or chosen.encoding else ()
    if not isinstance(chosen, ComposedEntry) or chosen.is_ruled:  # else rules say nothing of it
        more = of_failure(heads.lines_of_rules(body.head())) + more
    return reply.page(412, more) if decision.status == 412 else reply.unsatisfiable(chosen.size, more)
