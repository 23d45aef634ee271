"""The encodings of a release: which siblings there are, and those that are missing, made once for all nodes.

**A sibling is judged by its content alone.** A server takes none that is older than its file; a release has no times,
and on a node all may be of one second. So here it is a sibling if it decodes to its file (cache/siblings.py), and else
it is a file of its own, which is told. A sibling of a sibling (`a.gz.br`) is a file of its own, too.

**What is missing is made as `--compress` makes it** (cache/codings.py): of what is compressible, and where it saves
enough. It comes into place by rename, whole, with the time and the mode of its file, so that a server takes it. A name
that is taken is left alone, whatever lies there.

**It is on the disk before it has its name**, and the name is before a manifest names it: so after a power cut there is
no sibling that is cut short, which would be left alone for ever.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from functools import partial
from hashlib import sha256
from itertools import count
from typing import NamedTuple

from zcserve.cache.codings import Codings
from zcserve.cache.compress import missing_codecs
from zcserve.cache.entry import Entry, OpenFile
from zcserve.cache.naming import directory_of, path_of, sibling_of, siblings_of
from zcserve.cache.reading import ChangedError
from zcserve.cache.siblings import decoders, find_fault
from zcserve.cache.tags import tag_of
from zcserve.config.table import Config
from zcserve.errors import UsageError, reason_of
from zcserve.fleet.contents import Contents, Progress, in_threads, show
from zcserve.fleet.manifest import Encoding, ManifestError
from zcserve.fleet.settling import settle
from zcserve.media_types import MediaTypes

# What is compressed is in memory as a whole, in each thread.
CODED_BYTES_MAX = 256 << 20

# So many files have their siblings made before these are brought to the disk together, and named: to do it for each
# takes longer than to compress it. A run that is killed leaves no more of them than this, with hidden names.
FILES_SETTLED_MAX = 256

# By file, its siblings by content coding.
Siblings = dict[Entry, dict[bytes, Entry]]


def siblings_in(contents: Contents, read: Collection[Entry], config: Config) -> tuple[Siblings, list[str]]:
    """Of the files that could be read, the siblings that are what their names say; and a line for each that is not,
    and lies there as a file, and for what could not be decoded here and is trusted."""
    candidates = [
        (entry, coding, contents.entries[name])
        for key, entry in sorted(contents.entries.items())
        for coding, name in siblings_of(key)
        if entry in read and contents.entries.get(name) in read
    ]
    known = {} if config.trust_siblings else decoders()

    def fault_of(candidate: tuple[Entry, bytes, Entry]) -> str:
        entry, coding, sibling = candidate
        if coding not in known:
            return ""
        try:
            file, other = (OpenFile(contents.root.open_file(path_of(one))[0], b"") for one in (entry, sibling))
            return find_fault(known[coding], other.fd, file.fd)
        except OSError as error:
            return reason_of(error)

    found: Siblings = {}
    doubts = []
    taken: set[Entry] = set()
    for (entry, coding, sibling), fault in in_threads(fault_of, candidates):
        if entry in taken:  # a base comes before its siblings
            continue
        if fault:
            doubts.append(f"{show(path_of(sibling))}: {fault}")
        else:
            found.setdefault(entry, {})[coding] = sibling
            taken.add(sibling)
    trusted = {coding.decode() for _, coding, _ in candidates} - {coding.decode() for coding in known}
    if trusted and known:
        told = "cannot be decoded here and are trusted: pip install 'zcserve[compress]'"
        doubts.append(f"siblings in {' and '.join(sorted(trusted))} {told}")
    return found, doubts


class _Made(NamedTuple):
    """A sibling that has no name yet: where it is to lie, the hidden name that it has there, and what it is."""

    path: bytes
    hidden: bytes
    coding: str
    encoding: Encoding


class Missing:
    """Makes what encodings the files of a root lack.

    written  paths of files, and the codings that were made of each
    doubts   what cannot be made here, a line
    """

    def __init__(self, contents: Contents, config: Config) -> None:
        self._contents = contents
        self._codings = Codings(
            replace(config, compress=True), MediaTypes(config.charset, config.type), CODED_BYTES_MAX
        )
        self._taken = {problem.path for problem in contents.problems}
        self._numbers = count()
        self.written: dict[str, tuple[str, ...]] = {}
        missing = missing_codecs()
        self.doubts = [f"not all encodings can be made here: {missing}"] if missing else []

    def make(self, entries: Iterable[Entry], progress: Progress) -> Mapping[Entry, dict[str, Encoding]]:
        """What was made of these files, by coding, and lies there. Raises UsageError where it cannot be written, and
        ManifestError where a file has changed since it was read."""
        wanting = sorted(filter(self._lacks, entries), key=lambda entry: -entry.size)  # the longest first
        made: dict[Entry, dict[str, Encoding]] = {}
        total = len(wanting)
        for before in range(0, total, FILES_SETTLED_MAX):
            some = wanting[before : before + FILES_SETTLED_MAX]
            for entry, siblings in self._make_some(some, partial(_tell, progress, before, total)):
                made[entry] = {one.coding: one.encoding for one in siblings}
                self.written[entry.key.decode()] = tuple(made[entry])
        return made

    def _make_some(self, entries: list[Entry], progress: Callable[[int], None]) -> list[tuple[Entry, list[_Made]]]:
        """Make them, have them on the disk, and then name them; those of which something was made."""
        hidden: dict[bytes, _Made] = {}  # what has no name yet, by path
        try:
            made = []
            with closing(in_threads(lambda entry: self._make(entry, hidden), entries)) as results:
                for done, result in enumerate(results, 1):
                    progress(done)
                    made += [result] if result[1] else []
            directories = {directory_of(path) for path in hidden}
            self._settle(directories)
            for path, one in [*hidden.items()]:
                self._name(one)
                del hidden[path]
            self._settle(directories)
        finally:
            for one in hidden.values():
                self._unlink(one)
        return made

    def _lacks(self, entry: Entry) -> bool:
        return self._codings.may_apply(entry) and any(self._is_free(entry, coding) for coding in self._codings.codecs)

    def _is_free(self, entry: Entry, coding: bytes) -> bool:
        """Whether nothing has the name of this sibling."""
        if sibling_of(entry.key, coding) in self._contents.entries:
            return False
        return show(sibling_of(path_of(entry), coding)) not in self._taken

    def _make(self, entry: Entry, hidden: dict[bytes, _Made]) -> list[_Made]:
        """Each is in `hidden`, too, as soon as it is there."""
        path = path_of(entry)
        made = []
        try:
            fd, status = self._contents.root.open_file(path)
            content = self._contents.reader.read_tagged(OpenFile(fd, entry.identity, entry.etag), entry)
        except (ChangedError, OSError) as error:
            raise ManifestError(f"{show(path)}: {reason_of(error)}") from None
        for coding in self._codings.codecs:
            if not self._is_free(entry, coding):
                continue
            coded = self._codings.make(entry, coding, content)
            if coded:
                what = Encoding(len(coded), sha256(coded).hexdigest(), tag_of(coded).decode())
                name = b".%d-%d.zcserve~" % (os.getpid(), next(self._numbers))
                one = _Made(sibling_of(path, coding), name, coding.decode(), what)
                hidden[one.path] = one
                self._write(one, coded, status)
                made.append(one)
        return made

    def _write(self, made: _Made, content: bytes, base: os.stat_result) -> None:
        """Raises UsageError. It has a name that no walk looks at."""
        with self._directory(directory_of(made.path), made.path) as directory:
            fd = os.open(made.hidden, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600, dir_fd=directory)
            with open(fd, "wb") as file:
                file.write(content)
                file.flush()
                os.fchmod(fd, stat.S_IMODE(base.st_mode) & 0o666)
                os.utime(fd, ns=(base.st_atime_ns, base.st_mtime_ns))

    def _name(self, made: _Made) -> None:
        """Raises UsageError."""
        with self._directory(directory_of(made.path), made.path) as directory:
            name = made.path[made.path.rfind(b"/") + 1 :]
            os.rename(made.hidden, name, src_dir_fd=directory, dst_dir_fd=directory)

    def _unlink(self, made: _Made) -> None:
        with suppress(UsageError), self._directory(directory_of(made.path), made.path) as directory:
            os.unlink(made.hidden, dir_fd=directory)

    def _settle(self, directories: Iterable[bytes]) -> None:
        """Have what was written into these on the disk: one call for each file system. Raises UsageError."""
        settled = set()
        for path in directories:
            with self._directory(path, path or b".") as fd:
                if (device := os.fstat(fd).st_dev) not in settled:
                    settle(fd)
                    settled.add(device)

    @contextmanager
    def _directory(self, path: bytes, what: bytes) -> Iterator[int]:
        """A descriptor of it; an OSError meanwhile is a UsageError that names `what` cannot be written."""
        try:
            fd = self._contents.root.open_directory(path)
            try:
                yield fd
            finally:
                os.close(fd)
        except OSError as error:
            raise UsageError(f"{show(what)} cannot be written: {reason_of(error)}") from None


def _tell(progress: Progress, before: int, total: int, done: int) -> None:
    progress(before + done, total)
