"""From a root to a generation: every file found, named, paired with its siblings.

Nothing is read, but for a file of which ctime alone is not what it was (pairing.py). So a release made by `cp -al`
shares all its entries.

The walk goes directory by directory, each opened through `Root` (so that it is known to lie inside), and takes each
file's status once; that status is the identity its content is later checked against. What cannot be served is a
`Problem`, never an exception: only the root itself must be readable. But where something is known already, an error of
the file system (EIO) does not change it: the walk raises the error, and what is known is served.

Names are bytes, whatever they mean to people: what is no UTF-8 is served, too, percent-encoded in its URL.

Names that begin with a dot are not served, except `.well-known` at the top (RFC 8615), nor are the files of rules there
(ruled.py). A symlink is followed when
what it leads to lies inside the root, whatever it is called there: the link's own name was given on purpose.

A walk that is given the generation before takes over its entries for all files that are the same, bodies and all, and
makes no object for them: of a million files of which few changed it costs little more than asking for their status.
That generation may be live, and be patched meanwhile: the walk asks it for one key at a time, as it is then.
Where it is built, `_walk.pyx` finds them, directory by directory; what it leaves is looked at here.

`walk_again` looks only at what is said to have changed, and tells the difference to what is known. It visits by the
same code, and must come to what a walk of the whole would: what belongs to a name (its siblings, the file that it is a
sibling of, its directory's index) is looked at with it.

pairing.py makes entries of a directory's files.
"""

from __future__ import annotations

import os
import stat
import sys
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import chain
from operator import attrgetter
from typing import Protocol

from zcserve.cache.burial import empty, let_go
from zcserve.cache.counted_names import DEPTH_MAX, is_hidden
from zcserve.cache.crew import beat
from zcserve.cache.entry import Entry, Redirect
from zcserve.cache.index import Generation, Problem, Stock
from zcserve.cache.listing import Listing, ListingRedirect, Resource, container_of
from zcserve.cache.naming import directory_of, is_index, keys_of
from zcserve.cache.order import in_order
from zcserve.cache.pairing import Pairing, families
from zcserve.cache.patch import Patch
from zcserve.cache.root import DISTURBED, SCARCE, OutsideRootError, Root
from zcserve.cache.shards import Table, enter, filled, in_pieces, marked
from zcserve.cache.sharing import Known, sharable
from zcserve.cache.unseen import hide
from zcserve.errors import UsageError, reason_of
from zcserve.http import encode_path
from zcserve.rules.bounds import FILES

try:
    from zcserve.cache import _walk as native
except ImportError:  # not built here: the same in Python, in twice the time
    native = None  # type: ignore[assignment]

# As `os.fsencode` does it, in a third of its time.
_FILE_NAMES = (sys.getfilesystemencoding(), sys.getfilesystemencodeerrors())

_key_of = attrgetter("key")


class Observer(Protocol):
    """Is told where a walk goes, each time before it looks: so what changes later is the observer's to notice, and no
    change falls in between."""

    def directory(self, path: bytes, fd: int, status: os.stat_result) -> None:
        """`path` (relative to the root, b"" or ending in a slash) is about to be listed through `fd`."""

    def link(self, directory: bytes, name: bytes, fd: int) -> None:
        """The symlink `name` in the directory that `fd` is open for is about to be followed."""


@dataclass(slots=True)
class Changes:
    """What may have changed below a root (cache/watcher.py).

    names       by directory (relative, b"" or ending in a slash), names that may stand for something else now
    trees       directories (ending in a slash) of which nothing known holds any more; their own names are in `names`
    held        files still being written, by relative path: what is known of them stays
    everything  why all must be walked anew, or None; then there is nothing else
    """

    names: dict[bytes, set[bytes]] = field(default_factory=dict)
    trees: set[bytes] = field(default_factory=set)
    held: set[bytes] = field(default_factory=set)
    everything: str | None = None

    def __bool__(self) -> bool:
        return bool(self.names) or self.everything is not None


@dataclass(slots=True)
class _Directory:
    path: bytes  # relative to the root, b"" or ending in a slash
    above: frozenset[tuple[int, int]]  # (dev, inode) of every directory on the way here


