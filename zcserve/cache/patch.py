"""What makes a generation true again, to be applied in one step or in many.

A patch may be of a million keys. So it is a table (shards.py), and neither its pieces nor its end are one long step.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain

from zcserve.cache.burial import empty
from zcserve.cache.entry import Entry, Redirect
from zcserve.cache.index import Generation, Problem
from zcserve.cache.naming import directory_of, is_index
from zcserve.cache.shards import Table


@dataclass(slots=True)
class Patch:
    """What makes a generation true again: by key the resource that stands there now, None for what is gone; and the
    content of pages for errors, of which that holds whose keys are among them."""

    resources: Table[bytes, Entry | Redirect | None]
    problems: list[Problem]
    order: list[list[bytes]] = field(default_factory=list)  # keys, as the walk found them; others may be among them
    pages: dict[bytes, bytes] = field(default_factory=dict)

    def apply(self, generation: Generation, keys: Collection[bytes] | None = None) -> None:
        """Make these keys true, or all."""
        if keys is None:
            keys = self.resources
        generation.lay_over(keys, self.resources)
        told = {key for key in generation.root.rules.error_pages.in_memory if key in keys}
        if told:
            kept = {key: page for key, page in generation.pages.items() if key not in told}
            generation.set_pages(kept | {key: self.pages[key] for key in told & {*self.pages}})

    def pieces(self, known: Mapping[bytes, Entry | Redirect], keys_max: int) -> Iterator[list[bytes]]:
        """All keys, in pieces that may be applied one after the other: what is new, then what changed, then what is
        gone. A directory, its redirect and its index are of one piece, which may be larger for that."""
        directories = {key for key in self.resources if key.endswith(b"/")}
        together: dict[bytes, list[bytes]] = {}
        stages: list[list[list[bytes]]] = [[[]], [[]], [[]]]
        for key, new in self.resources.items():
            directory = key if key.endswith(b"/") else key + b"/"
            if directory not in directories:
                directory = directory_of(key)
                indexes = (self.resources.get(directory), known.get(directory))
                if directory not in directories or not any(is_index(index, (key,)) for index in indexes):
                    _append(stages[2 if new is None else int(key in known)], [key], keys_max)
                    continue
            together.setdefault(directory, []).append(key)
        while together:
            _append(stages[1], together.popitem()[1], keys_max)
        yield from filter(None, chain.from_iterable(stages))

    def told(self) -> str:
        """What it does, in words."""
        gone = sum(new is None for new in self.resources.values())
        named = next(iter(self.resources)).decode()
        more = f" and {len(self.resources) - 1} more" if len(self.resources) > 1 else ""
        return f"updated: {len(self.resources) - gone} changed, {gone} gone: {named}{more}"

    def clear(self) -> None:
        """It is applied: let go of all that it has, a piece at a time."""
        empty(self.resources)
        for keys in self.order:
            keys.clear()


def _append(pieces: list[list[bytes]], group: list[bytes], keys_max: int) -> None:
    pieces[-1] += group
    if len(pieces[-1]) >= keys_max:
        pieces.append([])
