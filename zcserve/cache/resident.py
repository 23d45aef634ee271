"""What puts results into memory and takes them out of it. The loader's threads do that: it needs processor time, and
the store's lock may be held for a while."""

from __future__ import annotations

from collections.abc import Iterable

from zcserve.cache.entry import ComposedEntry, Entry, each_coding
from zcserve.cache.loader import Loader
from zcserve.cache.preload import forget
from zcserve.cache.tags import tag_of


def is_resident(entry: Entry) -> bool:
    """Whether all of its representations are in memory."""
    return all(each.body is not None for each in each_coding(entry))


def make_resident(
    loader: Loader, old: ComposedEntry | None, entry: ComposedEntry, content: bytes
) -> ComposedEntry | None:
    """The result's entry: `old` where it says the same, else `entry`. None where there is no room for it."""
    entry.etag = tag_of(content)
    if old is not None and is_resident(old) and _said_by(old) == _said_by(entry):
        return old
    return entry if loader.keep(entry, (content,), evict=True) is not None else None


def _said_by(entry: ComposedEntry) -> tuple[object, ...]:
    return entry.etag, entry.content_type, entry.modified, entry.fields, entry.nosniff


def with_variants(loader: Loader, entry: ComposedEntry, content: bytes) -> ComposedEntry | None:
    """The same result with what `--compress` makes of it; None where that is nothing, or finds no room."""
    fresh = entry.again(entry.size)
    fresh.etag = entry.etag
    fresh.variants = loader.code(entry, content, evict=True)
    if fresh.variants and loader.keep(fresh, (content,), evict=True) is not None:
        return fresh
    forget(loader.store, fresh)
    return None


def forget_all(loader: Loader, entries: Iterable[Entry]) -> None:
    """Give the memory of these entries back."""
    for entry in entries:
        forget(loader.store, entry)
