"""A table of any size of which no step is long.

A dict that grows moves all its keys in one call of C, and holds the GIL meanwhile: 3 ms at 87,000 keys, 6, 12 and 25 ms
at 175,000, 350,000 and 700,000. So what may be large is spread over TABLES dicts by the hash of its keys, and each of
them stays small.

A `get` costs 0.2 us instead of 0.04 us. So an index is a plain dict as long as it has few keys, and `enter` makes
shards of it where it would have more. To copy it would be one more long step: the dict becomes the first of the tables
as it is, and is never added to. What is written goes to the other tables.

What is odd: while a key is written that the first table has, it is in two tables for a moment. The first has the older
value: other threads look there last, and then once more where it is written, since it may have left the first by then.
The tables are hidden from the collector (unseen.py) whatever is written.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, MutableMapping
from itertools import chain, islice, repeat
from typing import Any, Generic, TypeVar, cast, overload

from zcserve.cache.unseen import hide, put

Key = TypeVar("Key")
Value = TypeVar("Value")
Other = TypeVar("Other")

# An index is one dict up to so many keys: it has grown at 87,382, in 3 ms, and would at 174,763, in 6 ms.
DICT_KEYS_MAX = 131_072
# Dicts that share the keys of a larger one: up to 5 million keys, none of them grows in more than 3 ms. A prime, for a
# dict goes by the lowest bits of a hash, and these have to differ in each table.
TABLES = 61
# So many items are put in before another thread may have the GIL: a tenth of a millisecond.
ENTERED_AT_ONCE = 1000
_NOTHING = object()


class Shards(MutableMapping[Key, Value], Generic[Key, Value]):
    """A mapping like a dict, but in no order."""

    __slots__ = ("_first", "_tables")

    def __init__(self, first: dict[Key, Value] | None = None) -> None:
        """`first` is one of the tables from now on, and belongs to this."""
        self._first: dict[Key, Value] = {} if first is None else first
        self._tables: tuple[dict[Key, Value], ...] = tuple({} for _ in range(TABLES))
        hide(self._tables)
        hide(self)

    @property
    def tables(self) -> tuple[dict[Key, Value], ...]:
        """All its dicts, to be read or emptied one after the other."""
        return (self._first, *self._tables)

    @overload
    def get(self, key: Key, /) -> Value | None: ...
    @overload
    def get(self, key: Key, /, default: Value) -> Value: ...
    @overload
    def get(self, key: Key, /, default: Other) -> Value | Other: ...
    def get(self, key: Key, /, default: object = None) -> object:
        table = self._tables[hash(key) % TABLES]
        found = table.get(key, _NOTHING)
        if found is _NOTHING:
            found = self._first.get(key, _NOTHING)
            if found is _NOTHING:
                return table.get(key, default)  # it may have been written between these two
        return found

    def __getitem__(self, key: Key) -> Value:
        found = self.get(key, _NOTHING)
        if found is _NOTHING:
            raise KeyError(key)
        return cast(Value, found)

    def __contains__(self, key: object) -> bool:
        return self.get(cast(Key, key), _NOTHING) is not _NOTHING

    def __setitem__(self, key: Key, value: Value) -> None:
        table = self._tables[hash(key) % TABLES]
        table[key] = value
        self._first.pop(key, None)
        hide(table)

    def update(self, items: Mapping[Key, Value] | Iterable[tuple[Key, Value]]) -> None:  # type: ignore[override]
        """Let these keys lead to these values."""
        tables, first = self._tables, self._first
        written = set()
        for key, value in items.items() if isinstance(items, Mapping) else items:
            place = hash(key) % TABLES
            tables[place][key] = value
            written.add(place)
            if first:
                first.pop(key, None)
        for place in written:
            hide(tables[place])

    def __delitem__(self, key: Key) -> None:
        if self.pop(key, _NOTHING) is _NOTHING:
            raise KeyError(key)

    def pop(self, key: Key, default: object = None) -> Any:
        """Take a key out; what stood there, else `default`."""
        older = self._first.pop(key, default)
        return self._tables[hash(key) % TABLES].pop(key, older)

    def __len__(self) -> int:
        return sum(map(len, self._tables), len(self._first))

    def __iter__(self) -> Iterator[Key]:
        return chain.from_iterable(self.tables)


Table = dict[Key, Value] | Shards[Key, Value]


def enter(table: Table[Key, Value], items: Mapping[Key, Value] | Iterable[tuple[Key, Value]]) -> Table[Key, Value]:
    """Put some thousand items in at most, and hide the table. The table, or shards of it once it has more than
    DICT_KEYS_MAX keys: then nothing is put into the dict itself any more."""
    put(table, items)
    if isinstance(table, dict) and len(table) > DICT_KEYS_MAX:
        return Shards(table)
    return table


def filled(items: Iterable[tuple[Key, Value]]) -> Table[Key, Value]:
    """A table of these items; as long as it is one dict, in their order."""
    table: Table[Key, Value] = {}
    for some in in_pieces(items):
        table = enter(table, some)
    return table


def in_pieces(items: Iterable[Value], at_once: int = ENTERED_AT_ONCE) -> Iterator[list[Value]]:
    """These items, as many at once as make no long step."""
    rest = iter(items)
    while some := list(islice(rest, at_once)):
        yield some


def marked(keys: Iterable[Key]) -> Iterator[tuple[Key, bool]]:
    """Items of a table that stands for a set of these keys."""
    return zip(keys, repeat(True))


def tables_of(table: Table[Key, Value]) -> tuple[dict[Key, Value], ...]:
    """The dicts that a table consists of."""
    return table.tables if isinstance(table, Shards) else (table,)
