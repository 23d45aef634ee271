"""From a file to a body: read and checked (reading.py), headed, placed; and the variants that `--compress` makes of it.

A body that may not be resident (too large, or no room) comes back as `OnDisk`, an open file with the identity that was
promised; a small one, while the store is frozen, as `Fleeting`.

Everything here may block on a disk, so it runs before the loop does or in the fetcher's threads.
"""

from __future__ import annotations

import errno
import os
import weakref
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress

from zcserve.cache import heads
from zcserve.cache.codings import Codings
from zcserve.cache.doubt import name_anew
from zcserve.cache.entry import (
    Body,
    ComposedEntry,
    Entry,
    Fleeting,
    InPlace,
    OnDisk,
    OpenFile,
    Packed,
    Paged,
    Sibling,
    SiblingVariant,
    each_coding,
    identity_of,
)
from zcserve.cache.heat import Heat
from zcserve.cache.index import Generation
from zcserve.cache.memfd import open_memfd, write
from zcserve.cache.naming import name_of, path_of
from zcserve.cache.pages import Extent
from zcserve.cache.pairing import entry_at
from zcserve.cache.pinned import Pin, nothing
from zcserve.cache.reading import ChangedError, Reader, learn
from zcserve.cache.root import Root
from zcserve.cache.siblings import Judge
from zcserve.cache.store import RefusedError, Store
from zcserve.cache.tags import tag_of
from zcserve.cache.variants import Variants
from zcserve.config.table import Config
from zcserve.media_types import MediaTypes

NO_DESCRIPTOR = frozenset((errno.EMFILE, errno.ENFILE))


def call(step: Callable[[], None]) -> None:
    """Take a step at once."""
    step()


