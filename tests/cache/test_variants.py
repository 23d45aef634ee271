"""Variants made by threads: how many at a time, in which order, for whom, and what is told."""

from __future__ import annotations

import gzip
import logging
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.support.trees import Tree, content_of, entry_of, noise, prose
from tests.support.waiting import WaitUntil
from zcserve import threads
from zcserve.cache import variants
from zcserve.cache.entry import Entry
from zcserve.cache.index import Generation
from zcserve.cache.loader import Loader
from zcserve.cache.preload import preload
from zcserve.errors import NoThreadError


class Gate:
    """gzip that waits to be let go. `begun` counts its uses."""

    def __init__(self) -> None:
        self.open = threading.Event()
        self.begun: list[int] = []

    def __call__(self, content: bytes) -> bytes:
        self.begun.append(len(content))
        assert self.open.wait(30)
        return gzip.compress(content, mtime=0)


class Making:
    """A loader whose compressor waits at a gate."""

    def __init__(self, tree: Tree, **settings: Any) -> None:
        self.gate = Gate()
        self.loader: Loader = tree.loader(compress=True, **{"compress_wait_s": 0} | settings)
        self.loader.codings.codecs = {b"gzip": self.gate}
        self.generation: Generation = tree.walk()

    def entry(self, key: bytes) -> Entry:
        return entry_of(self.generation, key)

    def want(self, *keys: bytes) -> variants.Batch:
        return self.loader.variants.want(self.generation.root, [self.entry(key) for key in keys])


@pytest.fixture
def making(tree: Tree) -> Iterator[Callable[..., Making]]:
    made: list[Making] = []

    def start(files: dict[str, bytes], **settings: Any) -> Making:
        tree.plant(files)
        made.append(Making(tree, **settings))
        return made[-1]

    yield start
    for one in made:
        one.loader.variants.close()
        one.gate.open.set()


def all_made(making: Making) -> bool:
    return not making.loader.variants.pending


def test_a_load_goes_on_without_variants_and_they_follow(making: Callable[..., Making], wait_until: WaitUntil) -> None:
    here = making({"a.css": prose(5000), "b.png": noise(5000)})
    report = preload(here.generation, here.loader)
    assert (report.files, report.left_out) == (2, 0)
    entry = here.entry(b"/a.css")
    assert entry.body is not None
    assert b"\r\nVary: Accept-Encoding\r\n" in bytes(entry.body.head())
    assert (entry.variants, here.loader.variants.pending) == ((), 1)
    body = entry.body
    here.gate.open.set()
    wait_until(lambda: all_made(here))
    (variant,) = entry.variants
    assert variant.body is not None
    assert gzip.decompress(content_of(variant.body)) == prose(5000)
    assert entry.body is body  # its head is right as it is


def test_a_load_waits_for_what_is_made_in_time(making: Callable[..., Making]) -> None:
    here = making({"a.css": prose(5000)}, compress_wait_s=30)
    here.gate.open.set()
    report = preload(here.generation, here.loader)
    assert (report.files, report.variants, report.resident_variants) == (2, 1, 1)


