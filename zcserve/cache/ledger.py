"""What a process has taken over of a memory that another process has as well, until the other one has ended.

Until then neither changes what both have (upgrade.py). What is *claimed* counts as used here. What is freed here
meanwhile is written down, and stays as it is. When the other process has ended, the gaps between the claims are free,
and so is what was written down. Slabs and pages keep one ledger for each memfd that they took over.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator

from zcserve.cache.order import in_order


class Ledger:
    """The first `end` bytes of a memfd. Claims begin at multiples of `unit` bytes and are as long as such; they do not
    overlap, and each is less than 2^32 units long and begins before the 2^32nd."""

    def __init__(self, end: int, unit: int) -> None:
        self.end = end
        self._unit = unit
        self._claims = array("Q")  # of each, in units: its start << 32 | its length
        self.dead: list[tuple[int, int]] = []  # of what died here: offset and length in bytes

    def claim(self, offset: int, length: int) -> None:
        """This process uses so many bytes."""
        self._claims.append(offset // self._unit << 32 | length // self._unit)

    def gaps(self) -> Iterator[tuple[int, int]]:
        """Start and end of what lies before each claim, and behind the last; of neighbours the gap is empty."""
        at, unit = 0, self._unit
        for claim in in_order(self._claims):
            start = (claim >> 32) * unit
            yield at, start
            at = start + (claim & 0xFFFFFFFF) * unit
        yield at, self.end
