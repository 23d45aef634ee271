"""What a target leads to where no application has it: a file, a directory's redirect, what rules say, or the page for
what is absent.

The order in which that is asked stands in rules/compiled.py. Nothing here waits: whose content is asked for is told,
and not whether it is in memory.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TypeAlias

from zcserve.cache.entry import Entry, Redirect
from zcserve.cache.index import Generation
from zcserve.cache.listing import STANDS_BACK, Listing, ListingRedirect, Resource
from zcserve.cache.naming import keys_of
from zcserve.errors import HttpError
from zcserve.http import KNOWN_METHODS, FieldLines, canonical_path
from zcserve.net.fields import Fields
from zcserve.net.front import Lasting
from zcserve.net.request import host_of, split_target
from zcserve.paths import SentPath
from zcserve.rules.compiled import NO_FIELDS, Effect, HeadFields, Rules
from zcserve.rules.cors import without_cors
from zcserve.rules.redirects import ERRORS, REWRITE, Action, Queries
from zcserve.site import reply
from zcserve.site.exchange import Stored
from zcserve.site.listing_page import JSON_QUERY
from zcserve.site.listings import Listed
from zcserve.site.reply import Reply
from zcserve.site.site import Found, Site

# What a target leads to.
Led: TypeAlias = Reply | Stored | Listed | tuple[Generation, Entry]

# Stands for no key: for the rules that match every path.
EVERYWHERE = b""
# What a redirect of a rule answers besides requests that read: all that are for a resource of the site, but for the
# question what it takes.
MOVED_METHODS = KNOWN_METHODS - {b"GET", b"HEAD", b"OPTIONS", b"CONNECT", b"TRACE"}


@dataclass(slots=True)
class Trail:
    """What a look-up went by, for the operator's question why (explanation.py).

    options   what rules say in an answer to OPTIONS, where they say something of the path; None: as `headed` has it
    action    what a redirect, a rewrite or a rule for an error answers; None: no such rule decides
    is_page   the page of --spa is the answer
    headed    the key whose header rules the answer has, as one without a file; EVERYWHERE: those for every path;
              None: none, or a file's
    preflight what the rule with `cors` says to a preflight, which no other rule says anything of CORS to; empty: there
              is no such rule; None: it is no preflight
    """

    options: list[Effect] | None = None
    action: Action | None = None
    is_page: bool = False
    headed: bytes | None = None
    preflight: list[Effect] | None = None


def look_up(
    site: Site,
    method: bytes,
    target: bytes,
    place: tuple[SentPath, bytes | None] | None = None,
    fields: Fields | None = None,
    trail: Trail | None = None,
) -> Led:
    """What a site says to a request without an application: the answer, or whose content is asked for. `place`: the
    target's path and query, where they were read; `fields` say the host, which rules may ask for; `trail` is told what
    decided. Raises HttpError 400."""
    if site.is_nowhere:
        if method in (b"GET", b"HEAD"):
            split_target(target)
        return reply.page(421)
    if method in (b"GET", b"HEAD"):
        rules = site.live.root.rules
        if rules.reads_origin and fields is not None and fields.origin:
            return _look_up_for_origin(site, target, place, fields, trail)
        if rules.has_answers:
            return _led(site, *_place(target, place), _host(target, fields), trail)
        (generation, resource), query = _find(site, target, place)
        if isinstance(resource, Entry):
            return generation, resource
        if isinstance(resource, Listing):
            return _led(site, *_place(target, place), b"", trail)
        if resource is None:  # as `_absent`, two calls fewer: scanners ask for what is absent all day
            if trail is not None:
                trail.headed = rules.not_found_key
            live = site.live
            return reply.not_found(live.error_pages.get(404), live.root.rules.absent)
        return _slashed(generation, keys_of(resource.location)[1], query, resource, trail)
    rules = site.live.root.rules
    everywhere = rules.everywhere
    if method == b"OPTIONS":
        if target != b"*":
            if fields is not None and fields.preflight is not None:
                return _preflight(site, target, place, fields, fields.preflight, trail)
            if rules.has_lasting_fields:
                return _options(site, target, place, fields, trail)
            if rules.has_answers:
                found = _led(site, *_place(target, place), _host(target, fields), trail)
                if isinstance(found, Reply) and found.status == 404:
                    return found
            elif _find(site, target, place)[0][1] is None:
                return _absent(site, trail, _place(target, place)[0])
        if trail is not None:
            trail.headed = EVERYWHERE
        return reply.options(everywhere)
    if rules.has_answers and method in MOVED_METHODS and target != b"*":
        moved = _moved(site, target, place, fields, trail)
        if moved is not None:
            return moved
    if site.refuse is not reply.refused:  # it says so in a form of its own
        return site.refuse(405, reply.ALLOW, "") if method in KNOWN_METHODS else site.refuse(501, (), "")
    if trail is not None:
        trail.headed = EVERYWHERE
    if method in KNOWN_METHODS:
        return site.refuse(405, everywhere + reply.ALLOW, "")
    return site.refuse(501, everywhere, "")


def _moved(
    site: Site,
    target: bytes,
    place: tuple[SentPath, bytes | None] | None,
    fields: Fields | None,
    trail: Trail | None,
) -> Reply | None:
    """What a redirect of a rule says to a request that does not read (RFC 9110 section 15.4): so a form that is sent to
    an old path is sent again to the new one, by 307 and 308. None: no rule leads elsewhere. Raises HttpError 400."""
    rules = site.root.rules
    key, query = _place(target, place)
    action = rules.answer(key, query, _host(target, fields))
    if action is None or not action.location or not (action.rule.force or _stands_back(site.find(key)[1])):
        return None
    if trail is not None:
        trail.action, trail.headed = action, key
    headed = rules.fields_of_answer(key)
    moved = _redirected(action, query, headed)
    lines = headed.lines_for(fields.origin) if rules.reads_origin and fields is not None and fields.origin else ()
    return moved.dressed(moved.status, lines) if lines else moved


def _redirected(action: Action, query: bytes | None, fields: HeadFields) -> Reply:
    location = ((b"Location", action.location),)
    if query is None and action.rule.pattern.is_exact:
        return reply.page(action.status, location, fields)
    return reply.new_page(action.status, location, fields=fields)


def lasting(site: Site, path: bytes) -> Lasting | None:
    """What a path leads to for all requests that read; where any key leads elsewhere, the front is told. None: only the
    request itself can tell, as where it must show a password, or the path is another spelling of a key. Raises
    HttpError 400."""
    rules, resource = site.root.rules, site.live.resources.get(path)
    if site.asks(path) is not None:
        return None
    is_own = not _stands_back(resource) and not rules.may_force(path)
    if is_own and isinstance(resource, Entry):
        if resource.key != path and site.asks(resource.key) is not None:
            return None
        reads_origin = rules.reads_origin and rules.fields_of(resource.key).reads_origin
        return None if reads_origin else Lasting(resource, True, Queries.ANY)
    if path[:1] != b"/" or canonical_path(path) != path or site.is_nowhere:
        return None
    queries = Queries.ANY if is_own else rules.queries(path)
    if queries is None or (site.leaves(path) and not site.has_own(path, None, b"")):
        return None
    trail = Trail()
    found = _led(site, path, None, b"", trail)
    if isinstance(found, Listed) or _fields_of(site, path, found).reads_origin:
        return None
    if _may_be_applications(site, trail.action, found):
        return None
    if trail.action is None or not trail.action.location:
        queries = min(queries, Queries.ANY)  # no rule has a query go along
    if not isinstance(found, Reply):
        return _lasting_file(site, path, found, queries)
    if trail.action is None and found.status == 301:  # a directory's; where it is none of the live ones, it goes soon
        queries = Queries.SENT if queries else Queries.NONE
        return Lasting(found, is_own, queries) if resource is not None else None
    return Lasting(found, False, queries)


def _may_be_applications(site: Site, action: Action | None, found: Led) -> bool:
    """Whether a rewrite leads to where no file is, and an application may have something (rewriting.py)."""
    is_rewritten = action is not None and action.status == REWRITE
    return is_rewritten and site.application is not None and isinstance(found, Reply)


def _lasting_file(
    site: Site, path: bytes, found: Stored | tuple[Generation, Entry], queries: Queries
) -> Lasting | None:
    """As `lasting`, of a file that rules lead a path to, which asks for nothing itself: one that the front may know by
    its own key."""
    generation, entry = (found.generation, found.entry) if isinstance(found, Stored) else found
    live, own = site.live, entry.key
    if generation is not live or live.resources.get(own) is not entry or live.root.rules.may_force(own):
        return None
    if isinstance(found, Stored):  # an error's page, which `may_show` has let pass
        return Lasting(entry, False, queries, found.status)
    if own != path and site.asks(own) is not None:
        return None
    return Lasting(entry, False, queries)


def _preflight(
    site: Site,
    target: bytes,
    place: tuple[SentPath, bytes | None] | None,
    fields: Fields,
    asked: tuple[bytes, bytes],
    trail: Trail | None,
) -> Reply:
    """Whether a page of another origin may ask for what a target leads to. Raises HttpError 400."""
    key, query = _place(target, place)
    found = _led(site, key, query, _host(target, fields), trail)
    is_hidden = site.asks(key) is not None  # what is absent is told like what is there
    cors = site.root.rules.fields_of_answer(key).cors if is_hidden else _fields_of(site, key, found).cors
    if not is_hidden and cors is None and isinstance(found, Reply) and found.status == 404:
        return found
    lines = cors.preflight(fields.origin, *asked) if cors is not None else ()
    if trail is not None:
        trail.headed = EVERYWHERE
        by = site.root.rules if is_hidden else _rules_of(site, found)
        trail.preflight = [by.effect_of(cors, lines)] if cors is not None else []
    rules = site.root.rules
    everywhere = without_cors(rules.everywhere) if rules.has_cors else rules.everywhere
    return reply.preflight(everywhere + lines) if cors is not None else reply.options(everywhere)


def _options(
    site: Site,
    target: bytes,
    place: tuple[SentPath, bytes | None] | None,
    fields: Fields | None,
    trail: Trail | None,
) -> Reply:
    """What can be done with what a target leads to; of CORS the answer has what a GET would have. Raises HttpError
    400."""
    key, query = _place(target, place)
    origin = fields.origin if fields is not None else b""
    found = _led(site, key, query, _host(target, fields), trail)
    its = _fields_of(site, key, found)
    if isinstance(found, Reply) and found.status == 404:
        lines = its.lines_for(origin)
        return found.dressed(404, lines) if lines else found
    if trail is not None:
        entry = None
        if not isinstance(found, (Reply, Listed)):
            entry = found.entry if isinstance(found, Stored) else found[1]
        about = key if entry is None else entry.key
        trail.options = _rules_of(site, found).effects_of_options(about, of_file=entry is not None, origin=origin)
    return reply.options(without_cors(site.root.rules.everywhere) + its.cors_lines(origin))


def _host(target: bytes, fields: Fields | None) -> bytes:
    return host_of(target, fields) if fields is not None else b""


def _rules_of(site: Site, found: Led) -> Rules:
    """Those that head what a key leads to."""
    if isinstance(found, Reply):
        return site.root.rules
    return (found.generation if isinstance(found, (Stored, Listed)) else found[0]).root.rules


def _fields_of(site: Site, key: bytes, found: Led) -> HeadFields:
    """What rules say of that which a key leads to."""
    rules = _rules_of(site, found)
    if isinstance(found, Listed):
        return rules.fields_of_answer(found.key)
    if isinstance(found, Reply):
        if found.status in ERRORS and found.status != 404:  # the small page, which has what holds for every path
            return NO_FIELDS
        return rules.absent if found.status == 404 else rules.fields_of_answer(key)
    return rules.fields_of((found.entry if isinstance(found, Stored) else found[1]).key)


def _look_up_for_origin(
    site: Site,
    target: bytes,
    place: tuple[SentPath, bytes | None] | None,
    fields: Fields,
    trail: Trail | None,
) -> Led:
    """As `look_up`, of a site whose rules ask for the origin that a request has."""
    key, query = _place(target, place)
    found = _led(site, key, query, _host(target, fields), trail)
    lines = _fields_of(site, key, found).lines_for(fields.origin)
    if not lines:
        return found
    if isinstance(found, Listed):
        return replace(found, fields=lines)
    if isinstance(found, Reply):
        return found.dressed(found.status, lines)
    if isinstance(found, Stored):
        return Stored(found.generation, found.entry, status=found.status, fields=lines)
    return Stored(*found, fields=lines)


def _led(site: Site, key: bytes, query: bytes | None, host: bytes, trail: Trail | None) -> Led:
    """What files and rules lead a key to, whatever the origin."""
    rules = site.root.rules
    action = rules.forced(key, query, host)
    listed: Listing | ListingRedirect | None = None
    if action is None:
        generation, resource = site.find(key)
        if isinstance(resource, Entry):
            return generation, resource
        if isinstance(resource, (Listing, ListingRedirect)):
            listed = resource
        elif resource is not None:
            return _slashed(generation, key, query, resource, trail)
        action = rules.answer(key, query, host)
    if trail is not None:
        trail.action = action
    if action is None:
        if isinstance(listed, ListingRedirect):
            return _slashed(site.live, key, query, listed, trail)
        if listed is not None:
            if trail is not None:
                trail.headed = key
            return _listed(site, key, query, listed)
        page = rules.page_of_application(key)
        found = site.page(page) if page else None
        if trail is not None:
            trail.is_page = found is not None
        return found if found is not None else _absent(site, trail, key)
    if action.location:
        if trail is not None:
            trail.headed = key
        return _redirected(action, query, rules.fields_of_answer(key))
    if action.status == REWRITE:
        return site.page(action.key) or _absent(site, trail, key)
    keys = (action.key,) if action.key else ()
    found = next(filter(None, map(site.page, (*keys, *rules.error_pages.of[action.status]))), None)
    if found is not None and site.may_show(found[1].key, key):
        return Stored(*found, status=action.status)
    if action.status == 404:
        return _absent(site, trail, key)
    if trail is not None:
        trail.headed = EVERYWHERE
    return reply.page(action.status, rules.everywhere)


def _stands_back(resource: Resource | None) -> bool:
    """Whether redirects go before what is at a key."""
    return resource is None or isinstance(resource, STANDS_BACK)


def _slashed(generation: Generation, key: bytes, query: bytes | None, resource: Redirect, trail: Trail | None) -> Reply:
    """To a directory, from its name without the slash."""
    if trail is not None:
        trail.headed = key
    return reply.redirect(301, resource.location, query, generation.root.rules.fields_of_answer(key))


def _listed(site: Site, key: bytes, query: bytes | None, listing: Listing) -> Listed:
    """The names of a directory. What a redirect or an application may answer for some requests is for each to ask."""
    rules = site.root.rules
    is_lasting = (
        not site.leaves(key)
        and not rules.may_answer(key)
        and not (rules.reads_origin and rules.fields_of_answer(key).reads_origin)
    )
    return Listed(site.live, key, listing, query == JSON_QUERY, is_lasting=is_lasting)


def _absent(site: Site, trail: Trail | None, key: bytes) -> Reply:
    if trail is not None:
        trail.headed = site.root.rules.not_found_key
    return site.not_found(key)


def _place(target: bytes, place: tuple[SentPath, bytes | None] | None) -> tuple[bytes, bytes | None]:
    """A target's key and query. Raises HttpError 400."""
    if place is None:
        sent, query = split_target(target)
        return canonical_path(sent), query
    path, query = place
    if not path.is_plain:
        raise HttpError(400, "NUL or bad percent-encoding in the path")
    return path.key, query


