"""zcserve.cache.opened: files that stay on disk are open between requests, a few of them, as long as they are what the
index says."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from zcserve.cache import opened
from zcserve.cache.entry import Entry, OnDisk, OpenFile, device_of, identity_of
from zcserve.cache.opened import OPENED_MAX, Opened
from zcserve.cache.spans import is_ready


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "file"
    file.write_bytes(b"content")
    return file


@pytest.fixture(autouse=True)
def on_a_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opened, "may_hang", lambda device: False)


def made(path: Path) -> tuple[Entry, OnDisk]:
    fd = os.open(path, os.O_RDONLY)
    identity = identity_of(os.fstat(fd))
    return Entry(b"/file", identity, 7, None), OnDisk(b"head", OpenFile(fd, identity, b'"tag"'), 7)


def is_open(fd: int) -> bool:
    return Path(f"/proc/self/fd/{fd}").exists()


def test_a_file_is_given_out_until_its_entry_is_dropped_and_closed_then(path: Path) -> None:
    bodies = Opened()
    entry, body = made(path)
    bodies.keep(entry, body)
    assert bodies.get(entry) is body
    assert bodies.get(made(path)[0]) is None
    fd = body.file.fd
    del body
    assert is_open(fd)
    bodies.drop(entry)
    assert bodies.get(entry) is None
    assert not is_open(fd)


def test_of_too_many_the_one_goes_that_was_asked_for_longest_ago(path: Path) -> None:
    bodies = Opened()
    kept = [made(path) for _ in range(OPENED_MAX + 1)]
    for entry, body in kept[:-1]:
        bodies.keep(entry, body)
    assert bodies.get(kept[0][0]) is not None
    bodies.keep(*kept[-1])
    assert [number for number, (entry, _) in enumerate(kept) if bodies.get(entry) is None] == [1]
    assert bodies.shed()
    assert [number for number, (entry, _) in enumerate(kept) if bodies.get(entry) is None] == [0, 1]


def replace(path: Path) -> None:
    other = path.with_name("other")
    other.write_bytes(b"another")
    other.rename(path)


@pytest.mark.parametrize("change", [replace, Path.unlink])
def test_a_file_without_a_name_begins_no_answer(path: Path, change: object) -> None:
    bodies = Opened()
    entry, body = made(path)
    bodies.keep(entry, body)
    if not is_ready(body):
        pytest.skip("this file system does not know RWF_NOWAIT")
    assert callable(change)
    change(path)
    assert not is_ready(body)
    assert bodies.get(entry) is None


def test_a_file_whose_entry_is_in_doubt_is_not_given_out(path: Path) -> None:
    bodies = Opened()
    entry, body = made(path)
    bodies.keep(entry, body)
    entry.identity = entry.identity[:-1] + b"\0"
    assert bodies.get(entry) is None


def test_a_file_is_opened_anew_after_a_while(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bodies = Opened()
    monkeypatch.setattr(opened, "KEPT_S", 0.0)
    entry, body = made(path)
    bodies.keep(entry, body)
    assert bodies.get(entry) is None


def test_a_file_whose_close_may_hang_is_not_kept(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bodies = Opened()
    entry, body = made(path)
    monkeypatch.setattr(opened, "may_hang", lambda device: device == device_of(entry.identity))
    bodies.keep(entry, body)
    assert bodies.get(entry) is None
    assert not bodies.shed()


def test_a_file_that_is_asked_for_no_more_is_closed_after_a_while(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bodies, calls = Opened(), list[tuple[float, Callable[[], object]]]()
    bodies.begin(lambda call: call(), lambda seconds, call: calls.append((seconds, call)))
    for _ in range(3):
        entry, body = made(path)
        bodies.keep(entry, body)
        bodies.drop(entry)
    bodies.keep(entry, body)
    ((seconds, expire),) = calls  # one, however often a file comes and goes
    assert seconds == opened.KEPT_S
    fd = body.file.fd
    del body
    expire()
    assert is_open(fd)  # it came later
    now = time.monotonic() + opened.KEPT_S
    monkeypatch.setattr(time, "monotonic", lambda: now)
    calls.pop()[1]()
    assert not is_open(fd)
    assert len(calls) == 1
    calls.pop()[1]()
    assert calls == []
