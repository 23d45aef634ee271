"""The names of a directory as a page and as JSON.

Directories come first, then files, each in the order of their bytes, which is the same everywhere. A name is told to
people as text, and to programs as a reference (`href`, RFC 3986 section 4.2), which names the very bytes.

To write a hundred thousand names takes a thread a second, in which others want the interpreter. So there are lists of a
thousand names and of a thousand rows, and nothing that holds all: to let one buffer of 12 MB grow was a step of 8 ms of
the GIL, to free it another one of 5. Nor is all kept of a directory that has more names than a page.

Odd: a colon is written %3A, since what stands before one would be a scheme (section 4.2), and a semicolon %3B, which
readers that go by older RFCs lose at a path's end (urllib.parse.urljoin). Control characters and what is no UTF-8 are
shown as U+FFFD.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from heapq import merge
from html import escape
from itertools import islice
from time import gmtime, strftime
from typing import NamedTuple
from urllib.parse import unquote_to_bytes

from zcserve.cache.crew import beat
from zcserve.cache.entry import Entry
from zcserve.cache.listing import Listing, Resource, listed
from zcserve.cache.shards import in_pieces
from zcserve.cache.tags import tag_of_all
from zcserve.cache.unseen import hide
from zcserve.config.units import counted, size_text

# Names on one page, which says how many it leaves out. With so many it has 12 MB, and browsers take seconds for it.
NAMES_MAX = 100_000
# So many names are sorted, or written, in one step: some tenths of a millisecond.
_AT_ONCE = 1000

# Behind a directory's path: its names as JSON. With any other query it is the page.
JSON_QUERY = b"format=json"

# What no document may hold (HTML standard, "preprocessing the input stream"), controls and noncharacters; and what has
# text run the other way, so that a name looks like another.
_PLANES = "".join(chr(plane << 16 | 0xFFFE) + chr(plane << 16 | 0xFFFF) for plane in range(17))
_UNSHOWN = re.compile(f"[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ufdd0-\ufdef{_PLANES}]")

_STYLE = (
    ":root{color-scheme:light dark;background:#fff;color:#111;font:1rem/1.5 system-ui,sans-serif}"
    "body{max-width:60rem;margin:0 auto;padding:1rem}"
    "h1{font-size:1.25rem}"
    "h1,td:first-child{overflow-wrap:anywhere}"
    "table{width:100%;border-collapse:collapse}"
    "tr{border-bottom:1px solid #8886}"
    "th{text-align:left;padding:.35rem 0}"
    "td{padding:0;vertical-align:top}"
    "th+th,td+td{text-align:right;white-space:nowrap;padding:.35rem 0 .35rem .75rem;font-variant-numeric:tabular-nums}"
    "a{display:block;padding:.35rem 0;color:#0645ad;unicode-bidi:isolate}"
    "@media(max-width:36rem){th+th,td+td{font-size:.8rem;line-height:1.875}}"
    "@media(prefers-color-scheme:dark){:root{background:#121212;color:#eee}a{color:#9ab8ff}}"
)
_HEAD = (
    '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
    '<meta name="viewport" content="width=device-width,initial-scale=1"><title>Index of %s</title>'
    '<link rel="alternate" type="application/json" href="?format=json"><style>%s</style></head>\n'
    "<body><main><h1>Index of %s</h1>\n"
)
_PARENT = '<p><a href="../">Parent directory</a></p>\n'
_TABLE = (
    '<table><thead><tr><th scope="col">Name</th><th scope="col">Size</th><th scope="col">Changed (UTC)</th></tr>'
    "</thead><tbody>\n"
)
_FOOT = '<p><a href="?format=json">The same as JSON</a></p>\n</main></body></html>\n'


class Names(NamedTuple):
    """The names of a directory as they stand in keys, those of directories with their slash: lists in the order of a
    page, and how many there are in all."""

    pieces: list[list[bytes]]
    total: int

    @property
    def left_out(self) -> int:
        """How many there are besides."""
        return self.total - sum(map(len, self.pieces))

    def each(self) -> Iterator[bytes]:
        """Those of the page, which leave this."""
        self.pieces.reverse()
        while self.pieces:
            yield from self.pieces.pop()


class Page(NamedTuple):
    """What a directory answers with, in pieces that are `size` bytes together; `names` is how many it has."""

    content_type: str
    pieces: list[bytes]
    size: int
    etag: bytes
    names: int

    @property
    def content(self) -> bytes:
        """All of it, in one long step where it is large."""
        return b"".join(self.pieces)


def page_of(
    key: bytes,
    listing: Listing,
    resources: Mapping[bytes, Resource],
    *,
    is_json: bool,
    is_shown: Callable[[bytes], bool] | None = None,
) -> Page:
    """The names of the directory at this key as they are now. In a thread, where they may be many. `is_shown` tells
    of the key of a name whether it is listed; None: all are."""
    names = names_of(key, listing, resources, is_shown)
    write = _json if is_json else _html
    pieces = []
    for some in in_pieces(write(key, names, resources), _AT_ONCE):
        pieces.append("".join(some).encode())
        beat()
    return Page(content_type(is_json=is_json), pieces, sum(map(len, pieces)), tag_of_all(pieces), names.total)


def content_type(*, is_json: bool) -> str:
    """Content-Type's value."""
    return "application/json" if is_json else "text/html; charset=utf-8"


