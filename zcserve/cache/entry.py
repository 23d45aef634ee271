"""One resource: what it is (`Entry`) and where its bytes lie (`Body`).

An entry is a *representation* with a file behind it: identity, size, validators. The entry that the index holds is the
identity-coded representation; its `variants` are entries of their own with an `encoding`. Everything in an entry but
`body`, `etag`, `tick`, `uses`, `counted` and the ctime in its identity is fixed when the walk makes it: a changed file
is a new entry.

`body` is None while the content is not resident. It is read once into a local name and used from there: another
thread may evict it at any time, and a reference to the body object keeps its memory.

A body gives *segments*, which a response is made of: buffers (sent by `sendmsg`) and `Span`s (sent by `sendfile`,
or in the fast lane as their pages).
"""

from __future__ import annotations

import enum
import os
import struct
import threading
from collections.abc import Collection, Iterator, Sequence
from typing import TypeAlias

import mmh3

from zcserve.cache import closing, heads
from zcserve.cache.pages import Extent
from zcserve.cache.slab import Block, Slab
from zcserve.cache.unseen import hide
from zcserve.http import FieldLines

_IDENTITY = struct.Struct("=QQQqq")
# So many bytes of an identity say what the content depends on; the rest is ctime.
CONTENT_BYTES = struct.calcsize("=QQQq")
CTIME_BYTES = _IDENTITY.size - CONTENT_BYTES
_TIME_MASK = (1 << 63) - 1

# One for all entries: it is held for a microsecond.
_changing_variants = threading.Lock()


