"""The rules of a site as they are configured, and what becomes of them with those that its root brings.

What the TOML file says is read once; `Rules` are compiled anew only where the root's own files are others. Where the
two say different things, the TOML file wins: its redirects stand before those of `_redirects`, of which the first that
matches decides, and its header rules behind those of `_headers`, of which the last decides.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from zcserve.config.table import Config
from zcserve.config.tables import tables_of
from zcserve.errors import UsageError
from zcserve.rules.compiled import Rules
from zcserve.rules.cors import ALLOW_ORIGIN
from zcserve.rules.error_pages import ErrorPages
from zcserve.rules.globbed import GlobTable
from zcserve.rules.headers_file import HeaderBlock, read_headers
from zcserve.rules.lines import DIALECTS
from zcserve.rules.preset import EVERYWHERE, presets
from zcserve.rules.protected import Protections, written_protections
from zcserve.rules.reading import header_rules, redirects
from zcserve.rules.redirects import Redirect
from zcserve.rules.redirects_file import read_redirects
from zcserve.rules.rule import HeaderRule, check_name, check_value
from zcserve.rules.where import Problem


class RefusedRootError(UsageError):
    """A file of the root's own hides something, and cannot be read as it is: until it is another one, nothing of that
    root is served."""


class Rulebook:
    """What is configured. Any one thread at a time. Files of users are read with the root's own: `rules` looks at them.

    told   what is to be said of the rules that were compiled last, a line each
    files  what `_headers` and `_redirects` held then, None: nothing was there
    """

    def __init__(self, config: Config) -> None:
        """Raises UsageError, with file, line and column."""
        self._config = config
        self._dialect = DIALECTS[config.rules_dialect]
        self._presets = presets(secure=config.secure_headers, immutable=config.immutable, listing=config.listing)
        self._written = header_rules(tables_of(config.rules, ("rules",)))
        self._redirects = redirects(tables_of(config.redirects, ("redirects",)))
        self._error_pages = ErrorPages(config.error_pages)
        self._auth = written_protections(tables_of(config.auth, ("auth",)), config.directory)
        self.files: tuple[bytes | None, ...] = (None, None)
        self._users = [one.text() for one in self._auth]
        self._protections = self._protected()
        self.told: list[str] = [*self._protections.doubts, *_at_odds_over_origins(self._written)]
        self._last = self._compiled((), ())

    def rules(self, headers: bytes | None = None, redirects: bytes | None = None) -> Rules:
        """The rules of a root with these contents of `_headers` and `_redirects`; None: there is no such file. The same
        object while nothing is another. Raises RefusedRootError where a file hides something and cannot be
        read as it is; UsageError where the file of users cannot."""
        users = [one.text() for one in self._auth]
        if (headers, redirects) == self.files and users == self._users:
            return self._last
        before, self._users = self._users, users
        try:
            self._protections = self._protected()
        except UsageError:
            self._users = before
            raise
        problems: list[Problem] = []
        blocks: tuple[HeaderBlock, ...] = ()
        led: tuple[Redirect, ...] = ()
        if headers is not None:
            blocks, found = read_headers(headers, dialect=self._dialect, check=_check)
            problems += found
        if redirects is not None:
            led, found = read_redirects(redirects, dialect=self._dialect)
            problems += found
        if grave := next((problem for problem in problems if problem.is_grave), None):
            raise RefusedRootError(f"{self._config.directory}/{grave}")
        index = self._config.index
        of_file = tuple(
            HeaderRule(one.globs(index), one.remove, one.set, one.add, one.content_type, written=one.where)
            for one in blocks
        )
        self._last = self._compiled(of_file, led)
        self.files = (headers, redirects)
        self.told = [
            *map(str, problems),
            *self._protections.doubts,
            *self._overruled(of_file),
            *self._overtaken(led),
            *_at_odds_over_origins((*of_file, *self._written)),
        ]
        return self._last

    def _protected(self) -> Protections:
        """What asks for a password, with the users of this moment. Raises UsageError."""
        return Protections([one.protection(text) for one, text in zip(self._auth, self._users, strict=True)])

    def _compiled(self, of_file: tuple[HeaderRule, ...], led: tuple[Redirect, ...]) -> Rules:
        config = self._config
        return Rules(
            (*self._presets, *of_file, *self._written),
            config.cache_control,
            (*self._redirects, *led),
            clean_urls=config.clean_urls,
            spa=config.spa,
            tag_header=config.tag_header,
            error_pages=self._error_pages,
            protections=self._protections,
        )

    def _overruled(self, of_file: tuple[HeaderRule, ...]) -> Iterator[str]:
        """Where `[[rules]]` set a field that `_headers` sets, for all that its block is for."""
        for block in of_file:
            mine = {name.lower(): value for name, value in block.set}
            for rule in self._written:
                if EVERYWHERE not in rule.globs and not set(block.globs) <= set(rule.globs):
                    continue
                for name, value in rule.set:
                    if mine.get(name.lower(), value) != value:
                        yield f"{_at(block)}: {name.decode()} is as {_at(rule)} says"

    def _overtaken(self, led: tuple[Redirect, ...]) -> Iterator[str]:
        """Where `[[redirects]]` answer what `_redirects` answers."""
        known = {(one.pattern.host, one.pattern.text): one for one in self._redirects if not one.conditions}
        for redirect in led:
            first = known.get((redirect.pattern.host, redirect.pattern.text))
            if first is not None:
                yield f"{redirect.where}: {redirect.pattern.text} leads where {first.where} says"


def _at_odds_over_origins(rules: Sequence[HeaderRule]) -> Iterator[str]:
    """Where a rule with `cors` and one that says the same field itself are for the same paths, as far as a glob of one
    matches what a glob of the other is written like: the later one holds."""
    by_hand = {n: rule for n, rule in enumerate(rules) if any(map(_is_allow_origin, (*rule.set, *rule.add)))}
    policies = {n: rule for n, rule in enumerate(rules) if rule.cors is not None} if by_hand else {}
    hands, others = _table_of(by_hand), _table_of(policies)
    met = {(n, other) for n, rule in by_hand.items() for glob in rule.globs for other in others.numbers(glob)}
    met |= {(n, other) for other, rule in policies.items() for glob in rule.globs for n in hands.numbers(glob)}
    for first, last in sorted({n: (min(n, other), max(n, other)) for n, other in sorted(met, reverse=True)}.values()):
        said = f"{ALLOW_ORIGIN.decode()} is said by {_at(rules[first])}, too"
        yield f"{_at(rules[last])}: {said}; for what both match this rule holds, which is the later one"


def _is_allow_origin(line: tuple[bytes, bytes]) -> bool:
    return line[0].lower() == ALLOW_ORIGIN.lower()


def _table_of(rules: Mapping[int, HeaderRule]) -> GlobTable:
    return GlobTable((glob, number) for number, rule in rules.items() for glob in rule.globs)


def _at(rule: HeaderRule) -> str:
    return rule.written.where() if rule.written is not None else ""


def _check(verb: str, name: str, value: str) -> None:
    check_name(name, verb=verb)
    if verb != "remove":
        check_value(value)
