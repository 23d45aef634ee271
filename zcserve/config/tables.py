"""Tables of the TOML file that are no keys (`[[rules]]`), as they were written: values, and where each stands.

What they mean, those say that read them (zcserve/rules). A table that comes from no file has no places.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping
from functools import cached_property
from typing import Any

from zcserve.config.option import toml_type
from zcserve.config.places import Path, Place, places_of
from zcserve.config.refusal import refusal, shown
from zcserve.errors import UsageError, known_instead


class _Places:
    """The places of a file, by the hashes of their paths: 16 bytes each. They stay as long as the rules of the file,
    and a dict of the paths takes fifteen times as much, 15 MB for 1,000 sites. Two paths with one hash would have one
    place: once in 10^10 files of so many."""

    def __init__(self, places: Mapping[Path, Place]) -> None:
        found = sorted((hash(path), *place) for path, place in places.items())
        self._hashes = array("q", (one for one, _, _ in found))
        self._lines = array("I", (line for _, line, _ in found))
        self._columns = array("I", (column for _, _, column in found))

    def get(self, path: Path) -> Place | None:
        """Where this stands."""
        wanted = hash(path)
        at = bisect_left(self._hashes, wanted)
        if at == len(self._hashes) or self._hashes[at] != wanted:
            return None
        return Place(self._lines[at], self._columns[at])


class Spot:
    """One place in a file, of what stays longer than the file is known as it was."""

    __slots__ = ("_place", "name")

    def __init__(self, name: str, place: Place | None) -> None:
        self.name = name
        self._place = place

    def place(self, _: Path) -> Place | None:
        """The only one that is known."""
        return self._place

    def where(self, path: Path) -> str:
        """The same in words: "site.toml:3:1"."""
        place = self.place(path)
        return f"{self.name}:{place}" if place is not None else self.name


class Source(Spot):
    """A TOML file that was read. Its places are looked for when they are first asked for: most files have no fault."""

    def __init__(self, path: object, text: str) -> None:
        super().__init__(str(path), None)
        self._text = text

    @cached_property
    def _places(self) -> _Places:
        return _Places(places_of(self._text))

    def place(self, path: Path) -> Place | None:
        """Where this stands; of what has no place of its own, where that stands which holds it."""
        while (place := self._places.get(path)) is None and path:
            path = path[:-1]
        return place


class Table(Mapping[str, Any]):
    """One table, as a mapping of its words. Two are equal where their words are, wherever they stand."""

    __slots__ = ("_path", "_source", "_values")

    def __init__(self, values: Mapping[str, Any], path: Path, source: Spot | None = None) -> None:
        """`path` leads to it from the top of `source`; without one it comes from no file."""
        self._values = values
        self._path = path
        self._source = source

    def __getitem__(self, word: str) -> Any:
        return self._values[word]

    def __iter__(self) -> Any:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __hash__(self) -> int:
        return hash(self._path)

    @property
    def source(self) -> Spot | None:
        """The file that has it."""
        return self._source

    def follow(self, new: Table) -> None:
        """The file was read again, and has this table with the same words: it stands there from now on. So what was
        made of it does not keep the file as it was."""
        self._source = new.source

    def leave(self) -> None:
        """What was made of it stays for a while, and the file is another by now: where this stood is known, and no more
        where its words did."""
        if self._source is not None:
            self._source = Spot(self._source.name, self._source.place(self._path))

    def where(self, *path: str | int) -> str:
        """Where it stands, or what is found in it by `path`: "site.toml:3:1: rules[0].set"."""
        full = (*self._path, *path)
        named = ""
        for step in full:
            named += f"[{step}]" if isinstance(step, int) else f".{step}" if named else step
        return f"{self._source.where(full)}: {named}" if self._source is not None else named

    def position(self, *path: str | int) -> tuple[str, int, int]:
        """The file, line and column; without a file the table's name, and zeros."""
        place = self._source.place((*self._path, *path)) if self._source is not None else None
        if self._source is None or place is None:
            return self.where(*path), 0, 0
        return self._source.name, place.line, place.column

    def refuse(self, error: UsageError, *path: str | int) -> UsageError:
        """The error, which begins with where it is."""
        return UsageError(f"{self.where(*path)}: {error}")

    def require(self, known: Iterable[str], meant: Mapping[str, str] = {}) -> None:
        """Raises UsageError for a word that is not known; `meant` has what to write instead of words of others."""
        words = tuple(known)
        for word in self._values:
            if word not in words:
                plain = word.lower().replace("-", "_")
                told = f"write {meant[plain]}" if plain in meant else known_instead(plain, words)
                raise UsageError(f"{self.where(word)}: unknown word {shown(word)}; {told}")

    def checked(self, word: str, check: Callable[[Any], Any], *path: str | int) -> Any:
        """What `check` makes of a word's value, or of what is found in that by `path`. Raises UsageError, which begins
        with where it is."""
        value = self._values[word]
        for step in path:
            value = value[step]
        try:
            return check(value)
        except UsageError as error:
            raise self.refuse(error, word, *path) from None


def table_of(value: object, path: Path, source: Source | None = None) -> tuple[Table, ...]:
    """The one table that `path` leads to (`[error_pages]`); of what comes from no file also several, of which one goes
    before the other. Raises UsageError where it is none."""
    if isinstance(value, Mapping):
        return (value if isinstance(value, Table) else Table({str(key): value[key] for key in value}, path, source),)
    if source is None and isinstance(value, tuple):
        return tuple(table for one in value for table in table_of(one, path))
    where = f"{source.where(path)}: " if source is not None else ""
    raise UsageError(f"{where}{path[-1]}: {refusal(value, f'is {toml_type(value)}', f'a table: [{path[-1]}]')}")


def tables_of(value: object, path: Path, source: Source | None = None) -> tuple[Table, ...]:
    """The tables of a list (`[[rules]]`), which `path` leads to. Raises UsageError where it is none."""
    name = path[-1]
    accepted = f"tables that begin with [[{name}]]"
    where = f"{source.where(path)}: " if source is not None else ""
    if not isinstance(value, (list, tuple)):
        raise UsageError(f"{where}{name}: {refusal(value, f'is {toml_type(value)}', accepted)}")
    for item in value:
        if not isinstance(item, Mapping):
            raise UsageError(f"{where}{name}: {refusal(item, f'is {toml_type(item)}', accepted)}")
    return tuple(
        item if isinstance(item, Table) else Table(item, (*path, number), source) for number, item in enumerate(value)
    )


def follow(old: Iterable[Mapping[str, Any]], new: Iterable[Mapping[str, Any]]) -> None:
    """As `Table.follow`, of several, which are equal."""
    for one, other in zip(old, new, strict=True):
        if isinstance(one, Table) and isinstance(other, Table):
            one.follow(other)


def leave(tables: Iterable[Mapping[str, Any]]) -> None:
    """As `Table.leave`, of several."""
    for table in tables:
        if isinstance(table, Table):
            table.leave()
