"""The directories that one watcher watches: by number, by the paths that lead to them, and by the links whose way leads
over them. It knows no event and no kernel, and has no lock: the watcher holds its own around every call.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from itertools import islice
from typing import Any

from sortedcontainers import SortedDict

Rights = tuple[int, int, int]


class Watched:
    """A directory that is watched.

    paths   by which the walk came to it
    links   by name, the links (relative paths) whose way leads over it
    mask    the flags of inotify(7) that were asked for
    rights  mode and owners; the rest of a directory's status does not matter
    place   device and inode
    """

    __slots__ = ("links", "mask", "paths", "place", "rights")

    def __init__(self) -> None:
        self.paths: list[bytes] = []
        self.links: dict[bytes, list[bytes]] = {}
        self.mask = 0
        self.rights: Rights | None = None
        self.place = (0, 0)


def _stay(_: int) -> None:
    """A directory may be watched on: its watcher is closed."""


class Watches:
    """`blind` says why not everything can be watched, or is None."""

    def __init__(self, unwatch: Callable[[int], object]) -> None:
        """`unwatch` is told the number of a directory that is not to be watched any more."""
        self.blind: str | None = None
        self._unwatch = unwatch
        self._by_number: dict[int, Watched] = {}
        self._by_path: Any = SortedDict()  # path of a directory -> wd
        self._ways: Any = SortedDict()  # path of a link -> the (wd, name) that it depends on

    def close(self) -> None:
        """Nothing is unwatched any more: the watcher, which knows this, is not in a circle."""
        self._unwatch = _stay

    def get(self, wd: int) -> Watched | None:
        """The directory of this number; None where it is forgotten."""
        return self._by_number.get(wd)

    def has_directory(self, path: bytes) -> bool:
        """Whether a directory (its path ends in a slash, or is b"") is watched as one that a walk came to."""
        return path in self._by_path

    def has_way(self, path: bytes) -> bool:
        """Whether the way of a link is watched."""
        return path in self._ways

    def places(self, after: bytes, count: int) -> list[tuple[bytes, tuple[int, int]]]:
        """Up to so many directories behind `after`, in order: paths, each with the device and inode that it had."""
        paths = islice(self._by_path.irange(after, inclusive=(False, True)), count)
        return [(path, self._by_number[self._by_path[path]].place) for path in paths]

    # --- watching ---------------------------------------------------------------------------------------------

    def __len__(self) -> int:
        return len(self._by_number)

    def numbers(self) -> list[int]:
        """Those of all directories that are watched."""
        return list(self._by_number)

    def enter(self, path: bytes, wd: int | None, status: os.stat_result, mask: int) -> None:
        """The directory of this number is watched by this path; None: none can be watched by it."""
        if self._by_path.get(path) != wd:
            self._leave(path)
            if wd is not None:
                self._note(wd).paths.append(path)
                self._by_path[path] = wd
        if wd is not None:
            watched = self._by_number[wd]
            watched.mask |= mask
            watched.rights = rights_of(status)
            watched.place = (status.st_dev, status.st_ino)

    def lead_over(self, wd: int, name: bytes, link: bytes, mask: int) -> None:
        """The directory of this number is watched, since a link's way looks up `name` in it."""
        watched = self._note(wd)
        watched.mask |= mask
        watched.links.setdefault(name, []).append(link)

    def note_way(self, link: bytes, passed: list[tuple[int, bytes]]) -> None:
        """A link leads over these names, each in the directory of this number."""
        self._ways[link] = passed

    def _note(self, wd: int) -> Watched:
        watched = self._by_number.get(wd)
        if watched is None:
            watched = self._by_number[wd] = Watched()
        return watched

    # --- forgetting -------------------------------------------------------------------------------------------

    def forget(self, tree: bytes) -> None:
        """Forget a directory (its path ends in a slash) and all below it."""
        for path in _below(self._by_path, tree):
            self._leave(path)
        for path in _below(self._ways, tree):
            self.leave_way(path)

    def drop(self, wd: int) -> None:
        """The kernel has ended this watch by itself."""
        self._by_number.pop(wd, None)

    def leave_way(self, path: bytes) -> None:
        """Forget what a link depends on."""
        for wd, name in self._ways.pop(path, ()):
            watched = self._by_number.get(wd)
            if watched is not None:
                watched.links[name].remove(path)
                if not watched.links[name]:
                    del watched.links[name]
                self._unwatch_unused(wd, watched)

    def _leave(self, path: bytes) -> None:
        wd = self._by_path.pop(path, None)
        watched = self._by_number.get(wd)
        if watched is not None:
            watched.paths.remove(path)
            self._unwatch_unused(wd, watched)

    def _unwatch_unused(self, wd: int, watched: Watched) -> None:
        if not watched.paths and not watched.links:
            del self._by_number[wd]
            self._unwatch(wd)


def rights_of(status: os.stat_result) -> Rights:
    """What of a directory's status decides what may be done in it."""
    return status.st_mode, status.st_uid, status.st_gid


def _below(paths: Any, tree: bytes) -> list[bytes]:
    """The keys of a SortedDict that begin with `tree`, which ends in a slash; a zero is what comes after a slash."""
    return list(paths.irange(tree, tree[:-1] + b"0", inclusive=(True, False)))
