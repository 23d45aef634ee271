"""Redirects, rewrites and pages for errors: which rule answers a path, and with what.

    301 302 303 307 308   `to` is sent as Location (RFC 9110 section 15.4)
    200                   a rewrite: what the site has at `to` is served, under the path that was asked for
    403 404 410 451       an error, with the page at `to`, or with the site's own

The first rule, in the order in which they are written, that matches decides. One that leads to where the request is
already does not match: so `/a /a/` adds a slash, though a slash at the end counts for nothing in a pattern, and no rule
makes a client ask the same again for ever. A rule with `force` holds where a file lies, too; if the first that matches
has none, the file is served.

All is known from path and query, and where rules name hosts, from the host (scheme and port count for nothing). What
would need more (a country, a language, a role, a cookie, another server) is refused when it is read.
"""

from __future__ import annotations

import enum
import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from heapq import merge

from zcserve.http import parameter_pairs, percent_decoded
from zcserve.rules.patterns import DOTS, NAME, SPLAT, Pattern, parse_pattern
from zcserve.rules.targets import Target, escape_query, parse_target
from zcserve.rules.trie import SHAPES_MAX, Identity, Patterns, Shapes, identity_of
from zcserve.rules.where import RuleError, Where

REDIRECTS = (301, 302, 303, 307, 308)
REWRITE = 200
ERRORS = (403, 404, 410, 451)
STATUSES = (REWRITE, *REDIRECTS, *ERRORS)

# A shop's search page has five.
CONDITIONS_MAX = 8

_NAME = re.compile(rf":({NAME})")


@dataclass(frozen=True, slots=True)
class Condition:
    """A parameter of the query that must be there, the first of its name counts.

    value      what it must be, percent-decoded; None for any that could be a segment of a path: not empty, without a
               slash and NUL, no dot segment
    captured   what the target knows the value by; "" for nothing
    """

    name: bytes
    value: bytes | None
    captured: str = ""


@dataclass(frozen=True, slots=True)
class Redirect:
    """One rule. `target` is None for an error with the site's own page. Where it `is_strict`, a slash at the end of a
    path counts, and a star behind a slash needs that slash."""

    pattern: Pattern
    target: Target | None
    status: int
    force: bool
    conditions: tuple[Condition, ...]
    where: Where
    is_strict: bool = False

    def passes_over(self, key: bytes) -> bool:
        """Whether it does not match a key that its pattern matches, on account of a slash."""
        if not self.is_strict or key == b"/":
            return False
        splat = self.pattern.splat
        if splat is None or splat.suffix:
            return self.pattern.text.endswith("/") != key.endswith(b"/")
        return not splat.prefix and key.count(b"/") <= len(self.pattern.segments)

    @property
    def shape(self) -> tuple[object, ...]:
        """The pattern's shape, and which parameters are looked at."""
        return (self.pattern.shape, form_of(self.conditions))

    @property
    def may_lead_to_itself(self) -> bool:
        """Whether there may be a request that it would lead to where it is; never wrong where this is False."""
        if self.status not in REDIRECTS or self.target is None:
            return False
        if self.target.origin and self.pattern.host not in (b"", self.target.host):
            return False
        if not self.target.names:
            return self.pattern.match(self.target.path_of({})) is not None
        own, head = self.pattern.head, self.target.head
        return own.startswith(head) or head.startswith(own)


class Queries(enum.IntEnum):
    """For requests with which queries an answer holds, so that a front may keep it: the lane's numbers (records.pxd).

    NONE   without a query alone
    ANY    with each, which changes nothing
    SENT   with each, which goes behind the location as it was sent
    PLAIN  with each, which goes behind the location, unless it is empty, and in which is escaped what no URL has
    """

    NONE = 0
    ANY = 1
    SENT = 2
    PLAIN = 3


@dataclass(frozen=True, slots=True)
class Action:
    """What a rule answers a request with.

    status    200, a redirect's, or an error's
    location  a redirect's Location; b"" for the others
    key       what is served instead, as a key of the site; b"" for a redirect, and for the site's own error page
    query     what a servlet there sees as the query
    rule      the rule that decided
    """

    status: int
    location: bytes
    key: bytes
    query: bytes
    rule: Redirect


