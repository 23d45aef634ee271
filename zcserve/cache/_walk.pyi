from collections.abc import Callable

from zcserve.cache.entry import Entry
from zcserve.cache.index import Stock
from zcserve.cache.listing import Resource

SIBLING_ENDINGS: tuple[bytes, ...]

def look(
    fd: int, prefix: bytes, known: Callable[[bytes], Resource | None], stock: Stock, kind: type[Entry]
) -> tuple[list[Entry], list[bytes]]: ...
