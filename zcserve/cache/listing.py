"""What stands at the key of a directory that has no index, where rules have it answer with its names.

A `Listing` knows under which keys to look, and nothing of what lies there: the index is asked when a page is made of it
(site/listings.py). So it costs a load eight bytes a file, and may name keys that lead nowhere by now. Another object
stands there as soon as one of the directory's names leads elsewhere: that is how a page that was made is known to be
old.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from typing import TypeAlias

from zcserve.cache.burial import empty
from zcserve.cache.entry import Entry, Redirect, Sibling
from zcserve.cache.shards import Table, enter, filled, in_pieces, marked
from zcserve.cache.unseen import hide

# Lists of keys that patches add to a listing: with more of them they are looked through, and what is gone is left out.
ADDED_MAX = 64


class Listing:
    """A directory without an index.

    pieces  keys of files in it and of directories below it (with their slash), in no order, some thousand in each
    added   how many of the last pieces have come by patches: what went before that may stand in others, too
    """

    __slots__ = ("added", "pieces")

    def __init__(self, pieces: Sequence[list[bytes]], added: int = 0) -> None:
        hide(self)
        for piece in pieces:
            hide(piece)
        self.pieces = tuple(pieces)
        self.added = added

    def followed(self, come: list[bytes], resources: Mapping[bytes, Resource]) -> Listing:
        """The listing of the same directory once these keys are there, too; `resources` are those before."""
        if self.added < ADDED_MAX:
            fresh = list(in_pieces(come))
            return Listing((*self.pieces, *fresh), self.added + len(fresh))
        there = (key for piece in self.pieces for key in piece if key in resources or key.endswith(b"/"))
        known = filled(marked(chain(there, come)))
        listing = Listing(list(in_pieces(known)))
        empty(known)
        return listing


def listing_from(key: bytes, pieces: Iterable[list[bytes]]) -> Listing:
    """The listing of the directory at this key, where all keys of an index are known."""
    return Listing([[one for one in piece if container_of(one) == key] for piece in pieces])


class ListingRedirect(Redirect):
    """A directory with a listing, named without its slash."""

    __slots__ = ()


# What a key of an index leads to.
Resource: TypeAlias = Entry | Redirect | Listing
# What answers where nothing else does: no file by a clean URL, no application, no redirect of a rule.
STANDS_BACK = (Listing, ListingRedirect)


def container_of(key: bytes) -> bytes:
    """The key of the directory that a key is a name in; b"" for the root, which is in none."""
    return key[: key.rfind(b"/", 0, -1) + 1]


def listed(key: bytes, listing: Listing, resources: Mapping[bytes, Resource]) -> Iterator[tuple[bytes, Entry | None]]:
    """The names of the directory at this key as they stand in keys, each once with its file, or with None for a
    directory, which has its slash; in no order.

    Not among them: what is hidden, the siblings of files (naming.py), and directories that lead nowhere.
    """
    begin = len(key)
    for one in _each_once(listing):
        name = one[begin:]
        if name[0] == 0x2E:
            continue
        resource = resources.get(one)
        if name[-1] == 0x2F:
            if resource is not None:
                yield name, None
        elif isinstance(resource, Entry) and not isinstance(resource, Sibling):
            yield name, resource


def _each_once(listing: Listing) -> Iterator[bytes]:
    """The keys of a listing, those that have come by patches first: they alone may stand in others, too."""
    seen: Table[bytes, bool] = {}
    count = len(listing.pieces) - listing.added
    for piece in listing.pieces[count:]:
        fresh = [key for key in piece if key not in seen]
        seen = enter(seen, marked(fresh))
        yield from fresh
    for piece in listing.pieces[:count]:
        yield from (key for key in piece if key not in seen) if seen else piece
    empty(seen)


def listings_to_renew(keys: Iterable[bytes], resources: Mapping[bytes, Resource]) -> Iterator[bytes]:
    """The keys of directories with listings in which one of these is a name; some more often than once."""
    last = b""
    for key in keys:
        container = container_of(key)
        if container != last and isinstance(resources.get(container), Listing):
            last = container
            yield container