def parse_redirect(
    source: str,
    target: str,
    *,
    status: int = 301,
    force: bool = False,
    query: Mapping[str, str] | None = None,
    where: Where,
) -> Redirect:
    """The rule that a table of the TOML file or a line of `_redirects` writes; `target` "" for none. Raises RuleError,
    which knows its part."""
    pattern = parse_pattern(source)
    conditions = _conditions(query or {}, pattern)
    if status not in STATUSES:
        raise RuleError(f"{status} is no status of a rule; accepted: {', '.join(map(str, STATUSES))}", "status")
    if not target:
        if status not in ERRORS:
            raise RuleError(f"a rule with status {status} leads somewhere; only 403, 404, 410 and 451 do without", "to")
        return Redirect(pattern, None, status, force, conditions, where)
    names = pattern.captures.union(condition.captured for condition in conditions) - {""}
    leads_to = parse_target(target, names)
    if status not in REDIRECTS:
        _refuse_elsewhere(leads_to, status)
    if conditions and leads_to.query is None:
        leads_to = replace(leads_to, query=())
    return Redirect(pattern, leads_to, status, force, conditions, where)


def _refuse_elsewhere(target: Target, status: int) -> None:
    if target.origin and status == REWRITE:
        raise RuleError(
            f"{target.text!r} with status 200 would fetch from another server, which zcserve does not do; "
            "redirect there (301, 302, 307, 308), or serve a file of the site",
            "to",
        )
    if target.origin:
        raise RuleError(f"{target.text!r}: the page of a {status} lies in the site", "to")
    if target.fragment:
        raise RuleError(f"{target.text!r}: a fragment is the browser's; only a redirect can tell it one", "to")


def _conditions(query: Mapping[str, str], pattern: Pattern) -> tuple[Condition, ...]:
    if len(query) > CONDITIONS_MAX:
        raise RuleError(f"{len(query)} parameters; one rule looks at {CONDITIONS_MAX} at most", "query")
    found: dict[bytes, Condition] = {}
    taken = set(pattern.captures) | {SPLAT}
    for name, value in query.items():
        placeholder = _NAME.fullmatch(value)
        captured = placeholder[1] if placeholder is not None else ""
        if captured in taken:
            raise RuleError(f"{name}={value}: :{captured} is taken already", "query")
        if captured:
            taken.add(captured)
        decoded = _parameter(name)
        if not decoded or decoded in found:
            raise RuleError(f"{name}={value}: a parameter has a name, and stands there once", "query")
        found[decoded] = Condition(decoded, None if captured else _parameter(value), captured)
    return tuple(sorted(found.values(), key=lambda condition: condition.name))


def _parameter(text: str) -> bytes:
    try:
        return _unquoted(text.encode())
    except UnicodeEncodeError:  # a lone surrogate, from TOML's escapes
        raise RuleError(f"{text!r} holds what is no character", "query") from None


def _unquoted(raw: bytes) -> bytes:
    if b"%" not in raw and b"+" not in raw:
        return raw  # most values end here
    return percent_decoded(raw.replace(b"+", b" "))


# Which parameters must have a value that is written, and which must be there at all.
Form = tuple[tuple[bytes, ...], tuple[bytes, ...]]


def form_of(conditions: tuple[Condition, ...]) -> Form:
    """The names of the parameters that conditions look at: those with a value, and the others."""
    return (
        tuple(condition.name for condition in conditions if condition.value is not None),
        tuple(condition.name for condition in conditions if condition.value is None),
    )


def values_of(conditions: tuple[Condition, ...]) -> tuple[bytes, ...]:
    """The values that are written, in the order of `form_of`."""
    return tuple(condition.value for condition in conditions if condition.value is not None)


def parameters_of(query: bytes, wanted: AbstractSet[str]) -> dict[bytes, bytes]:
    """The parameters of a query whose names are `wanted` (in Latin-1), percent-decoded; of each name the first."""
    found: dict[str, str] = {}
    for name, value in parameter_pairs(query):
        if name in wanted and name not in found:
            found[name] = value
            if len(found) == len(wanted):
                break
    return {name.encode("latin-1"): value.encode("latin-1") for name, value in found.items()}


