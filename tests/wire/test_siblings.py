"""Siblings (`page.css.gz` beside `page.css`), as clients see them: files of their own, and variants of their base only
when they decode to its bytes. By either engine, with real files, while they come, go and change."""

from __future__ import annotations

import errno
import gzip
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support.client import Client, Response
from tests.support.command import StartCommand
from tests.support.eviction import entry_of
from tests.support.following import publish, tag_of
from tests.support.site import Serve, Site
from tests.support.waiting import WaitUntil
from zcserve.cache import siblings
from zcserve.cache import store as stores
from zcserve.cache.compress import zstd_module
from zcserve.cache.entry import Entry, Paged, Sibling, SiblingVariant
from zcserve.cache.loader import Loader

GZIP = "Accept-Encoding: gzip"
SMALL, LARGE = b"a,b\n" * 300, b"%d " * 40_000 % tuple(range(40_000))


def packed(content: bytes) -> bytes:
    return gzip.compress(content, 1, mtime=0)


def is_as_its_own(response: Response, content: bytes, media_type: bytes = b"application/gzip") -> bool:
    """Whether an answer is a sibling, asked for by its own name."""
    return (
        (response.status, response["Content-Type"], response["Content-Encoding"]) == (200, media_type, None)
        and response.body == content
        and response["ETag"] == tag_of(content)
    )


def sibling(server: Any, key: bytes) -> Sibling:
    found = server.site.live.resources[key]
    assert isinstance(found, Sibling)
    return found


def extent(entry: Entry) -> object:
    """What keeps the bytes of a large body."""
    assert isinstance(entry.body, Paged)
    return entry.body.keeper


# --- under their own names ------------------------------------------------------------------------------------


@pytest.mark.parametrize("content", [SMALL, LARGE], ids=["small", "large"])
@pytest.mark.parametrize("memory", ["64M", "4K"], ids=["resident", "cold"])
def test_a_sibling_is_a_file_and_a_variant(site: Site, live: Serve, content: bytes, memory: str) -> None:
    site.write("x.tar", content, mtime=1000)
    site.write("x.tar.gz", packed(content), mtime=2000)
    with Client(live(site.root, memory=memory).port) as client:
        for _ in range(3):
            assert client.get("/x.tar").body == content
            own = client.get("/x.tar.gz", GZIP)
            assert is_as_its_own(own, packed(content))
            assert own["Vary"] is None
            variant = client.get("/x.tar", GZIP)
            assert variant.body == own.body
            assert (variant["Content-Encoding"], variant["Content-Type"]) == (b"gzip", b"application/x-tar")
            tag = f"If-None-Match: {own['ETag'].decode()}"
            assert client.get("/x.tar.gz", tag).status == client.get("/x.tar", tag, GZIP).status == 304
            part = client.get("/x.tar.gz", "Range: bytes=2-9")
            assert (part.status, part.body, part["Content-Encoding"]) == (206, own.body[2:10], None)
            assert client.get("/x.tar", "Range: bytes=2-9", GZIP).body == own.body[2:10]
            head = client.get("/x.tar.gz", method="HEAD")
            assert head["Content-Length"] == str(len(own.body)).encode()


def test_every_ending_has_its_type(site: Site, live: Serve) -> None:
    for ending, media_type in ((".gz", b"gzip"), (".zst", b"zstd"), (".br", b"octet-stream")):
        site.write("rel.json", b"{}", mtime=1000)
        site.write(f"rel.json{ending}", b"packed", mtime=1000)
        with Client(live(site.root, trust_siblings=True).port) as client:
            assert is_as_its_own(client.get(f"/rel.json{ending}"), b"packed", b"application/" + media_type)


def test_a_sibling_too_old_to_be_one_is_a_file(site: Site, live: Serve) -> None:
    site.write("x.csv", SMALL, mtime=2000)
    site.write("x.csv.gz", packed(SMALL), mtime=1000)
    server = live(site.root)
    with Client(server.port) as client:
        assert is_as_its_own(client.get("/x.csv.gz"), packed(SMALL))
        assert client.get("/x.csv", GZIP)["Content-Encoding"] is None
    assert [problem.path for problem in server.site.live.problems] == ["x.csv.gz"]


