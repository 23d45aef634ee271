"""The generation of each site written down, for the process that takes over (upgrade.py).

A manifest says of every entry what it is, and where its bytes lie in memory that both processes map. Its reader has
the generations that the writer served, bodies, ETags and all, and has read no file. From there on an upgrade is a
reload like any other: a walk shares what is the same on disk, and the rest is loaded.

    first line | section name record key record record key ... | section name ...

A section is of a site; a record without a key is a variant of the one before. A site that the reader does not have is
passed over, and one that the writer did not have is loaded as at any start. How hot a site's files are is a section of
its own (`_HEAT` behind the name): a program that does not know it has no such site.

    key uses key uses ...

The first line tells the format, and the settings that decide what an entry and its body are made of. Where the reader
would write another line, it reads no further, and everything is loaded as at any start. Heads are made anew and
compared: where a setting or a newer program gives them other fields, content is copied behind them, from memory.

Not in it: older generations (`--keep-generations`), the uses that eviction counts, and content that was sent
`--in-place`. The order of last uses is.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from types import MappingProxyType
from typing import BinaryIO, NamedTuple

from zcserve.cache.entry import Body, Entry, MadeVariant, Packed, Paged, Sibling, SiblingVariant
from zcserve.cache.heat import Heat
from zcserve.cache.index import PIECE_MAX, Generation
from zcserve.cache.loader import Loader
from zcserve.cache.naming import base_of, coding_of
from zcserve.cache.pages import Extent
from zcserve.cache.root import Root
from zcserve.cache.shards import enter
from zcserve.cache.siblings import FAULTS
from zcserve.cache.slab import shared
from zcserve.cache.takeover import Memory
from zcserve.cache.unseen import hide

FORMAT = 3
NO_HEAT: Mapping[str, Heat] = MappingProxyType({})

# Of a site: the length of its name, and of its records.
_SECTION = struct.Struct("=HQ")
# Length of the key, content coding, kind of entry (_KINDS), what was found when it was compared with its base;
# identity, ETag; size, Last-Modified, tick; and where: a slab's number, the length of the head, the offset.
_RECORD = struct.Struct("=HBBB40s34sqqQiIQ")
# Behind the name of a site, in which no blank is: its heat. The length of a key, and its decayed uses.
_HEAT = " heat"
_WARM = struct.Struct("=Hd")
_CODINGS = (b"", b"br", b"gzip", b"zstd")
_KINDS = (Entry, SiblingVariant, MadeVariant, Sibling)
_UNJUDGED = 0  # else what FAULTS has behind this
_NO_DATE = -1
_NOWHERE, _PAGES = -1, -2  # instead of a slab's number

_BUFFER_BYTES = 1 << 20


class Heir(NamedTuple):
    """A site of the process that takes over: its number, its root, what loads its files, and what it is to know of
    their heat."""

    site: int
    root: Root
    loader: Loader
    heat: Heat | None = None


@dataclass(slots=True)
class _Place:
    """Where a representation's bytes lie, and when they were used last."""

    heir: Heir
    entry: Entry
    tick: int
    slab: int
    head_bytes: int
    offset: int


def _first_line(loader: Loader) -> bytes:
    config = loader.config
    settings = (config.small_body_bytes_max, config.hash_bytes_max, config.in_place, *sorted(loader.codings.codecs))
    return b"zcserve manifest %d %b\n" % (FORMAT, " ".join(map(str, settings)).encode())


def write(
    fd: int, memory: Memory, served: Mapping[str, Generation], loader: Loader, heat: Mapping[str, Heat] = NO_HEAT
) -> None:
    """Write what each site serves, and its heat, down in the empty file `fd`, in any thread. The store must be frozen:
    it gave `memory`. `loader` is that of any site: what the first line has is the same for all."""
    places = {number: place for place, number in enumerate(memory.numbers)}
    with open(fd, "wb", _BUFFER_BYTES, closefd=False) as file:
        file.write(_first_line(loader))
        for name, generation in served.items():
            with _section(file, name):
                _write_records(file, places, generation)
        for name, known in heat.items():
            with _section(file, name + _HEAT):
                for entry in served[name].entries():
                    if uses := known.now(entry):
                        file.write(_WARM.pack(len(entry.key), uses) + entry.key)
                file.writelines(_WARM.pack(len(key), uses) + key for key, uses in known.left)


