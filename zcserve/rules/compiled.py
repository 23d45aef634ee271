"""All rules of a root, made into what a look-up needs.

A path is asked for in this order, and the first that has an answer gives it:

    a redirect with `force` > a file > a file by a clean URL > an application > a redirect > a directory's listing >
    the page of --spa > 404

Several rules match one path: all apply, in the order in which they are written. So what matters is which ones match,
and of these combinations there are few: a hundred thousand files have some ten sets of fields, and share them.

`Rules` may be asked by several threads: what it keeps it could make again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from itertools import chain
from typing import NamedTuple, TypeAlias

from zcserve.config.globs import any_glob
from zcserve.http import FieldLines, encode_path
from zcserve.paths import decoded
from zcserve.rules.checks import Finding, check_redirects
from zcserve.rules.cors import ALLOW_ORIGIN, EXPOSE, Cors, any_reads_origin, of_cors, without_cors
from zcserve.rules.doubts import doubts
from zcserve.rules.error_pages import ErrorPages
from zcserve.rules.globbed import GlobTable
from zcserve.rules.hashed import is_hashed
from zcserve.rules.idle import places_of, told
from zcserve.rules.preset import IMMUTABLE
from zcserve.rules.protected import NONE, Protection, Protections, kept_private
from zcserve.rules.redirects import REWRITE, Action, Queries, Redirect, Redirects
from zcserve.rules.rule import HeaderRule
from zcserve.rules.tagged import Tags, check_tag

# What an application has at a key, with a query -> the rewrites that lead to nothing, a line each.
Nowhere: TypeAlias = Callable[[Callable[[bytes, bytes], bool]], list[str]]

# So many globs of a tag are asked as one pattern, 0.6 us a path; more of them are found by what is literal in them.
ONE_BY_ONE_MAX = 8
# Combinations of rules that are kept. Paths that clients think of may match others without end.
KEPT_MAX = 4096

_NOSNIFF = (b"X-Content-Type-Options", b"nosniff")
_CACHE_CONTROL = b"Cache-Control"
# Globs that match every path.
_EVERY_PATH = frozenset(("/", "**", "/**", "*", "**/*", "/**/*"))
# What is said of content, and of no answer that has another: that it may be kept, how to save it, what it needs.
_OF_CONTENT = frozenset(
    (b"cache-control", b"cdn-cache-control", b"surrogate-control", b"surrogate-key", b"cache-tag", b"expires",
     b"pragma", b"link", b"content-disposition", b"content-language", b"content-location", b"vary",
     b"x-content-type-options")
)  # fmt: skip


def of_failure(lines: FieldLines) -> FieldLines:
    """Of what is said of content, those that its failure has as well: all but how that content may be kept and used.
    What an answer depends on (Vary) is said of both."""
    return tuple(line for line in lines if line[0].lower() not in _OF_CONTENT or line[0].lower() == b"vary")


# What a rule with `cors` says instead of what was there.
_ALLOW = ALLOW_ORIGIN.lower()
_OF_CORS = frozenset((_ALLOW, EXPOSE.lower()))


class HeadFields(NamedTuple):
    """What rules make of the fields of a file, besides those that are made of the file itself.

    lines         they stand in the head's tail, so that a 304 has them, too
    content_type  Content-Type's value; "": by the file's name
    charset       for what a charset applies to; "": as configured
    nosniff       whether X-Content-Type-Options is as it is without rules
    cors          which other origins may read it; what that says to all is among the lines
    is_private    whether no shared cache may keep it, and the lines say so
    """

    lines: FieldLines = ()
    content_type: str = ""
    charset: str = ""
    nosniff: bool = True
    cors: Cors | None = None
    is_private: bool = False

    @property
    def reads_origin(self) -> bool:
        """Whether only the request can tell what else is sent with it."""
        return self.cors is not None and self.cors.reads_origin

    def lines_for(self, origin: bytes) -> FieldLines:
        """What is sent besides `lines` to a page of this origin."""
        return self.cors.lines_for(origin) if self.cors is not None else ()

    def cors_lines(self, origin: bytes) -> FieldLines:
        """All that is said of other origins to a page of this one."""
        varies = self.cors.lines if self.cors is not None and self.cors.reads_origin else ()
        return (*of_cors(self.lines), *varies, *self.lines_for(origin))

    @property
    def all_lines(self) -> FieldLines:
        """Those of an answer that has no file's head."""
        return (_NOSNIFF, *self.lines) if self.nosniff else self.lines


NO_FIELDS = HeadFields()