def test_there_is_a_thread_for_each_core_and_no_more(
    making: Callable[..., Making], wait_until: WaitUntil, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(variants, "threads_max", lambda: 3)
    here = making({f"{number}.css": prose(5000 + number) for number in range(9)})
    here.want(*(f"/{number}.css".encode() for number in range(9)))
    wait_until(lambda: len(here.gate.begun) == 3)
    assert sum(thread.name == "zcserve-compress" for thread in threading.enumerate()) >= 3
    here.gate.open.set()
    wait_until(lambda: all_made(here))
    assert len(here.gate.begun) == 9
    wait_until(lambda: here.loader.variants.at_work == 0)  # they end when there is nothing to do


def test_the_smallest_and_the_latest_come_first(
    making: Callable[..., Making], wait_until: WaitUntil, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(variants, "threads_max", lambda: 1)
    here = making({"a.css": prose(5000), "b.css": prose(9000), "c.css": prose(7000), "d.css": prose(20_000)})
    here.want(b"/b.css", b"/a.css", b"/c.css")
    wait_until(lambda: here.gate.begun)
    here.want(b"/d.css")
    here.gate.open.set()
    wait_until(lambda: all_made(here))
    assert here.gate.begun == [5000, 20_000, 7000, 9000]


def test_what_is_wanted_already_is_made_once(making: Callable[..., Making], wait_until: WaitUntil) -> None:
    here = making({"a.css": prose(5000)})
    here.want(b"/a.css")
    assert here.want(b"/a.css").wait(0, lambda: None)  # another has it in hand
    here.gate.open.set()
    wait_until(lambda: all_made(here))
    assert here.gate.begun == [5000]


def test_what_is_forgotten_meanwhile_gets_no_variant(making: Callable[..., Making], wait_until: WaitUntil) -> None:
    here = making({"a.css": prose(5000), "b.css": prose(6000)})
    batch = here.want(b"/a.css", b"/b.css")
    wait_until(lambda: here.gate.begun)
    here.loader.forget(here.entry(b"/a.css"))
    here.gate.open.set()
    assert batch.wait(time.monotonic() + 20, lambda: None)
    wait_until(lambda: here.loader.variants.at_work == 0)
    assert here.entry(b"/a.css").variants == ()
    assert here.loader.store.resident == len(here.entry(b"/b.css").variants) == 1


def test_a_wait_does_something_meanwhile_which_may_end_it(making: Callable[..., Making]) -> None:
    here = making({"a.css": prose(5000)}, compress_wait_s=60)

    class EndedError(Exception):
        pass

    def progress(done: int, total: int) -> None:
        raise EndedError

    with pytest.raises(EndedError):
        preload(here.generation, here.loader, progress=progress)


def test_the_end_waits_for_nothing(making: Callable[..., Making], wait_until: WaitUntil) -> None:
    here = making({"a.css": prose(5000)})
    here.want(b"/a.css")
    wait_until(lambda: here.gate.begun)
    here.loader.variants.close()
    here.gate.open.set()
    wait_until(lambda: here.loader.variants.at_work == 0)
    assert here.loader.store.resident == 0
    assert here.want(b"/a.css").wait(0, lambda: None)


def test_nothing_is_begun_while_another_process_takes_over(
    making: Callable[..., Making], wait_until: WaitUntil
) -> None:
    here = making({"a.css": prose(5000)})
    here.loader.store.freeze()
    here.gate.open.set()
    batch = here.want(b"/a.css")
    assert not batch.wait(time.monotonic() + 0.1, lambda: None)
    assert not here.gate.begun
    here.loader.store.thaw()
    assert batch.wait(time.monotonic() + 20, lambda: None)
    assert here.entry(b"/a.css").variants


def test_where_no_thread_can_be_had_files_are_served_as_they_are(
    making: Callable[..., Making], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    here = making({"a.css": prose(5000)}, compress_wait_s=60)

    def none_left(*_: object) -> None:
        raise NoThreadError("no thread can be had")

    monkeypatch.setattr(threads, "start", none_left)
    report = preload(here.generation, here.loader)
    assert (report.files, report.left_out) == (1, 0)
    assert "compress: no thread can be had" in caplog.text


def test_where_memory_is_short_a_variant_takes_its_files_place(
    making: Callable[..., Making], wait_until: WaitUntil
) -> None:
    size = 200_000
    here = making({f"{number}.css": prose(size) for number in range(10)}, memory=5 * size)
    preload(here.generation, here.loader)
    entries = list(here.generation.entries())
    resident = [entry for entry in entries if entry.body is not None]
    assert 0 < len(resident) < 10
    here.gate.open.set()
    wait_until(lambda: all_made(here))
    assert all(entry.variants and entry.variants[0].body is not None for entry in entries)
    assert here.loader.store.committed <= 5 * size


# --- words ------------------------------------------------------------------------------------------------------


def test_it_says_at_once_what_it_does_and_how_far_it_is(
    making: Callable[..., Making],
    wait_until: WaitUntil,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(variants, "TOLD_EVERY_S", 0.02)
    monkeypatch.setattr(variants, "threads_max", lambda: 1)
    here = making({"a.css": prose(5000), "b.css": prose(1024 * 1024 - 5000)})
    heard: list[str] = []
    here.loader.variants.progress.subscribe(heard.append)
    here.want(b"/a.css", b"/b.css")
    assert caplog.messages[0] == "compress: 2 files, 1.0 MiB, by 1 thread"
    wait_until(lambda: len(caplog.messages) > 3)
    assert caplog.messages[3] == "compress: 0 of 2 files, 0 B of 1.0 MiB, 0 s"
    here.gate.open.set()
    wait_until(lambda: all_made(here))
    wait_until(lambda: caplog.messages[-1].startswith("compress: done: 2 files, 1.0 MiB in "))
    assert ["compress: " + told for told in heard] == caplog.messages


def test_later_only_what_is_much_is_told(
    making: Callable[..., Making], wait_until: WaitUntil, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    here = making({"a.css": prose(5000), "b.css": prose(6000), "c.css": prose(variants.TOLD_BYTES_MIN)})
    here.gate.open.set()
    told = []
    for key in (b"/a.css", b"/b.css", b"/c.css"):
        assert here.want(key).wait(time.monotonic() + 20, lambda: None)
        wait_until(lambda: all_made(here))
        told.append(len(caplog.messages))
    assert told == [2, 2, 4]
