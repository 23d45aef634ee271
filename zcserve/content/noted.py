"""What changes of what is served while something else is made of the same files: that has to know of it, too.

It was looked at before, perhaps, and no event may tell of it: a request, a purge or a comparison has found it.
"""

from __future__ import annotations

from collections.abc import Iterable

from zcserve.cache.shards import Shards, marked


class Noted:
    """From `Live.note` to `Live.end_note`.

    laid     keys that lead elsewhere by now, and those whose files were to be looked at anew
    renewed  keys of what requests found newer; in order
    is_building  what is made takes the place of what is served, as soon as it is made
    """

    __slots__ = ("is_building", "laid", "renewed")

    def __init__(self, *, is_building: bool = True) -> None:
        self.is_building = is_building
        self.laid: Shards[bytes, bool] = Shards()
        self.renewed: dict[bytes, None] = {}

    def lay(self, keys: Iterable[bytes]) -> None:
        """These keys, in whichever thread."""
        self.laid.update(marked(keys))

    def take(self) -> list[bytes]:
        """All keys, which are not noted any more. While nothing is laid over."""
        renewed, self.renewed = self.renewed, {}
        laid, self.laid = self.laid, Shards()
        return [*laid, *renewed]