@contextmanager
def _section(file: BinaryIO, name: str) -> Iterator[None]:
    """What is written in it is the section of this name."""
    begin = file.tell()
    file.write(_SECTION.pack(len(name), 0) + name.encode())
    records = file.tell()
    yield
    end = file.tell()
    file.seek(begin)
    file.write(_SECTION.pack(len(name), end - records))
    file.seek(end)


def _write_records(file: BinaryIO, places: Mapping[int, int], generation: Generation) -> None:
    for entry in generation.entries():
        file.write(_record(entry, entry.key, places, _base_of(entry, generation)))
        for variant in entry.variants:
            file.write(_record(variant, b"", places, entry))


def _base_of(entry: Entry, generation: Generation) -> Entry | None:
    """What a file is a sibling of."""
    base = generation.resources.get(entry.key.rpartition(b".")[0]) if isinstance(entry, Sibling) else None
    return base if isinstance(base, Entry) else None


def _record(entry: Entry, key: bytes, places: Mapping[int, int], base: Entry | None) -> bytes:
    slab, head_bytes, offset = _NOWHERE, 0, 0
    match entry.body:
        case Packed() as body if body.slab.number in places:
            slab, head_bytes, offset = places[body.slab.number], body.head_bytes, body.offset
        case Paged(keeper=Extent()) as body:
            slab, offset = _PAGES, body.offset
    modified = _NO_DATE if entry.modified is None else entry.modified
    kind = _KINDS.index(type(entry))
    what = (len(key), _CODINGS.index(entry.encoding), kind, _verdict(entry, base), entry.identity, entry.etag)
    return _RECORD.pack(*what, entry.size, modified, entry.tick, slab, head_bytes, offset) + key


def _verdict(entry: Entry, base: Entry | None) -> int:
    """Of a sibling: what was found when it was compared with its base, if both are still what they were then."""
    variant = entry.variant if isinstance(entry, Sibling) else entry
    if not isinstance(variant, SiblingVariant) or base is None:
        return _UNJUDGED
    if (variant.identity, variant.judged) != (entry.identity, base.identity):
        return _UNJUDGED
    if variant is entry and variant.fault:
        return _UNJUDGED  # it was refused just now
    return _UNJUDGED + 1 + FAULTS.index(variant.fault)


def adopt(fd: int, memory: Memory, heirs: Mapping[str, Heir]) -> dict[str, Generation]:
    """The generations of these sites that the manifest `fd` tells of, their bodies in `memory`, which the store takes
    over.

    None of them where manifest or memory are not what this process would have made; then the memory is closed. The
    store must be empty, and holds what it took over until `release`.
    """
    loader = next(iter(heirs.values())).loader
    line = _first_line(loader)
    served: dict[str, Generation] = {}
    with mmap.mmap(fd, 0, prot=mmap.PROT_READ) as manifest:
        if manifest[: len(line)] != line or not loader.store.takeover.adopt(memory):
            memory.close()
            return served
        places: list[_Place] = []
        for name, begin, end in _sections(manifest, len(line)):
            if (heir := heirs.get(name)) is not None:
                served[name] = _adopt(manifest, begin, end, heir, places)
            elif (heir := heirs.get(name.removesuffix(_HEAT))) is not None and heir.heat is not None:
                _warm(manifest, begin, end, heir.heat)
        _claim(places)
    return served


def _sections(manifest: mmap.mmap, at: int) -> Iterator[tuple[str, int, int]]:
    """The name of each site, and where its records begin and end."""
    while at < len(manifest):
        length, records = _SECTION.unpack_from(manifest, at)
        at += _SECTION.size
        name = manifest[at : at + length].decode()
        yield name, at + length, at + length + records
        at += length + records


def _warm(manifest: mmap.mmap, at: int, end: int, heat: Heat) -> None:
    """Have the heat of a site know what the other process knew."""
    while at < end:
        length, uses = _WARM.unpack_from(manifest, at)
        at += _WARM.size
        heat.add(manifest[at : at + length], uses)
        at += length


