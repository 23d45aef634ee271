"""The encodings of a release: which siblings there are, and those that are missing, made once for all nodes.

**A sibling is judged by its content alone.** A server takes none that is older than its file; a release has no times,
and on a node all may be of one second. So here it is a sibling if it decodes to its file (cache/siblings.py), and else
it is a file of its own, which is told. A sibling of a sibling (`a.gz.br`) is a file of its own, too.

**What is missing is made as `--compress` makes it** (cache/codings.py): of what is compressible, and where it saves
enough. It comes into place by rename, whole, with the time and the mode of its file, so that a server takes it. A name
that is taken is left alone, whatever lies there.
"""

from __future__ import annotations

import os
import stat
import threading
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import replace
from hashlib import sha256

from zcserve.cache.codings import Codings
from zcserve.cache.compress import missing_codecs
from zcserve.cache.entry import Entry, OpenFile
from zcserve.cache.index import Problem
from zcserve.cache.naming import directory_of, path_of, sibling_of, siblings_of
from zcserve.cache.reading import ChangedError
from zcserve.cache.siblings import decoders, find_fault
from zcserve.cache.tags import tag_of
from zcserve.config.table import Config
from zcserve.errors import UsageError, reason_of
from zcserve.fleet.contents import Contents, Progress, in_threads, show
from zcserve.fleet.manifest import Encoding, ManifestError
from zcserve.media_types import MediaTypes

# What is compressed is in memory as a whole, in each thread.
CODED_BYTES_MAX = 256 << 20

# By file, its siblings by content coding.
Siblings = dict[Entry, dict[bytes, Entry]]


def siblings_in(contents: Contents, config: Config) -> tuple[Siblings, list[str]]:
    """The siblings that are what their names say, and a line for what could not be decoded here and is trusted. The
    others are problems of the contents, but lie there as files."""
    candidates = [
        (entry, coding, contents.entries[name])
        for key, entry in sorted(contents.entries.items())
        for coding, name in siblings_of(key)
        if name in contents.entries
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
    taken: set[Entry] = set()
    for (entry, coding, sibling), fault in in_threads(fault_of, candidates):
        if entry in taken:  # a base comes before its siblings
            continue
        if fault:
            contents.problems.append(Problem.of(path_of(sibling), fault))
        else:
            found.setdefault(entry, {})[coding] = sibling
            taken.add(sibling)
    trusted = {coding.decode() for _, coding, _ in candidates} - {coding.decode() for coding in known}
    told = "cannot be decoded here and are trusted: pip install 'zcserve[compress]'"
    return found, [f"siblings in {' and '.join(sorted(trusted))} {told}"] if trusted and known else []


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
        self.written: dict[str, tuple[str, ...]] = {}
        missing = missing_codecs()
        self.doubts = [f"not all encodings can be made here: {missing}"] if missing else []

    def make(self, entries: Iterable[Entry], progress: Progress) -> Mapping[Entry, dict[str, Encoding]]:
        """What was made of these files, by coding. Raises UsageError where it cannot be written, and ManifestError
        where a file has changed since it was read."""
        wanting = sorted(filter(self._lacks, entries), key=lambda entry: -entry.size)  # the longest first
        made = {}
        for done, (entry, encodings) in enumerate(in_threads(self._make, wanting), 1):
            progress(done, len(wanting))
            if encodings:
                made[entry] = encodings
                self.written[entry.key.decode()] = tuple(encodings)
        return made

    def _lacks(self, entry: Entry) -> bool:
        return self._codings.may_apply(entry) and any(
            sibling_of(entry.key, coding) not in self._contents.entries for coding in self._codings.codecs
        )

    def _make(self, entry: Entry) -> dict[str, Encoding]:
        path = path_of(entry)
        made = {}
        try:
            fd, status = self._contents.root.open_file(path)
            content = self._contents.reader.read_tagged(OpenFile(fd, entry.identity, entry.etag), entry)
        except (ChangedError, OSError) as error:
            raise ManifestError(f"{show(path)}: {reason_of(error)}") from None
        for coding in self._codings.codecs:
            sibling = sibling_of(path, coding)
            if sibling_of(entry.key, coding) in self._contents.entries:
                continue
            coded = self._codings.make(entry, coding, content)
            if coded:
                try:
                    self._write(sibling, coded, status)
                except OSError as error:
                    raise UsageError(f"{show(sibling)} cannot be written: {reason_of(error)}") from None
                made[coding.decode()] = Encoding(len(coded), sha256(coded).hexdigest(), tag_of(coded).decode())
        return made

    def _write(self, path: bytes, content: bytes, base: os.stat_result) -> None:
        """Raises OSError. What is not whole yet has a name that no walk looks at."""
        directory = self._contents.root.open_directory(directory_of(path))
        temporary = b".%d-%d.zcserve~" % (os.getpid(), threading.get_native_id())
        try:
            fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600, dir_fd=directory)
            try:
                with open(fd, "wb") as file:
                    file.write(content)
                    file.flush()
                    os.fchmod(fd, stat.S_IMODE(base.st_mode) & 0o666)
                    os.utime(fd, ns=(base.st_atime_ns, base.st_mtime_ns))
                os.rename(temporary, path[path.rfind(b"/") + 1 :], src_dir_fd=directory, dst_dir_fd=directory)
            except BaseException:
                with suppress(OSError):
                    os.unlink(temporary, dir_fd=directory)
                raise
        finally:
            os.close(directory)
