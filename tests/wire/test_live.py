"""Changes below the root, as clients see them: by either engine, with real files, while they are asked for.

What is said of every answer: it is wholly old or wholly new, its tag is of its content, and old does not come back.
"""

from __future__ import annotations

import logging
import os
import random
import shutil
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.support.client import Client
from tests.support.following import Becomes, asking, checked, publish, tag_of
from tests.support.site import Serve, Site
from tests.support.waiting import WaitUntil
from zcserve import Config, Server
from zcserve.cache.watcher import SETTLE_S, Watcher
from zcserve.config.table import Engine

BURST_FILES = 2_000


# --- files ----------------------------------------------------------------------------------------------------


def test_a_file_appears_changes_and_disappears(site: Site, live: Serve, becomes: Becomes) -> None:
    server = live(site.root)
    with Client(server.port) as client:
        assert client.get("/page").status == 404
        site.write("page", b"old")
        old = becomes(client, "/page", b"old")
        publish(site.root / "page", b"new content")
        new = becomes(client, "/page", b"new content")
        assert (old["ETag"], new["ETag"]) == (tag_of(b"old"), tag_of(b"new content"))
        assert client.get("/page", f"If-None-Match: {new['ETag'].decode()}").status == 304
        assert client.get("/page", f"If-None-Match: {old['ETag'].decode()}").body == b"new content"
        site.write("page", b"in place")
        becomes(client, "/page", b"in place")
        (site.root / "page").unlink()
        becomes(client, "/page", None)


@pytest.mark.parametrize("memory", ["64M", "4K"], ids=["resident", "cold"])
def test_a_file_written_in_pieces_is_not_read_before_it_is_closed(
    site: Site, live: Serve, becomes: Becomes, wait_until: WaitUntil, memory: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "zcserve.content.builder.Watcher", lambda root, instance: Watcher(root, instance, quiet_s=600.0)
    )
    old, new = b"o" * 9000, b"n" * 9000
    site.write("page", old)
    server = live(site.root, memory=memory)
    with Client(server.port) as client:
        assert client.get("/page").body == old
        with (
            (site.root / "page").open("wb", buffering=0) as page,
            (site.root / "other").open("wb", buffering=0) as other,
        ):
            page.write(new[:4000])
            other.write(b"part")
            watcher = server.content.watcher
            assert watcher is not None
            wait_until(lambda: watcher.holds(b"page") and watcher.holds(b"other"))
            answer = client.get("/page")
            if memory == "64M":
                assert answer.body == old
            else:  # there is no old content any more, and none yet
                assert (answer.status, answer["Retry-After"]) == (503, b"1")
            assert client.get("/other").status == 404
            page.write(new[4000:])
            other.write(b"ly")
        becomes(client, "/page", new)
        becomes(client, "/other", b"partly")


def test_a_file_that_nobody_closes_is_served_when_it_is_quiet(site: Site, live: Serve, becomes: Becomes) -> None:
    server = live(site.root)
    with Client(server.port) as client, (site.root / "log").open("wb", buffering=0) as log:
        log.write(b"a line")
        becomes(client, "/log", b"a line")


def test_directories_move_in_out_and_about(site: Site, tmp_path: Path, live: Serve, becomes: Becomes) -> None:
    site.write("there/deep/page", b"deep")
    outside = tmp_path / "outside"
    (outside / "below").mkdir(parents=True)
    (outside / "below/page").write_bytes(b"from outside")
    (outside / "index.html").write_bytes(b"index")
    server = live(site.root)
    with Client(server.port) as client:
        outside.rename(site.root / "in")
        becomes(client, "/in/below/page", b"from outside")
        becomes(client, "/in/", b"index")  # in another piece of the patch
        assert client.get("/in")["Location"] == b"/in/"
        (site.root / "in").rename(site.root / "renamed")
        becomes(client, "/renamed/below/page", b"from outside")
        for target in ("/in", "/in/", "/in/below/page"):  # what is new comes first
            becomes(client, target, None)
        site.write("renamed/below/more", b"more")
        becomes(client, "/renamed/below/more", b"more")
        (site.root / "renamed").rename(outside)
        becomes(client, "/renamed/below/page", None)
        shutil.rmtree(site.root / "there")
        becomes(client, "/there/deep/page", None)
        assert not any(key.startswith((b"/renamed", b"/there", b"/in")) for key in server.site.live.resources)


def test_a_directory_answers_while_it_has_an_index(site: Site, live: Serve, becomes: Becomes) -> None:
    site.write("d/page", b"x")
    server = live(site.root)
    with Client(server.port) as client:
        assert [client.get(target).status for target in ("/d", "/d/", "/")] == [404, 404, 404]
        site.write("d/index.html", b"of d")
        publish(site.root / "index.html", b"of all")
        becomes(client, "/d/", b"of d")
        becomes(client, "/", b"of all")
        assert client.get("/d").status == 301
        publish(site.root / "d/index.html", b"new of d")
        becomes(client, "/d/", b"new of d")
        (site.root / "d/index.html").unlink()
        becomes(client, "/d/", None)
        assert client.get("/d").status == 404