def test_the_file_stays_while_its_base_comes_changes_ages_and_goes(
    site: Site, live: Serve, wait_until: WaitUntil
) -> None:
    site.write("x.csv.gz", packed(SMALL), mtime=1000)
    server = live(site.root)
    with Client(server.port) as client:

        def coding() -> Any:
            assert is_as_its_own(client.get("/x.csv.gz"), packed(SMALL))
            answer = client.get("/x.csv", GZIP)
            return answer.status if answer.status != 200 else answer["Content-Encoding"]

        assert coding() == 404
        site.write(".x", SMALL, mtime=1000).rename(site.root / "x.csv")
        wait_until(lambda: coding() == b"gzip")
        os.utime(site.root / "x.csv", (2000, 2000))
        wait_until(lambda: coding() is None)
        os.utime(site.root / "x.csv", (500, 500))
        wait_until(lambda: coding() == b"gzip")
        (site.root / "x.csv").unlink()
        wait_until(lambda: coding() == 404)
        site.write(".x", SMALL, mtime=1000).rename(site.root / "x.csv")
        wait_until(lambda: coding() == b"gzip")
        old = server.site.live
        server.reload()
        wait_until(lambda: server.site.live is not old)
        assert coding() == b"gzip"
        (site.root / "x.csv.gz").unlink()
        wait_until(lambda: client.get("/x.csv.gz").status == 404)
        assert client.get("/x.csv", GZIP)["Content-Encoding"] is None


