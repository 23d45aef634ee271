"""What is asked of a server of a tree."""

from __future__ import annotations

from pathlib import Path

from tools.warm.expected import Ask, asks_of
from tools.warm.listing import resolve
from zcserve.cache.root import Root
from zcserve.cache.walk import walk


def test_each_resource_is_asked_for_in_each_coding_once_and_what_is_listed_first(tree: Path) -> None:
    generation = walk(Root(tree), index=("index.html",))
    asks = asks_of(generation, resolve(generation, [b"style.css"])[0])
    assert [(ask.key, ask.accept) for ask in asks[:2]] == [
        (b"/style.css", "identity"),
        (b"/style.css", "gzip, identity;q=0"),
    ]
    assert Ask(b"/sub", location=b"/sub/") in asks
    assert len(asks) == len(set(asks)) == len(generation.resources) + 1  # the sibling
