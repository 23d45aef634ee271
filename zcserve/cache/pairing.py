"""From the files of one directory to their entries: siblings paired, what is known shared.

A sibling (`page.css.gz` beside `page.css`; naming.py) is two things: a variant of its base, if it is as new, and a file
of its own name, sent as what it is.

Nothing is read, but for a file of which ctime alone is not what it was: it may be the same inode under another name, or
written in place and dated back, and its content tells (doubt.py).
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Collection, Iterable, Sequence
from typing import TypeVar
from urllib.parse import unquote_to_bytes

from zcserve.cache.counted_names import SIBLING_ENDINGS
from zcserve.cache.crew import beat
from zcserve.cache.doubt import confirm, name_anew
from zcserve.cache.entry import Entry, Sibling, SiblingVariant, identity_of, is_same_file
from zcserve.cache.index import Problem
from zcserve.cache.naming import base_of, is_as_new, sibling_of, siblings_of
from zcserve.cache.root import NO_NEWS, Root
from zcserve.cache.sharing import Known
from zcserve.cache.slab import shared
from zcserve.http import encode_path

AnyEntry = TypeVar("AnyEntry", bound=Entry)


class Pairing:
    """Makes the entries of one walk. Those of `known`, and of each `also`, are taken where they are of the same
    files."""

    def __init__(
        self,
        root: Root,
        known: Known,
        also: Sequence[Known],
        newest: int,
        problems: list[Problem],
    ) -> None:
        """`newest` (seconds since 1970) bounds Last-Modified; `problems` gets what is wrong with siblings."""
        self._root = root
        self._known = known
        self._also = also
        self._newest = newest
        self._problems = problems

    def pair(self, fd: int, path: bytes, files: dict[bytes, os.stat_result]) -> list[tuple[bytes, Entry]]:
        """Entries of one directory's files by name, in order, siblings taken as variants of their base, too; the known
        ones where they are of the same files."""
        entries: list[tuple[bytes, Entry]] = []
        prefix = encode_path(b"/" + path)
        siblings = {name for name in files if name.endswith(SIBLING_ENDINGS) and base_of(name) in files}
        variants: dict[bytes, SiblingVariant] = {}  # by name; a base comes before its siblings
        for name, status in files.items():
            beat()
            key = prefix + encode_path(name)
            found: dict[bytes, os.stat_result] = {}
            if siblings:
                beside = {coding: files[other] for coding, other in siblings_of(name) if other in siblings}
                found = _as_new(path + name, status, beside, self._problems)
            entry, of_siblings = self._entry(fd, name, key, status, found, variants.get(name))
            for coding, variant in of_siblings.items():
                variants[sibling_of(name, coding)] = variant
                if variant.fault:
                    self._problems.append(Problem.of(sibling_of(path + name, coding), variant.fault))
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
        olds = [one.get(key) for one in (self._known, *self._also)]
        for known in olds:
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
        for old in olds:
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
            own = self._known.get(sibling_of(base.key, coding))
            if isinstance(own, Sibling) and own.variant.fault and own.variant.judged == base.identity:
                found[coding] = own.variant
        if found.keys() != siblings.keys():
            return None
        for coding, status in siblings.items():
            if not self._is_file_of(found[coding], fd, sibling_of(name, coding), status):
                return None
        return found

    def _make_variant(self, base: Entry, coding: bytes, status: os.stat_result) -> SiblingVariant:
        """A variant that is not known; but what was found when these two files were compared holds."""
        variant = _make_variant(base.key, coding, status, self._newest)
        own = self._known.get(sibling_of(base.key, coding))
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


def families(fd: int, path: bytes, names: Iterable[bytes], held: Collection[bytes]) -> set[bytes]:
    """These names of a directory and all that are paired with them: what each is a sibling of, and its siblings.

    A file being written (`held`) takes its siblings with it: they are looked at when it is done.
    """
    members: set[bytes] = set()
    for name in names:
        beat()
        base = name
        while (below := base_of(base)) and _is_file(fd, below):
            base = below
        if path + base in held:
            continue
        family = {name, base}
        pending = list(family)
        while pending:
            siblings = [sibling for _, sibling in siblings_of(pending.pop()) if _is_file(fd, sibling)]
            pending += [sibling for sibling in siblings if sibling not in family]
            family.update(siblings)
        members.update(member for member in family if path + member not in held)
    return members


def _is_file(directory: int, name: bytes) -> bool:
    try:
        return stat.S_ISREG(os.stat(name, dir_fd=directory).st_mode)
    except OSError:
        return False


def _as_new(
    path: bytes, status: os.stat_result, siblings: dict[bytes, os.stat_result], problems: list[Problem]
) -> dict[bytes, os.stat_result]:
    """Of the siblings of one file, by coding, those that are at least as new as it is."""
    found = {}
    for coding, sibling in siblings.items():
        if is_as_new(sibling, status):
            found[coding] = sibling
        else:
            why = b"is older than %b: served under its own name only" % path[path.rfind(b"/") + 1 :]
            problems.append(Problem.of(sibling_of(path, coding), why.decode("utf-8", "backslashreplace")))
    return found


def entry_at(root: Root, key: bytes) -> Entry | None:
    """An entry for what now lies at a file's key, with the siblings that now fit; None: nothing does.

    Raises OSError when that cannot be told for want of descriptors or memory.
    """
    path = unquote_to_bytes(key)[1:]
    status = _status(root, path)
    if status is None:
        return None
    newest = int(time.time())
    entry = make_entry(key, status, newest)
    beside = ((coding, _status(root, name)) for coding, name in siblings_of(path))
    entry.variants = tuple(
        _make_variant(key, coding, sibling, newest)
        for coding, sibling in beside
        if sibling is not None and is_as_new(sibling, status)
    )
    return entry


def _status(root: Root, path: bytes) -> os.stat_result | None:
    try:
        fd, status = root.open_file(path)
    except OSError as error:
        if error.errno in NO_NEWS:
            raise
        return None
    os.close(fd)
    return status


def _make_variant(key: bytes, coding: bytes, status: os.stat_result, newest: int) -> SiblingVariant:
    variant = make_entry_as(SiblingVariant, key, status, newest)
    variant.encoding = coding
    return variant


def make_entry(key: bytes, status: os.stat_result, newest: int) -> Entry:
    """An entry for a file of this status. Last-Modified is never in the future (RFC 9110 section 8.8.2.1), and left
    out for times before 1970, which clients cannot be trusted to read."""
    return make_entry_as(Entry, key, status, newest)


def make_entry_as(kind: type[AnyEntry], key: bytes, status: os.stat_result, newest: int) -> AnyEntry:
    """As `make_entry`, of this kind."""
    seconds = status.st_mtime_ns // 1_000_000_000
    return kind(key, identity_of(status), shared(status.st_size), min(seconds, newest) if seconds >= 0 else None)
