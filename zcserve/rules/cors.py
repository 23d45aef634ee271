"""Which pages of other origins may read what is served: CORS, as the Fetch standard has it ("CORS protocol").

A rule with `*` means the same to everyone, so its field is made into heads at load, and no request pays for it. A rule
with a list of origins is answered by what the request says in Origin: such answers say `Vary: Origin`, whether the
origin is on the list or not, and no front is taught them.

Before a request that no form could have made, a browser asks for leave (a preflight: OPTIONS with Origin and
Access-Control-Request-Method). What is not allowed gets no Access-Control-Allow-Origin: browsers stop there.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from zcserve.config.option import toml_type
from zcserve.config.refusal import refusal
from zcserve.config.tables import Table
from zcserve.config.units import DAY_S, parse_duration
from zcserve.errors import UsageError, known_instead
from zcserve.http import KNOWN_METHODS, FieldLines, is_token, parse_list

WORDS = ("origins", "methods", "headers", "expose", "max_age", "credentials")
# Of each list. A preflight's answer names all methods and fields, and proxies refuse long heads (nginx takes 4 KiB).
ELEMENTS_MAX = 100
# As `rules.rule.NAME_BYTES_MAX`, and the longest host name with its scheme and port.
NAME_BYTES_MAX = 100
ORIGIN_CHARACTERS_MAX = 300
# Chromium keeps a preflight's answer for two hours at most, Firefox for a day.
MAX_AGE_MAX_S = DAY_S

ALLOW_ORIGIN = b"Access-Control-Allow-Origin"
EXPOSE = b"Access-Control-Expose-Headers"
_ANY: FieldLines = ((ALLOW_ORIGIN, b"*"),)
_VARY: FieldLines = ((b"Vary", b"Origin"),)
_FIELDS = b"access-control-"
# Browsers take the first for allowed, whatever is said (Fetch standard, "CORS-safelisted method"), and send none of the
# second for a page ("forbidden method").
_SAFE_METHODS = (b"GET", b"HEAD", b"POST")
_FORBIDDEN = frozenset((b"CONNECT", b"TRACE"))
# `*` does not stand for it (Fetch standard, "CORS non-wildcard request-header name").
_NO_WILDCARD = b"authorization"

_HOST_BYTES = b"abcdefghijklmnopqrstuvwxyz0123456789-_."
_ORIGIN = re.compile(r"([a-z][a-z0-9+.-]*)://(\*\.)?([a-z0-9_-]+(?:\.[a-z0-9_-]+)*|\[[0-9a-f:.]+\])(:[1-9][0-9]{0,4})?")
_DEFAULT_PORTS = {"http": ":80", "https": ":443"}
_ORIGINS_ACCEPTED = '"*", or origins such as "https://a.example", "https://*.b.example"'


class Cors(NamedTuple):
    """What other origins may do with an answer.

    origins      as browsers send them; (): any may, without credentials
    below        (b"https://", b".b.example"): what an origin begins and ends with whose host is below a name
    methods      of requests, in the order of the rule
    headers      lower-case names of request fields; b"*" for all but Authorization
    exposed      names of response fields that a page may read besides the safe ones
    max_age_s    how long a browser may remember a preflight's answer; -1: as it likes (5 s)
    credentials  whether cookies may come with the request
    """

    origins: tuple[bytes, ...] = ()
    below: tuple[tuple[bytes, bytes], ...] = ()
    methods: tuple[bytes, ...] = (b"GET", b"HEAD")
    headers: tuple[bytes, ...] = (b"*",)
    exposed: tuple[bytes, ...] = ()
    max_age_s: int = -1
    credentials: bool = False

    @property
    def reads_origin(self) -> bool:
        """Whether the answer depends on the origin that asks."""
        return bool(self.origins or self.below)

    @property
    def lines(self) -> FieldLines:
        """What stands in the head of each answer, made at load."""
        if self.reads_origin:
            return _VARY
        return _ANY + self._exposing

    @property
    def lines_of_most(self) -> FieldLines:
        """The longest that one answer may have, but for the origin's own length."""
        origin = self.origins[0] if self.origins else self.below[0][0] + self.below[0][1] if self.below else b"*"
        method = self.methods[0] if self.methods else b"GET"
        return (*self.preflight(origin, method, b""), *self._exposing)

    @property
    def _exposing(self) -> FieldLines:
        return ((EXPOSE, b", ".join(self.exposed)),) if self.exposed else ()

    def allows(self, origin: bytes) -> bool:
        """Whether a page of this origin may read the answer; b"" for a request that names none."""
        if not self.reads_origin:
            return True
        if origin in self.origins:
            return True
        return any(_is_below(origin, before, behind) for before, behind in self.below)

    def lines_for(self, origin: bytes) -> FieldLines:
        """What an answer says besides `lines` to a request of this origin."""
        if not origin or not self.reads_origin or not self.allows(origin):
            return ()
        return (*self._allowing(origin), *self._exposing)

    def _allowing(self, origin: bytes) -> FieldLines:
        if not self.reads_origin:
            return _ANY
        named = (ALLOW_ORIGIN, origin)
        return (named, (b"Access-Control-Allow-Credentials", b"true")) if self.credentials else (named,)

    def preflight(self, origin: bytes, method: bytes, headers: bytes) -> FieldLines:
        """The answer's fields: `method` and `headers` are what Access-Control-Request-Method and -Headers say."""
        vary = _VARY if self.reads_origin else ()
        if not self.allows(origin) or not self._takes(method, headers):
            return vary
        lines = [*self._allowing(origin), (b"Access-Control-Allow-Methods", b", ".join(self.methods))]
        if self.headers:
            lines.append((b"Access-Control-Allow-Headers", b", ".join(self.headers)))
        if self.max_age_s >= 0:
            lines.append((b"Access-Control-Max-Age", b"%d" % self.max_age_s))
        return (*lines, *vary)

    def _takes(self, method: bytes, headers: bytes) -> bool:
        if method not in self.methods and method not in _SAFE_METHODS:
            return False
        known = frozenset(self.headers)
        asked = [name.lower() for name in parse_list(headers)]
        return all(name in known or (b"*" in known and name != _NO_WILDCARD) for name in asked)