def _adopt(manifest: mmap.mmap, begin: int, end: int, heir: Heir, places: list[_Place]) -> Generation:
    """What one site served; `places` gets where its bytes lie."""
    generation = Generation(heir.root)
    judge = heir.loader.judge
    siblings: list[tuple[Sibling, int]] = []
    found = _read(manifest, begin, end, generation, siblings, heir)
    places += [place for place in found if not judge.is_due(place.entry)]
    for sibling, verdict in siblings:
        _pair(sibling, _UNJUDGED if judge.trusts else verdict, generation)
    hide(generation.resources)
    heir.loader.store.count_index(heir.site, generation.index_bytes)
    return generation


def _read(
    manifest: mmap.mmap, at: int, end: int, generation: Generation, siblings: list[tuple[Sibling, int]], heir: Heir
) -> Iterator[_Place]:
    """Enter what the records say; where the bytes lie, of each that was resident. `siblings` are put down with what was
    found when they were compared, to be paired with their variants."""
    unpack, record_bytes = _RECORD.unpack_from, _RECORD.size
    base = Entry(b"", b"", 0, None)
    while at < end:
        length, coding, kind, verdict, identity, etag, size, modified, *where = unpack(manifest, at)
        tick, slab, head_bytes, offset = where
        at += record_bytes
        key = manifest[at : at + length] or base.key
        at += length
        size = shared(size) if size >= 0 else size
        entry = _KINDS[kind](key, identity, size, None if modified == _NO_DATE else modified)
        entry.etag = etag.rstrip(b"\0")
        if length:
            base = generation.resources[key] = entry
            if not generation.pieces or len(generation.pieces[-1]) == PIECE_MAX:
                generation.resources = enter(generation.resources, ())
                generation.pieces.append([])
                hide(generation.pieces[-1])
            generation.pieces[-1].append(key)
        else:
            entry.encoding = _CODINGS[coding]
            base.variants += (entry,)
        if isinstance(entry, Sibling):
            siblings.append((entry, verdict))
        elif isinstance(entry, SiblingVariant) and verdict != _UNJUDGED:
            entry.judged = base.identity
        if slab != _NOWHERE:
            yield _Place(heir, entry, tick, slab, head_bytes, offset)


def _pair(sibling: Sibling, verdict: int, generation: Generation) -> None:
    """Have a sibling know what it is for its base."""
    base_key, coding = base_of(sibling.key), coding_of(sibling.key)
    base = generation.resources.get(base_key)
    for variant in base.variants if isinstance(base, Entry) else ():
        if isinstance(variant, SiblingVariant) and variant.encoding == coding:
            sibling.variant = variant
            return
    sibling.variant = SiblingVariant(base_key, sibling.identity, sibling.size, sibling.modified)
    sibling.variant.encoding = coding
    if isinstance(base, Entry) and verdict != _UNJUDGED:
        sibling.variant.judged = base.identity
        sibling.variant.fault = FAULTS[verdict - _UNJUDGED - 1]


def _claim(places: list[_Place]) -> None:
    """Make resident what lies in the memory that was taken over: should it be too much, what was used last; and in the
    order in which it was used."""
    places.sort(key=lambda place: place.tick)
    bodies = []
    extents: dict[int, Extent] = {}  # by offset; a sibling's two entries share one
    for place in reversed(places):
        body = _body(place, extents)
        if body is not None:
            bodies.append((place, body))
    for place, body in reversed(bodies):
        loader = place.heir.loader
        loader.store.admit(place.entry, body, loader.is_pinned)


def _body(place: _Place, extents: dict[int, Extent]) -> Body | None:
    entry, loader = place.entry, place.heir.loader
    store = loader.store
    head = loader.head_of(place.heir.root, entry)
    if place.slab == _PAGES:
        extent = extents.get(place.offset) or store.takeover.claim_pages(place.offset, entry.size)
        if extent is None:
            return None
        extents[place.offset] = extent
        loader.lies_in(entry, extent)
        return Paged(head, store.pages_fd, extent.offset, entry.size, extent)
    there = store.takeover.look(place.slab, place.offset, place.head_bytes + entry.size)
    if there[: place.head_bytes] == head:
        return store.takeover.claim(place.slab, place.offset, place.head_bytes, entry.size)
    content = bytes(there[place.head_bytes :])
    store.place([(entry, head, content)], evict=False, is_pinned=loader.is_pinned)
    return None
