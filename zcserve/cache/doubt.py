"""A file of which ctime alone has changed: is its content what it was?

Other names come and go (`cp -al`, `rsync --link-dest`, the deletion of an old release), and modes are set: all that an
inode tells of it is a new ctime. But `touch -r` and `cp -p` put mtime back after content was written in place, and an
inode may be used again for a file of the same size and date; ctime is all that tells of that, too. So the content is
compared with what is known of it: its ETag, which is its hash, or the copy in memory. Everything here reads, so it runs
in threads.

A file that was never read needs no comparison: nothing is known of it. One that was compared with its sibling, and not
read otherwise, counts as another file: there is nothing to compare with, and what was found need not hold. A file over
`hash_bytes_max` that is not resident has an identity for its ETag, and is what its identity says; only what one
response has sent of it already must be what it still holds.
"""

from __future__ import annotations

import os
from collections import OrderedDict

import mmh3

from zcserve.cache.crew import beat
from zcserve.cache.entry import (
    CONTENT_BYTES,
    CTIME_BYTES,
    Body,
    Entry,
    Look,
    OpenFile,
    Paged,
    Sent,
    SiblingVariant,
    each_coding,
    identity_of,
    is_same_file,
)
from zcserve.cache.pages import Extent
from zcserve.cache.root import Root
from zcserve.cache.tags import PIECE_BYTES, content_tag, identity_tag, is_identity_tag, tag_of

# So many files are remembered that hold what their ETag says: of all downloads of one, the first compares.
CONFIRMED_MAX = 256
# How often a file may get a new ctime while it is compared.
TRIES = 3
# What an identity in doubt has for ctime: no file has it.
_NO_CTIME = bytes(CTIME_BYTES)

_confirmed: OrderedDict[tuple[bytes, bytes], None] = OrderedDict()


def still_holds(file: OpenFile, sent: Sent | None = None) -> bool:
    """Whether a file still holds what was promised, or `sent`; if so, its new ctime is known from then on. Raises
    OSError."""
    for _ in range(TRIES):
        look = file.look(sent)
        if look is not Look.DOUBTFUL:
            return look is Look.SAME
        status = os.fstat(file.fd)
        now = identity_of(status)
        known = (now, file.etag)
        if sent is not None or known not in _confirmed:
            if not _holds(file, status.st_size, sent):
                return False
            if identity_of(os.fstat(file.fd)) != now:
                continue
        if sent is not None:
            sent.identity = now
        else:
            file.identity = now
            _remember(known)
        return True
    return False


def _holds(file: OpenFile, size: int, sent: Sent | None) -> bool:
    """Whether the content is now what is known of it."""
    if sent is not None:
        return _digest(file.fd, sent.start, sent.length) == sent.hasher.digest()
    if not file.etag or is_identity_tag(file.etag):
        return True
    if size <= PIECE_BYTES:  # most files: without a buffer
        return tag_of(os.pread(file.fd, size + 1, 0)) == file.etag
    return content_tag(_digest(file.fd, 0, size)) == file.etag


def _remember(known: tuple[bytes, bytes]) -> None:
    _confirmed[known] = None
    while len(_confirmed) > CONFIRMED_MAX:
        _confirmed.popitem(last=False)


def _digest(fd: int, at: int, length: int) -> bytes:
    """Of so many bytes, or of what there is."""
    hasher = mmh3.mmh3_x64_128()
    buffer = memoryview(bytearray(PIECE_BYTES))
    while length and (count := os.preadv(fd, [buffer[: min(length, PIECE_BYTES)]], at)):
        hasher.update(buffer[:count])
        at += count
        length -= count
        beat()
    return hasher.digest()


def confirm(root: Root, directory: int, name: bytes, entry: Entry) -> bool:
    """Whether a file, of which only ctime differs from what a representation says, holds its content; then the
    representation knows the new ctime. One that is not resident is compared when it is loaded, and not here; but a file
    with variants is compared here, too, since requests may ask for these alone.

    `directory` is open, and known to lie below the root."""
    try:
        file = OpenFile(root.open_in(directory, name), entry.identity, entry.etag)
        body = entry.body
        if entry.etag and body is None and not entry.variants:
            return True
        if not entry.etag and _was_judged(entry):
            return False
        if isinstance(body, Paged) and is_identity_tag(entry.etag) and not _is_copy(body, file):
            return False
        if not still_holds(file):
            return False
    except OSError:
        return False
    know(entry, file.identity)
    return True


def _was_judged(entry: Entry) -> bool:
    """Whether a file was compared with its sibling, or siblings, and these are variants now."""
    return any(isinstance(one, SiblingVariant) and one.judged for one in each_coding(entry))


def know(entry: Entry, identity: bytes) -> None:
    """An entry's file has a new ctime and the same content."""
    was = entry.identity
    if was != identity:
        entry.identity = identity
        for variant in entry.variants:
            if variant.made:
                variant.identity = identity
            elif isinstance(variant, SiblingVariant) and variant.judged == was:
                variant.judged = identity


def put_in_doubt(entry: Entry) -> None:
    """The content of an entry's file is another, and its status does not tell: have the file looked at as one whose
    ctime alone has changed, and nothing that was found under its identity believed."""
    if _confirmed:
        _confirmed.pop((entry.identity, entry.etag), None)
    body = entry.body
    if isinstance(body, Paged) and isinstance(body.keeper, Extent):
        body.keeper.etag = b""  # its pages are not shared with the file's other name any more
    know(entry, entry.identity[:CONTENT_BYTES] + _NO_CTIME)
    if isinstance(entry, SiblingVariant):
        entry.judged = b""


def is_in_doubt(entry: Entry) -> bool:
    """Whether an entry was put in doubt, and has not been compared since."""
    return entry.identity.endswith(_NO_CTIME)


def name_anew(fresh: Entry, old: Entry) -> None:
    """Two contents of one identity, ctime aside, must not have the same ETag: where that is made of the identity, ctime
    and the last ETag go into it."""
    if is_identity_tag(old.etag) and is_same_file(fresh.identity, old.identity):
        fresh.etag = identity_tag(fresh.identity + old.etag)


def _is_copy(body: Body, file: OpenFile) -> bool:
    """Whether a body in memory is what the file holds."""
    if not isinstance(body, Paged) or body.holds_descriptor:
        return True
    for at in range(0, body.size, PIECE_BYTES):
        length = min(PIECE_BYTES, body.size - at)
        if os.pread(body.fd, length, body.offset + at) != os.pread(file.fd, length, at):
            return False
        beat()
    return True
