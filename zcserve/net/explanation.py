"""What a request is answered with, and why: what an operator asks before a client does, or after.

Nothing is decided here. A request is written as a client sends it, and goes through what answers it: the parser, the
sites by host, `look_up`, negotiation, conditions and ranges, the framing. What is told besides is what these went by.
Nothing is sent, and no use is counted.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Protocol
from urllib.parse import quote

from zcserve.auth.credentials import Credentials, credentials_of
from zcserve.cache.entry import Body, Entry, each_coding
from zcserve.cache.index import Generation
from zcserve.cache.naming import path_of
from zcserve.config.hosts import WILDCARD
from zcserve.config.units import counted
from zcserve.errors import HttpError, UsageError
from zcserve.http import FIELD_VALUE_BYTES, canonical_path, coding_quality, is_token
from zcserve.net.admission import is_preflight, key_of, unauthorized
from zcserve.net.fields import CLOSE, Fields
from zcserve.net.framing import frame
from zcserve.net.head import SentHead
from zcserve.net.leading import EVERYWHERE, Trail, look_up
from zcserve.net.negotiate import choose
from zcserve.net.prefixes import Prefixes
from zcserve.net.representing import answer_of, not_acceptable
from zcserve.net.request import Parser, host_of, split_target
from zcserve.net.rewriting import Sent, is_sites_own, place_of, rewrite_of
from zcserve.phrases import PHRASES
from zcserve.rules.compiled import Effect
from zcserve.rules.cors import ALLOW_ORIGIN
from zcserve.rules.preset import switch_of
from zcserve.rules.protected import Protection
from zcserve.rules.redirects import Action
from zcserve.site.exchange import Stored
from zcserve.site.listings import Listed, Made
from zcserve.site.reply import Reply, kept_private, refused
from zcserve.site.site import Site

# Of a URL that names no host.
HOST = "localhost"
# Of what was not read yet.
NO_ETAG = ("ETag", "")
_URL = re.compile(r"(?i:https?)://([^/?#]*)([^#]*)(?:#.*)?", re.DOTALL)
_SENT_IN_URLS = "".join(map(chr, range(0x21, 0x7F)))


class Source(Protocol):
    """Where the content comes from that is asked for."""

    def open(self, site: Site) -> None:
        """The request is for this site, which is looked at from now on."""

    def prepare(self, site: Site, generation: Generation, base: Entry) -> None:
        """Have a file's variants known, before one is chosen."""

    def body(self, site: Site, generation: Generation, base: Entry, chosen: Entry) -> tuple[Body, str]:
        """The representation, and what is to be said of it. Raises OSError where it cannot be read."""

    def page(self, site: Site, listed: Listed) -> Made:
        """The page of a directory without an index; one of -1 names is not made yet, and has no content."""

    def has_application(self, site: Site) -> bool:
        """Whether something besides files and rules answers there."""


class HeadAlone(Body):
    """A representation of which nothing is sent."""

    __slots__ = ("_head",)

    def __init__(self, head: bytes, size: int) -> None:
        super().__init__(size)
        self._head = head

    def head(self) -> bytes:
        return self._head

    def part(self, start: int, stop: int) -> bytes:
        return b""