def test_siblings_are_paired_again(site: Site, live: Serve, becomes: Becomes, wait_until: WaitUntil) -> None:
    site.write("page.html", b"plain" * 100, mtime=1000)
    server = live(site.root, trust_siblings=True)
    codings = {"br": ".br", "gzip": ".gz", "zstd": ".zst"}
    with Client(server.port) as client:

        def coding(accepted: str) -> Any:
            return client.get("/page.html", f"Accept-Encoding: {accepted}")["Content-Encoding"]

        for name, ending in codings.items():
            assert coding(name) is None
            sibling = site.write(f".page{ending}", b"packed" + name.encode())
            os.utime(sibling, (1000, 1000))
            sibling.rename(site.root / f"page.html{ending}")
            wait_until(lambda name=name: coding(name) == name.encode())
            assert client.get("/page.html", f"Accept-Encoding: {name}").body == b"packed" + name.encode()
        becomes(client, "/page.html", b"plain" * 100)
        (site.root / "page.html.gz").unlink()
        wait_until(lambda: coding("gzip") is None)
        assert coding("br") == b"br"
        os.utime(site.root / "page.html", (2000, 2000))  # newer than its siblings now
        wait_until(lambda: coding("br") is None)
        assert coding("zstd") is None
        os.utime(site.root / "page.html.zst", (2000, 2000))
        wait_until(lambda: coding("zstd") == b"zstd")
        assert coding("br") is None
    wait_until(lambda: server.store.resident == 3)  # page.html, its variant, and page.html.br, which is none


def test_the_page_for_404_is_replaced(site: Site, live: Serve, wait_until: WaitUntil) -> None:
    server = live(site.root)
    with Client(server.port) as client:
        plain = client.get("/absent").body
        for content in (b"our own", b"another"):
            publish(site.root / "404.html", content)
            wait_until(lambda content=content: client.get("/absent").body == content)
            assert client.get("/absent").status == 404
        (site.root / "404.html").unlink()
        wait_until(lambda: client.get("/absent").body == plain)


def test_nothing_is_followed_when_nobody_watches(site: Site, live: Serve, wait_until: WaitUntil) -> None:
    site.write("page", b"old")
    server = live(site.root, watch=False)
    assert server.content.watcher is None
    with Client(server.port) as client:
        publish(site.root / "page", b"new")
        site.write("more", b"more")
        server.reload()  # by the time that this is done, all that was to be seen has been seen
        wait_until(lambda: server.content.counters.flips)
        assert client.get("/page").body == b"new"
        assert server.content.counters.patches == 0


def test_what_cannot_be_read_leaves_and_is_named(
    site: Site, live: Serve, becomes: Becomes, wait_until: WaitUntil, caplog: pytest.LogCaptureFixture
) -> None:
    site.write("page", b"old")
    server = live(site.root)
    with Client(server.port) as client:
        aside = site.root / ".aside"
        os.mkfifo(aside)
        aside.rename(site.root / "page")
        becomes(client, "/page", None)
        wait_until(lambda: "page: is not a regular file" in caplog.text)
        publish(site.root / "page", b"new")
        becomes(client, "/page", b"new")


# --- bursts ---------------------------------------------------------------------------------------------------


def by_rename(root: Path, number: int, content: bytes) -> None:
    publish(root / f"{number % 100}" / f"{number}.html", content)


def by_unlink_and_create(root: Path, number: int, content: bytes) -> None:
    path = root / f"{number % 100}" / f"{number}.html"
    path.unlink(missing_ok=True)
    path.write_bytes(content)


@pytest.mark.parametrize("write", [by_rename, by_unlink_and_create])
def test_a_burst_is_followed_in_few_steps(
    site: Site, live: Serve, becomes: Becomes, write: Callable[[Path, int, bytes], None]
) -> None:
    for number in range(BURST_FILES):
        site.write(f"{number % 100}/{number}.html", b"old %d" % number)
    server = live(site.root)
    pauses = 0  # of a machine that does something else: what was written is followed then, as it should
    written = time.monotonic()
    for number in range(BURST_FILES):
        write(site.root, number, b"new %d" % number)
        before, written = written, time.monotonic()
        pauses += written - before > SETTLE_S
    with Client(server.port) as client:
        for number in range(BURST_FILES):
            checked(becomes(client, f"/{number % 100}/{number}.html", b"new %d" % number))
    counters = server.content.counters
    assert counters.patches + counters.rescans < BURST_FILES / 20 + pauses


