"""Releases: the root is a symlink that is re-pointed, under load, by either engine.

A release's page names its assets, as a build tool writes it; a client that got the page asks for them at once.
"""

from __future__ import annotations

import gc
import logging
import os
import shutil
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.support.client import Client
from tests.support.command import StartCommand
from tests.support.eviction import entry_of
from tests.support.following import Becomes, asking, checked, publish, tag_of
from tests.support.linked import ASSETS, Releases
from tests.support.site import Serve
from tests.support.trees import as_nobody
from tests.support.waiting import WaitUntil
from zcserve import Config, Server
from zcserve.cache.preload import preload
from zcserve.cache.watcher import Watcher
from zcserve.content.builder import Builder
from zcserve.content.live import Live


@pytest.fixture
def releases(tmp_path: Path) -> Releases:
    """Release 1, which is the present one."""
    made = Releases(tmp_path / "releases")
    made.make(1)
    made.point(1)
    return made


@pytest.mark.parametrize("keep", [0, 1])
def test_pages_and_assets_are_of_one_release_under_load(
    releases: Releases, live: Serve, wait_until: WaitUntil, keep: int
) -> None:
    server = live(releases.root, keep_generations=keep)
    seen = [0, 0]
    with ExitStack() as stack:
        clients = [stack.enter_context(Client(server.port)) for _ in seen]

        def ask(number: int) -> None:
            """The page and its assets, in one flight; a flip may come between any two."""
            client = clients[number]
            release = int(checked(client.get("/")).body[:4])
            assert release >= seen[number]
            for asset in range(ASSETS):
                answer = client.get(f"/assets/{asset}.{release}.js")
                if answer.status == 404 and not keep:  # then the page has changed, too
                    assert int(checked(client.get("/")).body[:4]) > release
                else:
                    assert checked(answer).body == releases.asset(release, asset)
            seen[number] = release

        with asking(len(seen), ask):
            for number in range(2, 22):
                releases.make(number)
                releases.point(number)
                wait_until(lambda number=number: min(seen) == number)
    wait_until(lambda: server.content.counters.flips == 20)
    assert server.content.counters.rescans == 0
    assert server.content.counters.failed == 0


def test_many_flips_in_a_row_end_with_the_last(
    releases: Releases, live: Serve, becomes: Becomes, wait_until: WaitUntil
) -> None:
    server = live(releases.root)
    for number in range(2, 22):
        releases.make(number)
    with Client(server.port) as client:
        for number in range(2, 22):
            releases.point(number)
        becomes(client, "/", releases.page(21))
        wait_until(lambda: server.store.resident == ASSETS + 2)
        assert client.get("/assets/0.20.js").status == 404
        publish(releases.root / "index.html", b"followed")
        becomes(client, "/", b"followed")


def test_the_old_release_may_go_at_once(releases: Releases, live: Serve, wait_until: WaitUntil) -> None:
    server = live(releases.root)
    statuses = set()
    with Client(server.port) as client:

        def ask(_: int) -> None:
            statuses.add(client.get("/").status)
            statuses.add(client.get("/kept").status)

        with asking(1, ask):
            for number in range(2, 12):
                releases.make(number)
                releases.point(number)
                shutil.rmtree(releases.path / f"release-{number - 1}")
                wait_until(lambda number=number: server.content.counters.flips >= number - 1)
    assert statuses == {200}


