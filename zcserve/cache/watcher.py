"""What has changed below a root, by inotify: from events to `Changes`, which `walk_again` turns into entries.

A watcher belongs to one walk: as its observer it watches each directory before it is listed, so that no change falls
in between, and remembers by which paths the walk came there. It says where to look, never what is there: an event is
stale when it is read, so all it does is make a name *dirty*. So a name that is said twice, or for nothing, costs one
look, and the cookie that pairs the two halves of a rename is not needed. The kernel's events come by an instance that
the watchers of all sites share (cache/instance.py).

- **Whole files only.** A file that was created or modified is *held* until it is closed, renamed (that publishes it) or
  has been quiet for a while.
- **Directories.** One that is moved or deleted is forgotten with all below, watches too; wherever it turns up is a new
  directory. By symlinks one directory may have several paths.
- **Symlinks.** What a link stands for depends on every name that the kernel looks up on its way, also in directories
  that are not served (`file -> ..data/file`). They are watched, and what happens to such a name happens to the link.
- **The root** has a way, too: when a name on it changes (`ln -sfn`), everything has, and the root is
  opened anew. A walk that is to be made anew gets a new watcher; this one may live on until then.
- **Too few watches** (fs.inotify.max_user_watches): what is watched is followed, and everything is walked every minute.

Not noticed: a file changed by another of its hard links or a mapping, a file system mounted over a directory, and links
that pass through directories outside the root. That is found in time (cache/recheck.py), and what is loaded is checked
against its identity in any case (cache/reading.py).

No thread is started here, but walks may run in one while the loop reads: a lock keeps the tables whole.
"""

from __future__ import annotations

import errno
import math
import os
import stat
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from functools import partial
from itertools import islice
from threading import Lock

from zcserve.cache import inotify
from zcserve.cache.counted_names import is_hidden
from zcserve.cache.instance import Instance, Told
from zcserve.cache.root import OutsideRootError, Root
from zcserve.cache.walk import Changes
from zcserve.cache.watches import Rights, Watched, Watches, rights_of
from zcserve.cache.ways import way_of

# A change is told when nothing has followed it for SETTLE_S: the steps of one change (close and rename, two renames)
# come within some hundred microseconds. It waits no longer than SMALL_WAIT_S, so that an edit shows at once;
# from BURST_NAMES names on it is a deploy, told in pieces of BURST_WAIT_S.
SETTLE_S = 0.005
SMALL_WAIT_S = 0.030
BURST_NAMES = 64
BURST_WAIT_S = 0.250

# A file that is not closed counts as whole when nothing was written for so long: programs that write slower are rare,
# and such a half is served as the file.
QUIET_S = 0.5

# How often everything is walked while not everything can be watched.
BLIND_RESCAN_S = 60.0

_STRUCTURE = inotify.IN_CREATE | inotify.IN_DELETE | inotify.IN_MOVED_FROM | inotify.IN_MOVED_TO
_INSIDE = (
    _STRUCTURE
    | inotify.IN_MODIFY
    | inotify.IN_CLOSE_WRITE
    | inotify.IN_ATTRIB
    | inotify.IN_DELETE_SELF
    | inotify.IN_MOVE_SELF
    | inotify.IN_ONLYDIR
    | inotify.IN_EXCL_UNLINK
)
_ABOVE = _STRUCTURE | inotify.IN_ONLYDIR
# What the kernel tells without being asked.
_UNASKED = inotify.IN_IGNORED | inotify.IN_UNMOUNT | inotify.IN_Q_OVERFLOW
_OVERFLOW = inotify.IN_Q_OVERFLOW | inotify.IN_UNMOUNT

# Of a directory that cannot be asked: whatever it is when it can be again differs from this.
_NO_RIGHTS = (0, 0, 0)

# The path of the root in the tables: what happens to it happens to everything.
_ROOT = b""
_ROOT_CHANGED = "the root was moved, replaced or re-pointed"


