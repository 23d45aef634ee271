"""From a root to a generation: every file found, named, paired with its siblings; nothing read.

The walk goes directory by directory, each opened through `Root` (so that it is known to lie inside), and takes each
file's status once; that status is the identity its content is later checked against. What cannot be served is a
`Problem`, never an exception: only the root itself must be readable.

Names that begin with a dot are not served, except `.well-known` at the top (RFC 8615). A symlink is followed when
what it leads to lies inside the root, whatever it is called there: the link's own name was given on purpose.
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Callable
from dataclasses import dataclass
from operator import attrgetter

from zcserve.cache.entry import Entry, Redirect, identity_of
from zcserve.cache.index import Generation, Problem
from zcserve.cache.root import OutsideRootError, Root
from zcserve.errors import UsageError
from zcserve.http import encode_path

# A file's variants lie beside it under these endings.
SIBLING_CODINGS = {b".br": b"br", b".zst": b"zstd", b".gz": b"gzip"}
CODING_ENDINGS = {coding: ending for ending, coding in SIBLING_CODINGS.items()}
_ENDINGS = tuple(SIBLING_CODINGS)

# Directories below directories; a bound for symlinks that lead back up by other names. Linux stops at 40 links a path.
DEPTH_MAX = 100


@dataclass(slots=True)
class _Directory:
    path: bytes  # relative to the root, b"" or ending in a slash
    above: frozenset[tuple[int, int]]  # (dev, inode) of every directory on the way here


def walk(
    root: Root, *, index: tuple[str, ...], now: float | None = None, progress: Callable[[int], None] | None = None
) -> Generation:
    """Find everything that `root` serves.

    `index` names the files that stand for their directory, first match first. `now` (seconds since 1970) bounds
    Last-Modified. `progress` is told the number of files so far after each directory. Raises UsageError when the root
    itself cannot be read.
    """
    generation = Generation(root)
    newest = int(time.time() if now is None else now)
    index_names = tuple(name.encode() for name in index)
    pending = [_Directory(b"", frozenset())]
    count = 0
    while pending:
        directory = pending.pop()
        try:
            files, below = _list(root, directory, generation.problems)
        except OSError as error:
            if not directory.path:
                raise UsageError(f"root {root.path!r} cannot be read: {error.strerror or error}") from None
            generation.problems.append(_problem(directory.path, error))
            continue
        entries = _pair(directory.path, files, newest, generation.problems)
        _enter(generation, directory.path, entries, index_names)
        pending.extend(reversed(below))
        count += len(entries)
        if progress is not None:
            progress(count)
    return generation


def _problem(path: bytes, error: OSError) -> Problem:
    return Problem.of(path, error.strerror or str(error))


def _list(
    root: Root, directory: _Directory, problems: list[Problem]
) -> tuple[dict[bytes, os.stat_result], list[_Directory]]:
    """The servable files of one directory with their status, and the directories below it."""
    files: dict[bytes, os.stat_result] = {}
    below: list[_Directory] = []
    fd = root.open_directory(directory.path)
    try:
        here = os.fstat(fd)
        above = directory.above | {(here.st_dev, here.st_ino)}
        with os.scandir(fd) as listing:
            for item in sorted(listing, key=attrgetter("name")):
                name = os.fsencode(item.name)
                if name.startswith(b".") and (name != b".well-known" or directory.path):
                    continue
                try:
                    status = _status(root, fd, name, item)
                except OSError as error:
                    problems.append(_problem(directory.path + name, error))
                    continue
                if not _is_utf8(name):
                    problems.append(Problem.of(directory.path + name, "its name is not UTF-8"))
                elif stat.S_ISREG(status.st_mode):
                    files[name] = status
                elif stat.S_ISDIR(status.st_mode):
                    if (status.st_dev, status.st_ino) in above or len(above) > DEPTH_MAX:
                        problems.append(Problem.of(directory.path + name, "leads back to a directory above it"))
                    else:
                        below.append(_Directory(directory.path + name + b"/", above))
                else:
                    problems.append(Problem.of(directory.path + name, "is not a regular file"))
    finally:
        os.close(fd)
    return files, below


def _status(root: Root, directory: int, name: bytes, item: os.DirEntry[str]) -> os.stat_result:
    """The status of what a name stands for; a symlink is asked where it leads. Raises OSError."""
    status = item.stat(follow_symlinks=False)
    if not stat.S_ISLNK(status.st_mode):
        return status
    fd = os.open(name, os.O_PATH | os.O_CLOEXEC, dir_fd=directory)
    try:
        root.real_path(fd)
        return os.fstat(fd)
    except OutsideRootError:
        raise OSError("is a symlink that leads outside the root") from None
    finally:
        os.close(fd)


def _is_utf8(name: bytes) -> bool:
    try:
        name.decode()
    except UnicodeDecodeError:
        return False
    return True


def _pair(
    path: bytes, files: dict[bytes, os.stat_result], newest: int, problems: list[Problem]
) -> list[tuple[bytes, Entry]]:
    """Entries of one directory's files by name, siblings taken as variants of their base."""
    entries: list[tuple[bytes, Entry]] = []
    prefix = encode_path(b"/" + path)
    siblings = {name for name in files if name.endswith(_ENDINGS) and name[: name.rfind(b".")] in files}
    # The sibling of a sibling is none: nobody would ever be sent it.
    siblings = {name for name in siblings if name[: name.rfind(b".")] not in siblings}
    for name, status in files.items():
        if name in siblings:
            continue
        entry = make_entry(prefix + encode_path(name), status, newest)
        if siblings:
            found = {other: files[other] for ending in _ENDINGS if (other := name + ending) in siblings}
            entry.variants = _variants(path + name, entry, status, found, newest, problems)
        entries.append((name, entry))
    return entries


def _variants(
    path: bytes,
    base: Entry,
    status: os.stat_result,
    siblings: dict[bytes, os.stat_result],
    newest: int,
    problems: list[Problem],
) -> tuple[Entry, ...]:
    """The siblings of one file that are at least as new as it is."""
    name = path[path.rfind(b"/") + 1 :]
    found = []
    for ending, coding in SIBLING_CODINGS.items():
        sibling = siblings.get(name + ending)
        if sibling is None:
            continue
        if sibling.st_mtime_ns < status.st_mtime_ns:
            why = f"is older than {os.fsdecode(name)}: not used"
            problems.append(Problem.of(path + ending, why))
            continue
        variant = make_entry(base.key, sibling, newest)
        variant.encoding = coding
        found.append(variant)
    return tuple(found)


def make_entry(key: bytes, status: os.stat_result, newest: int) -> Entry:
    """An entry for a file of this status. Last-Modified is never in the future (RFC 9110 section 8.8.2.1), and left
    out for times before 1970, which clients cannot be trusted to read."""
    seconds = status.st_mtime_ns // 1_000_000_000
    return Entry(key, identity_of(status), status.st_size, min(seconds, newest) if seconds >= 0 else None)


def _enter(
    generation: Generation, path: bytes, entries: list[tuple[bytes, Entry]], index_names: tuple[bytes, ...]
) -> None:
    resources = generation.resources
    by_name = dict(entries)
    for entry in by_name.values():
        resources[entry.key] = entry
    for name in index_names:
        if name in by_name:
            location = encode_path(b"/" + path)
            resources[location] = by_name[name]
            if path:
                resources[location[:-1]] = Redirect(location)
            break