def without_cors(lines: FieldLines) -> FieldLines:
    """The lines but for those of CORS."""
    return tuple(line for line in lines if not line[0].lower().startswith(_FIELDS))


def of_cors(lines: FieldLines) -> FieldLines:
    """Those of CORS."""
    return tuple(line for line in lines if line[0].lower().startswith(_FIELDS))


def _is_below(origin: bytes, before: bytes, behind: bytes) -> bool:
    """Whether a host below a name stands between a scheme and what follows it."""
    if len(origin) <= len(before) + len(behind) or not (origin.startswith(before) and origin.endswith(behind)):
        return False
    labels = origin[len(before) : len(origin) - len(behind)]
    return not labels.translate(None, _HOST_BYTES) and all(labels.split(b"."))


# --- as it is written -------------------------------------------------------------------------------------


def read_cors(table: Table, word: str = "cors") -> Cors:
    """What a rule says under `word`: "*", or a table of `WORDS`. Raises UsageError with file, line and column."""
    value = table[word]
    if value == "*":
        return Cors()
    table.checked(word, _require_table)
    for name in value:
        if name not in WORDS:
            told = known_instead(str(name).replace("-", "_"), WORDS)
            raise UsageError(f"{table.where(word, name)}: unknown word {name!r}; {told}")
    if "origins" not in value:
        raise UsageError(f"{table.where(word)}: no origins; accepted: origins = {_ORIGINS_ACCEPTED}")
    reads = _Reading(table, word)
    origins = reads.each("origins", _origin)
    credentials = bool(value.get("credentials") and table.checked(word, _switch, "credentials"))
    if "*" in origins and (credentials or len(origins) > 1):
        why = "browsers take no cookies to what any page may read" if credentials else "it is all origins"
        accepted = "the origins that may" if credentials else "* alone"
        raise table.refuse(refusal("*", f"cannot stand here: {why}", accepted), word, "origins")
    if not origins:
        raise table.refuse(refusal([], "allows nothing", _ORIGINS_ACCEPTED), word, "origins")
    headers = reads.each("headers", _name) if "headers" in value else () if credentials else (b"*",)
    exposed = reads.each("expose", _name)
    for name, names in (("headers", headers), ("expose", exposed)):
        if credentials and b"*" in names:
            error = refusal("*", "means nothing where credentials are sent (Fetch standard)", "the names of fields")
            raise table.refuse(error, word, name)
    return Cors(
        origins=tuple(one.encode() for one in origins if "*" not in one),
        below=tuple(_below(one) for one in origins if "*." in one),
        methods=reads.each("methods", _method) if "methods" in value else (b"GET", b"HEAD"),
        headers=tuple(name.lower() for name in headers),
        exposed=exposed,
        max_age_s=table.checked(word, _max_age, "max_age") if "max_age" in value else -1,
        credentials=credentials,
    )


