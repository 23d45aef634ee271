"""Where in a TOML file a key or a value stands: tomllib tells values, and no positions.

`places_of` reads a text that tomllib has accepted, once more, for its structure alone: it finds where each key, table
and item begins, and judges nothing. A place has a *path*, the keys and numbers by which its value is found in what
tomllib returns: `("rules", 0, "set", "X-A")`.

Odd: a key that is quoted with escapes is left to tomllib, and a date may hold a blank.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Collection
from typing import NamedTuple, TypeAlias

Path: TypeAlias = tuple[str | int, ...]

_BLANK = re.compile(r"[ \t]*")
_GAP = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
# A text in quotes, of any of the four kinds.
TEXT = re.compile(
    r'"""(?:[^\\]|\\.)*?"""(?:"{0,2}(?!"))' r"|'''.*?'''(?:'{0,2}(?!'))" r'|"(?:[^"\\\n]|\\.)*"' r"|'[^'\n]*'",
    re.DOTALL,
)
_PLAIN = re.compile(r"[^,\]}\n#]*")  # a number, a date, true


class Place(NamedTuple):
    """A line and a column, both from 1; the column in characters."""

    line: int
    column: int

    def __str__(self) -> str:
        return f"{self.line}:{self.column}"


def places_of(text: str) -> dict[Path, Place]:
    """Where each key, table and item of a list begins, by its path. Of a table that is written in several places, the
    first. `text` is one that tomllib reads."""
    return _Reader(text).read()


def places_from(text: str, offsets: Collection[int]) -> list[Place]:
    """Where each of these characters stands."""
    begins = [0, *(found.end() for found in re.finditer("\n", text))]
    lines = [bisect_right(begins, offset) for offset in offsets]
    return [Place(line, offset - begins[line - 1] + 1) for line, offset in zip(lines, offsets, strict=True)]


class Repeated(NamedTuple):
    """What stands a second time: the first time's place, where it begins (in characters from the beginning of the
    text), and whether one of the two is a table of a list (`[[rules]]`)."""

    path: Path
    first: Place
    at: int
    is_list: bool


def repeated(text: str) -> Repeated | None:
    """The last key or table of a text, if it stands there before; what is cut off behind it does not matter."""
    reader = _Reader(text)
    reader.read()
    return reader.repeated


class _Reader:
    """`repeated` is what stands there a second time; tomllib refuses what follows the first of them."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._offsets: dict[Path, int] = {}
        self._lengths: dict[Path, int] = {}  # of lists of tables
        self._written: set[Path] = set()  # keys and tables with a header of their own, but for tables of a list
        self.repeated: Repeated | None = None

    def read(self) -> dict[Path, Place]:
        table: Path = ()
        while self._skip(_GAP):
            if self._text[self._at] == "[":
                table = self._header()
            else:
                self._pair(table)
        return dict(zip(self._offsets, places_from(self._text, self._offsets.values()), strict=True))

    def _skip(self, pattern: re.Pattern[str]) -> bool:
        """Go behind what matches here, if anything does. Whether something follows."""
        if found := pattern.match(self._text, self._at):
            self._at = found.end()
        return self._at < len(self._text)

    def _note(self, path: Path, offset: int) -> None:
        self._offsets.setdefault(path, offset)

    def _note_written(self, path: Path, begin: int, *, is_list: bool = False) -> None:
        """A key, or a table with a header, stands here: for the first time?"""
        of_list = path[:-1] in self._lengths and isinstance(path[-1], int)
        if not is_list and not of_list and path not in self._written:
            self._written.add(path)
        elif (not is_list or path in self._written) and self.repeated is None:
            name = path[:-1] if of_list else path
            (first,) = places_from(self._text, [self._offsets[name]])
            self.repeated = Repeated(name, first, begin, of_list or is_list)

    def _header(self) -> Path:
        """`[a.b]` or `[[a.b]]`: the table that follows."""
        begin = self._at
        is_list = self._text.startswith("[[", begin)
        self._at += 1 + is_list
        keys = self._keys()
        self._at += 1 + is_list
        path: Path = ()
        for number, (key, _) in enumerate(keys, 1):
            path += (key,)
            if is_list and number == len(keys):
                self._note(path, begin)
                self._note_written(path, begin, is_list=True)
                self._lengths[path] = self._lengths.get(path, 0) + 1
            if path in self._lengths:
                path += (self._lengths[path] - 1,)
            self._note(path, begin)
        if not is_list:
            self._note_written(path, begin)
        return path

    def _keys(self) -> list[tuple[str, int]]:
        """A dotted key: its parts, and where each begins."""
        keys = []
        while True:
            self._skip(_BLANK)
            begin = self._at
            if found := _BARE_KEY.match(self._text, begin):
                key = found[0]
            else:
                found = TEXT.match(self._text, begin)
                assert found is not None
                key = _unquoted(found[0])
            keys.append((key, begin))
            self._at = found.end()
            self._skip(_BLANK)
            if not self._text.startswith(".", self._at):
                return keys
            self._at += 1

    def _pair(self, table: Path) -> None:
        """`key = value`."""
        for key, begin in self._keys():
            table += (key,)
            self._note(table, begin)
        self._note_written(table, begin)
        self._at += 1  # the sign
        self._skip(_BLANK)
        self._value(table)

    def _value(self, path: Path) -> None:
        match self._text[self._at]:
            case "[":
                self._list(path)
            case "{":
                self._inline_table(path)
            case '"' | "'":
                self._skip(TEXT)
            case _:
                self._skip(_PLAIN)

    def _list(self, path: Path) -> None:
        self._at += 1
        count = 0
        while self._skip(_GAP) and self._text[self._at] != "]":
            if self._text[self._at] == ",":
                self._at += 1
                continue
            self._note((*path, count), self._at)
            self._value((*path, count))
            count += 1
        self._at += 1

    def _inline_table(self, path: Path) -> None:
        self._at += 1
        while self._skip(_GAP) and self._text[self._at] != "}":
            if self._text[self._at] == ",":
                self._at += 1
            else:
                self._pair(path)
        self._at += 1


def _unquoted(key: str) -> str:
    if "\\" not in key:
        return key[1:-1]
    import tomllib  # late, as in sources.py

    (name,) = tomllib.loads(f"{key} = 0")
    return name