@dataclass(slots=True)
class Explanation:
    """All texts are for people.

    host      as the request names it, in lower case and without a port
    site      its name; "": none
    path      the key that the target's path becomes; "": it is none
    answer    what answers: a file, a redirect, ...
    rule      the rule that decided, with its place; "": none
    auth      the rules that ask for a password, by the path and by the file that answers; "": none does
    file      the file that is sent, below the root; "": none
    variant   which representation, and why
    condition what conditions and ranges make of it; "": there are none
    effects   of header rules, in their order
    fields    as they are sent, but for Date
    notes     what else there is to know
    """

    method: str
    target: str
    host: str = ""
    site: str = ""
    site_why: str = ""
    path: str = ""
    answer: str = ""
    rule: str = ""
    auth: str = ""
    file: str = ""
    variant: str = ""
    condition: str = ""
    effects: list[Effect] = field(default_factory=list)
    status: int = 0
    fields: list[tuple[str, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def told(self) -> dict[str, Any]:
        """The same as JSON has it; fields as lines, "Name: value"."""
        told: dict[str, Any] = {
            name: getattr(self, name) for name in self.__slots__ if name not in ("effects", "fields", "notes")
        }
        told["rules"] = [
            {"where": where_of(one), "taken": lines_of(_texts(one.taken)), "given": lines_of(_texts(one.given))}
            for one in self.effects
        ]
        return told | {"fields": lines_of(self.fields), "notes": self.notes}


def where_of(effect: Effect) -> str:
    """The place of a header rule, and what it is for."""
    written, globs = effect.rule.written, " ".join(effect.rule.globs)
    return f"{written.where() if written is not None else switch_of(effect.rule)} ({globs})"


def lines_of(fields: Iterable[tuple[str, str]]) -> list[str]:
    """Fields as a request or an answer has them."""
    return [f"{name}: {value}" for name, value in fields]


def _texts(lines: Iterable[tuple[bytes, bytes]]) -> list[tuple[str, str]]:
    return [(name.decode("latin-1"), value.decode("latin-1")) for name, value in lines]


# --- the request ----------------------------------------------------------------------------------------------


def request_of(url: str, method: str = "GET", lines: Sequence[str] = ()) -> bytes:
    """The request that a client makes of a URL ("http://host/path" or "/path") and further field lines ("Name: value").
    Raises UsageError for what no request can hold; what a server refuses is let through."""
    match = _URL.fullmatch(url)
    host, target = match.groups() if match is not None else (HOST, url.partition("#")[0])
    if match is not None and not target.startswith("/"):
        target = "/" + target
    if not target.startswith("/") and target != "*":
        raise UsageError(f"{url!r} is no URL; accepted: http://host/path, or /path")
    if not is_token(method.encode("ascii", "replace").replace(b"?", b"\0")):
        raise UsageError(f"{method!r} is no method; accepted: GET, HEAD, OPTIONS and their like")
    head = [f"{method} {quote(target, safe=_SENT_IN_URLS, errors='surrogateescape')} HTTP/1.1".encode()]
    checked = list(map(_line, lines))
    if not any(line[:5].lower() == b"host:" for line in checked):
        head.append(b"Host: " + _host(host))
    return b"\r\n".join((*head, *checked, b"", b""))


def _host(text: str) -> bytes:
    """A host as it is sent; what is no ASCII as in DNS (RFC 5891)."""
    try:
        raw = text.encode("ascii" if text.isascii() else "idna")
    except UnicodeError:
        raw = b" "
    if not raw or raw.translate(None, _SENT_IN_URLS.encode()):
        raise UsageError(f"{text!r} is no host; accepted: http://host/path, or /path")
    return raw


def _line(text: str) -> bytes:
    raw = text.encode(errors="surrogateescape")
    name, colon, value = raw.partition(b":")
    if not colon or not is_token(name) or value.translate(None, FIELD_VALUE_BYTES):
        raise UsageError(f"{text!r} is no header field; accepted: 'Name: value'")
    return raw


# --- the answer -----------------------------------------------------------------------------------------------


class Explainer:
    """Explains requests to sites. `site_of` as `Service.site_of`."""

    def __init__(self, parser: Parser, site_of: Callable[[bytes], Site], source: Source, ranges_max: int) -> None:
        self._parser = parser
        self._site_of = site_of
        self._source = source
        self._ranges_max = ranges_max

    def explain(self, request: bytes) -> Explanation:
        """What is said to these bytes, which are one whole head."""
        method, target, _ = request.split(b"\r\n")[0].split(b" ")
        told = Explanation(method.decode(), target.decode("latin-1"))
        try:
            parsed = self._parser.parse(request, 0)
        except HttpError as error:
            return _refused(told, error, None)
        assert parsed is not None
        method, target, fields, _ = parsed
        name = host_of(target, fields)
        site = self._site_of(name)
        told.host = name.decode("latin-1")
        told.site, told.site_why = "" if site.is_nowhere else site.name, _why(site, name)
        self._source.open(site)
        try:
            self._answer(told, site, method, target, fields, credentials_of(SentHead(request).lines))
        except HttpError as error:
            return _refused(told, error, fields)
        return told

    def _answer(
        self,
        told: Explanation,
        site: Site,
        method: bytes,
        target: bytes,
        fields: Fields,
        credentials: Credentials | None,
    ) -> None:
        trail = Trail()
        found = look_up(site, method, target, None, fields, trail)
        key = b""
        with suppress(HttpError):  # "*", or what only CONNECT has
            key = canonical_path(split_target(target)[0])
        told.path = key.decode("latin-1")
        asks = _asks(site, method, fields, key, found)
        told.auth = "; ".join(map(_what_asks, asks))
        if asks and credentials is None:
            told.answer = "a name and a password are asked for"
            told.effects = site.root.rules.effects_everywhere()
            _send(told, unauthorized(site, asks[0], key, fields), fields)
            return
        if asks:
            told.notes.append(
                "the password is not checked here: this is for the right one; else it is 401, and 429 to a client that "
                "has told too many wrong ones (--wrong-passwords-max)"
            )
        place = place_of(site, method, target)
        if place is not None and self._source.has_application(site):
            _tell_of_application(told, site, Sent(method, target, fields, place))
        if trail.action is not None:
            told.rule = _rule(trail.action)
        if isinstance(found, Reply):
            told.answer = _what(found, trail, site, key)
            _send(told, kept_private(found) if asks else found, fields)
            told.effects = _effects(site, trail, fields.origin)
            return
        if isinstance(found, Listed):
            self._list(told, site, found, fields, method, is_private=bool(asks))
            return
        stored = found if isinstance(found, Stored) else Stored(*found)
        told.answer = _which(stored.entry, key, trail, _whence(site, stored.generation))
        self._represent(told, site, stored, fields, method, is_private=bool(asks))

    def _represent(
        self, told: Explanation, site: Site, stored: Stored, fields: Fields, method: bytes, *, is_private: bool
    ) -> None:
        """A file answers with one of its representations."""
        generation, base = stored.generation, stored.entry
        self._source.prepare(site, generation, base)
        chosen = choose(base, fields.accept)
        if chosen is None:
            told.variant = "none is acceptable" + _offered(base, fields)
            none = not_acceptable(site)
            _send(told, kept_private(none) if is_private else none, fields)
            told.effects = site.root.rules.effects_everywhere()
            return
        told.file = path_of(chosen).decode(errors="backslashreplace")
        told.variant = (chosen.encoding.decode() or "identity") + _offered(base, fields)
        try:
            body, note = self._source.body(site, generation, base, chosen)
        except OSError as error:
            told.notes.append(f"the file cannot be read ({error.strerror or error}): a client gets 503")
            return
        if note:
            told.notes.append(note)
        answer = answer_of(fields, method, chosen, body, self._ranges_max, stored)
        told.condition = _condition(fields, answer)
        # Of 412 and 416 those are left out at the end that are said of content.
        told.effects = generation.root.rules.effects_of(chosen.key, of_file=True, origin=fields.origin)
        _send(told, kept_private(answer) if is_private else answer, fields)

    def _list(
        self, told: Explanation, site: Site, listed: Listed, fields: Fields, method: bytes, *, is_private: bool
    ) -> None:
        """A directory answers with its names."""
        rules = listed.generation.root.rules
        made = self._source.page(site, listed)
        names = f"a listing of {counted(made.names, 'name')}" if made.names >= 0 else "a listing"
        told.answer = names + (", as JSON" if listed.is_json else "")
        rule = rules.listing_rule(listed.key)
        told.rule = f"{rule.written.where()}: listing" if rule is not None and rule.written is not None else "--listing"
        told.effects = rules.effects_of(listed.key, of_file=False, origin=fields.origin)
        stored = Stored(listed.generation, made.entry, fields=listed.fields)
        answer = answer_of(fields, method, made.entry, made.body, self._ranges_max, stored)
        told.condition = _condition(fields, answer)
        _send(told, kept_private(answer) if is_private else answer, fields)
        if made.names < 0:
            told.notes.append("the page is made when it is asked for: its length and its ETag are not known")
            told.fields = [pair for pair in told.fields if pair[0] != "Content-Length"]


def _asks(
    site: Site, method: bytes, fields: Fields, key: bytes, found: Reply | Stored | Listed | tuple[Generation, Entry]
) -> list[Protection]:
    """What asks for a password: of the path, and of the file that answers. Not of a preflight (admission.py)."""
    if is_preflight(method, fields):
        return []
    keys = [key] if key else []
    if not isinstance(found, Reply):
        keys.append(key_of(found))
    return list(dict.fromkeys(asks for one in keys if (asks := site.asks(one)) is not None))


def _what_asks(protection: Protection) -> str:
    users = counted(len(protection.users or ()), "user")
    return f"{protection.written.where()} ({' '.join(protection.globs)}): realm {protection.realm!r}, {users}"


def _tell_of_application(told: Explanation, site: Site, sent: Sent) -> None:
    """What an application is asked for, which is not called."""
    if not is_sites_own(site, sent):
        told.notes.append("an application is asked first, and is not called here: this is where it has no answer")
    action = rewrite_of(site, sent)
    if action is not None:
        told.rule = _rule(action)
        leads_to = (action.key + (b"?" + action.query if action.query else b"")).decode()
        told.notes.append(f"the rewrite leads to {leads_to}: what the application has there is the answer")


def _effects(site: Site, trail: Trail, origin: bytes) -> list[Effect]:
    """Of header rules on an answer without a file."""
    rules = site.root.rules
    if trail.options is not None:
        return trail.options
    if trail.preflight is not None:
        return rules.effects_everywhere(with_cors=False) + trail.preflight
    if trail.headed is None:
        return []
    if trail.headed == EVERYWHERE:
        return rules.effects_everywhere()
    return rules.effects_of(trail.headed, of_file=False, origin=origin)


def _refused(told: Explanation, error: HttpError, fields: Fields | None) -> Explanation:
    told.answer = f"refused: {error.reason or PHRASES.get(error.status, '')}"
    _send(told, refused(error.status, (), error.reason), None if error.close else fields)
    return told


def _send(told: Explanation, answer: Reply, fields: Fields | None) -> None:
    """Status and fields as they are sent; without `fields` the connection is closed."""
    mode, version = (CLOSE, b"") if fields is None else (fields.mode, fields.version)
    segments, _, _ = frame(answer, b"HEAD", version)  # has the fields of a GET
    head = Prefixes().of(answer.status, mode) + b"".join(map(bytes, segments))  # type: ignore[arg-type]
    lines = [line.partition(b": ") for line in head.split(b"\r\n")[1:] if line]
    told.status = answer.status
    told.fields = [
        pair for pair in _texts((name, value) for name, _, value in lines) if pair[0] != "Date" and pair != NO_ETAG
    ]
    if any(name == "Content-Type" and value.startswith("multipart/byteranges") for name, value in told.fields):
        told.notes.append("each answer has a boundary of its own, which Content-Length counts")


# --- why ------------------------------------------------------------------------------------------------------


def _why(site: Site, name: bytes) -> str:
    if site.is_nowhere:
        return "no site has this name" if name else "the request names no host, and there is no default site"
    if name and name in site.names:
        return "it has this name"
    below = [own for own in site.names if own.startswith(WILDCARD.encode()) and name.endswith(own[1:])]
    if name and below:
        return f"the host lies below {max(below, key=len).decode()}"
    return "the default site" if name else "the default site, since the request names no host"


def _rule(action: Action) -> str:
    rule = action.rule
    target = f" to {rule.target.text}" if rule.target is not None else ""
    return f"{rule.where}: {rule.pattern.text}{target}, {rule.status}{', with force' if rule.force else ''}"


def _whence(site: Site, generation: Generation) -> str:
    """Which generation a file is of, where that is not the live one."""
    if generation is site.live:
        return ""
    if generation is site.prepared:
        return ", which the live generation lacks: it is of the prepared one"
    return ", which the live generation has no more"


def _which(base: Entry, key: bytes, trail: Trail, whence: str) -> str:
    """What leads to a file."""
    if trail.action is not None:
        return "a rewrite" if trail.action.status == 200 else "a page for an error"
    if trail.is_page:
        return "the page of --spa: nothing else is at this path, which does not look like a file's"
    kind = "a file"
    if base.key == key + b".html":
        kind = "a file by a clean URL"
    elif key.endswith(b"/"):
        kind = "the index of a directory"
    return kind + whence


def _what(answer: Reply, trail: Trail, site: Site, key: bytes) -> str:
    """What leads to an answer without a file."""
    if trail.preflight is not None:
        allowed = any(name == ALLOW_ORIGIN for effect in trail.preflight for name, _ in effect.given)
        return "what a page of another origin may ask for" if allowed else "no leave for a page of another origin"
    if trail.action is not None and trail.action.location and answer.status != 200:
        return "a redirect"
    if answer.status == 301:
        return "a directory: its own path ends in a slash"
    if answer.status == 404 and site.error_page(404, key) is not None:
        page = site.root.rules.error_pages.key_of(404, site.live.pages) or b""
        return f"nothing is at this path: the page {page[1:].decode()}"
    return {200: "what can be done", 404: "nothing is at this path", 421: "no site has this name"}.get(
        answer.status, PHRASES.get(answer.status, "")
    )


def _offered(base: Entry, fields: Fields) -> str:
    """Of which representations one was chosen."""
    if not base.variants:
        return ": there is no other"
    if fields.accept is None:
        return ": the request has no Accept-Encoding"
    offers = []
    for one in each_coding(base):
        coding = one.encoding or b"identity"
        quality = coding_quality(fields.accept, coding)
        offers.append(f"{coding.decode()} {one.size} B q={quality / 1000:g}")
    return f": of {', '.join(offers)} the one that is wanted most, the smallest of equals"


def _condition(fields: Fields, answer: Reply) -> str:
    """Which condition, or which range, decided (RFC 9110 section 13.2.2)."""
    status = answer.status
    if fields.plain:
        return ""
    if status == 304:
        return "If-None-Match has this ETag" if fields.none_match is not None else "not modified If-Modified-Since"
    if status == 412:
        return "If-Match has another ETag" if fields.match is not None else "modified If-Unmodified-Since"
    if status == 206:
        return "a range, or several"
    if status == 416:
        return "no range that the content has"
    return "no condition and no range makes another answer of it"
