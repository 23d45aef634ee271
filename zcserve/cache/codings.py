"""What `--compress` makes of content: which codings an entry lacks, and their bytes, each made once.

The same content under a new name or time is not compressed again: its coded content is taken from a variant that is
resident, or from `--compress-dir` (kept.py). What the bytes become, a variant with a body, is loader.py's to decide.
"""

from __future__ import annotations

import os
import weakref
from collections.abc import Iterable, Iterator

from zcserve.cache.compress import codecs, worth_it
from zcserve.cache.entry import ComposedEntry, Entry, Span
from zcserve.cache.kept import open_kept
from zcserve.cache.naming import name_of
from zcserve.cache.tags import tag_of
from zcserve.config.table import Config
from zcserve.media_types import MediaTypes, is_compressible


class Codings:
    """Makes codings of content; none without `--compress`. Thread-safe. `bytes_max` bounds the content."""

    def __init__(self, config: Config, types: MediaTypes, bytes_max: int) -> None:
        """Raises UsageError when `--compress-dir` cannot be used."""
        self.codecs = codecs() if config.compress else {}
        self.kept = open_kept(config)
        self.found_kept = 0  # variants, since that was told
        self._types = types
        self._bytes_min, self._bytes_max = config.compress_bytes_min, bytes_max
        self._kept_bytes_max = config.hash_bytes_max
        # By (base's ETag, coding).
        self._made: weakref.WeakValueDictionary[tuple[bytes, bytes], Entry] = weakref.WeakValueDictionary()

    def may_apply(self, entry: Entry) -> bool:
        """Whether this content may get codings that it lacks."""
        return (
            bool(self.codecs)
            and self._bytes_min <= entry.size <= self._bytes_max
            and self._is_compressible(entry)
            and not self.codecs.keys() <= {variant.encoding for variant in entry.variants}
        )

    def _is_compressible(self, entry: Entry) -> bool:
        if isinstance(entry, ComposedEntry):
            return is_compressible(entry.content_type)
        name = name_of(entry)
        return is_compressible(self._types.of(name)) and not self._types.coding(name)

    def missing(self, entry: Entry, content: bytes) -> Iterator[tuple[bytes, bytes]]:
        """What an entry lacks and is worth it: coding and coded content."""
        tag = tag_of(content)
        present = {variant.encoding for variant in entry.variants}
        for coding in self.codecs:
            if coding not in present:
                coded = self._resident(tag, coding) or self.make(entry, coding, content)
                if coded:
                    yield coding, coded

    def make(self, entry: Entry, coding: bytes, content: bytes) -> bytes:
        """An entry's content in a coding, made or kept from another time; b"" where it is not worth it."""
        is_of_a_file = not isinstance(entry, ComposedEntry) and len(content) <= self._kept_bytes_max
        keeper = self.kept if is_of_a_file else None
        tag = tag_of(content) if keeper is not None else b""
        if keeper is not None and (kept := keeper.get(tag, coding, content)) is not None:
            self.found_kept += 1
            return kept
        coded = self.codecs[coding](content)
        if not worth_it(len(content), len(coded)):
            coded = b""
        if keeper is not None:
            keeper.put(tag, coding, content, coded)
        return coded

    def tags_of(self, entries: Iterable[Entry]) -> set[bytes]:
        """The ETags of files that have variants which were made, or might have."""
        return {
            entry.etag
            for entry in entries
            if entry.etag and (self.may_apply(entry) or any(variant.made for variant in entry.variants))
        }

    def remember(self, base_tag: bytes, variant: Entry) -> None:
        """A resident variant was made of content with this ETag."""
        self._made[base_tag, variant.encoding] = variant

    def _resident(self, base_tag: bytes, coding: bytes) -> bytes | None:
        variant = self._made.get((base_tag, coding))
        body = variant.body if variant is not None else None
        if body is None:
            return None
        part = body.part(0, body.size)
        if isinstance(part, Span):
            return os.pread(part.fd, part.length, part.offset)
        return bytes(part) if isinstance(part, memoryview) else None