class _Reading:
    """Lists in one table."""

    def __init__(self, table: Table, word: str) -> None:
        self._table = table
        self._word = word

    def each(self, name: str, check: Callable[[Any], Any]) -> tuple[Any, ...]:
        """What `check` makes of each text under a name; of one text, or of a list."""
        if name not in self._table[self._word]:
            return ()
        value = self._table[self._word][name]
        if isinstance(value, str):
            return (self._table.checked(self._word, check, name),)
        self._table.checked(self._word, _require_list, name)
        return tuple(self._table.checked(self._word, check, name, number) for number in range(len(value)))


def _require_table(value: object) -> None:
    if not isinstance(value, dict):
        raise refusal(value, f"is {toml_type(value)}", '"*", or a table such as { origins = ["https://a.example"] }')


def _require_list(value: object) -> None:
    if not isinstance(value, (list, tuple)):
        raise refusal(value, f"is {toml_type(value)}", "a list of texts")
    if len(value) > ELEMENTS_MAX:
        raise refusal(len(value), "elements are too many", f"{ELEMENTS_MAX} at most")


def _text(value: object, accepted: str) -> str:
    if not isinstance(value, str):
        raise refusal(value, f"is {toml_type(value)}", accepted)
    return value


def _switch(value: object) -> bool:
    if not isinstance(value, bool):
        raise refusal(value, f"is {toml_type(value)}", "true or false")
    return value


def _origin(value: object) -> str:
    """One origin as browsers send it (RFC 6454 section 6.2): they leave the scheme's own port out."""
    text = _text(value, _ORIGINS_ACCEPTED)
    if text == "*":
        return text
    if text == "null":
        raise refusal(text, "is the origin of every page in a sandbox", _ORIGINS_ACCEPTED)
    match = _ORIGIN.fullmatch(text) if len(text) <= ORIGIN_CHARACTERS_MAX else None
    if match is None:
        raise refusal(text[:80], "is no origin: a scheme and a host in lower case, no path", _ORIGINS_ACCEPTED)
    if match[4] and _DEFAULT_PORTS.get(match[1]) == match[4]:
        raise refusal(text, "is no origin as browsers send it: they leave this port out", text.removesuffix(match[4]))
    return text


def _below(origin: str) -> tuple[bytes, bytes]:
    before, _, behind = origin.encode().partition(b"*")
    return before, behind


def _name(value: object) -> bytes:
    accepted = f"the name of a field, {NAME_BYTES_MAX} bytes at most (RFC 9110 section 5.1)"
    raw = _text(value, accepted).encode("ascii", "replace").replace(b"?", b"\0")
    if not is_token(raw) or len(raw) > NAME_BYTES_MAX:
        raise refusal(value, "is not the name of a field", accepted)
    return raw


def _method(value: object) -> bytes:
    accepted = "methods such as GET, in capitals"
    raw = _text(value, accepted).encode("ascii", "replace")
    if raw not in KNOWN_METHODS or raw in _FORBIDDEN:
        raise refusal(value, "is not a method that pages send", accepted)
    return raw


def _max_age(value: object) -> int:
    accepted = 'a text such as "1h", whole seconds, a day at most: no browser remembers it for longer'
    seconds = parse_duration(value) if isinstance(value, str) else value
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)):
        raise refusal(value, f"is {toml_type(value)}", accepted)
    if not 0 <= seconds <= MAX_AGE_MAX_S or seconds != int(seconds):
        raise refusal(value, "is not a time that a browser remembers", accepted)
    return int(seconds)


def any_reads_origin(policies: Iterable[Cors | None]) -> bool:
    """Whether one of these rules can tell only from a request what it answers."""
    return any(cors is not None and cors.reads_origin for cors in policies)
