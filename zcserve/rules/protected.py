"""`[[auth]]`: which paths ask for a name and a password, and what is said of their answers.

    [[auth]]
    path = "/staging/**"                 # a glob, or a list of globs, as of [[rules]]
    realm = "Staging"                    # what browsers show
    users_file = "/etc/zcserve/users"    # lines name:hash, and
    users = { bob = "$2y$12$..." }       # names and hashes

    [[auth]]
    path = "/staging/robots.txt"
    open = true                          # no password here: stands before the rule that asks for one

The first rule that matches decides. A path is asked about, and so is the file that answers (net/admission.py).

No shared cache may keep such an answer (RFC 9111 section 3.5): its Cache-Control says `private`, whatever rules say
besides, and what only CDNs read is left out.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from itertools import chain, product
from typing import Any

from zcserve.auth.hashes import doubt_about
from zcserve.auth.users import Users, parse_file, put, read_file
from zcserve.config.checks import check_outside, real_roots
from zcserve.config.globs import full_glob
from zcserve.config.option import toml_type
from zcserve.config.refusal import refusal
from zcserve.config.tables import Table
from zcserve.errors import UsageError
from zcserve.http import FieldLines, encode_path, parse_list
from zcserve.paths import decoded
from zcserve.rules.globbed import GlobTable
from zcserve.rules.idle import Place, near, places_of, unmatched
from zcserve.rules.reading import globs_of
from zcserve.rules.rule import HeaderRule

WORDS = ("path", "realm", "users_file", "users", "open")
# Words of others, and what is written here instead.
_MEANT = {
    **dict.fromkeys(("password", "passwords", "user", "username", "credentials"), "users = { NAME = 'HASH' }"),
    **dict.fromkeys(("htpasswd", "file", "auth_basic_user_file", "user_file"), "users_file"),
    **dict.fromkeys(("name", "title", "auth_basic"), "realm"),
    **dict.fromkeys(("public", "allow", "satisfy"), "open = true"),
    **dict.fromkeys(("paths", "glob", "location"), "path"),
}
DEFAULT_REALM = "Restricted"
# Browsers show it in a small window.
REALM_CHARACTERS_MAX = 100
# A path ends in them where a sibling is asked for by its own name, which has the content of its base.
CODING_ENDINGS = (".br", ".zst", ".gz")
# Of a file (NAME_MAX, limits.h): a longer segment is no sibling of anything, and has room for thousands of endings.
NAME_BYTES_MAX = 255

# The endings of a base, its siblings and theirs. What is absent with more of them answers 404 at the top of a root.
_CODED = ("", *CODING_ENDINGS, *map("".join, product(CODING_ENDINGS, repeat=2)))

_CACHE_CONTROL = b"cache-control"
PRIVATE: FieldLines = ((b"Cache-Control", b"private"),)
# What has a shared cache keep what it must not: of Cache-Control (RFC 9111 section 3.5), and fields that CDNs read
# instead of it (RFC 9213).
_FOR_SHARED = frozenset((b"public", b"s-maxage"))
_OF_CDNS = frozenset((b"cdn-cache-control", b"surrogate-control"))
_WILD = re.compile(r"[*?[]")


class Protection:
    """One rule. Immutable; one is the same as another only where it is that very object.

    users    None: no password is asked for
    written  where it stands
    """

    __slots__ = ("challenge", "globs", "realm", "users", "written")

    def __init__(self, globs: tuple[str, ...], realm: str, users: Users | None, written: Table) -> None:
        self.globs = globs
        self.realm = realm
        self.users = users
        self.written = written
        quoted = realm.replace("\\", "\\\\").replace('"', '\\"')
        self.challenge = f'Basic realm="{quoted}", charset="UTF-8"'.encode()

    @property
    def rule(self) -> HeaderRule:
        """What it does to fields, as another rule that explains them."""
        return HeaderRule(self.globs, written=self.written)


class Protections:
    """The rules of a root. Immutable.

    first_segments  the first segments of all paths that may be protected; None: any
    meaning         all that heads are made by: two that are equal differ in users at most
    doubts          what is to be said of users, a line each
    """

    def __init__(self, rules: Sequence[Protection] = ()) -> None:
        self._rules = tuple(rules)
        self._table = GlobTable((glob, number) for number, rule in enumerate(rules) for glob in rule.globs)
        firsts = [_first_of(glob) for rule in rules if rule.users is not None for glob in rule.globs]
        self.first_segments = None if None in firsts else frozenset(one for some in firsts if some for one in some)
        self.meaning = [(rule.globs, rule.users is not None) for rule in rules]
        self.doubts = (*_hidden(rules), *(line for rule in rules if rule.users for line in rule.users.doubts))

    def __bool__(self) -> bool:
        return any(rule.users is not None for rule in self._rules)

    def of(self, key: bytes) -> Protection | None:
        """What a key of an index, or the path of a request, asks for; None: nothing.

        Nothing protected has another name that is not. A sibling in a coding (`/a.csv.gz`) has the content of its base:
        where no rule asks for something of the sibling itself, it asks for what its base does, though a rule opens it.
        So it is open where both are. A directory without its slash asks for what lies in it, unless a rule opens that
        very path, which tells no more than that the directory is there.
        """
        path = decoded(key)
        exact = self._first(path)
        base = path
        rule = exact
        # A sibling may have siblings, as many as a name has room for.
        is_name = len(path) - path.rfind("/") <= NAME_BYTES_MAX + 1
        while (rule is None or rule.users is None) and is_name and base.endswith(CODING_ENDINGS):
            base = base[: base.rindex(".")]
            rule = self._first(base)
        if rule is None and exact is None and not path.endswith("/"):
            rule = self._first(path + "/")
        return rule if rule is not None and rule.users is not None else None

    def idle(self, keys: Iterable[bytes], heads: Collection[str] = ()) -> Iterator[str]:
        """Paths that protect none of these files, a line each: a slip in one leaves open what it was to protect.
        Applications may have what begins with one of `heads`."""
        for where, globs in unmatched(self._asking(), keys, heads):
            yield f"{where}: {globs[0]!r} protects no file (/directory/** is all below a directory)"

    def doubtful(self, keys: Callable[[], Iterable[bytes]], heads: Collection[str]) -> Iterator[str]:
        """Those that `idle` does not tell since an application may have the path, but that are much like the path of a
        file. `keys` is called each time they are read."""
        if not heads:
            return
        told = unmatched(self._asking(), keys(), heads)
        for place in unmatched(self._asking(), keys()):
            meant = next(filter(None, (near(glob, keys()) for glob in place.globs)), "") if place not in told else ""
            if meant:
                what = f"{place.where}: {place.globs[0]!r} protects no file"
                yield f"{what}; did you mean {meant!r}? (an application may have the path)"

    def _asking(self) -> Iterator[Place]:
        asking = (places_of(rule.globs, rule.written) for rule in self._rules if rule.users is not None)
        return chain.from_iterable(asking)

    def _first(self, path: str) -> Protection | None:
        numbers = self._table.numbers(path)
        return self._rules[numbers[0]] if numbers else None


def _hidden(rules: Iterable[Protection]) -> Iterator[str]:
    """Rules that never match, a line each: of each of their globs an earlier rule has all paths."""
    seen: dict[str, Protection] = {}
    for rule in rules:
        before = [first for glob in rule.globs if (first := _wider(glob, seen)) is not None]
        if len(before) == len(rule.globs):
            yield f"{rule.written.where()}: never matches: {before[0].written.where()} stands before it"
        for glob in rule.globs:
            seen.setdefault(full_glob(glob), rule)


def _wider(glob: str, seen: Mapping[str, Protection]) -> Protection | None:
    """The rule that has this glob, or one for all below a directory that it begins with."""
    full = full_glob(glob)
    if full in seen:
        return seen[full]
    parts = full.split("/")
    for count in range(1, len(parts)):
        if (first := seen.get("/".join((*parts[:count], "**")))) is not None:
            return first
    return seen.get("/**/*")


NONE = Protections()


def _first_of(glob: str) -> tuple[bytes, ...] | None:
    """The first segments of paths that a glob matches, and of their siblings and those of these; None: any."""
    if "/" not in glob:
        return None
    first = glob.removeprefix("/").partition("/")[0]
    if not first or _WILD.search(first):
        return None
    return tuple(encode_path((first + ending).encode()) for ending in _CODED)


def kept_private(lines: FieldLines) -> FieldLines:
    """The fields of an answer that no shared cache may keep."""
    kept = tuple(line for line in lines if line[0].lower() not in _OF_CDNS)
    values = [value for name, value in kept if name.lower() == _CACHE_CONTROL]
    if not values:
        return kept + PRIVATE
    directives = [one for one in parse_list(b", ".join(values)) if one.partition(b"=")[0].lower() not in _FOR_SHARED]
    if not {b"private", b"no-store"} & {one.lower() for one in directives}:
        directives.insert(0, b"private")
    others = tuple(line for line in kept if line[0].lower() != _CACHE_CONTROL)
    return (*others, (b"Cache-Control", b", ".join(directives)))


# --- as it is written -------------------------------------------------------------------------------------


class Written:
    """One table, read but for its file of users, which may change: `protection` reads that."""

    def __init__(self, table: Table, root: str | os.PathLike[str]) -> None:
        """Nothing below `root` may be a file of users. Raises UsageError with file, line and column."""
        table.require(WORDS, _MEANT)
        if "path" not in table:
            raise UsageError(f"{table.where()}: auth without a path; accepted: path = '/staging/**', or a list")
        self._table = table
        self._root = root
        self._globs = globs_of(table)
        self._realm = table.checked("realm", _realm) if "realm" in table else DEFAULT_REALM
        self._is_open = bool("open" in table and table.checked("open", _switch))
        self._file = table.checked("users_file", _path) if "users_file" in table else ""
        self._own: dict[bytes, str] = {}
        if "users" in table:
            self._read_own(table)
        if self._is_open and ("users" in table or self._file):
            raise UsageError(f"{table.where('open')}: open to all, and there are users; accepted: one of both")
        if not self._is_open and not ("users" in table or self._file):
            accepted = "users_file = '/etc/zcserve/users', users = { NAME = 'HASH' }, or open = true"
            raise UsageError(f"{table.where()}: auth without users; accepted: {accepted}")

    def _read_own(self, table: Table) -> None:
        table.checked("users", _require_table)
        for name, hashed in table["users"].items():
            try:
                if not isinstance(hashed, str):
                    raise UsageError(f"the user {name!r}: {toml_type(hashed)}; accepted: a hash, as a text")
                put(self._own, name, hashed)
            except UsageError as error:
                raise table.refuse(error, "users", name) from None

    def text(self) -> bytes:
        """What the file of users holds now; b"" where there is none. Raises UsageError."""
        if not self._file:
            return b""
        try:
            check_outside(self._file, real_roots([self._root]))
            return read_file(self._file)
        except UsageError as error:
            raise self._table.refuse(error, "users_file") from None

    def protection(self, text: bytes) -> Protection:
        """The rule, with the users that its file names in `text`. Raises UsageError."""
        if self._is_open:
            return Protection(self._globs, self._realm, None, self._table)
        hashes, doubts = parse_file(self._file, text)
        for name, hashed in self._own.items():
            shown = name.decode()
            if name in hashes:
                raise UsageError(
                    f"{self._table.where('users', shown)}: the user {shown!r} stands in {self._file!r}, too"
                )
            if doubt := doubt_about(hashed):
                doubts.append(f"{self._table.where('users', shown)}: {doubt}")
        hashes |= self._own
        if not hashes:
            accepted = "one at least: zcserve passwd NAME makes a line"
            if self._file:
                raise UsageError(f"{self._table.where('users_file')}: {self._file!r} has no user; accepted: {accepted}")
            raise UsageError(f"{self._table.where()}: there is no user; accepted: {accepted}")
        return Protection(self._globs, self._realm, Users(hashes, doubts), self._table)


def written_protections(tables: Iterable[Table], root: str | os.PathLike[str]) -> tuple[Written, ...]:
    """The rules of these tables, in the order in which they are written. Raises UsageError."""
    return tuple(Written(table, root) for table in tables)


def _realm(value: object) -> str:
    accepted = f"a text of 1 to {REALM_CHARACTERS_MAX} printable ASCII characters"
    if not isinstance(value, str) or not (value.isascii() and value.isprintable()):
        raise refusal(value, "is no realm", accepted)
    if not 1 <= len(value) <= REALM_CHARACTERS_MAX:
        raise refusal(value, "is no realm", accepted)
    return value


def _path(value: object) -> str:
    if not isinstance(value, str) or not value or "\0" in value:
        raise refusal(value, "is no path", "a file with lines name:hash")
    return value


def _switch(value: object) -> bool:
    if not isinstance(value, bool):
        raise refusal(value, f"is {toml_type(value)}", "true or false")
    return value


def _require_table(value: Any) -> None:
    if not isinstance(value, dict):
        raise UsageError(f"it is {toml_type(value)}; accepted: names and hashes: {{ bob = '$2y$12$...' }}")