class _OfOnePattern:
    """The rules of one pattern, by what they want of the query: numbers in the order in which they are written.

    Of those that want the same, the first decides, unless it would lead to where the request is. So what follows one
    that never does is left out.
    """

    __slots__ = ("_forms", "_plain", "has_forced", "names")

    def __init__(self) -> None:
        # Of the parameters that they look at, in Latin-1.
        self.names: frozenset[str] = frozenset()
        self.has_forced = False
        # Those that want nothing stand apart: most patterns have one such rule, and no dict.
        self._plain: tuple[int, ...] = ()
        self._forms: dict[Form, dict[tuple[bytes, ...], tuple[int, ...]]] | None = None

    def put(self, number: int, rules: list[Redirect]) -> None:
        """Add a rule that stands behind those that were added."""

        def behind(before: tuple[int, ...]) -> tuple[int, ...]:
            last = rules[before[-1]] if before else None
            return (*before, number) if last is None or last.may_lead_to_itself or last.is_strict else before

        conditions = rules[number].conditions
        self.has_forced = self.has_forced or rules[number].force
        if not conditions:
            self._plain = behind(self._plain)
            return
        self.names |= {condition.name.decode("latin-1") for condition in conditions}
        if self._forms is None:
            self._forms = {}
        numbers = self._forms.setdefault(form_of(conditions), {})
        values = values_of(conditions)
        numbers[values] = behind(numbers.get(values, ()))

    @property
    def reads_query(self) -> bool:
        """Whether a rule of them wants something of the query."""
        return self._forms is not None

    def find(self, parameters: dict[bytes, bytes], chains: list[tuple[int, ...]]) -> None:
        """Add the numbers of rules whose conditions hold, each in order."""
        if self._plain:
            chains.append(self._plain)
        for (valued, present), numbers in (self._forms or {}).items():
            if all(_is_segment(parameters.get(name, b"")) for name in present):
                chain = numbers.get(tuple(parameters[name] for name in valued if name in parameters))
                if chain is not None:
                    chains.append(chain)


def _is_segment(value: bytes) -> bool:
    return bool(value) and b"/" not in value and b"\0" not in value and value not in DOTS