def _find(site: Site, target: bytes, place: tuple[SentPath, bytes | None] | None) -> tuple[Found, bytes | None]:
    """What a target names, and its query. Raises HttpError 400."""
    found = site.find(target)
    if found[1] is not None:
        return found, None
    if place is None:
        sent, query = split_target(target)
        return site.find(canonical_path(sent)), query
    key, query = _place(target, place)
    return site.find(key), query


def failed(site: Site, status: int, target: bytes, origin: bytes = b"") -> Reply:
    """500, 503 or 504 where a target's file or application fails, with what rules say of what is there to a page of
    this origin."""
    return site.failed(status, fields_of_failure(site, target, origin), key_asked(target))


def key_asked(target: bytes) -> bytes:
    """The key that a target names; b"" where it names none."""
    try:
        return canonical_path(split_target(target)[0])
    except HttpError:
        return b""


def fields_of_failure(site: Site, target: bytes, origin: bytes = b"") -> FieldLines:
    """What rules say of what is at a target, but for how its content is kept and used: an answer that is not it."""
    rules = site.root.rules
    if not rules.has_lasting_fields:
        return ()
    key = key_asked(target)
    if not key:
        return ()
    found = site.page(key)
    return rules.fields_of_failure(found[1].key if found is not None else key, origin)
