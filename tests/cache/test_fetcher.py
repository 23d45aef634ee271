"""Loading on demand: one job for all that ask, results in the loop's thread, and what a file's troubles end in."""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.support.trees import Tree, content_of, entry_of, no_descriptors_left, noise, publish, rewrite
from zcserve.cache.entry import Body, Entry, OnDisk
from zcserve.cache.fetcher import HANDED_OUT_MAX, Fetcher, Renewed
from zcserve.cache.index import Generation
from zcserve.cache.loader import Loader
from zcserve.errors import NoThreadError

WITHIN_S = 30.0  # nothing waits so long unless it is broken


class Turns:
    """The test's thread as the loop: functions come by `call_soon`, from any thread, and run by `turn`."""

    def __init__(self) -> None:
        self._soon: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()

    def call_soon(self, function: Callable[[], None]) -> None:
        self._soon.put(function)

    def turn_until(self, ready: Callable[[], bool]) -> None:
        while not ready():
            self._soon.get(timeout=WITHIN_S)()

    def is_idle(self) -> bool:
        return self._soon.empty()


class Bench:
    """A fetcher with two threads, and what it needs."""

    def __init__(self, tree: Tree) -> None:
        self.turns = Turns()
        self.loader: Loader = tree.loader(memory=4 << 20)
        self.fetcher = Fetcher(self.loader, 2, self.turns.call_soon)
        self.fetcher.outdated.subscribe(self.succeed)

    def succeed(self, generation: Generation, entry: Entry) -> bool:
        """What lies at the entry's path now takes its place."""
        self.loader.succeed(generation, entry)
        return True

    def run(self, key: object, job: Callable[[], Any]) -> Any:
        """A job's result."""
        results: list[Any] = []
        self.fetcher.run(key, job, results.append)
        self.turns.turn_until(lambda: bool(results))
        return results[0]

    def fetch(self, generation: Generation, key: bytes, coding: bytes = b"") -> Any:
        """What fetching a key, or a variant of it, ends with."""
        base = entry_of(generation, key)
        chosen = next(one for one in (base, *base.variants) if one.encoding == coding)
        results: list[Any] = []
        self.fetcher.fetch(generation, base, chosen, results.append)
        self.turns.turn_until(lambda: bool(results))
        return results[0]


@pytest.fixture
def bench(tree: Tree) -> Iterator[Bench]:
    made = Bench(tree)
    yield made
    made.fetcher.close()


# --- jobs -------------------------------------------------------------------------------------------------


def test_many_that_ask_for_one_key_share_one_job(bench: Bench) -> None:
    release = threading.Event()
    runs: list[int] = []
    results: list[object] = []

    def job() -> object:
        runs.append(1)
        assert release.wait(WITHIN_S)
        return "content"

    for _ in range(1000):
        bench.fetcher.run("key", job, results.append)
    assert bench.turns.is_idle()
    release.set()
    bench.turns.turn_until(lambda: len(results) == 1000)
    assert runs == [1]
    assert set(results) == {"content"}


def test_a_wish_after_a_job_has_ended_gets_a_new_one(bench: Bench) -> None:
    results = iter(["first", "second"])
    assert [bench.run("key", lambda: next(results)) for _ in range(2)] == ["first", "second"]


def test_a_wish_before_the_result_was_delivered_still_shares_it(bench: Bench) -> None:
    began = threading.Event()
    results: list[object] = []

    def job() -> int:
        began.set()
        return 1

    bench.fetcher.run("key", job, results.append)
    assert began.wait(WITHIN_S)
    bench.fetcher.run("key", lambda: 2, results.append)
    bench.turns.turn_until(lambda: len(results) == 2)
    assert results == [1, 1]


def test_jobs_of_different_keys_run_at_the_same_time(bench: Bench) -> None:
    meet = threading.Barrier(2)
    results: list[object] = []
    for key in ("a", "b"):
        bench.fetcher.run(key, lambda: meet.wait(WITHIN_S) >= 0, results.append)
    bench.turns.turn_until(lambda: len(results) == 2)
    assert results == [True, True]


def test_jobs_run_in_other_threads_and_results_come_in_the_loops(bench: Bench) -> None:
    here = threading.get_ident()
    threads: list[int] = []

    def done(there: int) -> None:
        threads.extend((there, threading.get_ident()))

    bench.fetcher.run("key", threading.get_ident, done)
    bench.turns.turn_until(lambda: bool(threads))
    assert threads[0] != here
    assert threads[1] == here