def test_a_queue_that_overflows_makes_everything_be_walked(
    site: Site, live: Serve, becomes: Becomes, wait_until: WaitUntil, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "zcserve")
    most = int(Path("/proc/sys/fs/inotify/max_queued_events").read_text())
    site.write("page", b"old")
    site.write("touched", b"")
    site.write("else", b"")
    server = live(site.root)
    stand, go = threading.Event(), threading.Event()
    server.loop.call_soon(lambda: (stand.set(), go.wait(60)))
    assert stand.wait(60)
    try:
        for number in range(most // 2 + 100):  # an event like the last one is not queued
            os.utime(site.root / "touched", (number, number))
            os.utime(site.root / "else", (number, number))
        publish(site.root / "page", b"new")
    finally:
        go.set()
    with Client(server.port) as client:
        becomes(client, "/page", b"new")
        wait_until(lambda: server.content.counters.rescans == 1)
        assert "everything is walked anew: the kernel's queue of events overflowed" in caplog.text
        site.write("page", b"newer")
        becomes(client, "/page", b"newer")


def test_with_too_few_watches_everything_is_walked_now_and_then(
    site: Site, live: Serve, becomes: Becomes, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = lambda root, instance: Watcher(root, instance, watches_max=3, rescan_s=0.05)  # noqa: E731
    monkeypatch.setattr("zcserve.content.builder.Watcher", few)
    for number in range(10):
        site.write(f"{number}/page", b"old")
    server = live(site.root)
    with Client(server.port) as client:
        for number in range(10):
            publish(site.root / f"{number}/page", b"new")
        for number in range(10):
            becomes(client, f"/{number}/page", b"new")
    assert server.content.counters.rescans
    assert "watches are too few (fs.inotify.max_user_watches)" in caplog.text


# --- under load -----------------------------------------------------------------------------------------------


def test_every_answer_is_old_or_new_and_old_never_comes_back(site: Site, live: Serve, wait_until: WaitUntil) -> None:
    def content(step: int) -> bytes:
        return b"%06d" % step * 2000

    page = site.write("page", content(0))
    server = live(site.root)
    seen = [0, 0]
    with ExitStack() as stack:
        clients = [stack.enter_context(Client(server.port)) for _ in seen]

        def ask(number: int) -> None:
            answer = checked(clients[number].get("/page"))
            step = int(answer.body[:6])
            assert answer.body == content(step)
            assert step >= seen[number]
            seen[number] = step

        with asking(len(seen), ask):
            for step in range(1, 40):
                publish(page, content(step))
                if step % 4 == 0:
                    wait_until(lambda step=step: min(seen) == step)
            wait_until(lambda: min(seen) == 39)


def test_what_was_replaced_at_random_under_load_is_what_lies_on_the_disk(
    site: Site, live: Serve, wait_until: WaitUntil
) -> None:
    chance = random.Random(4)
    names = [f"{number % 5}/{number}.css" for number in range(50)]

    def content(name: str, step: int) -> bytes:
        return f"{name} {step};".encode() * (1 + (step * 7919) % 3000)

    for name in names:
        site.write(name, content(name, 0))
    server = live(site.root)
    before = server.store.committed
    with ExitStack() as stack:
        clients = [stack.enter_context(Client(server.port)) for _ in range(3)]
        last = [dict.fromkeys(names, -1) for _ in clients]
        choices = [random.Random(number) for number in range(3)]

        def ask(number: int) -> None:
            name = choices[number].choice(names)
            answer = clients[number].get(f"/{name}")
            if answer.status != 404:
                step = int(checked(answer).body.split(b";")[0].split(b" ")[1])
                assert answer.body == content(name, step)
                assert step >= last[number][name]
                last[number][name] = step

        with asking(len(clients), ask):
            for step in range(1, 400):
                name = chance.choice(names)
                path = site.root / name
                match chance.randrange(4):
                    case 0:
                        path.unlink(missing_ok=True)
                    case 1:
                        path.unlink(missing_ok=True)
                        path.write_bytes(content(name, step))
                    case _:
                        publish(path, content(name, step))

        def is_true(name: str) -> bool:
            answer, path = clients[0].get(f"/{name}"), site.root / name
            if not path.exists():
                return answer.status == 404
            return answer.status == 200 and checked(answer).body == path.read_bytes()

        for name in names:
            wait_until(lambda name=name: is_true(name))
        for name in names:
            publish(site.root / name, content(name, 0))
        for name in names:
            wait_until(lambda name=name: clients[0].get(f"/{name}").body == content(name, 0))
    wait_until(lambda: server.store.resident == len(names))
    wait_until(lambda: server.store.committed <= before + 2 * 65536)


# --- the end --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("engine", ["python", "native"])
def test_a_server_ends_in_the_middle_of_a_burst(
    site: Site, engine: Engine, wait_until: WaitUntil, caplog: pytest.LogCaptureFixture
) -> None:
    if engine == "native":
        pytest.importorskip("zcserve.net._lane")
    site.write("page", b"old")
    done = threading.Event()

    def write() -> None:
        for number in range(100_000):
            if done.is_set():
                return
            site.write(f"{number % 7}/{number}", b"x")

    writer = threading.Thread(target=write)
    try:
        with Server(Config(root=site.root, port=0, engine=engine)) as server:
            writer.start()
            wait_until(lambda: server.content.counters.patches)
            assert not done.is_set()
        assert not [thread for thread in threading.enumerate() if thread.name.startswith("zcserve-content")]
    finally:
        done.set()
        writer.join()
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]
