"""One answer held against the file that it is of: status, length, codings, ETag, and every byte (by its hash).

Of the file it believes what lies on disk now, nothing that the walk remembers. It must not know how the answer was
asked for.
"""

from __future__ import annotations

import http.client
import os
from dataclasses import dataclass

import mmh3

from tools.warm.clients import trouble_of
from tools.warm.expected import Ask
from zcserve.cache.entry import Entry
from zcserve.cache.naming import name_of, path_of
from zcserve.cache.root import Root
from zcserve.cache.tags import PIECE_BYTES, content_tag
from zcserve.config.table import Config
from zcserve.media_types import MediaTypes

# The content of an answer that is not compared is read up to here, so that the connection can be kept.
UNREAD_BYTES_MAX = 64 * 1024


@dataclass(frozen=True, slots=True)
class Content:
    """A representation's size in bytes and the hash of its bytes."""

    size: int
    digest: bytes


class Comparer:
    """Compares answers with the files below a root. Any thread may call it."""

    def __init__(self, root: Root, config: Config) -> None:
        self._root = root
        self._hash_bytes_max = config.hash_bytes_max
        self._types = MediaTypes(config.charset, config.type)

    def compare(self, response: http.client.HTTPResponse, ask: Ask) -> tuple[str, int]:
        """What is wrong with an answer ("" is nothing), and how many bytes of content came; of content that is wrong
        or not compared, perhaps not all is read. Raises OSError and HTTPException."""
        if ask.entry is None:
            return _unread(response, _redirect_fault(response, ask.location.decode()))
        if response.status != 200:
            return _unread(response, f"status {response.status}, expected 200")
        try:
            own = self._content(ask.entry)
        except OSError as error:
            return f"cannot be read here: {trouble_of(error)}", 0
        came = _receive(response, own.size)
        return self._content_fault(response, ask.entry, own, came), came.size

    def _content(self, entry: Entry) -> Content:
        """What lies on disk now. Raises OSError."""
        fd, _ = self._root.open_file(path_of(entry))
        hasher = mmh3.mmh3_x64_128()
        size = 0
        try:
            while piece := os.read(fd, PIECE_BYTES):
                hasher.update(piece)
                size += len(piece)
        finally:
            os.close(fd)
        return Content(size, hasher.digest())

    def _content_fault(self, response: http.client.HTTPResponse, entry: Entry, own: Content, came: Content) -> str:
        """How a 200 differs from the file; the first that differs explains the rest."""
        length, coding = response.getheader("Content-Length"), response.getheader("Content-Encoding", "")
        # A name like x.svgz has a coding of its own, besides the one that was asked for.
        of_name = self._types.coding(name_of(entry)).decode()
        right = ", ".join(filter(None, (of_name, entry.encoding.decode())))
        if coding != right:
            return f"Content-Encoding is {coding or 'missing'}, expected {right or 'none'}"
        if length != str(own.size):
            return f"Content-Length is {length or 'missing'}, the file has {own.size}"
        tag, right_tag = response.getheader("ETag", ""), content_tag(own.digest).decode()
        # The file's identity on the server's node, which is not known here, is in the ETag of what is not hashed.
        by_identity = tag.startswith('"id-') and own.size > self._hash_bytes_max
        if tag != right_tag and not by_identity:
            return f"ETag is {tag or 'missing'}, the content's is {right_tag}"
        if came.size != own.size:
            return f"{came.size} bytes of content came of {own.size}"
        return "" if came.digest == own.digest else "the content is not the file's, though its length and ETag are"


def _unread(response: http.client.HTTPResponse, fault: str) -> tuple[str, int]:
    response.read(UNREAD_BYTES_MAX)
    return fault, 0


def _redirect_fault(response: http.client.HTTPResponse, location: str) -> str:
    where = response.getheader("Location", "nowhere")
    if response.status == 301 and where == location:
        return ""
    return f"status {response.status} to {where}, expected 301 to {location}"


def _receive(response: http.client.HTTPResponse, expected: int) -> Content:
    """An answer's content; of one longer than `expected` bytes no more than proves it."""
    hasher = mmh3.mmh3_x64_128()
    size = 0
    while size <= expected and (piece := response.read(min(PIECE_BYTES, expected + 1 - size))):
        hasher.update(piece)
        size += len(piece)
    return Content(size, hasher.digest())
