"""The directories that one inotify instance watches: by number, by the paths that lead to them, and by the links whose
way leads over them. It knows no event, and has no lock: the watcher holds its own around every call.
"""

from __future__ import annotations

import errno
import os
from contextlib import suppress
from itertools import islice
from typing import Any

from sortedcontainers import SortedDict

from zcserve.cache import inotify

Rights = tuple[int, int, int]


class Watched:
    """A directory that is watched.

    paths   by which the walk came to it
    links   by name, the links (relative paths) whose way leads over it
    rights  mode and owners; the rest of a directory's status does not matter
    place   device and inode
    """

    __slots__ = ("links", "paths", "place", "rights")

    def __init__(self) -> None:
        self.paths: list[bytes] = []
        self.links: dict[bytes, list[bytes]] = {}
        self.rights: Rights | None = None
        self.place = (0, 0)


class Watches:
    """`blind` says why not everything can be watched, or is None."""

    def __init__(self, fd: int, watches_max: float) -> None:
        """`fd` is the instance's; `watches_max` is a limit below the kernel's."""
        self.blind: str | None = None
        self._fd = fd
        self._watches_max = watches_max
        self._by_number: dict[int, Watched] = {}
        self._by_path: Any = SortedDict()  # path of a directory -> wd
        self._ways: Any = SortedDict()  # path of a link -> the (wd, name) that it depends on

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

    def enter(self, path: bytes, fd: int, status: os.stat_result, mask: int) -> None:
        """Watch the directory that `fd` is open for, by this path."""
        wd = self._watch(fd, mask)
        if self._by_path.get(path) != wd:
            self._leave(path)
            if wd is not None:
                self._by_number[wd].paths.append(path)
                self._by_path[path] = wd
        if wd is not None:
            self._by_number[wd].rights = rights_of(status)
            self._by_number[wd].place = (status.st_dev, status.st_ino)

    def lead_over(self, fd: int, name: bytes, link: bytes, mask: int) -> int | None:
        """Watch a directory in which a link's way looks up `name`. Its number, or None where there can be none."""
        wd = self._watch(fd, mask)
        if wd is not None:
            self._by_number[wd].links.setdefault(name, []).append(link)
        return wd

    def note_way(self, link: bytes, passed: list[tuple[int, bytes]]) -> None:
        """A link leads over these names, each in the directory of this number."""
        self._ways[link] = passed

    def _watch(self, fd: int, mask: int) -> int | None:
        """The number of the watch, or None where there can be none."""
        try:
            if len(self._by_number) >= self._watches_max:
                raise OSError(errno.ENOSPC, "too few watches")
            wd = inotify.add_watch(self._fd, fd, mask)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.ENOMEM):
                self.blind = f"{len(self._by_number)} watches are too few (fs.inotify.max_user_watches)"
            return None
        if wd not in self._by_number:
            self._by_number[wd] = Watched()
        return wd

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
            with suppress(OSError):  # the directory is gone, and the kernel knew it first
                inotify.remove_watch(self._fd, wd)


def rights_of(status: os.stat_result) -> Rights:
    """What of a directory's status decides what may be done in it."""
    return status.st_mode, status.st_uid, status.st_gid


def _below(paths: Any, tree: bytes) -> list[bytes]:
    """The keys of a SortedDict that begin with `tree`, which ends in a slash; a zero is what comes after a slash."""
    return list(paths.irange(tree, tree[:-1] + b"0", inclusive=(True, False)))
