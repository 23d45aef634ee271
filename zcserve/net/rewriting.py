"""What an application is asked for: what a request's target names, or what a rule makes of it.

A rewrite (a rule with status 200) leads to what the site has at another path: a file, or where none is, what the
application has there. That is found once: rules are not asked for the new target, so rewrites make no circles. The
order is that of rules/compiled.py: a rewrite with force goes before files and before what the application has at the
target itself, one without force behind both. Methods that read are a file's where there is one; all others go with a
rewrite to the application, or nowhere.
"""

from __future__ import annotations

from typing import NamedTuple

from zcserve.errors import HttpError
from zcserve.net.fields import Fields
from zcserve.net.leading import MOVED_METHODS
from zcserve.net.request import before_path, host_of, split_target
from zcserve.paths import SentPath
from zcserve.rules.redirects import REWRITE, Action
from zcserve.site.exchange import Resource
from zcserve.site.site import Site

READS = (b"GET", b"HEAD")


class Asked(NamedTuple):
    """What an application is asked for.

    resource     what it has there
    target       what names it, as a client would have sent it; `path` and `query` are its own
    original     the target that was sent, where a rule leads from there; None: it is `target`
    """

    resource: Resource
    target: bytes
    path: SentPath
    query: bytes | None
    original: bytes | None = None


class Sent(NamedTuple):
    """What of a request decides. `place`: the target's path and query."""

    method: bytes
    target: bytes
    fields: Fields
    place: tuple[SentPath, bytes | None]


def place_of(site: Site, method: bytes, target: bytes) -> tuple[SentPath, bytes | None] | None:
    """The path and the query that an application may be asked for; None: it is not asked. Of a site that asks for
    passwords it is told the path that was judged: in one as sent, such as `/app/admin/../x`, it might read another."""
    if target == b"*" or method in (b"CONNECT", b"TRACE"):
        return None
    try:
        sent, query = split_target(target)
        path = SentPath(sent)
        return path.as_key() if site.root.rules.asks else path, query
    except HttpError:
        return None  # `look_up` says so


def find(site: Site, sent: Sent) -> Asked | None:
    """What the application answers a request with; None: what a file, a rule or nothing does."""
    forced = _action(site, sent, is_forced=True)
    if forced is not None and (found := _led(site, sent, forced)) is not None:
        return found
    if is_sites_own(site, sent):
        return None
    (path, query), application = sent.place, site.application
    assert application is not None
    resource = application.find(path, query, websocket=_is_websocket(sent))
    return Asked(resource, sent.target, path, query) if resource is not None else find_led(site, sent)


def find_led(site: Site, sent: Sent) -> Asked | None:
    """The same where the application has nothing at the target itself, nor is there a file."""
    action = _action(site, sent)
    return _led(site, sent, action) if action is not None else None


def rewrite_of(site: Site, sent: Sent) -> Action | None:
    """The rewrite that leads a request to the application, if that has something there; whether it has, is not asked,
    nor whether it has something at the target itself."""
    action = _action(site, sent, is_forced=True) or (None if is_sites_own(site, sent) else _action(site, sent))
    return action if action is not None and _passes_files(site, sent, action) else None


def is_sites_own(site: Site, sent: Sent) -> bool:
    """Whether a request is answered before any application is asked."""
    (path, query), rules = sent.place, site.root.rules
    if sent.method in READS:
        return site.has_own(path.key, query, host_of(sent.target, sent.fields))
    if sent.method not in MOVED_METHODS or not rules.has_forced:
        return False
    action = rules.forced(path.key, query, host_of(sent.target, sent.fields))
    return action is not None and bool(action.location)


def _action(site: Site, sent: Sent, *, is_forced: bool = False) -> Action | None:
    """The rewrite that a request meets: among those with force, or where no file is."""
    path, query = sent.place
    rules = site.root.rules
    if not rules.has_rewrites or not path.is_plain:
        return None
    host = host_of(sent.target, sent.fields)
    action = rules.forced(path.key, query, host) if is_forced else rules.answer(path.key, query, host)
    return action if action is not None and action.status == REWRITE else None


def _passes_files(site: Site, sent: Sent, action: Action) -> bool:
    return sent.method not in READS or site.page(action.key) is None


def _led(site: Site, sent: Sent, action: Action) -> Asked | None:
    """What the application has where a rewrite leads, unless a file answers."""
    application = site.application
    if application is None or not _passes_files(site, sent, action):
        return None
    path, query = SentPath(action.key), action.query or None
    resource = application.find(path, query, websocket=_is_websocket(sent))
    if resource is None:
        return None
    target = before_path(sent.target) + action.key + (b"?" + query if query is not None else b"")
    return Asked(resource, target, path, query, sent.target)


def _is_websocket(sent: Sent) -> bool:
    return sent.fields.websocket and sent.method == b"GET"