class Loader:
    """Makes bodies for the entries of a site. Thread-safe; the store does the accounting.

    is_pinned  whether an entry is never evicted
    """

    def __init__(self, store: Store, config: Config, is_pinned: Pin = nothing, heat: Heat | None = None) -> None:
        """`heat` is told of entries that are forgotten."""
        self.store = store
        self.config = config
        self.is_pinned = is_pinned
        self._heat = heat
        self.types = MediaTypes(config.charset, config.type)
        self.judge = Judge(trust=config.trust_siblings)
        self.codings = Codings(config, self.types, store.largest)
        self.variants = Variants(store, self.codings, self.try_to_add_variants)
        self._reader = Reader(config.hash_bytes_max)
        # Pages of siblings, by identity: as a variant and under its own name a sibling has the same bytes.
        self._pages_of: weakref.WeakValueDictionary[bytes, Extent] = weakref.WeakValueDictionary()

    def of(self, _: Root) -> Loader:
        """Itself, whatever the root: as `Loaders.of` where there is one site."""
        return self

    def load(self, root: Root, entry: Entry, *, evict: bool = True) -> Body:
        """Read an entry's content; resident if there is room, or others may be evicted for it (`evict`).

        Raises ChangedError or OSError.
        """
        with self.store.under_way.load(entry):
            while True:
                try:
                    fd, _ = root.open_file(path_of(entry))
                except OSError as error:
                    if error.errno not in NO_DESCRIPTOR or not evict or not self.store.shed_descriptor():
                        raise
                else:
                    return self.load_open(root, fd, entry, evict=evict)

    def load_open(self, root: Root, fd: int, entry: Entry, *, evict: bool = True) -> Body:
        """As `load`, from a descriptor just opened, which this takes over."""
        file = OpenFile(fd, entry.identity, entry.etag)
        if entry.made:
            return self._make_again(root, file, entry, evict)
        if self.is_small(entry):
            return self._load_small(root, file, entry, evict)
        body = self._load_large(root, file, entry, evict)
        if isinstance(body, Paged):
            self._drop_cache(fd)
            self.store.admit(entry, body, self.is_pinned)
        return body

    def read(self, root: Root, entry: Entry) -> bytes:
        """An entry's whole content as bytes. Raises ChangedError or OSError."""
        body = entry.body
        if isinstance(body, Packed):
            return bytes(body.part(0, body.size))
        fd, _ = root.open_file(path_of(entry))
        file = OpenFile(fd, entry.identity, entry.etag)
        return self._reader.read_tagged(file, entry)

    def succeed(self, generation: Generation, entry: Entry) -> Entry | None:
        """Put what now lies at `entry`'s path into its place, and forget its bodies. What stands there then, which is
        another's where a request has replaced the entry meanwhile; None: nothing does."""
        fresh = entry_at(generation.root, entry.key)
        self.put_in_place(generation, entry, fresh)
        if fresh is None or generation.has(fresh):
            return fresh
        stands = generation.resources.get(entry.key)
        return stands if isinstance(stands, Entry) else None

    def put_in_place(self, generation: Generation, entry: Entry, fresh: Entry | None) -> None:
        """Have the entry that `entry_at` found instead of `entry`, whose bodies are forgotten."""
        if fresh is not None:
            name_anew(fresh, entry)
            if self.codings.may_apply(fresh):  # a walk that comes to it later takes it for one that has its variants
                self.variants.want(generation.root, [fresh])
        self.forget(entry)
        generation.replace(entry, fresh)

    def judge_siblings(self, root: Root, entry: Entry) -> list[SiblingVariant]:
        """Compare the siblings of a file with it, those that were not before; which are not its variants any more.

        Raises OSError.
        """
        refused = self.judge.judge_all(root, entry)
        if refused:
            for variant in refused:
                self.store.drop(variant)
            if not entry.variants:
                self.store.drop(entry)  # its head says Vary
        return refused

    def wants_variants(self, entry: Entry) -> bool:
        """Whether `--compress` applies to this file, and it was not read before: then what was worth making was
        made, or is to come."""
        return self.codings.may_apply(entry) and not entry.etag

    def add_variants(self, root: Root, entry: Entry, attach: Callable[[Callable[[], None]], None] = call) -> None:
        """Make the codings that a file lacks, as resident variants; `attach` is handed the last step, which adds them
        to the entry. Raises ChangedError or OSError."""
        fd, _ = root.open_file(path_of(entry))
        file = OpenFile(fd, entry.identity, entry.etag)
        content = self._reader.read_tagged(file, entry)  # what it is loaded as must be the same
        made = list(self.codings.missing(entry, content))

        def add() -> None:
            entry.change_variants(more=self._as_variants(root, entry, tag_of(content), made, evict=False))

        attach(add)

    def want_what_is_missing(self, generation: Generation) -> None:
        """Have the variants made that were still to come in the process before this one."""
        if self.codings.codecs:
            entries = [entry for entry in generation.entries() if self.codings.may_apply(entry)]
            self.variants.want(generation.root, entries)

    def try_to_add_variants(self, root: Root, entry: Entry, attach: Callable[[Callable[[], None]], None]) -> None:
        """As `add_variants`, but for what is wrong with the file: its loading meets that as well, and says so."""
        with suppress(ChangedError, OSError):
            self.add_variants(root, entry, attach)

    def code(self, entry: Entry, content: bytes, *, evict: bool) -> tuple[Entry, ...]:
        """The codings of an entry's content that it lacks and that are worth it, as resident variants; to belong to the
        entry is for the caller to decide."""
        return self._as_variants(None, entry, tag_of(content), self.codings.missing(entry, content), evict=evict)

    def _as_variants(
        self,
        root: Root | None,
        entry: Entry,
        base_tag: bytes,
        codings: Iterable[tuple[bytes, bytes]],
        *,
        evict: bool,
    ) -> tuple[Entry, ...]:
        """Those that find room. Where there is none, the first takes the place of its base, which most clients do not
        ask for."""
        made = []
        for coding, coded in codings:
            variant = entry.coded(coding, len(coded))
            variant.etag = tag_of(coded)
            body = self.keep(variant, (coded,), evict=evict, root=root)
            if body is None and not evict and entry.body is not None and not self.is_pinned(entry):
                self.store.drop(entry)
                body = self.keep(variant, (coded,), evict=False, root=root)
            if body is not None:
                self.codings.remember(base_tag, variant)
                made.append(variant)
        return tuple(made)

    def forget(self, entry: Entry) -> None:
        """A file left the index: forget the bodies of it and of its variants, those to come as well."""
        self.variants.forget(entry)
        if self._heat is not None:
            self._heat.leave(entry)
        for representation in each_coding(entry):
            self.store.drop(representation)

    def head_of(self, root: Root | None, entry: Entry) -> bytes:
        """The head of an entry that has its ETag and its variants; with what the root's rules say of a file. None: it
        is no file's."""
        vary = bool(entry.variants or entry.encoding)
        if isinstance(entry, ComposedEntry):
            return heads.compose(
                entry.content_type,
                entry.size,
                entry.modified,
                entry.etag,
                entry.encoding,
                entry.fields,
                vary,
                entry.nosniff,
            )
        assert root is not None
        vary = vary or self.codings.may_apply(entry)  # they may come while it is served
        return heads.build(
            name_of(entry),
            entry.size,
            entry.modified,
            entry.etag,
            entry.encoding,
            vary,
            self.types,
            root.rules.fields_of(entry.key),
        )

    def is_small(self, entry: Entry) -> bool:
        """Whether the content is packed with others rather than put on pages of its own."""
        return entry.size <= self.config.small_body_bytes_max

    def read_small(self, root: Root, fd: int, entry: Entry) -> tuple[bytes, bytes]:
        """Head and content of a small file, and its entry's ETag. Raises ChangedError or OSError."""
        content = self._reader.read_small(fd, entry)
        self._drop_cache(fd)
        return self.head_of(root, entry), content

    def _load_small(self, root: Root, file: OpenFile, entry: Entry, evict: bool) -> Body:
        head, content = self.read_small(root, file.fd, entry)
        body = self._place(entry, head, content, evict)
        if body is None and self.store.frozen:  # there is room, which may not be used for now
            return Fleeting(head, content)
        return body or self._on_disk(root, file, entry)

    def _place(self, entry: Entry, head: bytes, content: bytes, evict: bool) -> Body | None:
        self.store.place([(entry, head, content)], evict=evict, is_pinned=self.is_pinned)
        return entry.body

    def _reserve(self, size: int, evict: bool) -> Extent | None:
        return self.store.reserve(size, evict=evict, is_pinned=self.is_pinned) if size <= self.store.largest else None

    def _drop_cache(self, fd: int) -> None:
        if self.config.drop_cache and not self.config.in_place:
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)

    def keep(self, entry: Entry, pieces: Sequence[bytes], *, evict: bool, root: Root | None = None) -> Body | None:
        """Make whole content resident, which lies in pieces, for an entry that has its ETag and its variants; None:
        there is no room. `root` as of `head_of`."""
        if self.is_small(entry):
            return self._place(entry, self.head_of(root, entry), b"".join(pieces), evict)
        extent = self._reserve(entry.size, evict)
        if extent is None:
            return None
        at = 0
        try:
            for piece in pieces:
                self.store.fill(extent, memoryview(piece), at)
                at += len(piece)
        except RefusedError:
            return None
        body = Paged(self.head_of(root, entry), self.store.pages_fd, extent.offset, entry.size, extent)
        self.store.admit(entry, body, self.is_pinned)
        return body

    def fleeting(self, entry: ComposedEntry, pieces: Sequence[bytes]) -> Body:
        """The body of content that finds no room, for the responses that waited for it. What is large is no one buffer:
        to copy it, and to free it, would be a long step."""
        head = self.head_of(None, entry)
        if self.is_small(entry):
            return Fleeting(head, b"".join(pieces))
        try:
            fd = open_memfd("zcserve-fleeting")
            file = OpenFile(fd, identity_of(os.fstat(fd)))
            at = 0
            for piece in pieces:
                write(fd, memoryview(piece), at)
                at += len(piece)
        except OSError:  # too few descriptors, or a file limit
            return Fleeting(head, b"".join(pieces))
        return Paged(head, fd, 0, entry.size, file)

    def _load_large(self, root: Root, file: OpenFile, entry: Entry, evict: bool) -> Body:
        if self.config.in_place and self.store.may_hold_descriptor(evict=evict):
            self._reader.tag(file, entry)
            return InPlace(self.head_of(root, entry), file, entry.size)
        if (shared := self._shared(root, file, entry)) is not None:
            return shared
        extent = self._reserve(entry.size, evict)
        if extent is None:
            return self._on_disk(root, file, entry)
        try:
            self._reader.read_pieces(file, entry, lambda piece, at: self.store.fill(extent, piece, at))
        except RefusedError:
            return self._on_disk(root, file, entry)
        self.lies_in(entry, extent)
        return Paged(self.head_of(root, entry), self.store.pages_fd, extent.offset, entry.size, extent)

    def _shared(self, root: Root, file: OpenFile, entry: Entry) -> Paged | None:
        """A body on the pages where the content lies already, under the sibling's other name. Raises ChangedError."""
        extent = self._pages_of.get(entry.identity)
        if extent is None or not extent.etag or identity_of(os.fstat(file.fd)) != entry.identity:
            return None
        learn(entry, extent.etag, entry.identity)
        return Paged(self.head_of(root, entry), self.store.pages_fd, extent.offset, entry.size, extent)

    def lies_in(self, entry: Entry, extent: Extent) -> None:
        """An entry's content fills these pages: the sibling's other name may share them."""
        if isinstance(entry, Sibling | SiblingVariant):
            extent.etag = entry.etag
            self._pages_of[entry.identity] = extent

    def may_share(self, entry: Entry) -> bool:
        """Whether to make a sibling resident under its own name costs no more than a head: its content is resident as
        a variant, on pages of its own."""
        return not self.is_small(entry) and entry.identity in self._pages_of

    def _on_disk(self, root: Root, file: OpenFile, entry: Entry) -> OnDisk:
        self._reader.tag(file, entry)
        body = OnDisk(self.head_of(root, entry), file, entry.size)
        if entry.size > self.store.largest and not entry.encoding:  # else room may come, or a sibling be judged anew
            self.store.opened.keep(entry, body)
            if self.store.under_way.is_late(entry):
                self.store.opened.drop(entry)
        return body

    def _make_again(self, root: Root, file: OpenFile, entry: Entry, evict: bool) -> Body:
        """A made variant that was evicted: compress its base anew."""
        size = os.fstat(file.fd).st_size
        content = self._reader.read_whole(file, size)
        if file.identity != entry.identity:
            raise ChangedError  # it is the base's ETag that could tell whether this is the same
        compressed = self.codings.make(entry, entry.encoding, content)
        if not compressed:
            raise ChangedError  # it was worth it
        entry.size = len(compressed)
        entry.etag = tag_of(compressed)
        body = self.keep(entry, (compressed,), evict=evict, root=root)
        if body is None and self.store.under_way.is_late(entry):
            raise ChangedError
        if body is None:
            raise OSError(errno.ENOMEM, "no room for a variant in the memory budget")
        return body
