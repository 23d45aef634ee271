"""What is wrong with rules together, each of which is right: those that never match, and redirects that never end.

A rule never matches where an earlier one matches all that it matches. That is found by examples that stand for all
paths of a pattern: where it takes anything, they have what no key and no literal holds (`_ANY`), so that what matches
the example there takes anything, too. Where a star has text before it or behind it, that is no proof, and said so.
Several rules that together match what a later one does are not looked for.

Redirects are followed from one example of each rule. What leads to another host, or is no redirect, ends it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum
from itertools import product
from typing import NamedTuple

from zcserve.http import host_name
from zcserve.rules.patterns import DOTS, Pattern, segments_of
from zcserve.rules.redirects import REDIRECTS, Condition, Redirect, Redirects
from zcserve.rules.trie import Identity, Patterns, identity_of

# Browsers give up after 20 redirects (Fetch standard, section 4.4).
STEPS_MAX = 20
# Of rules with more, only those that look at the same parameters, or at none, are compared.
COMPARED_MAX = 4

# No key holds it (`http.canonical_path`), and no pattern.
_ANY = b"%00"


class Kind(Enum):
    """What is wrong."""

    TWICE = "the same pattern stands there before"
    NEVER = "an earlier rule matches all that it matches"
    MAYBE_NEVER = "an earlier rule matches all examples of it"
    NOWHERE = "it leads to where it is"
    LOOP = "redirects lead back to it"
    ENDLESS = "redirects follow each other without end"


@dataclass(frozen=True, slots=True)
class Finding:
    """What is wrong with `rule`, and the rules that have to do with it."""

    kind: Kind
    rule: Redirect
    others: tuple[Redirect, ...]
    text: str

    def __str__(self) -> str:
        return f"{self.rule.where}: {self.text}"


def check_redirects(
    redirects: Redirects,
    hosts: frozenset[bytes] = frozenset(),
    has_file: Callable[[bytes], bool] = lambda key: False,
) -> list[Finding]:
    """All that is found, in the order of the rules. `hosts` are the site's own, in lower case and without ports;
    `has_file` tells whether a file answers a key, which is where redirects without force end."""
    found = [*_hidden(redirects.rules, hosts), *_endless(redirects, hosts, has_file)]
    places = {id(rule): number for number, rule in enumerate(redirects.rules)}
    return sorted(found, key=lambda finding: places[id(finding.rule)])


# --- rules that never match -------------------------------------------------------------------------------

_Conditions = frozenset[tuple[bytes, bytes | None]]


class _Same(NamedTuple):
    """Rules that match the same paths: of each set of conditions, the number of the first that has been looked at."""

    pattern: Pattern
    first: dict[_Conditions, int]


def _hidden(rules: list[Redirect], hosts: frozenset[bytes]) -> Iterator[Finding]:
    """Rules that do nothing."""
    same: dict[Identity, _Same] = {}
    for rule in rules:
        same.setdefault(identity_of(rule.pattern), _Same(rule.pattern, {}))
    patterns = Patterns((one.pattern, one) for one in same.values())
    for number, rule in enumerate(rules):
        if stays(rule):
            told = f"{rule.pattern.text!r} leads to where it is, and does nothing (scheme and port count for nothing)"
            yield Finding(Kind.NOWHERE, rule, (), told)
            continue
        hiding = _first_hiding(rule, patterns, rules, hosts)
        if hiding is not None:
            yield _never(rule, rules[hiding])
        same[identity_of(rule.pattern)].first.setdefault(_wanted(rule), number)


def _wanted(rule: Redirect) -> _Conditions:
    return frozenset((condition.name, condition.value) for condition in rule.conditions)


def _wider(conditions: tuple[Condition, ...]) -> Iterator[_Conditions]:
    """The sets of conditions that hold wherever these do."""
    if len(conditions) > COMPARED_MAX:
        yield frozenset()
        yield frozenset((condition.name, condition.value) for condition in conditions)
        return
    choices = ((None, (one.name, one.value), (one.name, None)) for one in conditions)
    for chosen in product(*choices):
        yield frozenset(one for one in chosen if one is not None)


def _first_hiding(
    rule: Redirect, patterns: Patterns[_Same], rules: list[Redirect], hosts: frozenset[bytes]
) -> int | None:
    """The number of the first earlier rule that matches all that `rule` matches."""
    first, *more = examples_of(rule.pattern)
    numbers = [
        number
        for pattern, earlier in patterns.find(first, rule.pattern.host)
        if all(pattern.match(example) is not None for example in more)
        for wanted in _wider(rule.conditions)
        if (number := earlier.get(wanted)) is not None and not _leaves(rules[number], rule, hosts)
    ]
    return min(numbers, default=None)


def _leaves(hiding: Redirect, rule: Redirect, hosts: frozenset[bytes]) -> bool:
    """Whether `hiding` may lead to where it is for something that `rule` matches, and so leave that to it; or on
    account of a slash."""
    target = hiding.target
    if hiding.is_strict and hiding.pattern.text not in ("/*", rule.pattern.text):
        return True
    if target is None or not hiding.may_lead_to_itself:
        return False
    if target.origin and target.host not in hosts | {hiding.pattern.host}:
        return False
    return bool(target.names) or rule.pattern.match(target.path_of({})) is not None


def _never(rule: Redirect, hiding: Redirect) -> Finding:
    is_same = identity_of(rule.pattern) == identity_of(hiding.pattern)
    is_proof = all(one.pattern.splat is None or one.pattern.splat.is_plain for one in (rule, hiding))
    before = f"{hiding.pattern.text!r} ({hiding.where}) stands before it"
    if is_same and _wanted(rule) == _wanted(hiding):
        kind, told = Kind.TWICE, f"never matches: {before}, and matches the same"
    elif is_same or is_proof or rule.pattern.is_exact:
        kind, told = Kind.NEVER, f"never matches: {before}, and matches all that it matches"
    else:
        kind, told = Kind.MAYBE_NEVER, f"may never match: {before}, and matches all examples of it"
    return Finding(kind, rule, (hiding,), f"{rule.pattern.text!r} {told}")


def examples_of(pattern: Pattern) -> list[bytes]:
    """Keys that a pattern matches, and that no narrower one matches all of."""
    head = b"".join(b"/" + (_ANY if segment is None else segment) for segment in pattern.segments)
    splat = pattern.splat
    if splat is None:
        return [head or b"/"]
    ends = (splat.prefix + value + splat.suffix for value in (b"", _ANY, _ANY + b"/" + _ANY))
    keys = (head + b"/" + end if end else head or b"/" for end in ends)
    return [key for key in keys if not {b"", *DOTS} & {*segments_of(key)}]


def stays(rule: Redirect) -> bool:
    """Whether a rule leads to where it is, whatever it matches."""
    target = rule.target
    if rule.status not in REDIRECTS or target is None or target.query is not None:
        return False
    if target.origin and target.host != rule.pattern.host:
        return False
    keys = [key + end for key in examples_of(rule.pattern) for end in (b"", b"/" if key != b"/" else b"")]
    return all(target.path_of(rule.pattern.match(key) or {}) == key for key in keys)


# --- redirects that never end -----------------------------------------------------------------------------


class _Place(NamedTuple):
    """What a client asks for."""

    host: bytes
    key: bytes
    query: bytes


def _endless(redirects: Redirects, hosts: frozenset[bytes], has_file: Callable[[bytes], bool]) -> Iterator[Finding]:
    """Loops and ways without end, each told once."""
    told: set[frozenset[int]] = set()
    known: set[int] = set()
    places = {id(rule): number for number, rule in enumerate(redirects.rules)}
    for rule in redirects.rules:
        if rule.status not in REDIRECTS or id(rule) in known:
            continue
        for begin in _examples(rule):
            kind, steps = _follow(redirects, begin, hosts, has_file)
            numbers = frozenset(map(id, steps))
            if kind is not None and numbers not in told:
                told.add(numbers)
                known |= numbers
                at = min(range(len(steps)), key=lambda at: places[id(steps[at])])
                first, *others = dict.fromkeys(steps[at:] + steps[:at])
                yield Finding(kind, first, tuple(others), _way(kind, [first, *others]))


def _way(kind: Kind, steps: list[Redirect]) -> str:
    shown = " -> ".join(f"{step.pattern.text!r} ({step.where})" for step in steps[:4])
    if kind is Kind.LOOP:
        return f"redirects without end: {shown}{' -> ...' * (len(steps) > 4)} -> {steps[0].pattern.text!r} again"
    return f"more than {STEPS_MAX} redirects, one after the other, as many as browsers follow: {shown} -> ..."


def _examples(rule: Redirect) -> Iterator[_Place]:
    """What a client may ask for that meets the rule."""
    pairs = ((condition.name, b"x" if condition.value is None else condition.value) for condition in rule.conditions)
    query = b"&".join(b"%b=%b" % pair for pair in pairs)
    for example in examples_of(rule.pattern)[:2]:
        first, *others = example.split(_ANY)
        key = first + b"".join(b"x%d%b" % numbered for numbered in enumerate(others))
        yield _Place(rule.pattern.host, key, query)


def _follow(
    redirects: Redirects, begin: _Place, hosts: frozenset[bytes], has_file: Callable[[bytes], bool]
) -> tuple[Kind | None, list[Redirect]]:
    """The rules that send a client round, and in which way; (None, []) where it arrives."""
    place, seen, steps = begin, [begin], list[Redirect]()
    while len(steps) <= STEPS_MAX:
        action = redirects.answer(place.key, place.query, place.host)
        if action is None or not action.location or (has_file(place.key) and not action.rule.force):
            return None, []
        steps.append(action.rule)
        after = _after(action.location, place, hosts)
        if after is None:
            return None, []
        if after in seen:
            return Kind.LOOP, steps[seen.index(after) :]
        seen.append(after)
        place = after
    return Kind.ENDLESS, steps


def _after(location: bytes, place: _Place, hosts: frozenset[bytes]) -> _Place | None:
    """What a client asks for that follows a Location; None for another site."""
    url = location.partition(b"#")[0]
    host = place.host
    if not url.startswith(b"/"):
        authority, _, rest = url.partition(b"://")[2].partition(b"/")
        host, url = host_name(authority), b"/" + rest
        if host not in hosts | {place.host}:
            return None
    path, _, query = url.partition(b"?")
    return _Place(host, path, query)