def walk(
    root: Root,
    *,
    index: tuple[str, ...],
    now: float | None = None,
    progress: Callable[[int], None] | None = None,
    observer: Observer | None = None,
    known: Sequence[Generation] = (),
) -> Generation:
    """Find everything that `root` serves.

    `index` names the files that stand for their directory, first match first. `now` (seconds since 1970) bounds
    Last-Modified. `progress` is told the number of files so far after each directory. Entries of `known`
    generations are shared where the files, and their siblings' files, are the same; those of the first with the least
    work. Raises UsageError when the root itself cannot be read.
    """
    generation = Generation(root)
    last, *also = [sharable(one, root) for one in known] or [{}]
    visit = _Visit(
        root, generation.resources, generation.problems, index, now, observer, known=last, also=also, again=True
    )
    visit.keys = generation.pieces
    visit.trees([_Directory(b"", frozenset())], progress)
    generation.resources = visit.found
    generation.is_disturbed = visit.is_disturbed
    generation.stock = visit.stock
    return generation


def walk_again(
    generation: Generation,
    changes: Changes,
    *,
    index: tuple[str, ...],
    now: float | None = None,
    observer: Observer | None = None,
    also: Generation | None = None,
) -> Patch:
    """The difference between `generation` and what lies under its root now, as far as `changes` tells where to look.

    An entry whose files are the same stays the object that it is, or is the one that `also` has. The cost is that of
    the names and of the new directories; only `changes.trees` take a look at every key. `changes.everything` is not
    for this function.
    """
    problems: list[Problem] = []
    known = generation.resources
    others = [sharable(also, generation.root)] if also is not None else []
    visit = _Visit(generation.root, {}, problems, index, now, observer, changes.held, known, also=others)
    gone = filled(marked(_keys_below(generation, changes.trees)))
    for path, names in changes.names.items():
        if not _lies_in(path, changes.trees):  # else its tree is visited as a whole
            gone = enter(gone, marked(visit.names(path, names)))
    patch = Patch(filled(_difference(known, visit, gone)), problems, visit.keys)
    empty(visit.found)
    empty(gone)
    return patch


def _difference(
    known: Mapping[bytes, Resource], visit: _Visit, gone: Mapping[bytes, bool]
) -> Iterator[tuple[bytes, Resource | None]]:
    """By key what is there now that was not, or None; and the directories of these with listings that know of it."""
    come: dict[bytes, list[bytes]] = {}  # by directory
    for key, fresh in _plain_difference(known, visit.found, visit.keys, gone):
        yield key, fresh
        if visit.lists:
            here = come.setdefault(container_of(key), [])
            if fresh is not None and key not in known:
                here.append(key)
    renewed: list[bytes] = []
    for directory, keys in come.items():
        old = known.get(directory)
        if isinstance(old, Listing) and visit.found.get(directory, None if directory in gone else old) is old:
            renewed.append(directory)
            yield directory, old.followed(keys, known)
    visit.keys.append(renewed)


def _plain_difference(
    known: Mapping[bytes, Resource],
    found: Mapping[bytes, Resource],
    keys: Iterable[list[bytes]],
    gone: Mapping[bytes, bool],
) -> Iterator[tuple[bytes, Resource | None]]:
    yield from ((key, None) for key in gone if key in known and key not in found)
    for key in chain.from_iterable(keys):
        fresh, old = found[key], known.get(key)
        if isinstance(fresh, Redirect):
            if type(fresh) is not type(old):  # of one key there is but one location
                yield key, fresh
        elif fresh is not old:
            yield key, fresh


def _keys_below(known: Generation, trees: Collection[bytes]) -> Iterator[bytes]:
    """The keys of all that lies in `trees`, and of the redirects to them."""
    if not trees:
        return
    tops = {encode_path(b"/" + tree) for tree in trees}
    yield from (redirect for _, redirect in map(keys_of, tops))
    judged: dict[bytes, bool] = {}
    for key in chain.from_iterable(known.keys_in_pieces()):
        directory = directory_of(key)
        if directory not in judged:
            judged[directory] = _lies_in(directory, tops)
        if judged[directory]:
            yield key


def _lies_in(path: bytes, trees: Collection[bytes]) -> bool:
    """Whether a directory is one of `trees` or below one."""
    if not trees:
        return False
    slash = path.find(b"/")
    while slash >= 0:
        if path[: slash + 1] in trees:
            return True
        slash = path.find(b"/", slash + 1)
    return False


def _is_passed_over(directory: bytes, name: bytes) -> bool:
    """Whether a walk passes over it: what is hidden, and files of rules at the top, which matter (ruled.py)."""
    return is_hidden(directory, name) or (directory == b"" and name in FILES)


def _problem(path: bytes, error: OSError) -> Problem:
    return Problem.of(path, reason_of(error))


