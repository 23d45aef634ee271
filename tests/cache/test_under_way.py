"""zcserve.cache.under_way: what was being loaded when it was thrown away is not made resident."""

from __future__ import annotations

import threading

import pytest

from tests.support.trees import Tree, content_of, noise
from zcserve.cache.entry import Entry
from zcserve.cache.under_way import UnderWay


def test_what_is_loaded_when_it_is_thrown_away_is_late_until_the_load_ends() -> None:
    under_way = UnderWay(threading.Lock())
    one, other = Entry(b"/1", b"", 1, None), Entry(b"/2", b"", 1, None)
    under_way.be_late([one])
    assert not under_way.is_late(one)  # nothing was loaded
    with under_way.load(one), under_way.load(other):
        assert not under_way.is_late(one)
        with under_way.load(one):
            under_way.be_late([one])
            assert (under_way.is_late(one), under_way.is_late(other)) == (True, False)
        assert under_way.is_late(one)  # the first of them goes on
    assert not under_way.is_late(one)
    with under_way.load(one):
        assert not under_way.is_late(one)


@pytest.mark.parametrize("size", [10, 50_000, 3 << 20])
def test_a_load_that_is_late_gives_a_body_for_those_that_waited_and_leaves_nothing(
    tree: Tree, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    tree.plant({"page": noise(size)})
    root, entry = tree.entry(b"/page")
    loader = tree.loader(memory="4M")
    head_of = loader.head_of

    def purged(*of: object) -> bytes:
        loader.store.under_way.be_late([entry])  # it was read, and is not resident yet
        loader.store.drop_all([entry])
        return head_of(*of)  # type: ignore[arg-type]

    with monkeypatch.context() as patched:
        patched.setattr(loader, "head_of", purged)
        late = loader.load(root, entry)
    assert late.size == size
    assert (entry.body, loader.store.resident, loader.store.opened.get(entry)) == (None, 0, None)
    del late
    assert loader.store.committed == 0
    body = loader.load(root, entry)
    if size <= loader.store.largest:
        assert entry.body is body
        assert content_of(body) == noise(size)
