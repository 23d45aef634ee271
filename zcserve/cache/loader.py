"""From a file to a body: read, checked, hashed, headed, placed.

"Resident means ours": content is read (never through a mapping), and the file's identity must be after the reading
what the walk saw before it, or nothing of what was read is used. Where ctime alone is another it is read once more, and
must be what the ETag says, if there is one. A body that may not be resident (too large, or no room) comes back as
`OnDisk`, an open file with the identity that was promised; a small one, while the store is frozen, as `Fleeting`.

Everything here may block on a disk, so it runs before the loop does or in the fetcher's threads. The hash holds the
GIL: large bodies are read and hashed in pieces.
"""

from __future__ import annotations

import errno
import os
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from typing import TypeVar
from urllib.parse import unquote_to_bytes

import mmh3

from zcserve.cache import heads
from zcserve.cache.compress import codecs, worth_it
from zcserve.cache.crew import beat
from zcserve.cache.doubt import know, name_anew, settle
from zcserve.cache.entry import (
    CONTENT_BYTES,
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
    Span,
    each_coding,
    identity_of,
    is_same_file,
)
from zcserve.cache.index import Generation
from zcserve.cache.kept import open_kept
from zcserve.cache.pages import Extent
from zcserve.cache.pairing import CODING_ENDINGS, SIBLING_CODINGS, make_entry, make_entry_as
from zcserve.cache.root import Root
from zcserve.cache.siblings import Judge
from zcserve.cache.store import RefusedError, Store
from zcserve.cache.tags import PIECE_BYTES, content_tag, identity_tag, tag_of
from zcserve.cache.variants import Variants
from zcserve.config.table import Config
from zcserve.media_types import MediaTypes, is_compressible

T = TypeVar("T")

# How often a file may get a new ctime while it is read.
STEADY_TRIES = 3

NO_DESCRIPTOR = frozenset((errno.EMFILE, errno.ENFILE))
# Errors that say nothing about a file: what is known of it stays, and the request may be made again.
OUR_OWN_TROUBLE = NO_DESCRIPTOR | {errno.ENOMEM, errno.EIO}


class ChangedError(Exception):
    """The file is not, or not any more, what its entry says."""

    def __init__(self) -> None:
        super().__init__("it changes while it is read")


def path_of(entry: Entry) -> bytes:
    """The entry's file, relative to the root."""
    path = (unquote_to_bytes(entry.key) if b"%" in entry.key else entry.key)[1:]
    return path + CODING_ENDINGS[entry.encoding] if entry.encoding and not entry.made else path


def name_of(entry: Entry) -> str:
    """The last segment of the key; its extension decides the media type."""
    return entry.key[entry.key.rfind(b"/") + 1 :].decode()


def call(step: Callable[[], None]) -> None:
    """Take a step at once."""
    step()