class Watcher:
    """Follows one root. `fd`, which others may have, too, becomes readable when there is something to `read`; then ask
    `due` when to `take` it.

    events, batches, overflows: how many there were since the start; an overflow is what makes everything be walked.
    Times are seconds of a monotonic clock.
    """

    def __init__(
        self,
        root: Root,
        instance: Instance | None = None,
        *,
        quiet_s: float = QUIET_S,
        rescan_s: float = BLIND_RESCAN_S,
        watches_max: float = math.inf,
    ) -> None:
        """`instance` tells of events; None: one of its own, which is closed with it. `watches_max` is a limit below the
        kernel's. Raises OSError where there is no inotify to be had (EMFILE: fs.inotify.max_user_instances)."""
        self.events = 0
        self.batches = 0
        self.overflows = 0
        self._root = root
        self._quiet_s = quiet_s
        self._rescan_s = rescan_s
        self._rescan_at = math.inf
        self._rescan_why = ""
        self._lock = Lock()
        self._dirty: dict[bytes, bool] = {}  # path -> whether a directory of that name is no more what it was
        self._held: dict[bytes, float] = {}  # path -> when it was last written, oldest first
        self._written: set[bytes] = set()  # which files were, since the last `take`
        self._everything: str | None = None
        self._first = self._last = math.inf  # when the batch at hand began, and when it last grew
        self._watches_max = watches_max
        self._is_own = instance is None
        self._instance = Instance() if instance is None else instance
        self._watches = Watches(partial(self._instance.unwatch, self))
        self._instance.join(self)
        try:
            self._watch_root()
        except OSError:
            self.close()
            raise
        self._check_in_place()

    def _check_in_place(self) -> None:
        if not self._root.is_in_place():  # it was re-pointed before its way was watched
            self._everything = _ROOT_CHANGED
            self._first = self._last = -math.inf

    def close(self) -> None:
        """Nothing is followed, and may be asked, any more."""
        with self._lock:
            numbers = self._watches.numbers()
            self._watches.close()
        self._instance.leave(self, numbers)
        if self._is_own:
            self._instance.close()

    @property
    def fd(self) -> int:
        """The instance's."""
        return self._instance.fd

    # --- watching: a walk's observer --------------------------------------------------------------------------

    def directory(self, path: bytes, fd: int, status: os.stat_result) -> None:
        """Watch a directory that is about to be listed."""
        if not self._watch(fd, _INSIDE, lambda wd: self._watches.enter(path, wd, status, _INSIDE)):
            with self._lock:
                self._watches.enter(path, None, status, _INSIDE)

    def link(self, directory: bytes, name: bytes, fd: int) -> None:
        """Watch what a symlink's meaning depends on, beside its own name."""
        path = directory + name
        self._forget_link(path)
        self._depend(path, islice(way_of(fd, name), 1, None), _INSIDE)

    def name_root(self, root: Root) -> None:
        """The same directory is known by another path from now on, whose way is followed instead."""
        self._root = root
        self._watch_root()
        self._check_in_place()

    def _watch_root(self) -> None:
        self._forget_link(_ROOT)
        self._depend(_ROOT, way_of(None, os.fsencode(self._root.path)), _ABOVE)

    def _depend(self, path: bytes, way: Iterator[tuple[int, bytes]], mask: int) -> None:
        passed: list[tuple[int, bytes]] = []
        for fd, name in way:
            if mask == _INSIDE:
                try:
                    self._root.real_path(fd)
                except OutsideRootError:
                    continue

            def note(wd: int, name: bytes = name) -> None:
                self._watches.lead_over(wd, name, path, mask)
                passed.append((wd, name))

            self._watch(fd, mask, note, name)
        if passed:
            with self._lock:
                self._watches.note_way(path, passed)

    def _watch(self, fd: int, mask: int, note: Callable[[int], None], name: bytes | None = None) -> bool:
        """Have the kernel watch a directory for a name or, None, for all; note that, with the lock. False where it
        cannot be."""

        def noted(wd: int) -> None:
            with self._lock:
                note(wd)

        try:
            if len(self._watches) >= self._watches_max:
                raise OSError(errno.ENOSPC, "too few watches")
            self._instance.watch(self, fd, mask, noted, time.monotonic(), name)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.ENOMEM):
                self._watches.blind = f"{len(self._watches)} watches are too few (fs.inotify.max_user_watches)"
            return False
        return True

    def _forget_link(self, path: bytes) -> None:
        with self._lock:
            self._watches.leave_way(path)

    # --- reading ----------------------------------------------------------------------------------------------

    def read(self, now: float, within_s: float = math.inf) -> bool:
        """As `Instance.read`."""
        return self._instance.read(now, within_s)

    def take_in(self, events: Iterable[Told], now: float) -> bool:
        """As `Taker.take_in`."""
        is_news = False
        with self._lock:
            for wd, mask, name in events:
                self.events += 1
                watched = self._watches.get(wd)
                if mask & _OVERFLOW:
                    why = "the kernel's queue of events overflowed (fs.inotify.max_queued_events)"
                    self._mark_everything(why if mask & inotify.IN_Q_OVERFLOW else "a file system was unmounted", now)
                    is_news = True
                elif watched is None or not mask & (watched.mask | _UNASKED):
                    pass  # forgotten, and what it was about is dirty; or another watcher has asked for it
                elif name:
                    paths = [path + name for path in watched.paths if not is_hidden(path, name)]
                    links = watched.links.get(name)
                    if paths or links:
                        self._sort_out(paths, links or [], mask, now)
                        is_news = True
                else:
                    self._itself(wd, watched, mask, now)
                    is_news = True
        return is_news

    def _sort_out(self, paths: list[bytes], links: list[bytes], mask: int, now: float) -> None:
        """Something happened to a name that is known by these paths, and to what these links lead over."""
        if mask & inotify.IN_ISDIR:
            for path in paths + links:
                if mask & inotify.IN_ATTRIB:
                    if not self._watches.has_directory(path + b"/"):  # else it tells by itself
                        self._mark(path, now)
                else:
                    self._held.pop(path, None)
                    self._mark(path, now, tree=not mask & inotify.IN_CREATE)
        elif mask & inotify.IN_MODIFY or (mask & inotify.IN_CREATE and self._is_being_written(paths, links)):
            for path in paths + links:
                self._held.pop(path, None)
                self._held[path] = now
                self._written.add(path)
        else:
            for path in paths + links:
                if not mask & inotify.IN_ATTRIB:
                    self._held.pop(path, None)
                self._mark(path, now)

    def _is_being_written(self, paths: list[bytes], links: list[bytes]) -> bool:
        """Whether a created name may be of a file that is being written: no symlink, and no second name of a file."""
        try:
            status = self._root.link_status(paths[0]) if paths else self._root.status(links[0])
        except OSError:
            return False
        return stat.S_ISREG(status.st_mode) and status.st_nlink == 1

    def _itself(self, wd: int, watched: Watched, mask: int, now: float) -> None:
        """Something happened to a watched directory; that it was moved or deleted is told by the one above, too."""
        if mask & inotify.IN_IGNORED:
            for path in list(watched.paths):
                self._mark(path[:-1], now, tree=True)
            self._watches.drop(wd)
        elif mask & (inotify.IN_MOVE_SELF | inotify.IN_DELETE_SELF):
            if _ROOT in watched.paths:
                self._mark(_ROOT, now)
        elif mask & inotify.IN_ATTRIB and watched.rights is not None:
            rights = self._rights_of(watched.paths)
            if rights != watched.rights:
                watched.rights = rights
                for path in list(watched.paths):
                    self._mark(path[:-1], now, tree=True)

    def _rights_of(self, paths: list[bytes]) -> Rights:
        for path in paths:
            with suppress(OSError):
                return rights_of(self._root.status(path))
        return _NO_RIGHTS

    def _mark(self, path: bytes, now: float, *, tree: bool = False) -> None:
        if path == _ROOT:
            self._mark_everything(_ROOT_CHANGED, now)
            return
        self._dirty[path] = tree or self._dirty.get(path, False)
        if tree:
            self._watches.forget(path + b"/")
        self._grow(now)

    def _mark_everything(self, why: str, now: float) -> None:
        self._everything = why
        self._grow(now)

    def _grow(self, now: float) -> None:
        self._first = min(self._first, now)
        self._last = now

    # --- being asked ------------------------------------------------------------------------------------------

    def holds(self, path: bytes) -> bool:
        """Whether a file (relative path) is being written, as far as the events tell that were read."""
        return path in self._held

    def written(self) -> set[bytes]:
        """All files of which `was_written` is true."""
        with self._lock:
            return self._written.union(self._held)

    def was_written(self, path: bytes) -> bool:
        """Whether a file is being written, or was since the last `take`: what was seen of it may be half of it."""
        return path in self._written or path in self._held

    @property
    def blind(self) -> str | None:
        """Why not everything can be watched, or None."""
        return self._watches.blind

    @property
    def writes(self) -> bool:
        """Whether `was_written` is true of any file."""
        return bool(self._written or self._held)

    @property
    def is_lost(self) -> bool:
        """Whether everything is to be walked anew: no answer about a single name means anything."""
        return self._everything is not None

    def look_again(self, path: bytes, now: float) -> None:
        """This name was looked at while it changed."""
        with self._lock:
            self._mark(path, now)

    def is_renewed(self, path: bytes, now: float) -> None:
        """What lies at this path takes its place before this tells of it, in any thread. What was seen since the last
        `take` may be older, so it counts as written, and is looked at again."""
        with self._lock:
            self._written.add(path)
            self._mark(path, now)

    def places(self, after: bytes, count: int) -> list[tuple[bytes, tuple[int, int]]]:
        """Up to so many directories behind `after`, in order: paths, each with the device and inode that it had."""
        with self._lock:
            return self._watches.places(after, count)

    def is_elsewhere(self, path: bytes, now: float) -> None:
        """A directory is not the one that it was, or is none any more; no event tells of it. In any thread, even when
        this watcher is closed meanwhile: what is known of the directory is forgotten by `take`."""
        with self._lock:
            self._mark(path[:-1], now)
            if path:
                self._dirty[path[:-1]] = True

    def rescan_later(self, why: str, now: float) -> None:
        """Have everything walked after a while, unless that happens before."""
        if now + self._rescan_s < self._rescan_at:
            self._rescan_at = now + self._rescan_s
            self._rescan_why = why

    # --- telling ----------------------------------------------------------------------------------------------

    def due(self, now: float) -> float:
        """When to call `take`; inf while there is nothing to take."""
        if self.blind is not None:
            self.rescan_later(self.blind, now)
        wait = SMALL_WAIT_S if len(self._dirty) < BURST_NAMES else BURST_WAIT_S
        settled = min(self._last + SETTLE_S, self._first + wait)
        quiet = next(iter(self._held.values()), math.inf) + self._quiet_s
        return min(settled, quiet, self._rescan_at)

    def take(self, now: float) -> Changes:
        """What has changed since the last call, and is whole; to be looked at before the next call. In any thread, by
        one at a time: events are taken in meanwhile, and are told by the next call."""
        with self._lock:
            self._close_quiet(now)
            everything, self._everything = self._everything, None
            dirty, self._dirty = self._dirty, {}
            held = set(self._held)
            self._written = set()
            self._first = self._last = math.inf
        changes = Changes(everything=everything) if everything is not None else self._changes(dirty, held)
        if changes:
            self.batches += 1
        if changes.everything is not None:
            self.overflows += 1
            self._watch_root()
        return changes

    def _close_quiet(self, now: float) -> None:
        """Whether everything is due; and the files that nothing was written to for long are whole."""
        if self._everything is None and self._rescan_at <= now:
            self._everything = self._rescan_why
        if self._everything is not None:
            self._held = {}
            self._rescan_at = math.inf
        quiet = []
        for path, written in self._held.items():
            if written + self._quiet_s > now:
                break
            quiet.append(path)
        for path in quiet:
            del self._held[path]
            self._dirty.setdefault(path, False)

    def _changes(self, dirty: dict[bytes, bool], held: set[bytes]) -> Changes:
        """The lock is taken for one name at a time: there may be a hundred thousand, and the loop reads events."""
        changes = Changes(held=held)
        for path, tree in dirty.items():
            if path in held:
                continue  # dirty again when it is whole
            directory, name = path[: path.rfind(b"/") + 1], path[path.rfind(b"/") + 1 :]
            changes.names.setdefault(directory, set()).add(name)
            if tree or self._watches.has_directory(path + b"/"):
                changes.trees.add(path + b"/")
                with self._lock:
                    self._watches.forget(path + b"/")
            if self._watches.has_way(path):
                self._forget_link(path)
        return changes
