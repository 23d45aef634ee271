from collections.abc import Callable

from zcserve.cache.entry import Entry, Redirect
from zcserve.cache.index import Stock

SIBLING_ENDINGS: tuple[bytes, ...]

def look(
    fd: int, prefix: bytes, known: Callable[[bytes], Entry | Redirect | None], stock: Stock, kind: type[Entry]
) -> tuple[list[Entry], list[bytes]]: ...
