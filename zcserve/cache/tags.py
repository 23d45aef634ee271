"""ETags: strong, made of the content, or of the identity of a file that is too large to hash."""

from __future__ import annotations

from collections.abc import Iterable

import mmh3

# Read, hashed and compared at a time: 50 us of mmh3, and the piece is still in the processor's cache when it is used.
PIECE_BYTES = 256 * 1024

_IDENTITY_TAG = b'"id-'


def content_tag(digest: bytes) -> bytes:
    """A strong ETag (RFC 9110 section 8.8.3) of a 16-byte digest."""
    return b'"%b"' % digest.hex().encode()


def tag_of(content: bytes) -> bytes:
    """The ETag of whole content, which is hashed in pieces."""
    if len(content) <= PIECE_BYTES:
        return content_tag(mmh3.mmh3_x64_128_digest(content))
    return tag_of_all((content,))


def tag_of_all(pieces: Iterable[bytes]) -> bytes:
    """The same of content that lies in pieces."""
    hasher = mmh3.mmh3_x64_128()
    for piece in pieces:
        view = memoryview(piece)
        for at in range(0, len(piece), PIECE_BYTES):
            hasher.update(view[at : at + PIECE_BYTES])
    return content_tag(hasher.digest())


def identity_tag(identity: bytes) -> bytes:
    """The ETag of a file too large to hash: as strong as its identity, of the same length, never a content tag."""
    return _IDENTITY_TAG + b'%b"' % mmh3.mmh3_x64_128_digest(identity).hex()[:29].encode()


def is_identity_tag(etag: bytes) -> bool:
    """Whether an ETag says nothing of the content itself."""
    return etag.startswith(_IDENTITY_TAG)