def test_what_is_not_resident_is_no_404_while_its_release_is_replaced(
    releases: Releases, live: Serve, becomes: Becomes, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = live(releases.root, memory="4K")
    begun, go = threading.Event(), threading.Event()
    build = Builder.build

    def held(self: Builder, **options: Any) -> Any:
        begun.set()
        assert go.wait(60)
        return build(self, **options)

    monkeypatch.setattr(Builder, "build", held)
    releases.make(2)
    releases.point(2)
    shutil.rmtree(releases.path / "release-1")
    assert begun.wait(60)
    with Client(server.port) as client:
        answer = client.get("/")
        assert (answer.status, answer["Retry-After"]) == (503, b"1")
        go.set()
        becomes(client, "/", releases.page(2))


# --- what cannot be served ------------------------------------------------------------------------------------


@pytest.mark.parametrize("tell", ["watcher", "SIGHUP"])
@pytest.mark.parametrize(
    ("target", "why"),
    [("nothing", "does not exist"), ("a-file", "is not a directory"), ("unreadable", "Permission denied")],
)
def test_the_old_content_goes_on_when_the_root_leads_to_what_cannot_be_served(
    releases: Releases,
    live: Serve,
    becomes: Becomes,
    wait_until: WaitUntil,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    target: str,
    why: str,
    tell: str,
) -> None:
    (releases.path / "a-file").write_bytes(b"x")
    (releases.path / "unreadable").mkdir(mode=0)
    caplog.set_level(logging.INFO, "zcserve")
    server = live(releases.root, watch=tell == "watcher")
    if target == "unreadable":
        build = Builder.build

        def unprivileged(self: Builder, **options: Any) -> Any:
            with as_nobody():
                return build(self, **options)

        releases.path.parent.chmod(0o755)
        monkeypatch.setattr(Builder, "build", unprivileged)

    def point(to: int | str) -> None:
        releases.point(to)
        if tell == "SIGHUP":
            server.reload()

    with Client(server.port) as client:
        point(target)
        wait_until(lambda: server.content.counters.failed == 1)
        record = next(record for record in caplog.records if record.levelno == logging.ERROR)
        assert record.getMessage().startswith("reload failed, the old content goes on")
        assert why in record.getMessage()
        assert str(releases.root) in record.getMessage()
        shutil.rmtree(releases.path / "release-1/assets")  # it is not the root any more
        if server.content.watcher is not None:
            wait_until(lambda: "changes are not followed" in caplog.text)
        assert client.get("/").body == releases.page(1)
        assert client.get("/assets/1.1.js").body == releases.asset(1, 1)
        monkeypatch.undo()
        point(1)
        becomes(client, "/assets/1.1.js", None)
        releases.make(2)
        point(2)
        becomes(client, "/", releases.page(2))


def test_a_root_that_is_removed_and_comes_back_is_followed_again(
    releases: Releases, live: Serve, becomes: Becomes, wait_until: WaitUntil
) -> None:
    server = live(releases.root)
    with Client(server.port) as client:
        releases.root.unlink()
        wait_until(lambda: server.content.counters.failed)
        releases.make(2)
        assert client.get("/").body == releases.page(1)
        releases.root.symlink_to("release-2")
        becomes(client, "/", releases.page(2))
        publish(releases.path / "release-2/kept", b"changed")
        becomes(client, "/kept", b"changed")


def test_what_could_not_be_built_is_tried_again(
    releases: Releases, live: Serve, becomes: Becomes, wait_until: WaitUntil, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "zcserve.content.builder.Watcher", lambda root, instance: Watcher(root, instance, rescan_s=0.02)
    )
    monkeypatch.setattr("zcserve.content.releases.TRIED_AGAIN_AFTER_S", 0.02)
    server = live(releases.root)
    with Client(server.port) as client:
        with monkeypatch.context() as broken:
            broken.setattr(Builder, "build", _broken)
            releases.make(2)
            releases.point(2)
            wait_until(lambda: server.content.counters.failed > 3)
            assert client.get("/").body == releases.page(1)
        becomes(client, "/", releases.page(2))


def _broken(self: Builder, **_: Any) -> Any:
    raise OSError("no luck")


def test_a_signal_does_the_same(releases: Releases, command: StartCommand, becomes: Becomes) -> None:
    server = command(releases.root, "--no-watch", "--keep-generations", "1")
    with Client(server.port) as client:
        releases.make(2)
        releases.point(2)
        assert client.get("/").body == releases.page(1)
        server.process.send_signal(signal.SIGHUP)
        becomes(client, "/", releases.page(2))
        assert client.get("/assets/1.1.js").body == releases.asset(1, 1)
        releases.point("nothing")
        server.process.send_signal(signal.SIGHUP)
        releases.point(1)
        server.process.send_signal(signal.SIGHUP)
        becomes(client, "/", releases.page(1))


def test_a_release_that_is_re_pointed_while_its_way_is_not_watched_yet_is_not_missed(
    releases: Releases, live: Serve, becomes: Becomes, monkeypatch: pytest.MonkeyPatch
) -> None:
    pending = [3]
    for number in (2, 3):
        releases.make(number)

    def late(root: Any, instance: Any) -> Watcher:
        if pending and root.path == str(releases.root) and os.readlink(releases.root) == "release-2":
            releases.point(pending.pop())
        return Watcher(root, instance)

    server = live(releases.root)
    monkeypatch.setattr("zcserve.content.builder.Watcher", late)
    with Client(server.port) as client:
        releases.point(2)
        becomes(client, "/", releases.page(3))


# --- stragglers -----------------------------------------------------------------------------------------------


def test_old_assets_are_answered_like_any_other(releases: Releases, live: Serve, becomes: Becomes) -> None:
    server = live(releases.root, keep_generations=1)
    with Client(server.port) as client:
        releases.make(2)
        releases.point(2)
        becomes(client, "/", releases.page(2))
        content = releases.asset(1, 2)
        answer = checked(client.get("/assets/2.1.js"))
        assert answer.body == content
        assert server.store.resident == 2 * (ASSETS + 2)
        tag = answer["ETag"].decode()
        assert client.get("/assets/2.1.js", f"If-None-Match: {tag}").status == 304
        part = client.get("/assets/2.1.js", "Range: bytes=5-9")
        assert (part.status, part.body, part["ETag"]) == (206, content[5:10], tag.encode())
        head = client.get("/assets/2.1.js", method="HEAD")
        assert head["Content-Length"] == b"%d" % len(content)
        assert client.get("/assets/2.1.js", method="OPTIONS").status == 200
        assert client.get("/assets/2%2e1.js").body == content


def test_old_assets_are_gone_after_a_while(
    releases: Releases, live: Serve, becomes: Becomes, wait_until: WaitUntil
) -> None:
    server = live(releases.root, keep_generations=1, keep_for_s=0.3)
    with Client(server.port) as client:
        releases.make(2)
        releases.point(2)
        becomes(client, "/", releases.page(2))
        becomes(client, "/assets/2.1.js", None)
        wait_until(lambda: server.store.resident == ASSETS + 2)
        assert server.site.generations[1:] == ()
        assert client.get("/").body == releases.page(2)
        assert client.get("/assets/2.2.js").body == releases.asset(2, 2)


def test_so_many_generations_are_kept_and_no_more(
    releases: Releases, live: Serve, becomes: Becomes, wait_until: WaitUntil
) -> None:
    server = live(releases.root, keep_generations=2)
    with Client(server.port) as client:
        for number in range(2, 5):
            releases.make(number)
            releases.point(number)
            becomes(client, "/", releases.page(number))
        assert [client.get(f"/assets/0.{number}.js").status for number in range(1, 5)] == [404, 200, 200, 200]
        wait_until(lambda: server.store.resident == 3 * (ASSETS + 2))


def test_what_an_old_release_has_evicted_is_loaded_from_there(
    releases: Releases, live: Serve, becomes: Becomes
) -> None:
    server = live(releases.root, keep_generations=1)
    with Client(server.port) as client:
        old = server.site.live
        releases.make(2)
        releases.point(2)
        becomes(client, "/", releases.page(2))
        for entry in old.entries():
            server.store.drop(entry)
        for asset in range(ASSETS):
            assert checked(client.get(f"/assets/{asset}.1.js")).body == releases.asset(1, asset)
        shutil.rmtree(releases.path / "release-1")
        assert client.get("/assets/0.1.js").status == 200  # it is resident
        for entry in old.entries():
            server.store.drop(entry)
        assert client.get("/assets/0.1.js").status == 404
        assert client.get("/").body == releases.page(2)


def test_releases_of_the_same_files_share_what_is_in_memory(
    releases: Releases, live: Serve, wait_until: WaitUntil
) -> None:
    """Hard links, made before the server looked: a link that is made changes the file's status."""
    other = releases.path / "release-2"
    shutil.copytree(releases.path / "release-1", other, copy_function=os.link)
    publish(other / "index.html", releases.page(2))
    server = live(releases.root)
    old = dict(server.site.live.resources)
    bodies = {key: entry.body for key, entry in old.items() if key != b"/" and hasattr(entry, "body")}
    with Client(server.port) as client:
        assert client.get("/kept").status == 200
        releases.point(2)
        wait_until(lambda: server.content.counters.flips)
        assert client.get("/").body == releases.page(2)
        for key in bodies.keys() - {b"/index.html"}:
            assert server.site.live.resources[key] is old[key]
            assert entry_of(server, key.decode()).body is bodies[key]
        assert checked(client.get("/kept"))["ETag"] == tag_of(b"the same in all")


# --- what is left behind --------------------------------------------------------------------------------------


@pytest.fixture
def no_collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Python's collector finds nothing meanwhile: a server with many objects runs it after many releases alone."""
    monkeypatch.setattr(gc, "collect", lambda *_: 0)
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("no_collector")
def test_flips_leave_no_descriptors_threads_or_memory(releases: Releases, live: Serve, wait_until: WaitUntil) -> None:
    server = live(releases.root, keep_generations=1)

    def flip(number: int) -> None:
        releases.make(number)
        releases.point(number)
        wait_until(lambda: server.site.live.resources.get(b"/assets/0.%d.js" % number))
        wait_until(lambda: server.store.resident == 2 * (ASSETS + 2))

    def left() -> tuple[int, int, int, int]:
        ours = [os.readlink(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd") if _is_open(fd)]
        below = sum(name.startswith(str(releases.path)) for name in ours)
        return below, ours.count("anon_inode:inotify"), threading.active_count(), server.store.committed

    with Client(server.port) as client:
        for number in range(2, 5):
            flip(number)
            assert client.get("/").status == 200
        before = left()
        for number in range(5, 35):
            flip(number)
            assert client.get("/").status == 200
        allowed = (*before[:3], before[3] + 2 * 65536)  # slabs are never packed to the last page
        wait_until(lambda: all(now <= then for now, then in zip(left(), allowed, strict=True)))


def _is_open(fd: str) -> bool:
    return os.path.lexists(f"/proc/self/fd/{fd}")


@pytest.mark.parametrize("what", ["a flip", "a patch"])
def test_a_server_ends_while_its_content_is_replaced(
    releases: Releases, what: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    from zcserve.content import builder

    begun, go = threading.Event(), threading.Event()

    def held(*args: Any, **options: Any) -> Any:
        begun.set()
        assert go.wait(60)
        return preload(*args, **options)

    with Server(Config(root=releases.root, port=0)) as server:
        monkeypatch.setattr(builder, "preload", held)
        if what == "a flip":
            releases.make(2)
            releases.point(2)
        else:
            publish(releases.root / "kept", b"changed")
        assert begun.wait(60)
        old = server.site.live
        threading.Timer(0.1, go.set).start()
    assert go.is_set()
    assert server.site.live is old
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


def test_a_server_that_ends_just_after_a_flip_closes_each_watcher_once(
    releases: Releases, monkeypatch: pytest.MonkeyPatch, wait_until: WaitUntil
) -> None:
    flipped = threading.Event()
    closed: list[Watcher] = []
    lives: list[Live] = []
    close, forget, flip = Watcher.close, Builder.forget_unless_in, Live.flip

    def noted(live: Live, *args: Any, **options: Any) -> Any:
        lives.append(live)
        return flip(live, *args, **options)

    def closed_at_once(watcher: Watcher) -> None:
        closed.append(watcher)
        close(watcher)

    def forgotten_late(builder: Builder, *args: Any) -> None:
        if not flipped.is_set() and server.site.live is not old:
            flipped.set()
            wait_until(lambda: lives and not lives[0].is_building)  # the builders' thread has given up
        forget(builder, *args)

    monkeypatch.setattr(Watcher, "close", closed_at_once)
    monkeypatch.setattr(Builder, "forget_unless_in", forgotten_late)
    monkeypatch.setattr(Live, "flip", noted)
    with Server(Config(root=releases.root, port=0)) as server:
        old = server.site.live
        server.reload()
        assert flipped.wait(60)
    assert len(closed) == len(set(closed)) == 2


def test_a_release_is_known_when_it_is_served(releases: Releases, live: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    releases.make(2)
    server = live(releases.root)
    content = server.content
    build, is_building, may_build = Builder.build, threading.Event(), threading.Event()
    known, looked = threading.Event(), threading.Event()

    def build_later(self: Builder, **given: Any) -> Any:
        is_building.set()
        assert may_build.wait(10)
        return build(self, **given)

    def after_flip(self: Live, then: Callable[[], None]) -> None:
        wait_for_flip(self, then)
        looked.set()

    wait_for_flip = Live.after_flip
    monkeypatch.setattr(Live, "after_flip", after_flip)
    monkeypatch.setattr(Builder, "build", build_later)
    with Client(server.port) as client:
        releases.point(2)
        assert is_building.wait(10)
        server.loop.call_soon(lambda: content.when_known(known.set))
        assert looked.wait(10)
        client.get("/index.html")  # whatever the thread has told the loop is done
        assert not known.is_set()
        may_build.set()
        assert known.wait(10)
        assert client.get("/index.html").body == releases.page(2)
