"""What of one generation another one must know: what was written meanwhile, and what differs."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from itertools import chain, compress
from operator import is_not
from urllib.parse import unquote_to_bytes

from zcserve.cache.entry import Entry, Redirect
from zcserve.cache.index import Generation
from zcserve.cache.listing import Listing, listing_from, listings_to_renew
from zcserve.cache.naming import base_of, directory_of, is_index, keys_of, siblings_of
from zcserve.cache.patch import Patch
from zcserve.cache.shards import in_pieces
from zcserve.cache.watcher import Watcher
from zcserve.http import encode_path


def _is_whole(key: bytes, watcher: Watcher) -> bool:
    """Whether neither a file nor one of its siblings was written since the watcher was asked for changes."""
    path = unquote_to_bytes(key)[1:]
    return not (watcher.was_written(path) or any(watcher.was_written(sibling) for _, sibling in siblings_of(path)))


def leave_out(patch: Patch, keys: Collection[bytes], known: Generation, watcher: Watcher) -> list[Entry]:
    """Take out of these keys of a patch what was written meanwhile; the entries that the patch had for it."""
    if not watcher.writes:
        return []
    out = {key for key in keys if not _is_whole(key, watcher)}
    for directory in [key for key in keys if key.endswith(b"/")]:
        index = patch.resources[directory] or known.resources.get(directory)
        if is_index(index, out):
            out |= set(keys_of(directory)) & patch.resources.keys()
    left_out = {id(new): new for key in out if isinstance(new := patch.resources.pop(key), Entry)}
    return list(left_out.values())


def take_from(live: Generation, generation: Generation, path: bytes) -> set[bytes]:
    """Have a generation know of a file, or the one that it is a sibling of, what the live one knows. The keys."""
    key = encode_path(b"/" + path)
    keys = [key, base] if (base := base_of(key)) else [key]
    directory = directory_of(key)
    here, there = generation.resources.get, live.resources.get
    if is_index(here(directory), keys) or is_index(there(directory), keys):
        keys += keys_of(directory)
    other = [one for one in keys if here(one) is not there(one)]
    taken = {one: there(one) for one in other}
    if isinstance(taken.get(directory), Listing):  # which is of the live one's names
        taken[directory] = listing_from(directory, generation.keys_in_pieces())
    generation.lay_over(other, taken)
    return set(other)


def difference(last: Generation, generation: Generation) -> Iterator[bytes]:
    """The keys that lead elsewhere than they did, or nowhere; some may come more often than once. `last` may be patched
    meanwhile."""
    if not generation.root.rules.has_listings:
        yield from _plain_difference(last, generation)
        return
    for some in in_pieces(_plain_difference(last, generation)):
        yield from some
        yield from listings_to_renew(some, generation.resources)
    was = last.resources.get
    for some in in_pieces(generation.resources):
        come = [key for key in some if was(key) is None]
        yield from listings_to_renew(come, generation.resources)


def _plain_difference(last: Generation, generation: Generation) -> Iterator[bytes]:
    now, was = generation.resources.get, last.resources.get
    same_rules = generation.root.rules.digest == last.root.rules.digest
    shared = 0
    for some in in_pieces(generation.resources):
        shared += len(some)
        for key in compress(some, map(is_not, map(was, some), map(now, some))):
            old = was(key)
            if old is None:
                shared -= 1
            elif not (same_rules and isinstance(old, (Redirect, Listing)) and type(old) is type(now(key))):
                # Redirects are made anew; by the same rules of one key there is but one place to go. So are listings,
                # which are others where one of their names is.
                yield key
    if shared < len(last.resources):
        yield from (key for key in chain.from_iterable(last.keys_in_pieces()) if key not in generation.resources)
