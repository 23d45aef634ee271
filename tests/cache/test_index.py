"""Generations: one entry a file, and what takes the place of a file that changed."""

from __future__ import annotations

import random
import threading

import pytest

from tests.support.trees import Tree, entry_of
from zcserve.cache import index
from zcserve.cache.entry import Body, Entry, Redirect
from zcserve.cache.index import Generation, Stock
from zcserve.cache.shards import Shards


def site_with_a_directory(tree: Tree) -> Generation:
    tree.plant({"index.html": b"top", "a.txt": b"a", "d/index.html": b"d", "d/b.txt": b"b", "d/e/c.txt": b"c"})
    return tree.walk()


def test_every_file_is_one_entry_in_the_order_of_the_walk(tree: Tree) -> None:
    generation = site_with_a_directory(tree)
    assert [entry.key for entry in generation.entries()] == [
        b"/a.txt",
        b"/index.html",
        b"/d/b.txt",
        b"/d/index.html",
        b"/d/e/c.txt",
    ]


def test_a_key_is_the_same_object_as_its_entrys(tree: Tree) -> None:
    generation = site_with_a_directory(tree)
    for key, resource in generation.resources.items():
        if isinstance(resource, Entry) and resource.key == key:
            assert resource.key is key


def test_what_replaces_a_file_stands_wherever_it_stood(tree: Tree) -> None:
    generation = site_with_a_directory(tree)
    old = entry_of(generation, b"/d/index.html")
    new = Entry(old.key, b"", 1, None)
    generation.replace(old, new)
    assert generation.resources[b"/d/index.html"] is new
    assert generation.resources[b"/d/"] is new
    assert isinstance(generation.resources[b"/d"], Redirect)
    assert entry_of(generation, b"/").key == b"/index.html"


def test_a_file_that_is_gone_leaves_its_own_key_and_its_directorys(tree: Tree) -> None:
    generation = site_with_a_directory(tree)
    others = set(generation.resources) - {b"/index.html", b"/"}
    generation.replace(entry_of(generation, b"/index.html"), None)
    assert set(generation.resources) == others


def test_a_file_that_is_no_index_leaves_its_directory_alone(tree: Tree) -> None:
    generation = site_with_a_directory(tree)
    index = generation.resources[b"/d/"]
    generation.replace(entry_of(generation, b"/d/b.txt"), None)
    assert b"/d/b.txt" not in generation.resources
    assert generation.resources[b"/d/"] is index


def test_what_was_replaced_already_is_not_replaced_again(tree: Tree) -> None:
    generation = site_with_a_directory(tree)
    old = entry_of(generation, b"/a.txt")
    first, second = Entry(old.key, b"", 1, None), Entry(old.key, b"", 2, None)
    generation.replace(old, first)
    generation.replace(old, second)
    assert generation.resources[b"/a.txt"] is first
    generation.replace(old, None)
    assert generation.resources[b"/a.txt"] is first


def test_stock_counts_what_is_resident_and_keeps_what_is_not(tree: Tree) -> None:
    generation = site_with_a_directory(tree)
    resident = entry_of(generation, b"/a.txt")
    with_variants = entry_of(generation, b"/d/b.txt")
    resident.body = with_variants.body = Body(1)
    with_variants.variants = (Entry(b"/d/b.txt", b"", 1, None),)
    stock = Stock()
    stock.take(generation.entries())
    assert (stock.files, stock.bytes) == (1, 1)
    assert stock.wanting == [entry for entry in generation.entries() if entry is not resident]


def test_all_keys_are_told_in_pieces_whatever_came_and_went(tree: Tree) -> None:
    tree.plant({f"{number}/{name}": b"x" for number in range(20) for name in ("index.html", "a", "b")})
    generation = tree.walk()
    chance = random.Random(7)
    stock = dict(generation.resources)
    for _ in range(2000):
        key = chance.choice(list(stock))
        generation.lay_over([key], {key: stock[key] if chance.random() < 0.5 else None})
        if chance.random() < 0.01:
            told = [key for keys in generation.keys_in_pieces() for key in keys]
            assert len(told) == len(set(told))
            assert set(told) == generation.resources.keys()
    assert len(list(generation.keys_in_pieces())) > 1  # and not all at once


def test_what_is_shared_counts_once_and_its_slots_twice(tree: Tree) -> None:
    generation = site_with_a_directory(tree)
    assert generation.bytes_beside(0) == generation.index_bytes
    assert generation.bytes_beside(2) == generation.index_bytes - 2 * (index.ENTRY_BYTES - index.SLOT_BYTES)


def test_keys_that_are_gone_for_good_are_forgotten(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index, "GONE_MIN", 10)
    tree.plant({"kept": b"x"})
    generation = tree.walk()
    entry = generation.resources[b"/kept"]
    for number in range(1000):
        key = b"/%d" % number
        generation.lay_over([key], {key: entry})
        generation.lay_over([key], {key: None})
        generation.tidy()
        assert [key for keys in generation.keys_in_pieces() for key in keys] == [b"/kept"]
    assert len(generation.gone) <= 11
    assert sum(map(len, generation.pieces)) <= 12


def test_a_generation_that_is_over_has_nothing(tree: Tree) -> None:
    generation = site_with_a_directory(tree)
    pieces, resources = list(generation.pieces), generation.resources
    generation.clear()
    assert not resources
    assert not any(pieces)  # the keys are let go while the lists are still there: a thread may be at them
    assert list(generation.entries()) == []


def test_a_key_that_goes_and_comes_in_two_threads_at_once_is_listed_once(tree: Tree) -> None:
    generation = site_with_a_directory(tree)
    old, key = entry_of(generation, b"/a.txt"), b"/a.txt"
    comes = threading.Thread(target=generation.lay_over, args=([key], {key: Entry(key, b"", 1, None)}))

    class Gone(Shards[bytes, bool]):
        def __setitem__(self, key: bytes, value: bool) -> None:
            comes.start()
            comes.join(0.1)  # it waits, or is done in between
            super().__setitem__(key, value)

    generation.gone = Gone()
    generation.replace(old, None)
    comes.join()
    assert [entry.key for entry in generation.entries()].count(key) == 1
