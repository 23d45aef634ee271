"""Uses of files from several places and times, as one: what each is worth, and the order of that.

A use counts half for each half-life that it is older than the latest. So nothing depends on when this is asked, nor on
the order in which sources come, but for the rounding of numbers.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import inf
from typing import NamedTuple

from zcserve.cache.heat import HALF_LIFE_S, benefit

# In half-lives: numbers may have 2^1023. What is as much older than the rest counts nothing.
AGES_MAX = 512.0


@dataclass(slots=True)
class _Sum:
    uses: float = 0.0  # as of `Merged._since`
    size: int = 0


class Worth(NamedTuple):
    """A file: its decayed uses as of the latest, the bytes of it and its variants, and the uses for each byte."""

    path: str
    uses: float
    bytes: int
    benefit: float


class Merged:
    """Of one site."""

    def __init__(self, half_life_s: float = HALF_LIFE_S) -> None:
        self.latest = -inf
        self._half_life_s = half_life_s
        self._since = -inf  # a use at this time counts 1
        self._files: dict[str, _Sum] = {}

    def __len__(self) -> int:
        return len(self._files)

    def add(self, path: str, uses: float, at: float, size: int = 0) -> None:
        """So many uses, as of a time of the wall clock in seconds, of a file that is at least so large."""
        one = self._files.get(path)
        if one is None:
            one = self._files[path] = _Sum()
        one.uses += uses * self._weight(at)
        one.size = max(one.size, size)

    def _weight(self, at: float) -> float:
        self.latest = max(self.latest, at)
        if self._since == -inf:
            self._since = at
        age = (at - self._since) / self._half_life_s
        if age > AGES_MAX:
            for one in self._files.values():
                one.uses *= 2.0 ** max(-age, -2 * AGES_MAX)
            self._since, age = at, 0.0
        return float(2.0**age) if age > -2 * AGES_MAX else 0.0

    def worth(self) -> Iterator[Worth]:
        """All files, in no order."""
        left = 2.0 ** -((self.latest - self._since) / self._half_life_s) if self._files else 0.0
        for path, one in self._files.items():
            uses = one.uses * left
            yield Worth(path, uses, one.size, benefit(uses, one.size))


def by_benefit(files: Iterator[Worth]) -> list[Worth]:
    """Those with most uses for each byte first; of the same benefit, by path."""
    return sorted(files, key=lambda one: (-one.benefit, one.path))
