"""Which page of a site answers with an error: what `[error_pages]` says, and what lies in the root by that name.

    [error_pages]
    404 = "/errors/missing.html"    # a path in the root
    5xx = "/errors/sorry.html"      # all of a class that the table does not name

For a status there may be several paths, and the first that has a file is sent: the site's own table, in it the status
before its class; then the server's table; then the file that is called like the status (`/404.html`). Where no path has
a file, the answer is a small page that is made here.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from typing import Any

from zcserve.config.option import toml_type
from zcserve.config.refusal import refusal, shown
from zcserve.config.tables import Table, table_of
from zcserve.errors import UsageError, known_instead
from zcserve.rules.targets import parse_target

# Statuses with a page of the site. Content of the latter is kept in memory, so that a 503 needs no disk, and what is
# absent none either; the others are answered as any file is.
FROM_FILES = (403, 410, 451)
FROM_MEMORY = (401, 404, 500, 503, 504)
STATUSES = (*FROM_FILES, *FROM_MEMORY)
CLASSES: dict[str, tuple[int, ...]] = {
    f"{first}xx": tuple(status for status in STATUSES if status // 100 == first) for first in (4, 5)
}
WORDS = (*map(str, sorted(STATUSES)), *CLASSES)

_PROGRAMS = "it tells a program what it did wrong"
_ENDS = "it ends a connection, whose site may not be known"
# By status, why no page of the site answers with it.
_WITHOUT: dict[str, str] = {
    **dict.fromkeys(("405", "406", "412", "416", "421", "501"), _PROGRAMS),
    **dict.fromkeys(("400", "408", "413", "414", "431"), _ENDS),
    "502": "nothing is fetched from other servers, so it is never sent",
}


class ErrorPages:
    """The paths of a site's pages. Does not change, so that threads share it.

    of         by status, the keys at which its page may lie, in their order
    in_memory  the keys of all pages whose content is kept in memory
    """

    __slots__ = ("_own", "in_memory", "of")

    def __init__(self, tables: Sequence[Mapping[str, Any]] = ()) -> None:
        """`tables` are the site's own, and what it has from the server. Raises UsageError, with file, line and
        column."""
        read = [_read(table) for table in table_of(tables, ("error_pages",))]
        self._own = read[0] if read else {}
        of: dict[int, tuple[bytes, ...]] = {}
        for status in STATUSES:
            told = (one.get(word) for one in read for word in (str(status), f"{status // 100}xx"))
            of[status] = tuple(dict.fromkeys((*(key for key, _ in filter(None, told)), b"/%d.html" % status)))
        self.of: Mapping[int, tuple[bytes, ...]] = of
        self.in_memory = frozenset(key for status in FROM_MEMORY for key in of[status])

    def statuses_of(self, key: bytes) -> list[int]:
        """For which statuses the file at this key may be the page."""
        return sorted(status for status in STATUSES if key in self.of[status])

    def key_of(self, status: int, there: Container[bytes]) -> bytes | None:
        """The key of the page for a status, where these have a file."""
        return next((key for key in self.of[status] if key in there), None)

    def by_status(self, contents: Mapping[bytes, bytes]) -> dict[int, bytes]:
        """What is sent from memory, of what is at these keys."""
        keys = {status: self.key_of(status, contents) for status in FROM_MEMORY}
        return {status: contents[key] for status, key in keys.items() if key is not None}

    def missing(self, has_file: Callable[[bytes], bool]) -> Iterator[str]:
        """Of the site's own table, which paths have no file, a line each: it may come with a release. What the server's
        table says is for all sites, of which some may have no such page."""
        for word, (key, where) in self._own.items():
            if not has_file(key):
                yield f"{where}: no file is at {key.decode()}; until there is one, another page answers with {word}"


def _read(table: Table) -> dict[str, tuple[bytes, str]]:
    """By word, the key of the page and where it is written."""
    for word in table:
        if word not in WORDS:
            raise UsageError(f"{table.where(word)}: {_about_unknown(word)}")
    return {word: (table.checked(word, _key), table.where(word)) for word in table}


def _about_unknown(word: str) -> str:
    if word in _WITHOUT:
        return f"{word} has no page of a site: {_WITHOUT[word]}; accepted: {', '.join(WORDS)}"
    return f"{shown(word)} is no status with a page; {known_instead(word, WORDS)}"


def _key(value: object) -> bytes:
    if not isinstance(value, str):
        raise refusal(value, f"is {toml_type(value)}", 'a path in the root: "/errors/missing.html"')
    accepted = 'a path that begins with a slash, without a query: "/errors/missing.html"'
    if not value.startswith("/") or value.startswith("//"):
        raise refusal(value, "is no path in the root", accepted)
    target = parse_target(value, frozenset())
    if target.query is not None or target.fragment:
        raise refusal(value, "is no path in the root", accepted)
    return target.path_of({})