class Redirects:
    """All rules of a site, compiled; does not change, so that threads share it."""

    def __init__(self, rules: Iterable[Redirect]) -> None:
        """Raises RuleError where the patterns mix placeholders in more ways than a look-up may have to try."""
        self.rules: list[Redirect] = list(rules)
        ends: dict[Identity, tuple[Pattern, _OfOnePattern]] = {}
        shapes = Shapes()
        for number, rule in enumerate(self.rules):
            if not shapes.take(rule.shape):
                raise RuleError(f"{rule.where}: {too_many_shapes(rule)}", "from")
            ends.setdefault(identity_of(rule.pattern), (rule.pattern, _OfOnePattern()))[1].put(number, self.rules)
        self._patterns = Patterns(ends.values())
        self._reads_query = any(end.reads_query for _, end in ends.values())
        self.has_forced = any(rule.force for rule in self.rules)
        # The hosts that patterns name: the same path may lead elsewhere for these.
        self.hosts = self._patterns.hosts
        self._target_hosts = frozenset(rule.target.host for rule in self.rules if rule.target) - {b""}

    def answer(self, key: bytes, query: bytes = b"", host: bytes = b"") -> Action | None:
        """What the first rule that matches answers a request with; None for no rule.

        `key` is canonical, `query` as sent without its question mark, `host` as `http.host_name` gives it: what is for
        one host matches no request without, and only with it a redirect to the host that was asked is known as one.
        """
        found = self._patterns.find(key, host)
        if not found:
            return None
        parameters: dict[bytes, bytes] = {}
        if query and self._reads_query and (wanted := frozenset[str]().union(*[end.names for end in found])):
            parameters = parameters_of(query, wanted)
        chains: list[tuple[int, ...]] = []
        for end in found:
            end.find(parameters, chains)
        for number in chains[0] if len(chains) == 1 else merge(*chains):
            action = action_of(self.rules[number], key, query, host, parameters)
            if action is not None:
                return action
        return None

    def queries(self, key: bytes) -> Queries | None:
        """For which queries holds what `answer` says to one without, whatever the host; None: only a host can tell."""
        if self.hosts:
            return None
        found = self._patterns.find(key)
        reads_query = any(end.reads_query for end in found)
        chains: list[tuple[int, ...]] = []
        for end in found:
            end.find({}, chains)
        for number in merge(*chains):
            rule = self.rules[number]
            target = rule.target
            if target is None or rule.status not in REDIRECTS:
                break
            if target.path_of(rule.pattern.match(key) or {}) != key:
                if reads_query or target.fragment:  # which stands behind the query
                    return Queries.NONE
                return Queries.PLAIN if target.query is None else Queries.ANY
            if target.host:  # of this host the next rule answers
                return None
            reads_query = reads_query or target.query is not None
            if target.query_of({}, b""):
                break
        return Queries.NONE if reads_query else Queries.ANY

    def reads_query(self, key: bytes, host: bytes = b"") -> bool:
        """Whether which rule answers this key may depend on the query."""
        return self._reads_query and any(end.reads_query for end in self._patterns.find(key, host))

    def reads_host(self, own: frozenset[bytes]) -> bool:
        """Whether an answer may depend on the host that is asked, which is one of `own` (in lower case, no ports)."""
        return bool(self.hosts) or not own.isdisjoint(self._target_hosts)

    def overrides(self, key: bytes, host: bytes = b"") -> bool:
        """Whether a rule with force may answer this key, for some query: then a file there is not always served."""
        return self.has_forced and any(end.has_forced for end in self._patterns.find(key, host))

    def fixed_rewrites(self) -> Iterator[tuple[Redirect, bytes, bytes]]:
        """Rewrites that lead to the same for all requests, with the key and the query there."""
        for rule in self.rules:
            target = rule.target
            if rule.status == REWRITE and target is not None and not target.names:
                yield rule, target.path_of({}), target.query_of({}, b"")

    @property
    def digest(self) -> bytes:
        """Two with the same digest answer the same."""
        told = [(rule.pattern.text, rule.target and rule.target.text, *_how(rule)) for rule in self.rules]
        return hashlib.sha256(repr(told).encode(errors="surrogatepass")).digest()

    @property
    def first_segments(self) -> frozenset[bytes] | None:
        """The first segments of all paths that a rule may match, b"" for the root; None for any."""
        first = {_first(rule.pattern) for rule in self.rules}
        return None if None in first else frozenset(segment for segment in first if segment is not None)

    def __iter__(self) -> Iterator[Redirect]:
        return iter(self.rules)

    def __len__(self) -> int:
        return len(self.rules)


def action_of(rule: Redirect, key: bytes, query: bytes, host: bytes, parameters: dict[bytes, bytes]) -> Action | None:
    """What a rule that matches answers with; None where it would lead to where the request is, or a slash
    keeps it from that."""
    target = rule.target
    if rule.passes_over(key):
        return None
    if target is None:
        return Action(rule.status, b"", b"", b"", rule)
    taken: dict[str, bytes] = {}
    if target.names:
        taken = rule.pattern.match(key) or {}
        taken |= {condition.captured: parameters[condition.name] for condition in rule.conditions if condition.captured}
    if rule.status not in REDIRECTS:
        return Action(rule.status, b"", target.path_of(taken), target.query_of(taken, query), rule)
    is_here = (not target.origin or target.host == host) and target.path_of(taken) == key
    if is_here and target.query_of(taken, query) == escape_query(query):
        return None
    return Action(rule.status, target.location(taken, query), b"", b"", rule)


def too_many_shapes(rule: Redirect) -> str:
    """What is said of a rule that would make look-ups slow."""
    return (
        f"{rule.pattern.text!r} mixes literals, placeholders and query in one more way than the {SHAPES_MAX} that a "
        "site's rules may have; write it like another rule"
    )


def _how(rule: Redirect) -> tuple[object, ...]:
    """What a rule says besides its pattern and its target."""
    return rule.status, rule.force, rule.is_strict, [(one.name, one.value, one.captured) for one in rule.conditions]


def _first(pattern: Pattern) -> bytes | None:
    """The first segment of what a pattern matches, b"" for the root; None for any."""
    if pattern.segments:
        return pattern.segments[0]
    return b"" if pattern.splat is None else None