class _Visit:
    """One walk: what it goes by, and what it has found."""

    def __init__(
        self,
        root: Root,
        found: Table[bytes, Resource],
        problems: list[Problem],
        index: tuple[str, ...],
        now: float | None,
        observer: Observer | None,
        held: Collection[bytes] = (),
        known: Known | None = None,
        *,
        also: Sequence[Known] = (),
        again: bool = False,
    ) -> None:
        """`again`: most of what is met is known."""
        self._root = root
        self.found = found
        self._problems = problems
        self._index_names = tuple(map(os.fsencode, index))
        newest = int(time.time() if now is None else now)
        self._observer = observer
        self._held = held
        self._known: Known = known if known is not None else {}
        self._pairing = Pairing(root, self._known, also, newest, problems)
        self._again = again and bool(known)
        self.lists = root.rules.has_listings
        self.is_disturbed = False  # something could not be looked at, for an error that may pass
        self.keys: list[list[bytes]] = []  # of what is found in `trees`
        self.stock = Stock()  # of what it found, taken while it is at hand: to look at a million entries again is slow

    def trees(self, pending: list[_Directory], progress: Callable[[int], None] | None = None) -> None:
        """Find all that lies in these directories (of which the last comes first) and below."""
        count = 0
        while pending:
            directory = pending.pop()
            try:
                same, entries, below = self._list(directory)
            except OSError as error:
                if self._is_no_news(error):
                    raise
                if not directory.path:
                    raise UsageError(f"root {self._root.path!r} cannot be read: {reason_of(error)}") from None
                self._problems.append(_problem(directory.path, error))
                continue
            self.stock.take(entry for _, entry in entries)
            self._enter(directory.path, chain(same, (entry for _, entry in entries)), below)
            pending.extend(reversed(below))
            count += len(same) + len(entries)
            let_go(same)
            let_go(entries)
            if progress is not None:
                progress(count)

    def names(self, path: bytes, names: set[bytes]) -> set[bytes]:
        """Find what these names of one directory stand for now, and the directory's index.

        Returns the keys of all that was looked at: what is known of them holds only where it was found again.
        """
        try:
            above = self._above(path)
            fd = self._root.open_directory(path)
        except OSError as error:
            if self._is_no_news(error):
                raise
            return set()  # it changed as well, and the change of its own name says what became of it
        try:
            members = families(fd, path, [name for name in names if not _is_passed_over(path, name)], self._held)
            here = _Directory(path, above)
            looks = ((name, partial(os.stat, name, dir_fd=fd)) for name in sorted(members) if _exists(fd, name))
            files, below = self._sort_out(fd, here, looks)
            entries = self._pairing.pair(fd, path, files)
            prefix = encode_path(b"/" + path)
            keys = {prefix + encode_path(name) for name in members}
            listing = self._listing_of(fd, prefix, keys) if self.lists else None
        finally:
            os.close(fd)
        for name in self._index_names:
            old = self._known.get(key := prefix + encode_path(name))
            if key not in keys and is_index(old, (key,)):
                entries.append((name, old))
        self._enter(path, (entry for _, entry in entries), listing=listing)
        self.trees([directory for directory in reversed(below) if directory.path[len(path) : -1] in names])
        return keys.union(keys_of(prefix))

    def _listing_of(self, fd: int, prefix: bytes, keys: Collection[bytes]) -> Listing | None:
        """The listing of the directory at the key `prefix`, of which these names are looked at: the one that is known,
        or if it had an index until now, one of all names that are there, whether they are served or not."""
        known = self._known.get(prefix)
        if isinstance(known, Listing):
            return known
        if (isinstance(known, Entry) and known.key not in keys) or self._root.rules.listing_rule(prefix) is None:
            return None  # its index stays, or it has no listing
        with os.scandir(fd) as names:
            there = (prefix + encode_path(one.name.encode(*_FILE_NAMES)) for one in names)
            return Listing(list(in_pieces(one for key in there for one in (key, key + b"/"))))

    def _enter(
        self,
        path: bytes,
        entries: Iterable[Entry],
        below: Collection[_Directory] = (),
        listing: Listing | None = None,
    ) -> None:
        """Make a directory's files resources, and its index, or its listing: this one, or one of these files and of
        the directories `below`."""
        begin = len(self.keys)
        for some in in_pieces(entries):
            keys = list(map(_key_of, some))
            self.found = enter(self.found, zip(keys, some, strict=True))
            hide(keys)
            self.keys.append(keys)
        location = encode_path(b"/" + path)
        for name in self._index_names:
            key = location + encode_path(name)
            index = self.found.get(key)
            if isinstance(index, Entry):
                more: dict[bytes, Resource] = {location: index}
                if path:
                    more[location[:-1]] = Redirect(location)
                self.found = enter(self.found, more)
                self.keys.append(list(more))
                return
        if self.lists and self._root.rules.listing_rule(location) is not None:
            if listing is None:
                names = in_pieces(encode_path(b"/" + directory.path) for directory in below)
                listing = Listing([*map(list, self.keys[begin:]), *names])  # copies: a patch ends, and so do its lists
            listed: dict[bytes, Resource] = {location: listing}
            if path:
                listed[location[:-1]] = ListingRedirect(location)
            self.found = enter(self.found, listed)
            self.keys.append(list(listed))

    def _is_no_news(self, error: OSError) -> bool:
        """Whether an error says nothing of what lies there. The walk ends, and what is known stays; where nothing is,
        the rest is better than nothing."""
        is_disturbed = error.errno in DISTURBED
        self.is_disturbed |= is_disturbed
        return error.errno in SCARCE or (is_disturbed and bool(self._known))

    def _above(self, path: bytes) -> frozenset[tuple[int, int]]:
        """(dev, inode) of every directory on the way to one that a walk has come to. Raises OSError."""
        above = set()
        while path:
            path = path[: path.rfind(b"/", 0, -1) + 1]
            fd = self._root.open_directory(path)
            status = os.fstat(fd)
            os.close(fd)
            above.add((status.st_dev, status.st_ino))
        return frozenset(above)

    def _list(self, directory: _Directory) -> tuple[list[Entry], list[tuple[bytes, Entry]], list[_Directory]]:
        """The servable files of one directory: entries of those that were seen to be what they were and are done with,
        and by name those of the others; and the directories below it."""
        path = directory.path
        fd = self._root.open_directory(path)
        try:
            if self._observer is not None:
                self._observer.directory(path, fd, os.fstat(fd))
            same: list[Entry] = []
            looks: Iterable[tuple[bytes, Callable[..., os.stat_result]]]
            if self._again and native is not None:
                same, names = native.look(fd, encode_path(b"/" + path), self._known.get, self.stock, Entry)
                looks = ((name, partial(os.stat, name, dir_fd=fd)) for name in in_order(names))
                files, below = self._sort_out(fd, directory, looks)
            else:
                with os.scandir(fd) as listing:
                    looks = (
                        (item.name.encode(*_FILE_NAMES), item.stat)
                        for item in in_order(list(listing), attrgetter("name"))
                    )
                    files, below = self._sort_out(fd, directory, looks)
            if self._held:
                files = {name: files[name] for name in files if path + name not in self._held}
            entries = self._pairing.pair(fd, path, files)
            empty(files)
            return same, entries, below
        finally:
            os.close(fd)

    def _sort_out(
        self, fd: int, directory: _Directory, looks: Iterable[tuple[bytes, Callable[..., os.stat_result]]]
    ) -> tuple[dict[bytes, os.stat_result], list[_Directory]]:
        """Which names of a directory are servable files, and which are directories; `looks` are names in order, each
        with its `stat`."""
        path, problems = directory.path, self._problems
        files: dict[bytes, os.stat_result] = {}
        below: list[_Directory] = []
        here = os.fstat(fd)
        above = directory.above | {(here.st_dev, here.st_ino)}
        for name, look in looks:
            beat()
            if name[0] in b"._" and _is_passed_over(path, name):
                continue
            try:
                status = look(follow_symlinks=False)
                if stat.S_ISLNK(status.st_mode):
                    if self._observer is not None:
                        self._observer.link(path, name, fd)
                    status = _followed(self._root, fd, name)
            except OSError as error:
                if self._is_no_news(error):
                    raise
                problems.append(_problem(path + name, error))
                continue
            if stat.S_ISREG(status.st_mode):
                hide(status)  # a directory may hold a million
                files[name] = status
            elif stat.S_ISDIR(status.st_mode):
                if (status.st_dev, status.st_ino) in above or len(above) > DEPTH_MAX:
                    problems.append(Problem.of(path + name, "leads back to a directory above it"))
                else:
                    below.append(_Directory(path + name + b"/", above))
            else:
                problems.append(Problem.of(path + name, "is not a regular file"))
        return files, below


def _exists(directory: int, name: bytes) -> bool:
    try:
        os.stat(name, dir_fd=directory, follow_symlinks=False)
    except OSError:
        return False
    return True


def _followed(root: Root, directory: int, name: bytes) -> os.stat_result:
    """The status of what a symlink leads to. Raises OSError."""
    fd = os.open(name, os.O_PATH | os.O_CLOEXEC, dir_fd=directory)
    try:
        root.real_path(fd)
        return os.fstat(fd)
    except OutsideRootError:
        raise OSError("is a symlink that leads outside the root") from None
    finally:
        os.close(fd)
