"""The files of a root, as a server of it finds them, read in threads: sizes and digests.

What there is, and what cannot be served, says the server's own walk; each file is read in one version, or it is an
error (cache/reading.py). The root's files of rules are there as well: no client gets them, and a release is not what it
was without them. What the walk finds out by times is left out: a copy of a root has others.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from hashlib import sha256
from itertools import groupby
from typing import TypeVar

from zcserve.cache.entry import Entry, OpenFile
from zcserve.cache.index import Problem
from zcserve.cache.naming import directory_of, path_of
from zcserve.cache.pairing import make_entry
from zcserve.cache.reading import ChangedError, Reader
from zcserve.cache.ruled import open_root
from zcserve.cache.tags import PIECE_BYTES, is_identity_tag
from zcserve.cache.walk import walk
from zcserve.config.table import Config
from zcserve.errors import reason_of
from zcserve.fleet.manifest import Encoding, ManifestError
from zcserve.rules.book import Rulebook
from zcserve.rules.bounds import FILES

T = TypeVar("T")
R = TypeVar("R")

# Files that a thread takes at a time, which lie in one directory: it is opened once for them.
FILES_AT_ONCE = 64

# Is told how many of how many are done.
Progress = Callable[[int, int], None]


def in_threads(work: Callable[[T], R], items: list[T]) -> Generator[tuple[T, R], None, None]:
    """What `work` makes of each, in order, by a thread for each core that the process may use. When one fails, those
    that have not begun do not begin."""
    with ThreadPoolExecutor(len(os.sched_getaffinity(0)), "zcserve-fleet") as pool:
        results: Iterable[R] = map(work, items)
        with suppress(RuntimeError):  # no thread is to be had: this one does it
            results = pool.map(work, items)
        try:
            yield from zip(items, results, strict=True)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def show(path: bytes) -> str:
    """A path for a message."""
    return Problem.of(path, "").path


class Contents:
    """The files of one root.

    entries   what is served, by key; no entry has variants
    of_rules  `_headers` and `_redirects` at the top, where they are there
    problems  what lies there and is not served, or could not be read
    doubts    what is wrong in the files of rules, and passed over by a server, a line each
    """

    def __init__(self, config: Config) -> None:
        """Finds them, and reads none but those of rules. Raises UsageError."""
        book = Rulebook(config)
        self.root = open_root(config.directory, book)
        self.doubts = tuple(book.told)
        generation = walk(self.root, index=config.index)
        self.entries = {entry.key: entry for entry in generation.entries()}
        for entry in self.entries.values():
            entry.variants = ()
        self.of_rules = list(self._rule_files())
        there = {show(path_of(entry)) for entry in self.entries.values()}
        self.problems = [problem for problem in generation.problems if problem.path not in there]
        self.reader = Reader(config.hash_bytes_max)

    def _rule_files(self) -> Iterator[Entry]:
        for name in FILES:
            with suppress(FileNotFoundError):
                fd, status = self.root.open_file(name)
                os.close(fd)
                yield make_entry(b"/" + name, status, 0)

    def read(self, progress: Progress) -> dict[Entry, Encoding]:
        """What is in all of them. Raises ManifestError where one changes meanwhile."""
        entries = sorted((*self.entries.values(), *self.of_rules), key=path_of)
        found: dict[Entry, Encoding] = {}
        done = 0
        for piece, contents in in_threads(self._read_some, list(_pieces(entries))):
            done += len(piece)
            progress(done, len(entries))
            for entry, content in zip(piece, contents, strict=True):
                if isinstance(content, Encoding):
                    found[entry] = content
                else:
                    self.problems.append(Problem.of(path_of(entry), reason_of(content)))
        return found

    def _read_some(self, entries: list[Entry]) -> list[Encoding | OSError]:
        """Of files in one directory."""
        found: list[Encoding | OSError] = []
        try:
            directory = self.root.open_directory(directory_of(path_of(entries[0])))
        except OSError as error:
            return [error] * len(entries)
        try:
            for entry in entries:
                try:
                    found.append(self._read(directory, entry))
                except OSError as error:
                    found.append(error)
        finally:
            os.close(directory)
        return found

    def _read(self, directory: int, entry: Entry) -> Encoding:
        """Raises OSError and ManifestError."""
        path = path_of(entry)
        fd = self.root.open_in(directory, path[path.rfind(b"/") + 1 :])
        digest = sha256()
        try:
            if entry.size <= PIECE_BYTES:
                digest.update(self.reader.read_small(fd, entry))
            else:
                file = OpenFile(os.dup(fd), entry.identity)
                self.reader.read_pieces(file, entry, lambda piece, at: digest.update(piece))
        except ChangedError as error:
            raise ManifestError(f"{show(path)}: {error}") from None
        finally:
            os.close(fd)
        etag = "" if is_identity_tag(entry.etag) else entry.etag.decode()
        return Encoding(entry.size, digest.hexdigest(), etag)


def _pieces(entries: Iterable[Entry]) -> Iterator[list[Entry]]:
    for _, group in groupby(entries, lambda entry: directory_of(path_of(entry))):
        some = list(group)
        yield from (some[at : at + FILES_AT_ONCE] for at in range(0, len(some), FILES_AT_ONCE))
