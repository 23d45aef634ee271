"""How hot the files of a site are: the uses of each, decayed, so that those of long ago weigh less than those of today.

    heat = heat * 2^(-time since the last look / HALF_LIFE_S) + uses since then

A hit pays nothing for it. Entries count their uses for eviction, in the loop and in the lanes, and a look, which comes
about once a minute (content/heats.py), folds those into a table that it has not seen yet. So the time of a use is known
to a minute, of a half-life of hours. `entry.counted` is how many of `entry.uses` were folded; a use of what was not
resident is none of `uses`, since a policy must not see it, and takes one from `counted` instead (Site.note_use).

The table is by key, and not in the entries: a file that changes is a new entry, and as hot as before. An entry that
leaves tells its uses (`leave`); lost are those alone that a lane has not told of by then, of a second. What is gone
stays until it has decayed, so that a file that is deleted and comes again does not begin anew.

What is worth most of a memory that does not hold all is what has most uses for each byte that it takes: its benefit.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence

from zcserve.cache.entry import Entry, each_coding
from zcserve.cache.heads import HEAD_BYTES
from zcserve.cache.order import in_order
from zcserve.cache.shards import Shards, Table, in_pieces, tables_of
from zcserve.cache.unseen import hide

# A quarter of a day: the night does not forget the day before, of which a sixteenth is left in a day, and what was hot
# yesterday does not stand before what is hot this morning.
HALF_LIFE_S = 6 * 3600.0
# Less is forgotten: a single use, after five half-lives.
FORGOTTEN_BELOW = 1 / 32
# A dict of so many keys grows in 0.4 ms; of more, shards are used.
PLAIN_KEYS_MAX = 10_000
# So much is looked at before the clock is: a tenth of a millisecond.
LOOKED_AT_ONCE = 100
# Files of the first band; each further one has twice as many.
BAND_MIN = 256


def decay(seconds: float) -> float:
    """What is left of heat after so long: 1 at once, and where a clock was set back."""
    return float(2.0 ** (-max(seconds, 0.0) / HALF_LIFE_S))


def benefit(uses: float, size: int) -> float:
    """Uses for each byte of memory that a file of this size takes with its head."""
    return uses / (size + HEAD_BYTES)


def uncounted(entry: Entry) -> int:
    """Uses of a file and its variants that no look has seen."""
    return sum(one.uses - one.counted for one in each_coding(entry))


def size_of(entry: Entry) -> int:
    """Bytes of a file and its variants."""
    return sum(max(one.size, 0) for one in each_coding(entry))


class Heat:
    """Of the files of one site, by key. Written in the loop's thread, or before it turns; any thread may read.

    at  when it was true, of `time.monotonic`
    """

    __slots__ = ("_left", "_uses", "at")

    def __init__(self) -> None:
        self.at = time.monotonic()
        self._left: deque[tuple[bytes, int]] = deque()  # uses of entries that have left since the last look
        self._uses: Table[bytes, float] = {}

    def __len__(self) -> int:
        return len(self._uses)

    def of(self, key: bytes) -> float:
        """The decayed uses of the file at a key; 0.0 of one that is not known."""
        return self._uses.get(key, 0.0)

    def now(self, entry: Entry) -> float:
        """The same of an entry, with the uses that no look has seen."""
        return self.of(entry.key) + uncounted(entry)

    def items(self) -> Iterator[list[tuple[bytes, float]]]:
        """All keys that are known with their uses, some thousand at a time. In any thread."""
        for table in tables_of(self._uses):
            yield list(table.items())

    def add(self, key: bytes, uses: float) -> None:
        """It has so many uses more, as of now."""
        table = self._uses
        table[key] = table.get(key, 0.0) + uses
        if isinstance(table, dict) and len(table) > PLAIN_KEYS_MAX:
            self._uses = Shards(table)

    def leave(self, entry: Entry) -> None:
        """An entry is the site's no more: the next look counts its uses. In any thread."""
        if more := uncounted(entry):
            self._left.append((entry.key, more))
            for one in each_coding(entry):
                one.counted = one.uses

    @property
    def left(self) -> list[tuple[bytes, int]]:
        """Keys and uses of entries that have left, and are not counted yet."""
        return list(self._left)

    def count_left(self) -> Iterator[None]:
        """Count the uses of entries that have left, with a stop after some each."""
        while self._left:
            for _ in range(min(len(self._left), LOOKED_AT_ONCE)):
                self.add(*self._left.popleft())
            yield

    def look(self, entries: Iterable[Entry], now: float) -> Iterator[None]:
        """Decay what is known, and add what these files' entries have counted since; with a stop after some each."""
        left = decay(now - self.at)
        self.at = now
        for table in tables_of(self._uses):
            for some in in_pieces(list(table), LOOKED_AT_ONCE):
                for key in some:
                    if (uses := table[key] * left) < FORGOTTEN_BELOW:
                        del table[key]
                    else:
                        table[key] = uses
                yield
        yield from self.count_left()
        for number, entry in enumerate(entries):
            if more := uncounted(entry):
                for one in each_coding(entry):
                    one.counted = one.uses
                self.add(entry.key, more)
            if not number % LOOKED_AT_ONCE:
                yield


def in_bands(
    entries: list[Entry], uses_of: Callable[[Entry], float], cost_of: Callable[[Entry], int], room: int
) -> list[list[Entry]]:
    """The same in lists, each in its order: first those that fit into `room` bytes together, by the uses for each byte
    that they cost, the hottest in front; and all others at the end. A list is twice as long as the one before: to read
    files one by one in the order of their heat would open a directory for each."""
    taken = _taken(entries, uses_of, cost_of, room)
    if not taken:
        return [entries]
    is_taken = bytearray(len(entries))
    bands: list[list[Entry]] = []
    start, length = 0, BAND_MIN
    while start < len(taken):
        numbers = taken[start : start + length]
        bands.append([entries[number] for number in in_order(numbers)])
        for number in numbers:
            is_taken[number] = True
        start, length = start + length, length * 2
    bands.append([entry for number, entry in enumerate(entries) if not is_taken[number]])
    for band in bands:
        hide(band)
    return bands


def _taken(
    entries: Sequence[Entry], uses_of: Callable[[Entry], float], cost_of: Callable[[Entry], int], room: int
) -> list[int]:
    """The numbers of those that fit, in the order of their benefit. One that does not fit is passed over."""
    hot: list[tuple[float, int, int]] = []
    hide(hot)
    for number, entry in enumerate(entries):
        if uses := uses_of(entry):
            cost = cost_of(entry)
            hot.append((-uses / (cost or 1), number, cost))
    taken = []
    for _, number, cost in in_order(hot):
        if cost <= room:
            room -= cost
            taken.append(number)
    return taken