def test_the_bytes_are_held_once(
    site: Site, live: Serve, wait_until: WaitUntil, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Large: two heads, one extent. Small: once, until it is asked for under its own name."""
    content = os.urandom(100_000)
    site.write("x.tar", content, mtime=1000)
    site.write("x.tar.gz", packed(content), mtime=1000)
    site.write("s.txt", SMALL, mtime=1000)
    site.write("s.txt.gz", packed(SMALL), mtime=1000)
    server = live(site.root, memory="4M")
    large, small = sibling(server, b"/x.tar.gz"), sibling(server, b"/s.txt.gz")
    assert large.body is not None
    assert extent(large) is extent(large.variant)
    assert small.body is None
    assert server.content.report.files == server.content.report.resident_files == 4
    before = server.store.committed
    with Client(server.port) as client:
        for entry in (large, large.variant):  # whichever is evicted comes back to the pages of the other
            server.store.drop(entry)
            assert server.store.committed == before
            other = ("/x.tar.gz",) if entry is large else ("/x.tar", f"{GZIP}, identity;q=0")
            assert client.get(*other).body == packed(content)
            assert extent(large) is extent(large.variant)
        base = server.site.live.resources[b"/x.tar"]
        site.write("x.tar.br", b"", mtime=500)  # too old, and yet a look at the base
        site.write(".x", content, mtime=900).rename(site.root / "x.tar")
        wait_until(lambda: server.site.live.resources[b"/x.tar"] is not base)
        assert client.get("/x.tar", f"{GZIP}, identity;q=0").body == packed(content)
        assert sibling(server, b"/x.tar.gz") is large
        assert extent(large) is extent(large.variant)
        assert client.get("/s.txt.gz").body == packed(SMALL)
        wait_until(lambda: small.body is not None)
        for asked in (("/x.tar.gz",), ("/x.tar", f"{GZIP}, identity;q=0")) * 3:  # the lane has both
            assert client.get(*asked).body == packed(content)
        for entry in (large, large.variant):
            server.store.drop(entry)
        client.get("/s.txt")
    wait_until(lambda: server.store.committed < before - 90_000)  # the lane lets go within a turn
    monkeypatch.setattr(stores, "LET_GO_S", 10.0)
    began = time.monotonic()
    assert server.store.reserve(server.store.budget - server.store.committed, evict=False) is None
    assert time.monotonic() < began + stores.LET_GO_S  # the lane, which holds nothing, was not waited for


# --- what they hold -------------------------------------------------------------------------------------------


def broken(content: bytes) -> dict[str, bytes]:
    """Files that are no gzip of a content."""
    good = packed(content)
    return {
        "nothing": b"",
        "no gzip": b"nothing of the kind",
        "cut short": good[:-1],
        "wrong sum": good[:-8] + bytes(8),
        "more behind": good + b"\0",
        "another": packed(content[::-1] + b"x"),
        "shorter": packed(content[:-1]),
        "longer": packed(content + b"x"),
        "a bomb": packed(bytes(8 << 20)),
    }


def test_what_does_not_decode_to_its_base_is_no_variant_and_is_named(site: Site, live: Serve) -> None:
    cases = broken(SMALL)
    for number, content in enumerate(cases.values()):
        site.write(f"{number}.txt", SMALL, mtime=1000)
        site.write(f"{number}.txt.gz", content, mtime=1000)
    site.write("two.txt", SMALL, mtime=1000)
    site.write("two.txt.gz", packed(SMALL[:500]) + packed(SMALL[500:]), mtime=1000)  # RFC 1952 section 2.2: members
    site.write("empty.txt", b"", mtime=1000)
    site.write("empty.txt.gz", packed(b""), mtime=1000)
    server = live(site.root)
    with Client(server.port) as client:
        for number, content in enumerate(cases.values()):
            answer = client.get(f"/{number}.txt", GZIP)
            assert (answer.body, answer["Content-Encoding"], answer["Vary"]) == (SMALL, None, None)
            assert is_as_its_own(client.get(f"/{number}.txt.gz"), content)
        assert client.get("/two.txt", GZIP)["Content-Encoding"] == b"gzip"
        assert client.get("/empty.txt", GZIP)["Content-Encoding"] in (None, b"gzip")
    found = {problem.path: problem.why for problem in server.site.live.problems}
    assert found.keys() == {f"{number}.txt.gz" for number in range(len(cases))}
    assert set(found.values()) == {siblings.BROKEN, siblings.OTHER}


@pytest.mark.parametrize("ending", [".br", ".zst"])
def test_br_and_zstd_are_looked_at_where_their_packages_are(
    site: Site, live: Serve, ending: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    coding = {".br": "br", ".zst": "zstd"}[ending]
    module = codec(coding)
    good, bomb = module.compress(SMALL), module.compress(bytes(4 << 20))
    cases = {"good": good, "cut": good[:-1], "more": good + b"\0", "other": module.compress(SMALL + b"x"), "bomb": bomb}
    for name, content in cases.items():
        site.write(f"{name}.txt", SMALL, mtime=1000)
        site.write(f"{name}.txt{ending}", content, mtime=1000)
    with Client(live(site.root).port) as client:
        answers = {name: client.get(f"/{name}.txt", f"Accept-Encoding: {coding}") for name in cases}
    assert [name for name in cases if answers[name]["Content-Encoding"]] == ["good"]
    gzip_only = {b"gzip": siblings.decoders()[b"gzip"]}
    monkeypatch.setattr(siblings, "decoders", lambda: gzip_only)
    with Client(live(site.root).port) as client:
        answers = {name: client.get(f"/{name}.txt", f"Accept-Encoding: {coding}, identity;q=0") for name in cases}
    assert all(answer["Content-Encoding"] == coding.encode() for answer in answers.values())
    assert [line for line in caplog.messages if "trusted" in line] == [
        f"siblings in {coding} cannot be decoded here and are trusted: pip install 'zcserve[compress]'"
    ]


def test_a_window_that_browsers_do_not_take_is_broken() -> None:
    zstd = codec("zstd")
    options = {zstd.CompressionParameter.window_log: 27, zstd.CompressionParameter.enable_long_distance_matching: 1}
    decode = siblings.decoders()[b"zstd"]
    content = random.Random(0).randbytes(9 << 20)
    compressor = zstd.ZstdCompressor(options=options)
    wide = compressor.compress(content) + compressor.flush()
    with pytest.raises(siblings.BrokenError):
        list(decode(iter([wide])))
    assert b"".join(decode(iter([zstd.compress(content)]))) == content


@pytest.mark.parametrize("coding", ["gzip", "br", "zstd"])
def test_a_bomb_is_decoded_piece_by_piece(coding: str) -> None:
    decode = siblings.decoders().get(coding.encode())
    if decode is None:
        pytest.skip(f"{coding} cannot be decoded here")
    bomb = packed(bytes(4 << 20)) if coding == "gzip" else codec(coding).compress(bytes(4 << 20))
    sizes = [len(piece) for piece in decode(bomb[at : at + 1000] for at in range(0, len(bomb), 1000))]
    assert sum(sizes) == 4 << 20
    assert max(sizes) <= 1 << 20


def codec(coding: str) -> Any:
    """The module that makes br or zstd, where it is installed."""
    module = pytest.importorskip("brotli") if coding == "br" else zstd_module()
    return module or pytest.skip("no zstd here")


def count(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How often two files are compared."""
    calls: list[int] = []
    find_fault = siblings.find_fault

    def counted(*arguments: Any) -> str:
        calls.append(1)
        return find_fault(*arguments)

    monkeypatch.setattr(siblings, "find_fault", counted)
    return calls


def test_siblings_are_compared_once(
    site: Site, live: Serve, wait_until: WaitUntil, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    compared = count(monkeypatch)
    site.write("good.txt", SMALL, mtime=1000)
    site.write("good.txt.gz", packed(SMALL), mtime=1000)
    site.write("bad.txt", SMALL, mtime=1000)
    site.write("bad.txt.gz", b"broken", mtime=1000)
    server = live(site.root)
    assert len(compared) == 2

    def reload() -> None:
        old, bad = server.site.live, server.site.live.resources[b"/bad.txt"]
        server.reload()
        wait_until(lambda: server.site.live is not old)
        assert server.site.live.resources[b"/bad.txt"] is bad
        assert [problem.path for problem in server.site.live.problems] == ["bad.txt.gz"]

    with Client(server.port) as client:
        reload()
        (site.root / "good.txt.gz").chmod(0o640)  # a ctime is no content
        reload()
        assert len(compared) == 2
        publish(site.root / "bad.txt.gz", packed(SMALL))
        wait_until(lambda: client.get("/bad.txt", GZIP)["Content-Encoding"] == b"gzip")
        assert len(compared) == 3
        publish(site.root / "good.txt", SMALL + b"more")  # now the sibling is older, and of another content
        os.utime(site.root / "good.txt", (500, 500))
        wait_until(lambda: client.get("/good.txt", GZIP).body == SMALL + b"more")
        assert is_as_its_own(client.get("/good.txt.gz"), packed(SMALL))
        wait_until(lambda: f"good.txt.gz: {siblings.OTHER}" in caplog.messages)
        assert client.get("/good.txt", GZIP)["Content-Encoding"] is None


@pytest.mark.parametrize("content", [SMALL, LARGE], ids=["small", "large"])
def test_what_is_not_loaded_is_compared_when_it_is_asked_for(
    site: Site, live: Serve, content: bytes, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    compared = count(monkeypatch)
    site.write("bad.txt", content, mtime=1000)
    site.write("bad.txt.gz", packed(content[:-1]), mtime=1000)
    site.write("good.txt", content, mtime=1000)
    site.write("good.txt.gz", packed(content), mtime=1000)
    for number in range(8):  # the index takes all of the budget
        site.write(f"empty-{number}", b"")
    with Client(live(site.root, memory="4K").port) as client:
        assert not compared
        for _ in range(3):
            for name, coding in (("bad", None), ("good", b"gzip")):
                answer = client.get(f"/{name}.txt", GZIP)
                assert (answer.status, answer["Content-Encoding"]) == (200, coding)
                assert answer.body == (packed(content) if coding else content)
    assert len(compared) == 2
    assert caplog.messages.count(f"bad.txt.gz: {siblings.OTHER}") == 1


def test_what_could_not_be_compared_is_compared_when_it_is_asked_for(
    site: Site, live: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    def has_no_descriptor(*_: Any) -> list[SiblingVariant]:
        raise OSError(errno.EMFILE, "")

    site.write("bad.txt", SMALL, mtime=1000)
    site.write("bad.txt.gz", packed(SMALL[:-1]), mtime=1000)
    with monkeypatch.context() as patched:
        patched.setattr(Loader, "judge_siblings", has_no_descriptor)
        server = live(site.root)
    with Client(server.port) as client:
        for _ in range(2):
            answer = client.get("/bad.txt", GZIP)
            assert (answer["Content-Encoding"], answer.body) == (None, SMALL)


@pytest.mark.parametrize("asked", [False, True], ids=["not read", "read"])
@pytest.mark.parametrize("changed", ["x.txt.gz", "x.txt"])
def test_what_is_not_resident_is_compared_again_when_it_is_dated_back(
    site: Site, live: Serve, changed: str, asked: bool, wait_until: WaitUntil
) -> None:
    codec("zstd")
    content = random.Random(1).randbytes(70_000)
    site.write("x.txt", content, mtime=1000)
    site.write("x.txt.gz", packed(content), mtime=1000)
    site.write("x.txt.zst", b"broken", mtime=1000)  # the smallest: it has the others compared
    server = live(site.root, memory="8K", watch=False)
    (variant,) = entry_of(server, "/x.txt").variants
    assert isinstance(variant, SiblingVariant)
    assert (variant.judged != b"", variant.etag) == (True, b"")
    if asked:
        with Client(server.port) as client:
            assert client.get("/x.txt").body == content
            assert client.get("/x.txt", f"{GZIP}, identity;q=0.5").body == packed(content)
    file = site.root / changed
    with file.open("r+b") as there:
        there.seek(1000)
        there.write(b"another")
    os.utime(file, (1000, 1000))
    server.reload()
    wait_until(lambda: server.content.counters.flips)
    with Client(server.port) as client:
        for _ in range(2):
            answer = client.get("/x.txt", f"{GZIP}, identity;q=0.5")
            assert (answer["Content-Encoding"], answer.body) == (None, (site.root / "x.txt").read_bytes())


def test_what_was_found_of_a_sibling_does_not_hold_when_it_is_dated_back_and_another_comes(
    site: Site, live: Serve, wait_until: WaitUntil
) -> None:
    codec("zstd")
    content = random.Random(1).randbytes(70_000)
    site.write("x.txt", content, mtime=1000)
    file = site.write("x.txt.gz", packed(content), mtime=1000)
    site.write("x.txt.zst", b"broken", mtime=1000)
    server = live(site.root, memory="8K", watch=False)

    def reload() -> None:
        flips = server.content.counters.flips
        server.reload()
        wait_until(lambda: server.content.counters.flips > flips)

    with Client(server.port) as client:
        assert client.get("/x.txt", f"{GZIP}, identity;q=0.5").body == packed(content)
        with file.open("r+b") as there:
            there.seek(1000)
            there.write(b"another")
        os.utime(file, (1000, 1000))
        reload()
        publish(site.root / "x.txt.zst", b"broken, too")
        reload()
        answer = client.get("/x.txt", f"{GZIP}, identity;q=0.5")
        assert (answer["Content-Encoding"], answer.body) == (None, content)


def test_a_sibling_that_is_refused_while_variants_are_attached_is_none(
    site: Site, live: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    codec("zstd")
    answers: list[Response] = []
    keep = Loader.keep

    def asked_meanwhile(self: Loader, entry: Entry, *rest: Any, **named: Any) -> Any:
        if entry.encoding and not answers:  # the first of the variants
            with Client(server.port) as client:
                answers.append(client.get("/bad.txt", GZIP))
        return keep(self, entry, *rest, **named)

    site.write("bad.txt", SMALL, mtime=1000)
    site.write("bad.txt.gz", b"broken", mtime=1000)
    for number in range(8):  # the index takes all of the budget: nothing is compared before it is asked for
        site.write(f"empty-{number}", b"")
    server = live(site.root, memory="4K", compress=True)
    monkeypatch.setattr(Loader, "keep", asked_meanwhile)
    batch = server.loader.variants.want(server.site.live.root, [entry_of(server, "/bad.txt")])
    assert batch.wait(time.monotonic() + 10, lambda: None)
    with Client(server.port) as client:
        answers.append(client.get("/bad.txt", GZIP))
    assert [(answer["Content-Encoding"], answer.body) for answer in answers] == 2 * [(None, SMALL)]


def test_a_sibling_is_not_sent_while_others_are_still_compared(
    site: Site, live: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    zstd = codec("zstd")
    answers: list[Response] = []
    find_fault = siblings.find_fault
    to_ask = [True]

    def asked_meanwhile(*arguments: Any) -> str:
        found = find_fault(*arguments)
        if not found and to_ask:
            to_ask.clear()
            with Client(server.port) as client:
                answers.append(client.get("/x.txt", "Accept-Encoding: zstd"))
        return found

    site.write("x.txt", SMALL, mtime=1000)
    site.write("x.txt.zst", zstd.compress(SMALL)[:-1], mtime=1000)
    site.write("x.txt.gz", packed(SMALL), mtime=1000)
    for number in range(8):  # the index takes all of the budget: nothing is compared before it is asked for
        site.write(f"empty-{number}", b"")
    server = live(site.root, memory="4K")
    monkeypatch.setattr(siblings, "find_fault", asked_meanwhile)
    with Client(server.port) as client:
        assert client.get("/x.txt", GZIP).body == packed(SMALL)
    assert [(answer["Content-Encoding"], answer.body) for answer in answers] == [(None, SMALL)]


def test_a_sibling_that_is_refused_after_it_was_chosen_is_not_sent(
    site: Site, live: Serve, wait_until: WaitUntil, monkeypatch: pytest.MonkeyPatch
) -> None:
    zstd = codec("zstd")
    find_fault = siblings.find_fault
    to_wait = [True]

    def when_two_wait(*arguments: Any) -> str:
        wait_until(lambda: server.service.fetcher.waiting == 2 or not to_wait)
        to_wait.clear()
        return find_fault(*arguments)

    site.write("x.txt", SMALL, mtime=1000)
    site.write("x.txt.zst", zstd.compress(SMALL)[:-1], mtime=1000)
    site.write("x.txt.gz", packed(SMALL)[:-1], mtime=1000)
    for number in range(8):  # the index takes all of the budget: nothing is compared before it is asked for
        site.write(f"empty-{number}", b"")
    server = live(site.root, memory="4K", loader_threads=1)
    monkeypatch.setattr(siblings, "find_fault", when_two_wait)
    with Client(server.port) as one, Client(server.port) as other:
        one.send(b"GET /x.txt HTTP/1.1\r\nHost: x\r\nAccept-Encoding: zstd\r\n\r\n")
        wait_until(lambda: server.service.fetcher.waiting)
        other.send(b"GET /x.txt HTTP/1.1\r\nHost: x\r\nAccept-Encoding: gzip\r\n\r\n")
        for client in (one, other):
            answer = client.read()
            assert (answer["Content-Encoding"], answer.body) == (None, SMALL)


def test_a_sibling_whose_base_changes_while_they_are_compared_is_not_sent(
    site: Site, live: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    find_fault = siblings.find_fault

    def touched(*arguments: Any) -> str:
        if base.stat().st_mtime == 1000:
            os.utime(base, (2000, 2000))
        return find_fault(*arguments)

    base = site.write("x.txt", SMALL, mtime=1000)
    site.write("x.txt.gz", packed(SMALL)[:-1], mtime=2000)
    for number in range(8):  # the index takes all of the budget: nothing is compared before it is asked for
        site.write(f"empty-{number}", b"")
    with Client(live(site.root, memory="4K", watch=False).port) as client:
        monkeypatch.setattr(siblings, "find_fault", touched)
        for _ in range(2):
            answer = client.get("/x.txt", GZIP)
            assert (answer["Content-Encoding"], answer.body) == (None, SMALL)


def test_many_are_summed_up(site: Site, live: Serve, wait_until: WaitUntil, caplog: pytest.LogCaptureFixture) -> None:
    server = live(site.root)
    aside = site.root.parent / "aside"
    aside.mkdir()
    for number in range(60):
        for name, content in ((f"{number}", b"x"), (f"{number}.gz", b"broken")):
            (aside / name).write_bytes(content)
    aside.rename(site.root / "many")
    with Client(server.port) as client:
        wait_until(lambda: client.get("/many/59", GZIP).status == 200)
    wait_until(lambda: "and 40 more" in caplog.messages)
    assert sum(siblings.BROKEN in line for line in caplog.messages) == 20


def test_trusted_siblings_are_not_looked_at(site: Site, live: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    compared = count(monkeypatch)
    site.write("bad.txt", SMALL, mtime=1000)
    site.write("bad.txt.gz", b"broken", mtime=1000)
    with Client(live(site.root, trust_siblings=True).port) as client:
        assert client.get("/bad.txt", GZIP).body == b"broken"
    assert not compared


def test_check_names_them(site: Site) -> None:
    site.write("bad.txt", SMALL, mtime=1000)
    site.write("bad.txt.gz", b"broken", mtime=1000)
    root = ["--root", str(site.root)]
    done = subprocess.run(
        [sys.executable, "-m", "zcserve", "--check", *root], capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, f"bad.txt.gz: {siblings.BROKEN}" in done.stderr) == (0, True)
    assert "2 files" in done.stdout


@contextmanager
def upgraded(process: Any, wait_until: WaitUntil) -> Iterator[None]:
    """The next process serves, and is ended."""
    os.kill(process.pid, signal.SIGUSR2)
    wait_until(lambda: [line for line in process.lines if "serves now" in line])
    pids = [int(line.split("process ")[1].split(" ")[0]) for line in process.lines if "serves now" in line]
    try:
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGTERM)
            wait_until(lambda pid=pid: not Path(f"/proc/{pid}/exe").exists() or _is_zombie(pid))


@pytest.mark.parametrize("engine", ["python", "native"])
def test_an_upgrade_keeps_what_was_found(site: Site, command: StartCommand, wait_until: WaitUntil, engine: str) -> None:
    site.write("good.txt", SMALL, mtime=1000)
    site.write("good.txt.gz", packed(SMALL), mtime=1000)
    site.write("bad.txt", LARGE, mtime=1000)
    site.write("bad.txt.gz", packed(LARGE[:-1]), mtime=1000)
    site.write(os.fsdecode(b"caf\xe9.txt"), b"latin")
    process = command(site.root, "--engine", engine)
    with Client(process.port) as client:
        tags = [client.get(f"/{name}")["ETag"] for name in ("good.txt.gz", "bad.txt.gz")]
    with upgraded(process, wait_until):
        with Client(process.port) as client:
            assert client.get("/good.txt", GZIP)["Content-Encoding"] == b"gzip"
            assert client.get("/bad.txt", GZIP)["Content-Encoding"] is None
            assert client.get("/caf%E9.txt").body == b"latin"
            assert [client.get(f"/{name}")["ETag"] for name in ("good.txt.gz", "bad.txt.gz")] == tags
        wait_until(lambda: sum(siblings.OTHER in line for line in process.lines) == 2)  # each process says it


@pytest.mark.parametrize("engine", ["python", "native"])
def test_an_upgrade_keeps_nothing_that_was_found_of_another_base(
    site: Site, command: StartCommand, wait_until: WaitUntil, engine: str
) -> None:
    content = random.Random(1).randbytes(70_000)
    base = site.write("x.txt", content, mtime=1000)
    site.write("x.txt.gz", packed(content), mtime=1000)
    process = command(site.root, "--engine", engine, "--memory", "8K", "--no-watch")
    with Client(process.port) as client:
        assert client.get("/x.txt", f"{GZIP}, identity;q=0.5").body == packed(content)
        with base.open("r+b") as there:
            there.write(b"another")
        os.utime(base, (1000, 1000))
        now = base.read_bytes()
        assert client.get("/x.txt").body == now  # found when it was read; its sibling is no variant any more
        assert client.get("/x.txt", f"{GZIP}, identity;q=0.5").body == now
    with upgraded(process, wait_until), Client(process.port) as client:
        answer = client.get("/x.txt", f"{GZIP}, identity;q=0.5")
        assert (answer["Content-Encoding"], answer.body == now) == (None, True)


def _is_zombie(pid: int) -> bool:
    try:
        return ") Z " in Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return True


def test_a_sibling_that_goes_with_its_directory(site: Site, live: Serve, wait_until: WaitUntil) -> None:
    site.write("d/x", SMALL, mtime=1000)
    site.write("d/x.gz", packed(SMALL), mtime=1000)
    server = live(site.root)
    with Client(server.port) as client:
        assert is_as_its_own(client.get("/d/x.gz"), packed(SMALL))
        shutil.rmtree(site.root / "d")
        wait_until(lambda: client.get("/d/x.gz").status == client.get("/d/x").status == 404)
    assert not [one for one in server.site.live.resources.values() if isinstance(one, Entry)]
