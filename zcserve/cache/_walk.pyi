from zcserve.cache.entry import Entry, Redirect
from zcserve.cache.index import Stock

def look(
    fd: int, prefix: bytes, known: dict[bytes, Entry | Redirect], stock: Stock, kind: type[Entry]
) -> tuple[list[Entry], list[bytes]]: ...
