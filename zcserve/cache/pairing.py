"""From the files of one directory to their entries: siblings paired, what is known shared.

A sibling (`page.css.gz` beside `page.css`) is two things: a variant of its base, if it is as new, and a file under its
own name, of which it is sent as what it is.

Nothing is read, but for a file of which ctime alone is not what it was: it may be the same inode under another name, or
written in place and dated back, and its content tells (doubt.py).
"""

from __future__ import annotations

import os
import stat
from collections.abc import Collection, Iterable, Mapping
from typing import TypeVar

from zcserve.cache.doubt import confirm, name_anew
from zcserve.cache.entry import Entry, Redirect, Sibling, SiblingVariant, identity_of, is_same_file
from zcserve.cache.index import Problem
from zcserve.cache.root import Root
from zcserve.cache.slab import shared
from zcserve.http import encode_path

# A file's variants lie beside it under these endings. They are their own encoded paths.
SIBLING_CODINGS = {b".br": b"br", b".zst": b"zstd", b".gz": b"gzip"}
CODING_ENDINGS = {coding: ending for ending, coding in SIBLING_CODINGS.items()}
_ENDINGS = tuple(SIBLING_CODINGS)

Made = TypeVar("Made", bound=Entry)


class Pairing:
    """Makes the entries of one walk. Those of `known`, and of `also`, are taken where they are of the same files."""

    def __init__(
        self,
        root: Root,
        known: Mapping[bytes, Entry | Redirect],
        also: Mapping[bytes, Entry | Redirect],
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
        for known in (old, self._also.get(key)):
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


def families(fd: int, path: bytes, names: Iterable[bytes], held: Collection[bytes]) -> set[bytes]:
    """These names of a directory and all that are paired with them: what each is a sibling of, and its siblings.

    A file being written (`held`) takes its siblings with it: they are looked at when it is done.
    """
    members: set[bytes] = set()
    for name in names:
        base = name
        while base.endswith(_ENDINGS) and _is_file(fd, base[: base.rfind(b".")]):
            base = base[: base.rfind(b".")]
        if path + base in held:
            continue
        family = {name, base}
        below = list(family)
        while below:
            last = below.pop()
            siblings = [last + ending for ending in _ENDINGS if _is_file(fd, last + ending)]
            below += [sibling for sibling in siblings if sibling not in family]
            family.update(siblings)
        members.update(member for member in family if path + member not in held)
    return members


def _is_file(directory: int, name: bytes) -> bool:
    try:
        return stat.S_ISREG(os.stat(name, dir_fd=directory).st_mode)
    except OSError:
        return False


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
