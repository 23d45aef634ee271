"""How far something long is, shown on a terminal.

One line of standard error, written over and over, and taken away in the end. Where standard error is no terminal,
nothing is written. A meter must not know what it counts: the line's words are given to it.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

# The line is written again at most so often: what changes faster cannot be read.
REFRESH_S = 0.1


class Meter:
    """Called with how many are done and how many there are; a call with a total of 0 shows nothing.

    words    makes the line of these two numbers; it never becomes shorter, as the old line is not erased first
    after_s  seconds from now in which nothing is shown: what is done by then needs no meter
    """

    def __init__(self, words: Callable[[int, int], str], *, after_s: float = 0.0) -> None:
        self._words = words
        self._on = sys.stderr.isatty()
        self._next_at = time.monotonic() + after_s
        self._shown = False

    def __call__(self, done: int, total: int) -> None:
        now = time.monotonic()
        if self._on and total and now >= self._next_at:
            self._next_at = now + REFRESH_S
            self._shown = True
            print(f"\r{self._words(done, total)}", end="", file=sys.stderr, flush=True)

    def clear(self) -> None:
        """Take the line off the terminal."""
        if self._shown:
            print("\r\033[K", end="", file=sys.stderr, flush=True)