def test_a_job_that_raises_gives_none_and_a_line_in_the_log(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    def job() -> None:
        raise ZeroDivisionError("the reason")

    results: list[object] = []
    for _ in range(3):
        bench.fetcher.run("key", job, results.append)
    bench.turns.turn_until(lambda: len(results) == 3)
    assert results == [None, None, None]
    assert "the reason" in caplog.text
    assert bench.run("key", lambda: "goes on") == "goes on"


def test_one_that_fails_to_take_a_result_does_not_keep_it_from_the_others(bench: Bench) -> None:
    results: list[object] = []

    def fail(result: object) -> None:
        results.append("failed")
        raise ZeroDivisionError

    gate = threading.Event()
    for done in (results.append, fail, results.append):
        bench.fetcher.run("key", lambda: gate.wait(WITHIN_S), done)
    gate.set()
    with pytest.raises(ZeroDivisionError):  # a real loop logs it and goes on
        bench.turns.turn_until(lambda: False)
    bench.turns.turn_until(lambda: len(results) == 3)
    assert results == [True, "failed", True]


def test_a_result_that_many_wait_for_is_handed_out_a_few_at_a_time(bench: Bench) -> None:
    order: list[str] = []
    gate = threading.Event()
    for _ in range(3 * HANDED_OUT_MAX):
        bench.fetcher.run("key", lambda: gate.wait(WITHIN_S), lambda _: order.append("waited"))
    gate.set()
    bench.turns.turn_until(lambda: bool(order))
    bench.turns.call_soon(lambda: order.append("another"))
    bench.turns.turn_until(lambda: len(order) > 3 * HANDED_OUT_MAX)
    assert order.index("another") <= 2 * HANDED_OUT_MAX
    assert order.count("waited") == 3 * HANDED_OUT_MAX


def test_closing_waits_for_the_job_at_hand(tree: Tree) -> None:
    fetcher = Fetcher(tree.loader(), 1, Turns().call_soon)
    began, release = threading.Event(), threading.Event()
    ended: list[bool] = []

    def job() -> None:
        began.set()
        ended.append(release.wait(WITHIN_S))

    fetcher.run("key", job, lambda _: None)
    assert began.wait(WITHIN_S)
    closing = threading.Thread(target=fetcher.close)
    closing.start()
    release.set()
    closing.join(WITHIN_S)
    assert ended == [True]


# --- files ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [10, 100_000])
def test_a_file_is_fetched_and_resident(tree: Tree, bench: Bench, size: int) -> None:
    tree.plant({"a": noise(size)})
    generation = tree.walk()
    body = bench.fetch(generation, b"/a")
    assert isinstance(body, Body)
    assert content_of(body) == noise(size)
    assert entry_of(generation, b"/a").body is body
    assert bench.fetch(generation, b"/a") is body


def test_a_file_that_does_not_fit_is_fetched_as_an_open_file(tree: Tree, bench: Bench) -> None:
    tree.plant({"a": noise(3 << 20)})
    body = bench.fetch(tree.walk(), b"/a")
    assert isinstance(body, OnDisk)
    assert content_of(body) == noise(3 << 20)


def test_a_variant_is_fetched_by_itself(tree: Tree, bench: Bench) -> None:
    tree.plant({"a.css": b"base", "a.css.gz": b"variant"})
    generation = tree.walk()
    assert content_of(bench.fetch(generation, b"/a.css", b"gzip")) == b"variant"
    assert entry_of(generation, b"/a.css").body is None


@pytest.mark.parametrize("change", [rewrite, publish])
def test_a_file_that_changed_is_looked_up_again(tree: Tree, bench: Bench, change: Callable[..., None]) -> None:
    tree.plant({"index.html": b"one"})
    generation = tree.walk()
    change(tree.path / "index.html", b"another")
    assert isinstance(bench.fetch(generation, b"/"), Renewed)
    assert generation.resources[b"/"] is generation.resources[b"/index.html"]
    assert content_of(bench.fetch(generation, b"/")) == b"another"


def test_a_base_whose_variant_changed_is_renewed_with_it_and_gives_its_memory_back(tree: Tree, bench: Bench) -> None:
    tree.plant({"a.css": noise(50_000), "a.css.gz": b"variant"})
    generation = tree.walk()
    assert content_of(bench.fetch(generation, b"/a.css")) == noise(50_000)
    old = entry_of(generation, b"/a.css")
    rewrite(tree.path / "a.css.gz", b"another")
    assert isinstance(bench.fetch(generation, b"/a.css", b"gzip"), Renewed)
    assert old.body is None
    assert entry_of(generation, b"/a.css") is not old
    assert content_of(bench.fetch(generation, b"/a.css", b"gzip")) == b"another"
    assert content_of(bench.fetch(generation, b"/a.css")) == noise(50_000)


def test_a_file_that_is_gone_leaves_the_index(tree: Tree, bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    tree.plant({"d/index.html": b"x", "d/b.html": b"x"})
    generation = tree.walk()
    (tree.path / "d" / "index.html").unlink()
    with caplog.at_level(logging.INFO):
        assert isinstance(bench.fetch(generation, b"/d/"), Renewed)
    assert not {b"/d/", b"/d/index.html"} & set(generation.resources)
    assert b"/d/b.html" in generation.resources
    assert "d/index.html" in caplog.text


def test_a_variant_that_is_gone_leaves_its_base(tree: Tree, bench: Bench) -> None:
    tree.plant({"a.css": b"base", "a.css.gz": b"variant"})
    generation = tree.walk()
    (tree.path / "a.css.gz").unlink()
    assert isinstance(bench.fetch(generation, b"/a.css", b"gzip"), Renewed)
    assert entry_of(generation, b"/a.css").variants == ()
    assert content_of(bench.fetch(generation, b"/a.css")) == b"base"


def test_a_lack_of_descriptors_is_no_fault_of_the_file(
    tree: Tree, bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    tree.plant({"a": b"content"})
    generation = tree.walk()
    assert bench.run("threads start", lambda: 1) == 1
    entry = entry_of(generation, b"/a")
    with no_descriptors_left():
        assert bench.fetch(generation, b"/a") is None
    assert "Too many open files" in caplog.text
    assert entry_of(generation, b"/a") is entry
    assert content_of(bench.fetch(generation, b"/a")) == b"content"


def test_a_symlink_that_was_swapped_to_lead_outside_leaves_the_index(tree: Tree, bench: Bench) -> None:
    (tree.path.parent / "secret").write_bytes(b"secret")
    tree.plant({"a": b"content"})
    (tree.path / "link").symlink_to("a")
    generation = tree.walk()
    (tree.path / "link").unlink()
    (tree.path / "link").symlink_to("../secret")
    assert isinstance(bench.fetch(generation, b"/link"), Renewed)
    assert b"/link" not in generation.resources


def test_its_threads_are_there_before_any_job(tree: Tree) -> None:
    fetcher = Fetcher(tree.loader(memory=4 << 20), 3, lambda call: None)
    assert sum(thread.name.startswith("zcserve-loader") for thread in threading.enumerate()) >= 3
    fetcher.close()


def test_threads_that_cannot_be_had_are_told_at_once(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    with pytest.raises(NoThreadError, match="ulimit -u"):
        Fetcher(tree.loader(memory=4 << 20), 3, lambda call: None)


# --- jobs that hang ---------------------------------------------------------------------------------------


def test_a_wait_that_is_withdrawn_hears_nothing_and_is_not_kept(bench: Bench) -> None:
    release = threading.Event()
    results: list[object] = []

    def job() -> str:
        assert release.wait(WITHIN_S)
        return "content"

    first = bench.fetcher.run("key", job, lambda _: results.append("unwanted"))
    bench.fetcher.run("key", job, results.append)
    bench.fetcher.cancel(first)
    assert (first.done, bench.fetcher.waiting) == (None, 1)
    release.set()
    bench.turns.turn_until(lambda: bool(results))
    assert results == ["content"]


def test_a_job_that_nothing_waits_for_any_more_is_not_begun(bench: Bench) -> None:
    release = threading.Event()
    ran: list[object] = []
    results: list[object] = []
    for key in ("a", "b"):
        bench.fetcher.run(key, lambda: release.wait(WITHIN_S), results.append)
    bench.fetcher.cancel(bench.fetcher.run("c", lambda: ran.append("c"), results.append))
    release.set()
    bench.turns.turn_until(lambda: len(results) == 2)
    assert bench.run("c", lambda: "asked again") == "asked again"
    assert ran == []


def test_nothing_is_asked_of_a_device_that_hangs(tree: Tree) -> None:
    turns = Turns()
    stuck_s = 0.1
    fetcher = Fetcher(tree.loader(memory=4 << 20), 2, turns.call_soon, stuck_s=stuck_s)
    release, begun = threading.Event(), threading.Semaphore(0)
    results: list[object] = []

    def hang() -> None:
        begun.release()
        release.wait(WITHIN_S)

    try:
        waits = [fetcher.run(key, hang, results.append, b"far") for key in ("a", "b")]
        assert all(begun.acquire(timeout=WITHIN_S) for _ in waits)
        while time.monotonic() < max(wait.since for wait in waits) + stuck_s:
            release.wait(0.01)
        for key in ("a", "c"):  # behind one that is stuck, and a new one
            fetcher.run(key, lambda: "read", results.append, b"far")
            turns.turn_until(lambda: bool(results))
            assert results == [None]
            results.clear()
        fetcher.run("d", lambda: "read", results.append, b"near")
        turns.turn_until(lambda: bool(results))
        assert results == ["read"]
    finally:
        release.set()
        fetcher.close()