def names_of(
    key: bytes,
    listing: Listing,
    resources: Mapping[bytes, Resource],
    is_shown: Callable[[bytes], bool] | None = None,
) -> Names:
    """What is listed of the directory at this key, as for `page_of`."""
    directories, files = First(NAMES_MAX), First(NAMES_MAX)
    found = listed(key, listing, resources)
    shown = found if is_shown is None else (one for one in found if is_shown(key + one[0]))
    for some in in_pieces(shown, _AT_ONCE):
        directories.add([name for name, entry in some if entry is None])
        files.add([name for name, entry in some if entry is not None])
        beat()
    pieces = directories.take(NAMES_MAX)
    pieces += files.take(NAMES_MAX - sum(map(len, pieces)))
    return Names(pieces, directories.total + files.total)


class First:
    """The first of many names, in order: twice as many are held at most, and the others are counted.

    total  how many have come
    held   how many of them are held
    """

    def __init__(self, most: int) -> None:
        self.total = self.held = 0
        self._most = most
        self._runs: list[list[bytes]] = []  # each in order
        self._last: bytes | None = None  # the place of one behind which none is among the first

    def add(self, names: list[bytes]) -> None:
        """Some more: a thousand at most."""
        self.total += len(names)
        if self._last is not None:
            names = [name for name in names if _place(name) < self._last]
        if names:
            names.sort(key=_place)
            hide(names)
            self._runs.append(names)
            self.held += len(names)
        if self.held > 2 * self._most:
            self._runs = self.take(self._most)
            self.held = self._most
            self._last = _place(self._runs[-1][-1])

    def take(self, most: int) -> list[list[bytes]]:
        """Up to so many of the first, a list of a thousand after the other. What they were taken from is let go."""
        taken = []
        for some in in_pieces(islice(merge(*self._runs, key=_place), most), _AT_ONCE):
            hide(some)
            taken.append(some)
            beat()
        while self._runs:  # one by one: with them go the names that were not taken
            self._runs.pop()
        return taken


def _raw(name: bytes) -> bytes:
    """A name as it is on disk; a directory's with its slash."""
    return unquote_to_bytes(name) if b"%" in name else name


def _place(name: bytes) -> bytes:
    """What a name is sorted by."""
    return _raw(name).removesuffix(b"/")


def _text(raw: bytes) -> str:
    return raw.decode(errors="replace")


def _markup(raw: bytes) -> str:
    """Text in a document."""
    return escape(_UNSHOWN.sub("\ufffd", _text(raw)))


def _reference(name: bytes) -> str:
    return name.replace(b":", b"%3A").replace(b";", b"%3B").decode()


def _entry_of(key: bytes, name: bytes, resources: Mapping[bytes, Resource]) -> Entry | None:
    """The file of a name; None for a directory, and for what has gone meanwhile, of which another page will tell."""
    found = None if name.endswith(b"/") else resources.get(key + name)
    return found if isinstance(found, Entry) else None


def _html(key: bytes, names: Names, resources: Mapping[bytes, Resource]) -> Iterator[str]:
    title = _markup(_raw(key))
    yield _HEAD % (title, _STYLE, title)
    if key != b"/":
        yield _PARENT
    left_out = names.left_out
    if names.total:
        yield _TABLE
    for name in names.each():
        size = changed = ""
        entry = _entry_of(key, name, resources)
        if entry is not None:
            size = size_text(entry.size)
            if entry.modified is not None:
                time = gmtime(entry.modified)
                changed = strftime('<time datetime="%Y-%m-%dT%H:%M:%SZ">%Y-%m-%d %H:%M</time>', time)
        yield f'<tr><td><a href="{escape(_reference(name))}">{_markup(_raw(name))}</a><td>{size}<td>{changed}\n'
    if names.total:
        yield "</tbody></table>\n"
    told = counted(names.total, "name") if names.total else "Nothing is here"
    more = f", of which {left_out} are not shown" if left_out else ""
    yield f"<p>{told}{more}</p>\n{_FOOT}"


def _json(key: bytes, names: Names, resources: Mapping[bytes, Resource]) -> Iterator[str]:
    path = json.dumps(_text(_raw(key)), ensure_ascii=False)
    yield f'{{"path": {path}, "names": {names.total}, "left_out": {names.left_out}, "entries": ['
    between = "\n"
    for name in names.each():
        entry = _entry_of(key, name, resources)
        told: dict[str, object] = {"name": _text(_raw(name).rstrip(b"/")), "href": _reference(name)}
        if entry is None:
            told["type"] = "directory" if name.endswith(b"/") else "file"
        else:
            told |= {"type": "file", "size": entry.size}
            if entry.modified is not None:
                told["modified"] = strftime("%Y-%m-%dT%H:%M:%SZ", gmtime(entry.modified))
        yield between + json.dumps(told, ensure_ascii=False)
        between = ",\n"
    yield "\n]}\n"