class Loader:
    """Makes bodies for entries. Thread-safe; the store does the accounting."""

    def __init__(self, store: Store, config: Config) -> None:
        self.store = store
        self.config = config
        self.codecs = codecs() if config.compress else {}
        self.types = MediaTypes(config.charset, config.type)
        self.judge = Judge(trust=config.trust_siblings)
        self.kept = open_kept(config)
        self.found_kept = 0  # variants, since that was told
        self.variants = Variants(self)
        self._piece = threading.local()
        # Variants made here, by (base's ETag, coding): the same bytes under a new name or time are not compressed
        # again.
        self._made: weakref.WeakValueDictionary[tuple[bytes, bytes], Entry] = weakref.WeakValueDictionary()
        # Pages of siblings, by identity: as a variant and under its own name a sibling has the same bytes.
        self._pages_of: weakref.WeakValueDictionary[bytes, Extent] = weakref.WeakValueDictionary()

    def load(self, root: Root, entry: Entry, *, evict: bool = True) -> Body:
        """Read an entry's content; resident if there is room, which others make for it if `evict`.

        Raises ChangedError or OSError.
        """
        while True:
            try:
                fd, _ = root.open_file(path_of(entry))
            except OSError as error:
                if error.errno not in NO_DESCRIPTOR or not evict or not self.store.shed_descriptor():
                    raise
            else:
                return self.load_open(fd, entry, evict=evict)

    def load_open(self, fd: int, entry: Entry, *, evict: bool = True) -> Body:
        """As `load`, from a descriptor just opened, which this takes over."""
        file = OpenFile(fd, entry.identity, entry.etag)
        if entry.made:
            return self._make_again(file, entry, evict)
        if self.is_small(entry):
            return self._load_small(file, entry, evict)
        body = self._load_large(file, entry, evict)
        if isinstance(body, Paged):
            self._drop_cache(fd)
            self.store.admit(entry, body)
        return body

    def read(self, root: Root, entry: Entry) -> bytes:
        """An entry's whole content as bytes. Raises ChangedError or OSError."""
        body = entry.body
        if isinstance(body, Packed):
            return bytes(body.part(0, body.size))
        fd, _ = root.open_file(path_of(entry))
        file = OpenFile(fd, entry.identity, entry.etag)
        content = self._read_whole(file, entry.size)
        self._learn(entry, self._tag_of(entry, content), file.identity)
        return content

    def succeed(self, generation: Generation, entry: Entry) -> Entry | None:
        """Put what now lies at `entry`'s path into its place, and forget its bodies; None: nothing lies there."""
        fresh = self.renew(generation.root, entry)
        self.put_in_place(generation, entry, fresh)
        return fresh

    def put_in_place(self, generation: Generation, entry: Entry, fresh: Entry | None) -> None:
        """Have what `renew` has made of an entry instead of it, and forget the entry's bodies."""
        if fresh is not None:
            name_anew(fresh, entry)
            if self.may_be_coded(fresh):  # a walk that comes to it later takes it for one that has its variants
                self.variants.want(generation.root, [fresh])
        self.forget(entry)
        generation.replace(entry, fresh)

    def renew(self, root: Root, entry: Entry) -> Entry | None:
        """The entry for what now lies at `entry`'s path, with the siblings that now fit; None: nothing does.

        Raises OSError when that cannot be told for want of descriptors or memory.
        """
        status = self._status(root, unquote_to_bytes(entry.key)[1:])
        if status is None:
            return None
        newest = int(time.time())
        fresh = make_entry(entry.key, status, newest)
        variants = []
        for ending, coding in SIBLING_CODINGS.items():
            sibling = self._status(root, path_of(fresh) + ending)
            if sibling is not None and sibling.st_mtime_ns >= status.st_mtime_ns:
                variant = make_entry_as(SiblingVariant, entry.key, sibling, newest)
                variant.encoding = coding
                variants.append(variant)
        fresh.variants = tuple(variants)
        return fresh

    def judge_siblings(self, root: Root, entry: Entry) -> list[SiblingVariant]:
        """Compare the siblings of a file with it, those that were not before; which are not its variants any more.

        Raises OSError.
        """
        due = [one for one in entry.variants if isinstance(one, SiblingVariant) and self.judge.is_due(one)]
        if not due:
            return []
        base_fd, _ = root.open_file(path_of(entry))
        try:
            for variant in due:
                fd, _ = root.open_file(path_of(variant))
                try:
                    self.judge.judge(variant, fd, entry, base_fd)
                finally:
                    os.close(fd)
        finally:
            os.close(base_fd)
        refused = [variant for variant in due if variant.fault]
        if refused:
            for variant in refused:
                self.store.drop(variant)
            if not entry.variants:
                self.store.drop(entry)  # its head says Vary
        return refused

    def wants_variants(self, entry: Entry) -> bool:
        """Whether `--compress` applies to this file, and it was not read before: then what was worth making was
        made, or is to come."""
        return self.may_be_coded(entry) and not entry.etag

    def may_be_coded(self, entry: Entry) -> bool:
        """Whether `--compress` applies to this content."""
        return (
            bool(self.codecs)
            and self.config.compress_bytes_min <= entry.size <= self.store.largest
            and self._is_compressible(entry)
            and not self.codecs.keys() <= {variant.encoding for variant in entry.variants}
        )

    def _is_compressible(self, entry: Entry) -> bool:
        if isinstance(entry, ComposedEntry):
            return is_compressible(entry.content_type)
        name = name_of(entry)
        return is_compressible(self.types.of(name)) and not self.types.coding(name)

    def add_variants(self, root: Root, entry: Entry, attach: Callable[[Callable[[], None]], None] = call) -> None:
        """Make the codings that a file lacks, as resident variants; `attach` is handed the last step, which adds them
        to the entry. Raises ChangedError or OSError."""
        fd, _ = root.open_file(path_of(entry))
        file = OpenFile(fd, entry.identity, entry.etag)
        content = self._read_whole(file, entry.size)
        self._learn(entry, self._tag_of(entry, content), file.identity)  # what it is loaded as must be the same
        made = list(self._codings(entry, content))

        def add() -> None:
            entry.change_variants(more=self._as_variants(entry, tag_of(content), made, evict=False))

        attach(add)

    def want_what_is_missing(self, generation: Generation) -> None:
        """Have the variants made that were still to come in the process before this one."""
        if self.codecs:
            entries = [entry for entry in generation.entries() if self.may_be_coded(entry)]
            self.variants.want(generation.root, entries)

    def try_to_add_variants(self, root: Root, entry: Entry, attach: Callable[[Callable[[], None]], None]) -> None:
        """As `add_variants`, but for what is wrong with the file: its loading meets that as well, and says so."""
        with suppress(ChangedError, OSError):
            self.add_variants(root, entry, attach)

    def code(self, entry: Entry, content: bytes, *, evict: bool) -> tuple[Entry, ...]:
        """The codings of an entry's content that it lacks and that are worth it, as resident variants; to belong to the
        entry is for the caller to decide."""
        return self._as_variants(entry, tag_of(content), self._codings(entry, content), evict=evict)

    def _codings(self, entry: Entry, content: bytes) -> Iterator[tuple[bytes, bytes]]:
        """What an entry lacks and is worth it: coding and coded content."""
        base_tag = tag_of(content)
        present = {variant.encoding for variant in entry.variants}
        for coding in self.codecs:
            if coding not in present:
                coded = self._made_before(base_tag, coding) or self._coded(entry, base_tag, coding, content)
                if coded:
                    yield coding, coded

    def _coded(self, entry: Entry, tag: bytes, coding: bytes, content: bytes) -> bytes:
        """Content in a coding, made or kept from another time; b"" where it is not worth it."""
        is_of_a_file = not isinstance(entry, ComposedEntry) and len(content) <= self.config.hash_bytes_max
        keeper = self.kept if is_of_a_file else None
        if keeper is not None and (kept := keeper.get(tag, coding, content)) is not None:
            self.found_kept += 1
            return kept
        coded = self.codecs[coding](content)
        if not worth_it(len(content), len(coded)):
            coded = b""
        if keeper is not None:
            keeper.put(tag, coding, content, coded)
        return coded

    def _as_variants(
        self, entry: Entry, base_tag: bytes, codings: Iterable[tuple[bytes, bytes]], *, evict: bool
    ) -> tuple[Entry, ...]:
        """Those that find room. Where there is none, the first takes the place of its base, which most clients do not
        ask for."""
        made = []
        for coding, coded in codings:
            variant = entry.coded(coding, len(coded))
            variant.etag = tag_of(coded)
            body = self.keep(variant, coded, evict=evict)
            if body is None and not evict and entry.body is not None and not self.store.is_pinned(entry):
                self.store.drop(entry)
                body = self.keep(variant, coded, evict=False)
            if body is not None:
                self._made[base_tag, coding] = variant
                made.append(variant)
        return tuple(made)

    def forget(self, entry: Entry) -> None:
        """A file left the index: forget the bodies of it and of its variants, those to come as well."""
        self.variants.forget(entry)
        for representation in each_coding(entry):
            self.store.drop(representation)

    def _status(self, root: Root, path: bytes) -> os.stat_result | None:
        try:
            fd, status = root.open_file(path)
        except OSError as error:
            if error.errno in OUR_OWN_TROUBLE:
                raise
            return None
        os.close(fd)
        return status

    def head_of(self, entry: Entry) -> bytes:
        """The head of an entry that has its ETag and its variants."""
        vary = bool(entry.variants or entry.encoding)
        if isinstance(entry, ComposedEntry):
            return heads.compose(
                entry.content_type, entry.size, entry.modified, entry.etag, entry.encoding, entry.fields, vary
            )
        vary = vary or self.may_be_coded(entry)  # they may come while it is served
        return heads.build(
            name_of(entry),
            entry.size,
            entry.modified,
            entry.etag,
            entry.encoding,
            self.config.cache_control,
            vary,
            self.types,
        )

    def _read_whole(self, file: OpenFile, size: int) -> bytes:
        """Content of exactly `size` bytes, of one version of the file."""
        content = self._steadily(file, lambda: _read_all(file.fd, size + 1))
        if len(content) != size:
            raise ChangedError
        return content

    def _steadily(self, file: OpenFile, read: Callable[[], T]) -> T:
        """What `read` makes of one version of a file, which has the file's identity before and after. Where ctime alone
        is another, and there is an ETag to compare with, it is read once more. Raises ChangedError."""
        for _ in range(STEADY_TRIES):
            made = read()
            now = identity_of(os.fstat(file.fd))
            if now == file.identity:
                return made
            if not file.etag or not is_same_file(now, file.identity):
                break
            file.identity = now
        raise ChangedError

    def _learn(self, entry: Entry, tag: bytes, identity: bytes) -> None:
        """An entry's content was read. Raises ChangedError where it is not what was read before."""
        if entry.etag and entry.etag != tag:
            raise ChangedError
        entry.etag = tag
        know(entry, identity)

    def is_small(self, entry: Entry) -> bool:
        """Whether the content is packed with others rather than put on pages of its own."""
        return entry.size <= self.config.small_body_bytes_max

    def read_small(self, fd: int, entry: Entry) -> tuple[bytes, bytes]:
        """Head and content of a small file, and its entry's ETag. Raises ChangedError or OSError."""
        content = os.read(fd, entry.size + 1)
        identity = identity_of(os.fstat(fd))
        if identity != entry.identity:
            if not entry.etag or not is_same_file(identity, entry.identity):
                raise ChangedError
            file = OpenFile(os.dup(fd), identity, entry.etag)
            content, identity = self._read_whole(file, entry.size), file.identity
        if len(content) != entry.size:
            raise ChangedError
        self._learn(entry, self._tag_of(entry, content), identity)
        self._drop_cache(fd)
        return self.head_of(entry), content

    def _load_small(self, file: OpenFile, entry: Entry, evict: bool) -> Body:
        head, content = self.read_small(file.fd, entry)
        body = self._place(entry, head, content, evict)
        if body is None and self.store.frozen:  # there is room, which may not be used for now
            return Fleeting(head, content)
        return body or self._on_disk(file, entry)

    def _place(self, entry: Entry, head: bytes, content: bytes, evict: bool) -> Body | None:
        self.store.place([(entry, head, content)], evict=evict)
        return entry.body

    def _drop_cache(self, fd: int) -> None:
        if self.config.drop_cache and not self.config.in_place:
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)

    def keep(self, entry: Entry, content: bytes, *, evict: bool) -> Body | None:
        """Make whole content resident, for an entry that has its ETag and its variants; None: there is no room."""
        if len(content) <= self.config.small_body_bytes_max:
            return self._place(entry, self.head_of(entry), content, evict)
        extent = self.store.reserve(len(content), evict=evict) if len(content) <= self.store.largest else None
        if extent is None:
            return None
        try:
            self.store.fill(extent, memoryview(content), 0)
        except RefusedError:
            return None
        body = Paged(self.head_of(entry), self.store.pages_fd, extent.offset, entry.size, extent)
        self.store.admit(entry, body)
        return body

    def _load_large(self, file: OpenFile, entry: Entry, evict: bool) -> Body:
        if self.config.in_place and self.store.may_hold_descriptor(evict=evict):
            self._tag(file, entry)
            return InPlace(self.head_of(entry), file, entry.size)
        if (shared := self._shared(file, entry)) is not None:
            return shared
        extent = self.store.reserve(entry.size, evict=evict) if entry.size <= self.store.largest else None
        if extent is None:
            return self._on_disk(file, entry)
        try:
            self._read_pieces(file, entry, lambda piece, at: self.store.fill(extent, piece, at))
        except RefusedError:
            return self._on_disk(file, entry)
        self.lies_in(entry, extent)
        return Paged(self.head_of(entry), self.store.pages_fd, extent.offset, entry.size, extent)

    def _shared(self, file: OpenFile, entry: Entry) -> Paged | None:
        """A body on the pages where the content lies already, under the sibling's other name. Raises ChangedError."""
        extent = self._pages_of.get(entry.identity)
        if extent is None or not extent.etag or identity_of(os.fstat(file.fd)) != entry.identity:
            return None
        self._learn(entry, extent.etag, entry.identity)
        return Paged(self.head_of(entry), self.store.pages_fd, extent.offset, entry.size, extent)

    def lies_in(self, entry: Entry, extent: Extent) -> None:
        """An entry's content fills these pages: the sibling's other name may share them."""
        if isinstance(entry, Sibling | SiblingVariant):
            extent.etag = entry.etag
            self._pages_of[entry.identity] = extent

    def may_share(self, entry: Entry) -> bool:
        """Whether to make a sibling resident under its own name costs no more than a head: its content is resident as
        a variant, on pages of its own."""
        return not self.is_small(entry) and entry.identity in self._pages_of

    def _on_disk(self, file: OpenFile, entry: Entry) -> OnDisk:
        self._tag(file, entry)
        return OnDisk(self.head_of(entry), file, entry.size)

    def _tag(self, file: OpenFile, entry: Entry) -> None:
        """Give an entry its ETag, should it have none, and make sure that the file is still what it was."""
        if not entry.etag:
            self._read_pieces(file, entry, None)
        elif settle(file):
            know(entry, file.identity)
        else:
            raise ChangedError
        file.etag = entry.etag

    def _read_pieces(self, file: OpenFile, entry: Entry, sink: Callable[[memoryview, int], None] | None) -> None:
        """Read a file in pieces, each handed to `sink` with its offset, and tag its entry. Raises ChangedError.

        A file over `hash_bytes_max` is tagged by its identity, whether it becomes resident or not, so that it keeps
        its tag.
        """
        digest = self._steadily(file, lambda: self._read_through(file, entry, sink))
        self._learn(entry, content_tag(digest) if digest else self._identity_tag_of(entry), file.identity)

    def _read_through(self, file: OpenFile, entry: Entry, sink: Callable[[memoryview, int], None] | None) -> bytes:
        """The digest of a file, b"" of one that is too large to hash."""
        hasher = mmh3.mmh3_x64_128() if entry.size <= self.config.hash_bytes_max else None
        buffer = self._buffer()
        at = 0
        while at < entry.size and (hasher is not None or sink is not None):
            count = os.preadv(file.fd, [buffer], at)
            if not count:
                raise ChangedError
            # A file that grew is found out below; what grew must not be written behind the extent.
            piece = buffer[: min(count, entry.size - at)]
            if hasher is not None:
                hasher.update(piece)
            if sink is not None:
                sink(piece, at)
            at += len(piece)
            beat()
        return hasher.digest() if hasher is not None else b""

    def _tag_of(self, entry: Entry, content: bytes) -> bytes:
        """The ETag of a file that was read whole."""
        return self._identity_tag_of(entry) if entry.size > self.config.hash_bytes_max else tag_of(content)

    def _identity_tag_of(self, entry: Entry) -> bytes:
        return entry.etag or identity_tag(entry.identity[:CONTENT_BYTES])

    def _buffer(self) -> memoryview:
        """This thread's piece, kept between files."""
        if not hasattr(self._piece, "buffer"):
            self._piece.buffer = memoryview(bytearray(PIECE_BYTES))
        buffer: memoryview = self._piece.buffer
        return buffer

    def _make_again(self, file: OpenFile, entry: Entry, evict: bool) -> Body:
        """A made variant that was evicted: compress its base anew."""
        size = os.fstat(file.fd).st_size
        content = self._read_whole(file, size)
        if file.identity != entry.identity:
            raise ChangedError  # it is the base's ETag that could tell whether this is the same
        compressed = self._coded(entry, tag_of(content), entry.encoding, content)
        if not compressed:
            raise ChangedError  # it was worth it
        entry.size = len(compressed)
        entry.etag = tag_of(compressed)
        body = self.keep(entry, compressed, evict=evict)
        if body is None:
            raise OSError(errno.ENOMEM, "no room for a variant in the memory budget")
        return body

    def _made_before(self, base_tag: bytes, coding: bytes) -> bytes | None:
        variant = self._made.get((base_tag, coding))
        body = variant.body if variant is not None else None
        if body is None:
            return None
        part = body.part(0, body.size)
        if isinstance(part, Span):
            return os.pread(part.fd, part.length, part.offset)
        return bytes(part) if isinstance(part, memoryview) else None


def _read_all(fd: int, length: int) -> bytes:
    """Up to `length` bytes from the beginning."""
    content = os.pread(fd, length, 0)
    while len(content) < length and (more := os.pread(fd, length - len(content), len(content))):
        content += more
        beat()
    return content