def identity_of(status: os.stat_result) -> bytes:
    """dev, inode, size, mtime_ns and ctime_ns, packed.

    A file whose five are the same has the same content, and one whose first four differ (`is_same_file`) has another.
    Where ctime alone differs, most likely the inode got another name, lost one, or had its mode set; but a program may
    have written it and put mtime back. Then content is compared (cache/doubt.py).
    """
    try:
        return _IDENTITY.pack(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
    except struct.error:  # a date after 2262 takes more than 64 bits of nanoseconds
        times = (status.st_mtime_ns & _TIME_MASK, status.st_ctime_ns & _TIME_MASK)
        return _IDENTITY.pack(status.st_dev, status.st_ino, status.st_size, *times)


def is_same_file(one: bytes, other: bytes) -> bool:
    """Whether two identities differ in ctime at most."""
    return one[:CONTENT_BYTES] == other[:CONTENT_BYTES]


def device_of(identity: bytes) -> bytes:
    """The device that a file lies on, for comparison: a file system hangs as a whole."""
    return identity[:8]


class Span:
    """`length` bytes from `offset` of descriptor `fd`, a memfd whose bytes do not change: sent by `sendfile`."""

    __slots__ = ("fd", "length", "offset")

    def __init__(self, fd: int, offset: int, length: int) -> None:
        self.fd = fd
        self.offset = offset
        self.length = length


# So much of a file is read at first, before anything tells how much its client takes: 15 us of copying.
FIRST_PIECE_BYTES = 128 * 1024


class DiskSpan:
    """`length` bytes from `offset` of a file that others may write: sent by checked copies (spans.py). `sent` knows
    what one response has sent of it before, where the file's ETag does not tell what it must be. `ask` is how many
    bytes its next piece has."""

    __slots__ = ("ask", "file", "length", "offset", "sent")

    def __init__(
        self, file: OpenFile, offset: int, length: int, sent: Sent | None = None, ask: int = FIRST_PIECE_BYTES
    ) -> None:
        self.file = file
        self.offset = offset
        self.length = length
        self.sent = sent
        self.ask = ask


class ForeignSpan(DiskSpan):
    """As `DiskSpan`, of a file that is sent without a copy, by `sendfile`, where it is in memory: an application's, or
    one of the site's `--in-place`."""

    __slots__ = ()


Segment: TypeAlias = bytes | memoryview | Span | DiskSpan
# The types of those that are no buffers: `isdisjoint` looks through segments without a step of Python's for each.
FILES = frozenset((Span, DiskSpan, ForeignSpan))
# A buffer that holds a head, where that begins in it, and how long it is; and the descriptor that content is sent from,
# with the offset there. -1: it stands behind the head.
Place: TypeAlias = tuple[heads.Buffer, int, int, int, int]


class Look(enum.Enum):
    """What the status of an open file says of its content."""

    SAME = 1  # what was promised
    DOUBTFUL = 2  # ctime alone has changed: only the content can tell
    CHANGED = 3


class OpenFile:
    """A descriptor with the identity and, where it is known, the ETag that its content was promised under; closed when
    the object dies. `is_stale`: no new response begins with it, its path may lead to another file, or what it holds is
    in doubt."""

    __slots__ = ("etag", "fd", "identity", "is_stale")

    def __init__(self, fd: int, identity: bytes, etag: bytes = b"") -> None:
        self.fd = fd
        self.identity = identity
        self.etag = etag
        self.is_stale = False

    def look(self, sent: Sent | None = None) -> Look:
        """Whether the content still is what was promised; or what it was when it was `sent`.

        Losing its last name (by `rename` of another file over it, or deletion) changes a file's ctime and nothing else.
        """
        promise = sent or self
        status = os.fstat(self.fd)
        now = identity_of(status)
        if now == promise.identity:
            return Look.SAME
        if not is_same_file(now, promise.identity):
            return Look.CHANGED
        if status.st_nlink:
            return Look.DOUBTFUL
        self.is_stale = True
        promise.identity = now
        return Look.SAME

    def __del__(self) -> None:
        closing.close(self.fd, device_of(self.identity))


class Sent:
    """What one response has sent of a file that is tagged by its identity: `length` bytes from `start`, hashed, while
    the file had this identity."""

    __slots__ = ("hasher", "identity", "length", "start")

    def __init__(self, identity: bytes, start: int) -> None:
        self.identity = identity
        self.start = start
        self.length = 0
        self.hasher = mmh3.mmh3_x64_128()

    def note(self, piece: memoryview) -> None:
        """More of it was sent."""
        self.hasher.update(piece)
        self.length += len(piece)


class Body:
    """A representation's head and content, ready to send. `pins` counts the connections that wait to send from it;
    `copied` tells that it is sent by copy, so that several go out together; `holds_descriptor` that a file is open for
    this body alone, and is read when it is sent."""

    __slots__ = ("_whole", "pins", "size")
    copied = False
    holds_descriptor = False

    def __init__(self, size: int) -> None:
        self.size = size
        self.pins = 0
        self._whole: tuple[Segment, ...] = ()

    def head(self) -> heads.Buffer:
        """All header fields after the prefix, with the blank line."""
        raise NotImplementedError

    def part(self, start: int, stop: int) -> Segment:
        """Content bytes [start, stop)."""
        raise NotImplementedError

    def place(self) -> Place | None:
        """Where it lies as long as it lives, for what sends it without asking again (the fast lane). At an offset of a
        descriptor nothing else will ever lie. None: not in memory of ours, or only for now."""
        return None

    def whole(self) -> tuple[Segment, ...]:
        """Head and content. Made at the first hit and kept: most files of a large site are never requested."""
        if not self._whole:
            self._whole = self._lay_out()
        return self._whole

    def _lay_out(self) -> tuple[Segment, ...]:
        return (self.head(), self.part(0, self.size)) if self.size else (self.head(),)


class Packed(Block, Body):
    """A small body: head and content are one block of a slab."""

    __slots__ = ("condemned", "head_bytes", "offset", "slab")
    copied = True

    def __init__(self, slab: Slab, offset: int, head_bytes: int, size: int) -> None:
        hide(self)
        Block.__init__(self, slab, offset, head_bytes, size)
        self.pins = 0
        self._whole = ()

    @property
    def block(self) -> Block:
        """The memory: a packed body is its own block."""
        return self

    def head(self) -> memoryview:
        return self.view()[: self.head_bytes]

    def part(self, start: int, stop: int) -> memoryview:
        return self.view()[self.head_bytes + start : self.head_bytes + stop]

    def place(self) -> Place:
        return self.slab.view, self.offset, self.head_bytes, -1, 0

    def _lay_out(self) -> tuple[Segment, ...]:
        return (self.view(),)


class Paged(Body):
    """A large body on pages of its own; `keeper` keeps the bytes alive."""

    __slots__ = ("_head", "fd", "keeper", "offset")

    def __init__(self, head: bytes, fd: int, offset: int, size: int, keeper: Extent | OpenFile) -> None:
        hide(self)
        super().__init__(size)
        self._head = head
        self.fd = fd
        self.offset = offset
        self.keeper = keeper

    def head(self) -> bytes:
        return self._head

    def part(self, start: int, stop: int) -> Segment:
        return Span(self.fd, self.offset + start, stop - start)

    def place(self) -> Place | None:
        return self._head, 0, len(self._head), self.fd, self.offset


class InPlace(Paged):
    """The file itself is the body (`--in-place`)."""

    __slots__ = ("_file",)
    holds_descriptor = True

    def __init__(self, head: bytes, file: OpenFile, size: int) -> None:
        super().__init__(head, file.fd, 0, size, file)
        self._file = file

    @property
    def device(self) -> bytes:
        """Where it lies: `device_of` it."""
        return device_of(self._file.identity)

    def place(self) -> None:
        """None: of a file that is sent in place pages may be cold."""

    def part(self, start: int, stop: int) -> Segment:
        return ForeignSpan(self._file, start, stop - start)


class Fleeting(Body):
    """A small body that may not be made resident for now: bytes of its own, for the responses that waited for it."""

    __slots__ = ("_content", "_head")
    copied = True

    def __init__(self, head: bytes, content: bytes) -> None:
        super().__init__(len(content))
        self._head = head
        self._content = memoryview(content)

    def head(self) -> bytes:
        return self._head

    def part(self, start: int, stop: int) -> memoryview:
        return self._content[start:stop]


class OnDisk(Body):
    """A body that is not resident: one response's own open file."""

    __slots__ = ("_head", "file")
    holds_descriptor = True

    def __init__(self, head: bytes, file: OpenFile, size: int) -> None:
        super().__init__(size)
        self._head = head
        self.file = file

    def head(self) -> bytes:
        return self._head

    def part(self, start: int, stop: int) -> DiskSpan:
        return DiskSpan(self.file, start, stop - start)


class Entry:
    """A representation of a resource.

    key       canonical encoded path ("/a%20b.html"), the same object as the index's key
    identity  see `identity_of`; of the base file for a variant that was made here
    size      bytes of content; -1 for a variant that is to be made
    modified  Last-Modified in seconds since 1970, or None
    encoding  content coding, b"" for identity
    made      whether the variant is made from its base (`--compress`) rather than read from a sibling; of its class
    etag      strong, with quotes; b"" until the content was read once
    tick      when it was last used (cache/evictor.py)
    uses      how often it was asked for and was at hand
    counted   how many of these its heat has (cache/heat.py), less the uses that had to wait for it
    """

    __slots__ = (
        "body",
        "counted",
        "encoding",
        "etag",
        "filed",
        "identity",
        "key",
        "modified",
        "size",
        "tick",
        "uses",
        "variants",
    )
    made = False

    def __init__(self, key: bytes, identity: bytes, size: int, modified: int | None) -> None:
        hide(self)
        self.key = key
        self.identity = identity
        self.size = size
        self.modified = modified
        self.encoding = b""
        self.etag = b""
        self.variants: tuple[Entry, ...] = ()
        self.body: Body | None = None
        self.tick = 0
        self.uses = 0
        self.counted = 0
        self.filed = 0

    @property
    def is_variant(self) -> bool:
        """Whether the file is a variant of another's as well: it is counted and loaded as that."""
        return False

    def change_variants(self, *, more: Sequence[Entry] = (), less: Collection[Entry] = ()) -> None:
        """Variants come and go, in any thread: one that makes some may meet one that refuses a sibling, and must not
        bring that back."""
        with _changing_variants:
            self.variants = (*(variant for variant in self.variants if variant not in less), *more)

    def coded(self, encoding: bytes, size: int) -> Entry:
        """A variant of this, made here from its content."""
        variant = MadeVariant(self.key, self.identity, size, self.modified)
        variant.encoding = encoding
        return variant


class SiblingVariant(Entry):
    """A variant that is read from a sibling of the base's file.

    judged  the base's identity when the two were compared (cache/siblings.py); b"" until then
    fault   why it is no variant after all; "" while it is one
    """

    __slots__ = ("fault", "judged")

    def __init__(self, key: bytes, identity: bytes, size: int, modified: int | None) -> None:
        super().__init__(key, identity, size, modified)
        self.judged = b""
        self.fault = ""


class Sibling(Entry):
    """A sibling under its own name: the file that it is, without a content coding. `variant` is what the same file is
    (or, with a `fault`, is not) for its base. It may be exchanged for another of the same file."""

    __slots__ = ("variant",)

    def __init__(self, key: bytes, identity: bytes, size: int, modified: int | None) -> None:
        super().__init__(key, identity, size, modified)
        self.variant: SiblingVariant

    @property
    def is_variant(self) -> bool:
        return not self.variant.fault


def representations(entry: Entry) -> Iterator[Entry]:
    """What is loaded of a file before it is asked for: itself, unless it is loaded as a variant, and its variants."""
    if not entry.is_variant:
        yield entry
    yield from entry.variants


def each_coding(entry: Entry) -> tuple[Entry, ...]:
    """A file's entry, and its variants."""
    return entry, *entry.variants


class MadeVariant(Entry):
    """A variant that was made here from its base; others may refer to it weakly, to make it once."""

    __slots__ = ("__weakref__",)
    made = True


class ComposedEntry(Entry):
    """Content that comes from no file: an application's. `key` is its target, as sent.

    It cannot be loaded: once it is evicted, what composed it must do so again; its variants go with it.

    content_type  Content-Type's value
    fields        further ones; a 304 carries them, too
    nosniff       whether X-Content-Type-Options is as it is without rules
    is_ruled      whether the fields are what rules say of its key, as of a file: errors have some of them, too
    """

    __slots__ = ("__weakref__", "content_type", "fields", "is_ruled", "nosniff")

    def __init__(
        self,
        key: bytes,
        size: int,
        modified: int | None,
        content_type: str,
        fields: FieldLines,
        *,
        nosniff: bool = True,
        is_ruled: bool = False,
    ) -> None:
        super().__init__(key, b"", size, modified)
        self.content_type = content_type
        self.fields = fields
        self.nosniff = nosniff
        self.is_ruled = is_ruled

    def again(self, size: int) -> ComposedEntry:
        """An entry that says the same, and is as new, of so many bytes."""
        said = self.modified, self.content_type, self.fields
        entry = ComposedEntry(self.key, size, *said, nosniff=self.nosniff, is_ruled=self.is_ruled)
        entry.tick = self.tick
        return entry

    def coded(self, encoding: bytes, size: int) -> Entry:
        """As `Entry.coded`; but `made` is for variants that can be made again."""
        variant = self.again(size)
        variant.encoding = encoding
        return variant


class Redirect:
    """A directory named without its slash: answered 301 to `location` (a canonical encoded path)."""

    __slots__ = ("location",)

    def __init__(self, location: bytes) -> None:
        hide(self)
        self.location = location
