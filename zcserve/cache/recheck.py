"""A slow look at all that is known of files, for what inotify does not tell.

A file that is written through another of its hard links, or through a mapping (mmap), brings no event in the directory
that is watched; nor does a file system that is mounted over a directory. All of them give a file or a directory another
identity. So the status of everything is read now and then, and what has another identity is told to the watcher, like
any other change. Nothing is read here; what only content tells is found by `Reread`, in the same
thread, at a pace of its own.

The looks are spread over the interval, LOOKS_AT_ONCE at a time and LOOKS_PER_S_MAX at most: a disk is never busy with
them, and a million files take longer than a short interval says. They may hang with their file system, so they have a
thread of their own (content/rechecks.py).
"""

from __future__ import annotations

from math import inf

from zcserve.cache.entry import Entry, identity_of
from zcserve.cache.index import Generation
from zcserve.cache.naming import path_of
from zcserve.cache.reread import Reread
from zcserve.cache.root import DISTURBED, SCARCE
from zcserve.cache.watcher import Watcher

LOOKS_AT_ONCE = 64
LOOKS_PER_S_MAX = 5000


class Recheck:
    """Goes round what a generation has, again and again, each round in about `interval_s`. One thread at a time."""

    def __init__(self, generation: Generation, watcher: Watcher, interval_s: float) -> None:
        self._generation = generation
        self._watcher = watcher
        self._interval_s = interval_s
        self._reread = Reread(generation, watcher, interval_s)
        self._look_at = self._read_at = -inf
        self._begin()

    def _begin(self) -> None:
        self._directory: bytes | None = b""  # the directories behind this are still to be looked at; None: none are
        self._piece = 0
        self._place = 0

    def step(self, now: float) -> float:
        """Look at some names, or read some content; in how many seconds to go on. What differs is dirty `now`. Raises
        nothing."""
        if now >= self._look_at:
            self._look_at = now + self._look_at_some(now)
        if now >= self._read_at:
            self._read_at = now + self._reread.step(now)
        return max(min(self._look_at, self._read_at) - now, 0)

    def _look_at_some(self, now: float) -> float:
        if not self._generation.root.is_in_place():
            self._watcher.look_again(b"", now)
        looks = 0
        while looks < LOOKS_AT_ONCE:
            some = self._some(LOOKS_AT_ONCE - looks, now)
            if not some:
                self._begin()
                break
            looks += some
        total = max(len(self._generation.resources), looks, 1)
        return max(self._interval_s * max(looks, 1) / total, looks / LOOKS_PER_S_MAX)

    def _some(self, count: int, now: float) -> int:
        """Look at up to so many directories, or keys; 0 when the round is over."""
        if self._directory is not None:
            places = self._watcher.places(self._directory, count)
            for path, place in places:
                if self._is_elsewhere(path, place):
                    self._watcher.is_elsewhere(path, now)
            self._directory = places[-1][0] if places else None
            if places:
                return len(places)
        pieces = self._generation.pieces  # patches come and go between two steps: one that is missed has its turn later
        while self._piece < len(pieces):
            keys = pieces[self._piece][self._place : self._place + count]
            self._place += len(keys)
            if keys:
                for key in keys:
                    self._look(key, now)
                return len(keys)
            self._piece, self._place = self._piece + 1, 0
        return 0

    def _is_elsewhere(self, path: bytes, place: tuple[int, int]) -> bool:
        try:
            status = self._generation.root.status(path)
        except OSError as error:
            return error.errno not in SCARCE | DISTURBED
        return (status.st_dev, status.st_ino) != place

    def _look(self, key: bytes, now: float) -> None:
        entry = self._generation.resources.get(key)
        if not isinstance(entry, Entry) or entry.key != key:  # a directory's, which stands for a file beside
            return
        path = path_of(entry)
        known = entry.identity
        try:
            found = identity_of(self._generation.root.status(path))
        except OSError as error:
            if error.errno in SCARCE | DISTURBED:
                return
            found = b""
        if found != known and self._generation.resources.get(key) is entry and not self._watcher.holds(path):
            self._watcher.look_again(path, now)