class Effect(NamedTuple):
    """What one rule does to the fields that there are before it: which lines it takes away, and which it puts behind
    the others."""

    rule: HeaderRule
    taken: FieldLines
    given: FieldLines


# Of a site that says nothing of its pages for errors.
NAMED_PAGES = ErrorPages()
# What --spa answers with.
SPA_KEY = b"/index.html"


class Rules:
    """The rules of one root. Immutable; two with the same digest do the same.

    digest      see above
    has_answers whether there may be an answer where no file is
    has_forced  whether there may be one where a file is
    has_rewrites   whether a rule serves at one path what is at another
    has_cors       whether a rule says which other origins may read; else fields of that kind are the site's own words
    reads_origin   whether answers depend on the origin of a page that asks
    reads_requests whether one of a file may: by such a rule, one with force, or one that asks for a password
    protections what asks for a password
    asks        whether something does
    clean_urls  whether `/about` is `/about.html`
    error_pages which page answers with an error
    not_found_key  the path of the page for what is absent, whether it has a file or not
    absent      the fields of a 404: of that path
    has_listings   whether some directory may answer with its names
    everywhere  the fields of answers that belong to no path (405, 406, 501, OPTIONS): of rules that match every path,
                but for what is said of content
    has_lasting_fields  whether an answer that is a failure may have fields of rules
    tags        all that files may have
    """

    __slots__ = (
        "_default", "_is_about_hashes", "_kept", "_listings", "_of_all", "_priorities", "_redirects", "_rules", "_spa",
        "_table", "absent", "asks", "clean_urls", "digest", "error_pages", "everywhere", "first_segments",
        "has_answers", "has_cors", "has_forced", "has_lasting_fields", "has_listings", "has_rewrites", "not_found_key",
        "protections", "reads_origin", "reads_requests", "tags",
    )  # fmt: skip

    def __init__(
        self,
        rules: Sequence[HeaderRule] = (),
        cache_control: str = "",
        redirects: Sequence[Redirect] = (),
        *,
        clean_urls: bool = False,
        spa: bool = False,
        tag_header: str = "none",
        error_pages: ErrorPages = NAMED_PAGES,
        protections: Protections = NONE,
    ) -> None:
        """`cache_control` is what a file has without rules; "": none. `tag_header` is the field that tells of tags.
        Raises UsageError for what is no glob, and for redirects that take too long to look up."""
        self._redirects = Redirects(redirects)
        self._spa = spa
        self.clean_urls = clean_urls
        self.has_forced = self._redirects.has_forced
        self.has_rewrites = any(rule.status == REWRITE for rule in redirects)
        self._rules = tuple(rules)
        self._table = GlobTable((glob, number) for number, rule in enumerate(rules) for glob in rule.globs)
        self._is_about_hashes = frozenset(number for number, rule in enumerate(rules) if rule.immutable)
        self._priorities = {number: rule.priority for number, rule in enumerate(rules) if rule.priority is not None}
        self._listings = {number: rule for number, rule in enumerate(rules) if rule.listing is not None}
        self.has_listings = any(rule.listing for rule in self._listings.values())
        self.tags = Tags(rules, tag_header)
        self.protections = protections
        self.asks = bool(protections)
        self._kept: dict[tuple[tuple[int, ...], bool, bool, bool], HeadFields] = {}
        led = self._redirects.digest
        protected = protections.meaning if self.asks else ()
        switches = (clean_urls, spa, tag_header, sorted(error_pages.of.items()), protected)
        told = repr((cache_control, [rule.meaning for rule in rules], led, *switches)).encode()
        self.digest = hashlib.sha256(told).digest()
        lines: FieldLines = ((_CACHE_CONTROL, cache_control.encode()),) if cache_control else ()
        self._default = HeadFields(lines) if lines else NO_FIELDS
        self._of_all = tuple(number for number, rule in enumerate(rules) if not _EVERY_PATH.isdisjoint(rule.globs))
        fields = self._made(self._of_all, of_file=False, is_hashed=False)
        self.error_pages = error_pages
        # What rules say of the page for what is absent, a 404 has in any case, whether there is a file or not.
        self.not_found_key = error_pages.of[404][0]
        self.absent = self.fields_of_answer(self.not_found_key)
        self.has_cors = any(rule.cors is not None for rule in rules)
        self.reads_origin = any_reads_origin(rule.cors for rule in rules)
        self.reads_requests = self.has_forced or self.reads_origin or self.asks
        # The front has one answer for all that is absent: where there are several, each request is asked for.
        is_anywhere = clean_urls or spa or self.absent.reads_origin
        self.has_answers = bool(redirects) or is_anywhere or self.asks
        first, asking = self._redirects.first_segments, protections.first_segments
        self.first_segments = None if is_anywhere or first is None or asking is None else first | asking
        self.everywhere = tuple(line for line in fields.lines if line[0].lower() not in _OF_CONTENT)
        self.has_lasting_fields = any(rule.cors is not None or of_failure((*rule.set, *rule.add)) for rule in rules)

    def __bool__(self) -> bool:
        return bool(self._rules)

    def protection(self, key: bytes) -> Protection | None:
        """What a path, or the file at this key, asks for before it is answered; None: nothing."""
        return self.protections.of(key) if self.asks else None

    def lists(self, directory: bytes, key: bytes) -> bool:
        """Whether the listing of a directory may name what is at this key: its reader has shown what that asks for."""
        asks = self.protection(key)
        return asks is None or asks is self.protection(directory)

    # --- where a path leads -----------------------------------------------------------------------------------

    def answer(self, key: bytes, query: bytes | None, host: bytes = b"") -> Action | None:
        """What the first redirect that matches answers; the caller has found no file, unless the action's rule has
        `force`. `query` without its question mark, None for none; `host` as `http.host_name` gives it."""
        return self._redirects.answer(key, query or b"", host)

    def forced(self, key: bytes, query: bytes | None, host: bytes = b"") -> Action | None:
        """The same, if it holds where a file lies."""
        if not self.has_forced:
            return None
        action = self._redirects.answer(key, query or b"", host)
        return action if action is not None and action.rule.force else None

    def may_force(self, key: bytes) -> bool:
        """Whether a request for this key may be answered so, with some query and of some host."""
        return self.has_forced and (bool(self._redirects.hosts) or self._redirects.overrides(key))

    def may_answer(self, key: bytes) -> bool:
        """Whether a redirect may have an answer for this key, with some query and of some host."""
        led = self._redirects
        return bool(led) and (bool(led.hosts) or led.reads_query(key) or led.answer(key) is not None)

    def listing_rule(self, key: bytes) -> HeaderRule | None:
        """The rule by which the directory at this key, which ends in a slash, answers with its names where it has no
        index: the last one that says it. None: it does not. No hidden directory does."""
        if not self.has_listings or b"/." in key:
            return None
        found = [number for number in self._table.numbers(decoded(key)) if number in self._listings]
        rule = self._listings[found[-1]] if found else None
        return rule if rule is not None and rule.listing else None

    def page_of_application(self, key: bytes) -> bytes:
        """The key of the page that --spa has for a path that leads nowhere; b"": none, since it looks like a file:
        there is a dot in its last segment. A slash at its end counts for nothing."""
        return SPA_KEY if self._spa and b"." not in key[key.rfind(b"/", 0, -1) :] else b""

    def lacks_page(self, has_file: Callable[[bytes], bool]) -> bool:
        """Whether --spa is on and its page is not there, so that it does nothing."""
        return self._spa and not has_file(SPA_KEY)

    def queries(self, key: bytes) -> Queries | None:
        """As `Redirects.queries`."""
        return self._redirects.queries(key)

    def findings(self, has_file: Callable[[bytes], bool]) -> list[Finding]:
        """What is wrong with the redirects together; `has_file` tells whether a file answers a key."""
        return check_redirects(self._redirects, has_file=has_file)

    def idle(self, keys: Callable[[], Iterable[bytes]], heads: Collection[str]) -> Iterator[str]:
        """Globs of header rules that match none of these keys, of files and of directories that list their names, nor
        where a redirect is, a line each; applications may have what begins with one of `heads`."""
        led = [rule.pattern for rule in self._redirects.rules if rule.status != REWRITE]
        exact = [self.not_found_key, *(pattern.head for pattern in led if pattern.is_exact)]
        begins = {*heads, *(decoded(pattern.head) for pattern in led if not pattern.is_exact)}
        written = ((rule.globs, rule.written) for rule in self._rules if rule.written is not None)
        places = chain.from_iterable(places_of(globs, where) for globs, where in written)
        return told(places, lambda: chain(exact, keys()), begins)

    def doubts(
        self, has_file: Callable[[bytes], bool], keys: Callable[[], Iterable[bytes]], heads: Collection[str]
    ) -> Iterator[str]:
        """Redirects that hardly do what was meant, a line each; as `findings` and `idle`."""
        begins = [encode_path(head.encode()) for head in heads]
        return doubts(
            self._redirects.rules,
            lambda key: has_file(key) or (self.clean_urls and has_file(key + b".html")),
            keys,
            begins,
        )

    def nowhere(self, has_file: Callable[[bytes], bool], has_application: Callable[[bytes, bytes], bool]) -> list[str]:
        """Rewrites that lead to what no file and no application has, a line each; the latter is asked for a key and a
        query. What only a request fills in is not looked at."""
        return [
            f"{rule.where}: {rule.pattern.text!r} leads to {rule.target.text}, where nothing is"
            for rule, key, query in self._redirects.fixed_rewrites()
            if rule.target is not None
            and not (has_file(key) or (self.clean_urls and has_file(key + b".html")) or has_application(key, query))
        ]

    # --- what is sent with it ---------------------------------------------------------------------------------

    def fields_of(self, key: bytes) -> HeadFields:
        """What the file at this key of an index is sent with. One object for all that have the same."""
        return self._fields(key, of_file=True) if self._rules or self.asks else self._default

    def fields_of_answer(self, key: bytes) -> HeadFields:
        """The same of an answer at this key that has no file: a redirect, a page for what is absent."""
        return self._fields(key, of_file=False) if self._rules or self.asks else NO_FIELDS

    def fields_of_failure(self, key: bytes, origin: bytes) -> FieldLines:
        """The same of an answer that cannot be what is at this key, for a page of this origin."""
        if not self._rules:
            return ()
        fields = self.fields_of_answer(key)
        return (*of_failure(fields.lines), *fields.lines_for(origin))

    # --- which files belong together --------------------------------------------------------------------------

    def tagged(self, tag: str) -> Callable[[bytes], bool]:
        """Tells of a key whether the file there has this tag. Raises UsageError for what is none."""
        givers, numbers = self.tags.givers(check_tag(tag)), self._table.numbers
        globs = [glob for number in givers for glob in self._rules[number].globs]
        if len(globs) <= ONE_BY_ONE_MAX:
            matches = any_glob(globs).fullmatch
            return lambda key: matches(decoded(key)) is not None
        return lambda key: not givers.isdisjoint(numbers(decoded(key)))

    def tags_of(self, key: bytes) -> tuple[str, ...]:
        """The tags of the file at this key: those of which `tagged` says that it has them."""
        return self.tags.of(self._table.numbers(decoded(key)))

    @property
    def has_priorities(self) -> bool:
        """Whether some file may have another priority than 0."""
        return any(self._priorities.values())

    def priority_of(self, key: bytes) -> int:
        """How soon the file at this key is loaded, before those of a lower one: the last rule that says it decides."""
        found = [number for number in self._table.numbers(decoded(key)) if number in self._priorities]
        return self._priorities[found[-1]] if found else 0

    # --- how that comes about ---------------------------------------------------------------------------------

    def effects_of(self, key: bytes, *, of_file: bool, origin: bytes = b"") -> list[Effect]:
        """How `fields_of`, or `fields_of_answer`, comes about, and `lines_for` this origin: the rules that match, in
        their order, and at last what the one says whose `cors` holds."""
        numbers, hashed = self._matching(key, of_file=of_file)
        lines = self._before(numbers, of_file=of_file)
        effects = list(filter(_is_told, self._effects(numbers, lines, is_hashed=hashed)))
        cors = self._cors(numbers)
        if cors is not None:
            effects.append(self.effect_of(cors, cors.lines + cors.lines_for(origin)))
        protection = self.protection(key)
        if protection is not None:
            before, after = tuple(lines), kept_private(tuple(lines))
            taken = tuple(line for line in before if line not in after)
            effects.append(Effect(protection.rule, taken, tuple(line for line in after if line not in before)))
        return effects

    def effects_everywhere(self, *, with_cors: bool = True) -> list[Effect]:
        """How `everywhere` comes about, but for the fields that are said of content, which are left out at the end."""
        effects = list(self._effects(self._of_all, self._before(self._of_all, of_file=False), is_hashed=False))
        cors = self._cors(self._of_all) if with_cors else None
        if cors is None or cors.reads_origin:  # which says Vary alone, and that is said of content
            return effects
        return [*effects, self.effect_of(cors, cors.lines)]

    def effects_of_options(self, key: bytes, *, of_file: bool, origin: bytes) -> list[Effect]:
        """How the fields of an answer to OPTIONS come about: what holds everywhere, and of CORS what is said of this
        key."""
        everywhere = self.effects_everywhere(with_cors=False)
        here = self.effects_of(key, of_file=of_file, origin=origin)
        effects = [
            *(Effect(one.rule, without_cors(one.taken), without_cors(one.given)) for one in everywhere),
            *(Effect(one.rule, of_cors(one.taken), of_cors(one.given)) for one in here),
        ]
        return [one for one in effects if one.taken or one.given]

    def effect_of(self, cors: Cors, lines: FieldLines) -> Effect:
        """That one of these rules, the one with `cors`, puts lines behind all others."""
        return Effect(next(rule for rule in self._rules if rule.cors is cors), (), lines)

    def _matching(self, key: bytes, *, of_file: bool) -> tuple[tuple[int, ...], bool]:
        """The numbers of the rules for this key, and whether one of them looks for a hash that is there."""
        numbers = self._table.numbers(decoded(key))
        hashed = (
            of_file
            and not self._is_about_hashes.isdisjoint(numbers)
            and is_hashed(key[key.rfind(b"/") + 1 :].decode("ascii", "replace"))
        )
        return numbers, hashed

    def _fields(self, key: bytes, *, of_file: bool) -> HeadFields:
        numbers, hashed = self._matching(key, of_file=of_file)
        is_private = self.protection(key) is not None
        known = (numbers, of_file, hashed, is_private)
        fields = self._kept.get(known)
        if fields is None:
            fields = self._made(numbers, of_file=of_file, is_hashed=hashed)
            if is_private:
                fields = fields._replace(lines=kept_private(fields.lines), is_private=True)
            if len(self._kept) >= KEPT_MAX:
                self._kept.clear()
            self._kept[known] = fields
        return fields

    def _made(self, numbers: tuple[int, ...], *, of_file: bool, is_hashed: bool) -> HeadFields:
        """What these rules do, one after the other, to what there is without rules."""
        lines = self._before(numbers, of_file=of_file)
        content_type = charset = ""
        for rule, _, _ in self._effects(numbers, lines, is_hashed=is_hashed):
            if rule.content_type:
                content_type, charset = rule.content_type, ""
            charset = rule.charset or charset
        sniffing = [line for line in lines if line[0].lower() == _NOSNIFF[0].lower()]
        nosniff = [value for _, value in sniffing] == [_NOSNIFF[1]]
        if nosniff:
            lines.remove(sniffing[0])
        cors = self._cors(numbers)
        if cors is not None:
            lines = [*(line for line in lines if line[0].lower() != _ALLOW), *cors.lines]
        return HeadFields(tuple(lines), content_type, charset, nosniff, cors)

    def _cors(self, numbers: tuple[int, ...]) -> Cors | None:
        """Which other origins may read what these rules are of: the last that says something of it decides."""
        for number in reversed(numbers):
            rule = self._rules[number]
            if rule.cors is not None:
                return rule.cors
            if _ALLOW in _replaced(rule):
                return None
        return None

    def _before(self, numbers: tuple[int, ...], *, of_file: bool) -> list[tuple[bytes, bytes]]:
        """The lines that there are before these rules set any: without rules, and of their tags."""
        return [_NOSNIFF, *(self._default.lines if of_file else ()), *self.tags.lines(numbers)]

    def _effects(
        self, numbers: Iterable[int], lines: list[tuple[bytes, bytes]], *, is_hashed: bool
    ) -> Iterator[Effect]:
        """What these rules do to `lines`, which are changed, one after the other."""
        for number in numbers:
            rule = self._rules[number]
            names = _replaced(rule)
            immutable: FieldLines = ()
            if rule.immutable and is_hashed and _CACHE_CONTROL.lower() not in names:
                immutable = ((_CACHE_CONTROL, IMMUTABLE),)
                names.add(_CACHE_CONTROL.lower())
            if rule.cors is not None:
                names |= _OF_CORS
            taken = tuple(line for line in lines if line[0].lower() in names)
            given = (*rule.set, *immutable, *rule.add)
            lines[:] = [line for line in lines if line[0].lower() not in names]
            lines += given
            yield Effect(rule, taken, given)


def _is_told(effect: Effect) -> bool:
    """A rule that is written is told wherever it matches, a preset only where it does something to fields."""
    return effect.rule.written is not None or bool(effect.taken or effect.given)


def _replaced(rule: HeaderRule) -> set[bytes]:
    """The lower-case names of fields that a rule takes away, to set them anew or not. Of the origin that may read an
    answer there is one, so that to add it is to set it."""
    added = (name.lower() for name, _ in rule.add)
    return {*rule.remove, *(name.lower() for name, _ in rule.set), *(name for name in added if name == _ALLOW)}


NO_RULES = Rules()


def owned_by(all_rules: Iterable[Rules]) -> frozenset[bytes] | None:
    """The first segments of paths that one of several may have an answer for where no file is; None: of any."""
    owned: frozenset[bytes] = frozenset()
    for rules in all_rules:
        if rules.first_segments is None:
            return None
        owned |= rules.first_segments
    return owned
