"""From a root to a generation: every file found, named, paired with its siblings.

Nothing is read, but for a file of which ctime alone is not what it was: it may be the same inode under another name, or
written in place and dated back, and its content tells (doubt.py). So a release made by `cp -al` shares all its entries.

The walk goes directory by directory, each opened through `Root` (so that it is known to lie inside), and takes each
file's status once; that status is the identity its content is later checked against. What cannot be served is a
`Problem`, never an exception: only the root itself must be readable. But where something is known already, an error of
the file system (EIO) is no news of what lies there: the walk raises it, and what is known goes on.

Names are bytes, whatever they mean to people: what is no UTF-8 is served, too, percent-encoded in its URL.

Names that begin with a dot are not served, except `.well-known` at the top (RFC 8615). A symlink is followed when
what it leads to lies inside the root, whatever it is called there: the link's own name was given on purpose.

A walk that is given the generation before takes over its entries for all files that are the same, bodies and all, and
makes no object for them: of a million files of which few changed it costs little more than asking for their status.
That generation may be live, and be patched meanwhile: the walk asks it for one key at a time, as it is then.
Where it is built, `_walk.pyx` finds them, directory by directory; what it leaves is looked at here.

`walk_again` looks only at what is said to have changed, and tells the difference to what is known. It visits by the
same code, and must come to what a walk of the whole would: what belongs to a name (its siblings, the file that it is a
sibling of, its directory's index) is looked at with it.

A sibling (`page.css.gz` beside `page.css`) is two things: a variant of its base, if it is as new, and a file under its
own name, of which it is sent as what it is.
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
from typing import Protocol, TypeVar

from zcserve.cache.doubt import confirm, name_anew
from zcserve.cache.entry import Entry, Redirect, Sibling, SiblingVariant, identity_of, is_same_file
from zcserve.cache.index import NOT_FOUND_KEY, Generation, Problem, Stock
from zcserve.cache.root import DISTURBED, SCARCE, OutsideRootError, Root
from zcserve.cache.slab import shared
from zcserve.cache.unseen import hide, put
from zcserve.errors import UsageError, reason_of
from zcserve.http import encode_path

try:
    from zcserve.cache import _walk as native
except ImportError:  # not built here: the same in Python, in twice the time
    native = None  # type: ignore[assignment]

# A file's variants lie beside it under these endings. They are their own encoded paths.
SIBLING_CODINGS = {b".br": b"br", b".zst": b"zstd", b".gz": b"gzip"}
CODING_ENDINGS = {coding: ending for ending, coding in SIBLING_CODINGS.items()}
_ENDINGS = tuple(SIBLING_CODINGS)

# As `os.fsencode` does it, in a third of its time.
_FILE_NAMES = (sys.getfilesystemencoding(), sys.getfilesystemencodeerrors())

# Directories below directories; a bound for symlinks that lead back up by other names. Linux stops at 40 links a path.
DEPTH_MAX = 100

# So many files become resources in C before another thread may have the GIL: a tenth of a millisecond.
ENTERED_AT_ONCE = 1000
_key_of = attrgetter("key")

Made = TypeVar("Made", bound=Entry)


class Observer(Protocol):
    """Who is told where a walk goes, each time before it looks: so what changes later is the observer's to notice, and
    no change falls in between."""

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
class Patch:
    """What makes a generation true again: by key the resource that stands there now, None for what is gone; and the
    content of 404.html, where its key is among them."""

    resources: dict[bytes, Entry | Redirect | None]
    problems: list[Problem]
    not_found_page: bytes | None = None

    def apply(self, generation: Generation, keys: Collection[bytes] | None = None) -> None:
        """Make these keys true, or all."""
        if keys is None:
            keys = self.resources
        generation.lay_over(keys, self.resources)
        if NOT_FOUND_KEY in keys:
            generation.not_found_page = self.not_found_page

    def pieces(self, known: Mapping[bytes, Entry | Redirect], keys_max: int) -> Iterator[list[bytes]]:
        """All keys, in pieces that may be applied one after the other: what is new, then what changed, then what is
        gone. A directory, its redirect and its index are of one piece, which may be larger for that."""
        directories = {key[: key.rfind(b"/") + 1] for key in self.resources if key.endswith(b"/")}
        together: dict[bytes, list[bytes]] = {}
        stages: tuple[list[list[bytes]], ...] = ([], [], [])
        for key, new in self.resources.items():
            directory = key if key.endswith(b"/") else key + b"/"
            if directory not in directories:
                directory = key[: key.rfind(b"/") + 1]
                indexes = (self.resources.get(directory), known.get(directory))
                if directory not in directories or not any(_is_of_key(index, key) for index in indexes):
                    stages[2 if new is None else int(key in known)].append([key])
                    continue
            together.setdefault(directory, []).append(key)
        stages[1].extend(together.values())
        piece: list[bytes] = []
        for group in chain.from_iterable(stages):
            piece += group
            if len(piece) >= keys_max:
                yield piece
                piece = []
        if piece:
            yield piece


def _is_of_key(resource: Entry | Redirect | None, key: bytes) -> bool:
    return isinstance(resource, Entry) and resource.key == key


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
    last: Generation | None = None,
) -> Generation:
    """Find everything that `root` serves.

    `index` names the files that stand for their directory, first match first. `now` (seconds since 1970) bounds
    Last-Modified. `progress` is told the number of files so far after each directory. Entries of `last` are shared
    where the files, and their siblings' files, are the same. Raises UsageError when the root itself cannot be read.
    """
    generation = Generation(root)
    known = last.resources if last is not None else {}
    visit = _Visit(root, generation.resources, generation.problems, index, now, observer, known=known, again=True)
    visit.keys = generation.pieces
    visit.trees([_Directory(b"", frozenset())], progress)
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
    found: dict[bytes, Entry | Redirect] = {}
    problems: list[Problem] = []
    known = generation.resources
    visit = _Visit(generation.root, found, problems, index, now, observer, changes.held, known)
    if also is not None:
        visit.also = also.resources
    gone = set(_keys_below(generation, changes.trees))
    for path, names in changes.names.items():
        if not _lies_in(path, changes.trees):  # else its tree is visited as a whole
            gone |= visit.names(path, names)
    return Patch(_difference(known, found, gone), problems)


def _difference(
    known: Mapping[bytes, Entry | Redirect], found: dict[bytes, Entry | Redirect], gone: set[bytes]
) -> dict[bytes, Entry | Redirect | None]:
    patch: dict[bytes, Entry | Redirect | None] = {key: None for key in gone if key in known and key not in found}
    for key, fresh in found.items():
        old = known.get(key)
        if isinstance(fresh, Redirect):
            if not isinstance(old, Redirect):  # of one key there is but one location
                patch[key] = fresh
        elif fresh is not old:
            patch[key] = fresh
    hide(patch)
    return patch


def _keys_below(known: Generation, trees: Collection[bytes]) -> Iterator[bytes]:
    """The keys of all that lies in `trees`, and of the redirects to them."""
    if not trees:
        return
    tops = {encode_path(b"/" + tree) for tree in trees}
    yield from (top[:-1] for top in tops)
    judged: dict[bytes, bool] = {}
    for key in chain.from_iterable(known.keys_in_pieces()):
        directory = key[: key.rfind(b"/") + 1]
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


def is_hidden(directory: bytes, name: bytes) -> bool:
    """Whether a walk passes over this name in this directory."""
    return name.startswith(b".") and (name != b".well-known" or directory != b"")


def _problem(path: bytes, error: OSError) -> Problem:
    return Problem.of(path, reason_of(error))


class _Visit:
    """One walk: what it goes by, and what it has found."""

    def __init__(
        self,
        root: Root,
        found: dict[bytes, Entry | Redirect],
        problems: list[Problem],
        index: tuple[str, ...],
        now: float | None,
        observer: Observer | None,
        held: Collection[bytes] = (),
        known: dict[bytes, Entry | Redirect] | None = None,
        *,
        again: bool = False,
    ) -> None:
        """`again`: most of what is met is known."""
        self._root = root
        self._found = found
        self._problems = problems
        self._index_names = tuple(map(os.fsencode, index))
        self._newest = int(time.time() if now is None else now)
        self._observer = observer
        self._held = held
        self._known = known or {}
        self._again = again and bool(known)
        self.is_disturbed = False  # something could not be looked at, for an error that may pass
        self.also: Mapping[bytes, Entry | Redirect] = {}
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
            self.stock.take([entry for _, entry in entries])
            found = [*same, *(entry for _, entry in entries)]
            self.keys += _enter(self._found, directory.path, found, self._index_names)
            pending.extend(reversed(below))
            count += len(same) + len(entries)
            if progress is not None:
                progress(count)

    def names(self, path: bytes, names: set[bytes]) -> set[bytes]:
        """Find what these names of one directory stand for now, and the directory's index.

        Returns the keys of all that was looked at: what is known of them holds only where it was found again.
        """
        try:
            fd = self._root.open_directory(path)
        except OSError as error:
            if self._is_no_news(error):
                raise
            return set()  # it changed as well, and the change of its own name says what became of it
        try:
            members = self._families(fd, path, names)
            here = _Directory(path, self._above(path))
            looks = ((name, partial(os.stat, name, dir_fd=fd)) for name in sorted(members) if _exists(fd, name))
            files, below = self._sort_out(fd, here, looks)
            entries = self._pair(fd, path, files)
        finally:
            os.close(fd)
        prefix = encode_path(b"/" + path)
        keys = {prefix + encode_path(name) for name in members}
        for name in self._index_names:
            old = self._known.get(key := prefix + encode_path(name))
            if key not in keys and isinstance(old, Entry) and old.key == key:
                entries.append((name, old))
        _enter(self._found, path, [entry for _, entry in entries], self._index_names)
        self.trees([directory for directory in reversed(below) if directory.path[len(path) : -1] in names])
        return keys | {prefix, prefix[:-1]}

    def _is_no_news(self, error: OSError) -> bool:
        """Whether an error says nothing of what lies there. The walk ends, and what is known stays; where nothing is,
        the rest is better than nothing."""
        is_disturbed = error.errno in DISTURBED
        self.is_disturbed |= is_disturbed
        return error.errno in SCARCE or (is_disturbed and bool(self._known))

    def _families(self, fd: int, path: bytes, names: set[bytes]) -> set[bytes]:
        """These names and all that are paired with them: what each is a sibling of, and its siblings.

        A file being written takes its siblings with it: they are looked at when it is done.
        """
        members: set[bytes] = set()
        for name in names:
            if is_hidden(path, name):
                continue
            base = name
            while base.endswith(_ENDINGS) and _is_file(fd, base[: base.rfind(b".")]):
                base = base[: base.rfind(b".")]
            if path + base in self._held:
                continue
            family = {name, base}
            below = list(family)
            while below:
                last = below.pop()
                siblings = [last + ending for ending in _ENDINGS if _is_file(fd, last + ending)]
                below += [sibling for sibling in siblings if sibling not in family]
                family.update(siblings)
            members.update(member for member in family if path + member not in self._held)
        return members

    def _pair(self, fd: int, path: bytes, files: dict[bytes, os.stat_result]) -> list[tuple[bytes, Entry]]:
        """Entries of one directory's files by name, in order, siblings taken as variants of their base, too; the known
        ones where they are of the same files."""
        entries: list[tuple[bytes, Entry]] = []
        prefix = encode_path(b"/" + path)
        siblings = {name for name in files if name.endswith(_ENDINGS) and name[: name.rfind(b".")] in files}
        variants: dict[bytes, SiblingVariant] = {}  # by name; a base comes before its siblings
        for name, status in files.items():
            key = prefix + encode_path(name)
            found: dict[bytes, os.stat_result] = {}
            if siblings:
                beside = {other: files[other] for ending in _ENDINGS if (other := name + ending) in siblings}
                found = _codings(path + name, status, beside, self._problems)
            entry, of_siblings = self._entry(fd, name, key, status, found, variants.get(name))
            for coding, variant in of_siblings.items():
                variants[name + CODING_ENDINGS[coding]] = variant
                if variant.fault:
                    self._problems.append(Problem.of(path + name + CODING_ENDINGS[coding], variant.fault))
            entries.append((name, entry))
        return entries

    def _entry(
        self,
        fd: int,
        name: bytes,
        key: bytes,
        status: os.stat_result,
        siblings: dict[bytes, os.stat_result],
        variant: SiblingVariant | None,
    ) -> tuple[Entry, dict[bytes, SiblingVariant]]:
        """A file's entry, the known one where it and its variants are of just these files, and what its siblings are
        for it, by coding, those with a fault included. `variant` is what the file itself is for its base."""
        old = self._known.get(key)
        for known in (old, self.also.get(key)):
            if not isinstance(known, Entry) or isinstance(known, Sibling) != (variant is not None):
                continue
            if self._is_file_of(known, fd, name, status):
                of_siblings = self._known_siblings(fd, name, known, siblings)
                if of_siblings is not None:
                    if isinstance(known, Sibling) and variant is not None:
                        known.variant = variant
                    return known, of_siblings
        if variant is None:
            entry = make_entry(key, status, self._newest)
        else:
            entry = own = make_entry_as(Sibling, key, status, self._newest)
            own.variant = variant
        if isinstance(old, Entry):
            name_anew(entry, old)
        fresh = {coding: self._make_variant(entry, coding, siblings[coding]) for coding in siblings}
        entry.variants = tuple(one for one in fresh.values() if not one.fault)
        return entry, fresh

    def _known_siblings(
        self, fd: int, name: bytes, base: Entry, siblings: dict[bytes, os.stat_result]
    ) -> dict[bytes, SiblingVariant] | None:
        """What these siblings are known to be for a known base; None where its variants are of other files."""
        if not siblings and not base.variants:
            return {}
        found = {variant.encoding: variant for variant in base.variants if isinstance(variant, SiblingVariant)}
        for coding in siblings.keys() - found.keys():
            own = self._known.get(base.key + CODING_ENDINGS[coding])
            if isinstance(own, Sibling) and own.variant.fault and own.variant.judged == base.identity:
                found[coding] = own.variant
        if found.keys() != siblings.keys():
            return None
        for coding, status in siblings.items():
            if not self._is_file_of(found[coding], fd, name + CODING_ENDINGS[coding], status):
                return None
        return found

    def _make_variant(self, base: Entry, coding: bytes, status: os.stat_result) -> SiblingVariant:
        """A variant that is not known; but what was found when these two files were compared holds."""
        variant = make_entry_as(SiblingVariant, base.key, status, self._newest)
        variant.encoding = coding
        own = self._known.get(base.key + CODING_ENDINGS[coding])
        found = own.variant if isinstance(own, Sibling) else variant  # its identity is that of what was compared
        if found.identity == variant.identity and found.judged == base.identity:
            variant.judged, variant.fault = found.judged, found.fault
        return variant

    def _is_file_of(self, representation: Entry, fd: int, name: bytes, status: os.stat_result) -> bool:
        """Whether a file is what a representation was read from; where ctime alone is another, its content is read."""
        identity = identity_of(status)
        if representation.identity == identity:
            return True
        return is_same_file(representation.identity, identity) and confirm(self._root, fd, name, representation)

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
                same, names = native.look(fd, encode_path(b"/" + path), self._known, self.stock, Entry)
                looks = ((name, partial(os.stat, name, dir_fd=fd)) for name in sorted(names))
                files, below = self._sort_out(fd, directory, looks)
            else:
                with os.scandir(fd) as listing:
                    looks = (
                        (item.name.encode(*_FILE_NAMES), item.stat) for item in sorted(listing, key=attrgetter("name"))
                    )
                    files, below = self._sort_out(fd, directory, looks)
            if self._held:
                files = {name: files[name] for name in files if path + name not in self._held}
            return same, self._pair(fd, path, files), below
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
            if name.startswith(b".") and is_hidden(path, name):
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


def _is_file(directory: int, name: bytes) -> bool:
    try:
        return stat.S_ISREG(os.stat(name, dir_fd=directory).st_mode)
    except OSError:
        return False


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


def _codings(
    path: bytes, status: os.stat_result, siblings: dict[bytes, os.stat_result], problems: list[Problem]
) -> dict[bytes, os.stat_result]:
    """The siblings of one file that are at least as new as it is, by coding."""
    name = path[path.rfind(b"/") + 1 :]
    found = {}
    for ending, coding in SIBLING_CODINGS.items():
        sibling = siblings.get(name + ending)
        if sibling is None:
            continue
        if sibling.st_mtime_ns < status.st_mtime_ns:
            why = b"is older than %b: served under its own name only" % name
            problems.append(Problem.of(path + ending, why.decode("utf-8", "backslashreplace")))
            continue
        found[coding] = sibling
    return found


def make_entry(key: bytes, status: os.stat_result, newest: int) -> Entry:
    """An entry for a file of this status. Last-Modified is never in the future (RFC 9110 section 8.8.2.1), and left
    out for times before 1970, which clients cannot be trusted to read."""
    return make_entry_as(Entry, key, status, newest)


def make_entry_as(kind: type[Made], key: bytes, status: os.stat_result, newest: int) -> Made:
    """As `make_entry`, of this kind."""
    seconds = status.st_mtime_ns // 1_000_000_000
    return kind(key, identity_of(status), shared(status.st_size), min(seconds, newest) if seconds >= 0 else None)


def _enter(
    found: dict[bytes, Entry | Redirect],
    path: bytes,
    entries: Sequence[Entry],
    index_names: tuple[bytes, ...],
) -> list[list[bytes]]:
    """Make a directory's files resources, and its index. The keys, in pieces."""
    pieces = []
    for start in range(0, len(entries), ENTERED_AT_ONCE):
        some = entries[start : start + ENTERED_AT_ONCE]
        keys = list(map(_key_of, some))
        put(found, zip(keys, some, strict=True))
        hide(keys)
        pieces.append(keys)
    location = encode_path(b"/" + path)
    for name in index_names:
        key = location + encode_path(name)
        index = found.get(key)
        if isinstance(index, Entry):
            more: dict[bytes, Entry | Redirect] = {location: index}
            if path:
                more[location[:-1]] = Redirect(location)
            put(found, more)
            pieces.append(list(more))
            break
    return pieces
