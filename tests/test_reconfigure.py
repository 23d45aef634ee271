"""zcserve.reconfigure: a reload has a server serve the sites that its configuration names by now."""

from __future__ import annotations

import gc
import os
import threading
import weakref
from collections.abc import Callable, Iterator
from math import inf
from pathlib import Path
from typing import Any

import pytest

from tests.support.client import Client
from tests.support.counts import counts_of
from tests.support.engines import ENGINES
from tests.support.following import in_loop
from tests.support.waiting import WaitUntil
from zcserve import Config, Server
from zcserve.cache.index import Generation
from zcserve.cache.watcher import Watcher
from zcserve.config.sources import load
from zcserve.config.tables import Source, Table
from zcserve.content.builder import Builder, Built, Caught
from zcserve.content.handing import Handing
from zcserve.content.pinning import Pins
from zcserve.content.preparing import Preparation
from zcserve.content.purging import Aim, Purged


class Node:
    """A server of a file that the test writes."""

    def __init__(self, path: Path, engine: str, **settings: object) -> None:
        path.mkdir(exist_ok=True)
        self.path = path
        self.settings = settings
        self.file = path / "web.toml"
        self.engine = engine
        self.write("a", "b")
        self.server = Server(self.read(), self.read)

    def read(self) -> Config:
        return load({"port": 0, "engine": self.engine, **self.settings}, {}, self.file)

    def write(self, *names: str, more: str = "", **hosts: str) -> None:
        """Let the file name these sites, each with a page that names it."""
        text = more
        for name in names:
            root = self.path / name
            root.mkdir(exist_ok=True)
            (root / "page").write_text(name)
            text += f'\n[sites.{name}]\nroot = "{root}"\nhosts = ["{hosts.get(name, name)}.example"]\n'
        self.file.write_text(text)

    def says(self, client: Client, host: str) -> bytes:
        return says(client, f"{host}.example")


def says(client: Client, host: str) -> bytes:
    """The page of a host, or the status of an answer without one."""
    client.send(f"GET /page HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
    answer = client.read()
    return answer.body if answer.status == 200 else str(answer.status).encode()


@pytest.fixture(params=["python", "native"])
def node(request: pytest.FixtureRequest, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> Iterator[Node]:
    if request.param == "native":
        pytest.importorskip("zcserve.net._lane")
    caplog.set_level("INFO")
    made = Node(tmp_path, request.param)
    with made.server:
        yield made


def reloads(node: Node, wait_until: WaitUntil, caplog: pytest.LogCaptureFixture) -> Callable[[str], None]:
    def wait(told: str) -> None:
        caplog.clear()
        node.server.reload()
        wait_until(lambda: told in caplog.text)

    return wait


def test_sites_come_go_and_change_beside_a_client_of_another(
    node: Node, wait_until: WaitUntil, caplog: pytest.LogCaptureFixture
) -> None:
    reload = reloads(node, wait_until, caplog)
    store, heat = node.server.store, node.server.sites.first.site.heat
    with Client(node.server.port) as client, Client(node.server.port) as other:
        assert [node.says(client, name) for name in ("a", "b", "c")] == [b"a", b"b", b"421"]
        node.write("a", "b", "c")
        reload("reloaded: 3 sites; new: c; changed: none; gone: none")
        assert [node.says(client, name) for name in ("a", "b", "c")] == [b"a", b"b", b"c"]
        wait_until(lambda: store.resident == 3)
        node.write("a", "c", a="renamed")
        reload("reloaded: 2 sites; new: none; changed: a; gone: b")
        assert [node.says(other, name) for name in ("a", "b", "c", "renamed")] == [b"421", b"421", b"c", b"a"]
        wait_until(lambda: store.resident == 2)
        (node.path / "a" / "page").write_text("patched")
        wait_until(lambda: node.says(client, "renamed") == b"patched")
        first = node.server.sites.first.site
        assert first.heat is heat
        node.write("a", "c", more=f'root = "{node.path / "b"}"\n')
        (node.path / "a" / "page").write_text("patched")
        reload("reloaded: 3 sites; new: default; changed: a; gone: none")
        assert [node.says(client, name) for name in ("x", "c")] == [b"b", b"c"]
        wait_until(lambda: node.says(client, "a") == b"patched")  # a patch, or its own reload
        assert node.server.site.name == "default"
        assert [one.site for one in node.server.sites][1] is first


def test_what_the_old_site_serves_by_now_is_not_taken_back_by_the_one_that_was_built_before(
    node: Node, wait_until: WaitUntil, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A rule that hides a file, and a page, are published while the site is built anew, behind the look at them."""
    root, build, old, left = node.path / "a", Builder.build, node.server.sites.first.site, ["once"]
    (root / "secret").write_text("secret")
    with Client(node.server.port) as client, Client(node.server.port) as other:

        def published(client: Client) -> bool:
            client.send(b"GET /secret HTTP/1.1\r\nHost: a.example\r\n\r\n")
            return client.read().status == 403 and node.says(client, "a") == b"newer"

        def late(builder: Builder, **named: Any) -> Built:
            built = build(builder, **named)
            if left and builder.site.name == "a" and builder.site is not old:
                left.clear()
                (root / "page").write_text("newer")
                (root / "_redirects").write_text("/secret 403!\n")
                wait_until(lambda: published(other))
            return built

        node.write("a", "b")
        text = node.file.read_text()
        node.file.write_text(text.replace('hosts = ["a.', 'cache_control = "no-cache"\nhosts = ["a.'))
        wait_until(lambda: node.says(client, "a") == b"a")
        monkeypatch.setattr(Builder, "build", late)
        caplog.clear()
        node.server.reload()
        wait_until(lambda: "new: none; changed: a; gone: none" in caplog.text)
        assert not left
        for _ in range(3):
            assert published(client)


@pytest.mark.parametrize("watch", [True, False])
def test_what_the_old_site_is_told_after_the_last_look_of_the_new_one_is_known_by_that_at_the_switch(
    node: Node, watch: bool, wait_until: WaitUntil, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the new one had to wait for its watcher's next news, or had none, clients would meet the older page."""
    own = Node(node.path / "own", node.engine, watch=watch)
    catch_up, left = Builder.catch_up, ["once"]
    with own.server as server, Client(server.port) as client, Client(server.port) as other:
        reload = reloads(own, wait_until, caplog)
        old, content = server.sites.first.site, server.contents.first

        def is_published() -> bool:
            return own.says(other, "a") == b"newer"

        def late(builder: Builder, built: Built, live: Generation | None = None) -> Caught:
            caught = catch_up(builder, built, live)
            if left and builder.site.name == "a" and builder.site is not old and not caught.keys:
                left.clear()
                (own.path / "a" / "page").write_text("newer")
                if not watch:
                    aim = Aim.paths([b"/page"])
                    server.loop.call_soon(lambda: content.purging.purge(aim, hard=True, told=lambda _: None))
                wait_until(is_published)
                monkeypatch.setattr(Watcher, "due", lambda *_: inf)  # no news from now on
            return caught

        assert own.says(client, "a") == b"a"
        monkeypatch.setattr(Builder, "catch_up", late)
        own.file.write_text(own.file.read_text().replace('hosts = ["a', 'cache_control = "max-age=2"\nhosts = ["a'))
        reload("new: none; changed: a; gone: none")
        assert not left
        assert server.sites.first.site is not old
        assert own.says(client, "a") == b"newer"


def test_a_purge_that_waits_when_the_site_is_rebuilt_is_of_the_new_one_and_is_told(
    node: Node, wait_until: WaitUntil, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    reload = reloads(node, wait_until, caplog)
    server = node.server
    content, await_held, told = server.contents.first, Handing.await_held, list[Purged]()

    def late(handing: Handing, until: float) -> None:
        await_held(handing, until)
        aim, begun = Aim.paths([b"/page"]), threading.Event()
        server.loop.call_soon(lambda: content.purging.purge(aim, hard=True, told=told.append))
        server.loop.call_soon(begun.set)
        assert begun.wait(20)
        assert told == []

    monkeypatch.setattr(Handing, "await_held", late)
    node.file.write_text(node.file.read_text().replace('hosts = ["a', 'cache_control = "max-age=9"\nhosts = ["a'))
    reload("new: none; changed: a; gone: none")
    wait_until(lambda: told)
    assert [(one.matched, one.purged, one.why) for one in told] == [(1, 1, "")]
    with Client(server.port) as client:
        assert node.says(client, "a") == b"a"


def test_a_server_that_ends_while_a_site_is_built_leaves_no_thread_and_no_inotify_instance(
    node: Node, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    build, begun = Builder.build, threading.Event()

    def late(builder: Builder, **named: Any) -> Built:
        if builder.site.name == "c":
            begun.set()
            assert builder.closing.wait(20)
        return build(builder, **named)

    monkeypatch.setattr(Builder, "build", late)
    server = Server(node.read(), node.read)
    before = _inotify_instances()
    with server:
        node.write("a", "b", "c")
        server.reload()
        assert begun.wait(20)
    assert _inotify_instances() == before
    assert not [thread.name for thread in threading.enumerate() if thread.name == "zcserve-sites"]
    assert [one.getMessage() for one in caplog.records if one.levelname in ("WARNING", "ERROR")] == []


def _inotify_instances() -> int:
    links = [Path("/proc/self/fd") / name for name in os.listdir("/proc/self/fd")]
    return sum(os.readlink(link) == "anon_inode:inotify" for link in links if link.is_symlink())


def test_a_site_that_changes_is_built_beside_the_old_one_and_its_memory_comes_back(
    node: Node, wait_until: WaitUntil, caplog: pytest.LogCaptureFixture
) -> None:
    reload = reloads(node, wait_until, caplog)
    with Client(node.server.port) as client:
        assert node.says(client, "a") == b"a"
        text = node.file.read_text()
        node.file.write_text(text.replace('hosts = ["a', 'cache_control = "max-age=9"\nhosts = ["a'))
        reload("reloaded: 2 sites; new: none; changed: a; gone: none")
        client.send(b"GET /page HTTP/1.1\r\nHost: a.example\r\n\r\n")
        assert client.read()["Cache-Control"] == b"max-age=9"
    wait_until(lambda: node.server.store.resident == 2)
    assert len(node.server.contents) == 2


def test_a_site_that_gets_another_share_of_memory_is_built_anew_with_it(
    node: Node, wait_until: WaitUntil, caplog: pytest.LogCaptureFixture
) -> None:
    reload = reloads(node, wait_until, caplog)
    shares = node.server.store.shares
    assert [(share.least, share.most) for share in shares] == [(0, None)]
    text = node.file.read_text()
    node.file.write_text(text.replace('hosts = ["a', 'memory_min = "1M"\nmemory_max = "2M"\nhosts = ["a'))
    reload("reloaded: 2 sites; new: none; changed: a; gone: none")
    assert [(share.least, share.most) for share in shares] == [(0, None), (1 << 20, 2 << 20)]
    node.file.write_text(text)
    reload("reloaded: 2 sites; new: none; changed: a; gone: none")
    wait_until(lambda: [(share.least, share.most) for share in shares] == [(0, None)])
    with Client(node.server.port) as client:
        assert [node.says(client, name) for name in ("a", "b")] == [b"a", b"b"]


def test_what_changed_sites_were_made_of_is_gone_without_a_collector(
    node: Node, wait_until: WaitUntil, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    reload = reloads(node, wait_until, caplog)
    text = node.file.read_text()
    old: list[weakref.ref[object]] = []

    def is_gone() -> bool:
        return all(one() is None for one in old)

    monkeypatch.setattr(gc, "collect", lambda *_: 0)
    gc.disable()
    try:
        for number in range(30):
            site = node.server.sites.named("b")
            content = node.server.contents.named("b")
            assert site is not None
            old += map(weakref.ref, (site, site.loader, site.builder, content))
            del site, content
            node.file.write_text(text.replace('hosts = ["b', f'cache_control = "max-age={number}"\nhosts = ["b'))
            reload("new: none; changed: b; gone: none")
            wait_until(is_gone)
            if not number:
                before = len(os.listdir("/proc/self/fd"))
    finally:
        gc.enable()
    wait_until(lambda: len(os.listdir("/proc/self/fd")) <= before)
    with Client(node.server.port) as client:
        assert node.says(client, "b") == b"b"


def test_a_reload_that_changes_another_site_each_time_keeps_no_file_as_it_was_before(
    node: Node, wait_until: WaitUntil, caplog: pytest.LogCaptureFixture
) -> None:
    """What is made of a site's tables names the file for its lines: of a hoster's it is megabytes, with its places."""

    def files() -> int:
        return sum(type(one) is Source for one in gc.get_objects())

    reload = reloads(node, wait_until, caplog)
    gc.collect()
    before = files()
    names = ("a", "b", "c", "d", "e", "f")
    node.write(*names, more="keep_generations = 1\n")
    reload("changed: a, b; gone: none")
    for name in names:
        text = node.file.read_text()
        rule = f'[[sites.{name}.rules]]\npath = "/*"\nset = {{ X-A = "{name}" }}\n'
        lead = f'[[sites.{name}.redirects]]\nfrom = "/{name}"\nto = "/page"\n'
        node.file.write_text(f"{text}\n{rule}{lead}")
        reload(f"new: none; changed: {name}; gone: none")
    (node.path / "other").mkdir()
    for name in names[:3]:  # which has an older generation from now on
        text = node.file.read_text().replace(f'"{node.path / name}"', f'"{node.path / "other"}"')
        node.file.write_text(f"# a line more\n{text}")
        reload(f"new: none; changed: {name}; gone: none")
        assert len(node.server.sites.named(name).site.generations) == 2  # type: ignore[union-attr]
    reload("reloaded: ")
    wait_until(lambda: files() - before <= 1)  # beside that which the server began with
    (table,) = node.server.sites.named("b").config.rules  # type: ignore[union-attr]
    assert isinstance(table, Table)
    line = node.file.read_text().splitlines().index("[[sites.b.rules]]") + 1
    assert table.where() == f"{node.file}:{line}:1: sites.b.rules[0]"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[sites.a]\nrot = 1", "unknown key 'rot'; the nearest known is root"),
        ('[sites.a]\nroot = "nothing"\nhosts = "a.example"', "web.toml:2:1: root 'nothing' does not exist"),
        (
            '[sites.a]\nroot = "."\nhosts = "a.example"\nservlets = "csp"',
            "web.toml:4:1: servlets: 'csp' is not a",
        ),
    ],
)
def test_what_is_wrong_changes_nothing_and_the_log_says_so(
    node: Node, wait_until: WaitUntil, caplog: pytest.LogCaptureFixture, text: str, told: str
) -> None:
    rest = node.file.read_text().partition("[sites.b]")
    node.file.write_text(text + "\n[sites.b]" + rest[2])
    reloads(node, wait_until, caplog)(told)
    with Client(node.server.port) as client:
        assert [node.says(client, name) for name in ("a", "b")] == [b"a", b"b"]


def test_a_site_that_cannot_be_built_keeps_its_hosts_and_no_other_site_gets_them(
    node: Node, wait_until: WaitUntil, caplog: pytest.LogCaptureFixture
) -> None:
    reload = reloads(node, wait_until, caplog)
    node.write("a", "b", "c", b="new", c="b")
    text = node.file.read_text()
    node.file.write_text(text.replace(f'root = "{node.path / "b"}"', 'root = "nothing"'))
    reload("reloaded: 3 sites; new: c; changed: none; gone: none")
    assert "b.example stays with site b, and does not go to site c" in caplog.text
    with Client(node.server.port) as client:
        assert [node.says(client, name) for name in ("a", "b", "new")] == [b"a", b"b", b"421"]
        node.file.write_text(text)
        reload("reloaded: 3 sites; new: none; changed: b, c; gone: none")
        assert [node.says(client, name) for name in ("a", "b", "new")] == [b"a", b"c", b"b"]


def test_hosts_that_a_site_which_cannot_be_built_was_to_get_stay_where_they_were(
    node: Node, wait_until: WaitUntil, caplog: pytest.LogCaptureFixture
) -> None:
    reload = reloads(node, wait_until, caplog)
    node.write("a", "b", a="b", b="a")
    text = node.file.read_text()
    node.file.write_text(text.replace(f'root = "{node.path / "a"}"', 'root = "nothing"'))
    reload("reload: b.example stays with site b, and does not go to site a")
    with Client(node.server.port) as client:
        wait_until(lambda: node.server.contents.unbuilt)
        assert [node.says(client, name) for name in "ab"] == [b"a", b"b"]
        node.file.write_text(text)
        reload("reloaded: 2 sites; new: none; changed: a, b; gone: none")
        assert [node.says(client, name) for name in "ab"] == [b"b", b"a"]


def test_how_it_ended_is_told_when_the_sites_are_there(node: Node, wait_until: WaitUntil) -> None:
    told: list[str] = []

    def reload() -> str:
        told.clear()
        node.server.reload(told.append)
        wait_until(lambda: told)
        return told[0]

    with Client(node.server.port) as client:
        for number in range(5):
            node.write("a", "b", f"c{number}", more=f'cache_control = "max-age={number}"\n')
            assert reload() == ""
            assert node.says(client, f"c{number}") == b"c" + str(number).encode()
        text = node.file.read_text()
        node.file.write_text("[[[")
        assert "web.toml" in reload()
        node.file.write_text(text.replace(f'root = "{node.path / "b"}"', 'root = "nothing"'))
        assert reload() == "not all sites could be built, the log says why: b"
        node.file.write_text(text)
        assert reload() == ""
    assert len(told) == 1


def test_a_site_that_is_rebuilt_counts_on_and_is_in_its_place_and_one_that_goes_leaves_its_counts(
    node: Node, wait_until: WaitUntil, caplog: pytest.LogCaptureFixture
) -> None:
    reload = reloads(node, wait_until, caplog)
    server = node.server
    content = server.contents.first
    content.reload()
    wait_until(lambda: content.counters.flips == 1)
    content.site.hits, content.site.misses = 5, 3
    node.file.write_text(node.file.read_text().replace('hosts = ["a', 'cache_control = "max-age=9"\nhosts = ["a'))
    server.reload()
    wait_until(lambda: "new: none; changed: a; gone: none" in caplog.text)
    after = server.contents.first
    assert after is not content
    assert after.site is server.site
    assert (after.site.hits, after.site.misses) == (5, 3)
    assert after.counters.flips >= 2
    node.write("b")
    reload("reloaded: 1 sites; new: none; changed: none; gone: a")
    account = after.site.account
    assert (server.service.past_hits[account], server.service.past_misses[account]) == (5, 3)


def test_no_figure_of_a_site_falls_when_it_is_rebuilt_goes_or_comes_again(
    node: Node, wait_until: WaitUntil, caplog: pytest.LogCaptureFixture
) -> None:
    reload = reloads(node, wait_until, caplog)
    server = node.server

    def asked() -> dict[str, int]:
        names = server.service.accounts.names
        return {name: one.answers for name, one in zip(names, counts_of(server).accounts, strict=False) if one.answers}

    with Client(server.port) as client:
        for name in ("a", "b", "b", "nobody"):
            node.says(client, name)
        assert asked() == {"a": 1, "b": 2, "(none)": 1}
        node.file.write_text(node.file.read_text().replace('hosts = ["b', 'cache_control = "max-age=9"\nhosts = ["b'))
        reload("new: none; changed: b; gone: none")
        node.says(client, "b")
        assert asked() == {"a": 1, "b": 3, "(none)": 1}
        node.write("a", "c")
        reload("new: c; changed: none; gone: b")
        for name in ("b", "c"):  # b is a name that no site has
            node.says(client, name)
        assert asked() == {"a": 1, "b": 3, "c": 1, "(none)": 2}
        node.write("a", "b")
        reload("new: b; changed: none; gone: c")
        node.says(client, "b")
        assert asked() == {"a": 1, "b": 4, "c": 1, "(none)": 2}


def test_pins_of_the_operator_stay_when_a_site_is_rebuilt(
    node: Node, wait_until: WaitUntil, caplog: pytest.LogCaptureFixture
) -> None:
    reload = reloads(node, wait_until, caplog)
    node.file.write_text(node.file.read_text().replace('hosts = ["a', 'pin = ["*.css", "*.js"]\nhosts = ["a'))
    reload("changed: a; gone: none")
    node.server.site.pins.change(["page"], ["*.css"])
    node.file.write_text(node.file.read_text().replace('pin = ["*.css"', 'pin = ["*.css", "*.svg"'))
    reload("changed: a; gone: none")
    assert node.server.site.pins.globs == ("*.svg", "*.js", "page")
    assert node.server.store.pinned_bytes > 0


def test_what_is_pinned_while_a_site_is_rebuilt_is_pinned_in_the_new_one(
    node: Node, wait_until: WaitUntil, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    building, go_on, build = threading.Event(), threading.Event(), Builder.build

    def held(builder: Builder) -> Built:
        built = build(builder)
        building.set()
        assert go_on.wait(30)
        return built

    content = node.server.content
    told: list[Pins] = []

    def pin(add: list[str], remove: list[str]) -> None:
        pins = len(told) + 1
        node.server.loop.call_soon(lambda: content.pinning.change(add, remove, told.append))
        wait_until(lambda: len(told) == pins)

    pin(["page", "other"], [])
    monkeypatch.setattr(Builder, "build", held)
    node.file.write_text(node.file.read_text().replace('hosts = ["a', 'pin = ["*.js"]\nhosts = ["a'))
    node.server.reload()
    assert building.wait(30)
    monkeypatch.undo()
    pin(["p?ge"], ["page"])
    assert (told[1].globs, told[1].files) == (("other", "p?ge"), 1)
    go_on.set()
    wait_until(lambda: "new: none; changed: a; gone: none" in caplog.text)
    after = node.server.content
    assert after is not content
    assert after.site.pins.globs == ("*.js", "other", "p?ge")
    wait_until(lambda: not after.pinning.is_busy and len(node.server.store.held) == 1)


# --- older generations ------------------------------------------------------------------------------------------------


class Deploy:
    """Site a, whose root is a symlink, and its releases: a page that names an asset of its own."""

    def __init__(self, node: Node, wait_until: WaitUntil) -> None:
        self.node = node
        self.wait_until = wait_until
        self.link = node.path / "current"
        self.told: list[str] = []
        for release in (1, 2, 3):
            (node.path / f"r{release}").mkdir()
            (node.path / f"r{release}" / "page").write_text(f"page {release}")
            (node.path / f"r{release}" / f"{release}.js").write_text(f"script {release}")
        self.point(1)
        self.write(self.link)
        self.reload()

    def point(self, release: int) -> None:
        (self.node.path / "aside").symlink_to(f"r{release}")
        (self.node.path / "aside").rename(self.link)

    def write(self, root: Path, more: str = "keep_generations = 2") -> None:
        self.node.file.write_text(f'[sites.a]\nroot = "{root}"\nhosts = "a.example"\n{more}\n')

    def reload(self) -> None:
        self.told.clear()
        self.node.server.reload(self.told.append)
        self.wait_until(lambda: self.told)
        assert self.told == [""]

    @property
    def resident(self) -> int:
        return self.node.server.store.resident


def get(client: Client, path: str) -> bytes:
    """What a client of site a gets, or the status of an answer without content."""
    client.send(f"GET {path} HTTP/1.1\r\nHost: a.example\r\n\r\n".encode())
    answer = client.read()
    return answer.body if answer.status == 200 else str(answer.status).encode()


PATHS = ("/page", "/1.js", "/2.js", "/3.js", "/4.js")


def test_a_site_that_changes_keeps_its_older_generations(node: Node, wait_until: WaitUntil) -> None:
    deploy = Deploy(node, wait_until)
    with Client(node.server.port) as client:
        deploy.point(2)
        deploy.reload()
        deploy.reload()  # nothing is new: it pushes nothing out
        assert [get(client, path) for path in PATHS] == [b"page 2", b"script 1", b"script 2", b"404", b"404"]
        for age in range(4):
            deploy.write(deploy.link, f'keep_generations = 2\ncache_control = "max-age={age}"')
            deploy.reload()
            assert [get(client, path) for path in PATHS] == [b"page 2", b"script 1", b"script 2", b"404", b"404"]
        wait_until(lambda: deploy.resident == 3)  # pages of old releases, which the new one hides, are gone
        assert len(node.server.site.generations) == 2
        old = node.server.site.generations[1]
        for entry in old.entries():
            node.server.store.drop(entry)
        assert get(client, "/1.js") == b"script 1"  # read where it lies, by what is the site's by now
        deploy.point(3)
        deploy.reload()
        assert get(client, "/page") == b"page 3"
        assert [get(client, path) for path in PATHS[1:]] == [b"script 1", b"script 2", b"script 3", b"404"]


def test_what_is_prepared_stays_with_a_reload_and_goes_with_a_site_that_changes(
    node: Node, wait_until: WaitUntil, caplog: pytest.LogCaptureFixture
) -> None:
    deploy = Deploy(node, wait_until)

    def prepare() -> None:
        told: list[Preparation] = []
        preparing = node.server.content.preparing
        in_loop(node.server, lambda: preparing.prepare(str(node.path / "r2"), told.append))
        wait_until(lambda: told)
        assert told[0].share == 1.0

    with Client(node.server.port) as client:
        prepare()
        deploy.reload()
        assert get(client, "/2.js") == b"script 2"
        deploy.write(deploy.link, 'keep_generations = 2\ncache_control = "no-cache"')
        deploy.reload()
        assert get(client, "/2.js") == b"404"
        wait_until(lambda: f"{node.path}/r2 is not prepared any more: the site is built anew, or gone" in caplog.text)
        store = node.server.store
        wait_until(lambda: deploy.resident == 2 and store.overhead == node.server.site.live.index_bytes)
        prepare()
        deploy.point(2)
        deploy.reload()
        assert [get(client, path) for path in PATHS[:4]] == [b"page 2", b"script 1", b"script 2", b"404"]


def test_a_page_of_before_finds_its_assets_though_the_site_has_another_root(node: Node, wait_until: WaitUntil) -> None:
    deploy = Deploy(node, wait_until)
    with Client(node.server.port) as client:
        for release in (2, 3):
            deploy.write(node.path / f"r{release}")
            deploy.reload()
        assert [get(client, path) for path in PATHS] == [b"page 3", b"script 1", b"script 2", b"script 3", b"404"]
        deploy.write(node.path / "r3", "keep_generations = 1")
        deploy.reload()
        assert [get(client, path) for path in PATHS[1:]] == [b"404", b"script 2", b"script 3", b"404"]
        wait_until(lambda: deploy.resident == 3)
        deploy.write(node.path / "r1", 'keep_generations = 2\nkeep_for = "100ms"')
        deploy.reload()
        assert get(client, "/2.js") == b"script 2"  # of a change before this one: its time is not over
        wait_until(lambda: get(client, "/3.js") == b"404")
        deploy.write(node.path / "r2", "keep_generations = 0")
        deploy.reload()
        assert [get(client, path) for path in PATHS] == [b"page 2", b"404", b"script 2", b"404", b"404"]
        wait_until(lambda: deploy.resident == 2)


def test_what_takes_a_restart_is_told(node: Node, wait_until: WaitUntil, caplog: pytest.LogCaptureFixture) -> None:
    node.write("a", "b", more='access_log = "elsewhere"\n')
    reloads(node, wait_until, caplog)("reload: access_log is another by now")


@pytest.mark.parametrize("engine", ENGINES)
def test_one_site_finds_nothing_by_hosts_until_it_has_some(tmp_path: Path, wait_until: WaitUntil, engine: Any) -> None:
    """A file without sites is read again, too."""
    (tmp_path / "page").write_text("page")
    told = [Config(root=tmp_path, port=0, engine=engine)]
    with Server(told[0], lambda: told[-1]) as server, Client(server.port) as client:
        server.reload()
        wait_until(lambda: server.content.counters.flips == 1)
        assert client.get("/page").body == b"page"
        assert server.service.hosts is None
        told.append(Config(root=tmp_path, port=0, engine=engine, hosts=("a.example",), unknown_host="421"))
        server.reload()
        wait_until(lambda: says(client, "b.example") == b"421")
        assert says(client, "a.example") == b"page"


def test_a_server_that_ends_while_a_site_leaves_ends_its_threads(node: Node, wait_until: WaitUntil) -> None:
    node.write("one", "two")
    node.server.reload()
    wait_until(lambda: {tenant.site.name for tenant in node.server.sites} == {"one", "two"})
    contents = node.server.contents
    node.server.loop.call_soon(lambda: contents.remove(contents.first.site.id))
    wait_until(lambda: len(contents) == 1)  # nothing has the other one leave: as if it were still at it
    node.server.loop.call_soon(node.server.drain.end)
    wait_until(lambda: not node.server.is_serving)
    assert contents.close()
    assert not [thread.name for thread in threading.enumerate() if thread.name.startswith("zcserve-content")]


def test_a_site_lists_its_names_from_a_reload_on_and_others_do_not(
    node: Node, wait_until: WaitUntil, caplog: pytest.LogCaptureFixture
) -> None:
    def status(client: Client, host: str) -> int:
        client.send(f"GET / HTTP/1.1\r\nHost: {host}.example\r\n\r\n".encode())
        return client.read().status

    reload = reloads(node, wait_until, caplog)
    with Client(node.server.port) as client:
        assert [status(client, host) for host in "ab"] == [404, 404]
        node.write("b", "a")
        node.file.write_text(node.file.read_text() + "listing = true\n")  # of the last site
        reload("changed: a;")
        for _ in range(3):
            assert [status(client, host) for host in "ab"] == [200, 404]
        node.write("a", "b", more="listing = true\n")
        reload("changed: b;")
        assert [status(client, host) for host in "ab"] == [200, 200]
        node.write("a", "b")
        reload("changed: a, b;")
        assert [status(client, host) for host in "ab"] == [404, 404]


def test_pages_for_errors_and_the_dialect_of_rules_come_with_a_reload(
    node: Node, wait_until: WaitUntil, caplog: pytest.LogCaptureFixture
) -> None:
    reload = reloads(node, wait_until, caplog)
    (node.path / "b" / "_redirects").write_text("/old /new\n")
    text = node.file.read_text().replace('hosts = ["b', 'rules_dialect = "cloudflare"\nhosts = ["b')
    node.file.write_text(text + '[sites.a.error_pages]\n404 = "/page"\n')
    reload("reloaded: 2 sites; new: none; changed: a, b; gone: none")
    with Client(node.server.port) as client:
        client.send(b"GET /none HTTP/1.1\r\nHost: a.example\r\n\r\n")
        assert ((absent := client.read()).status, absent.body) == (404, b"a")
        client.send(b"GET /old HTTP/1.1\r\nHost: b.example\r\n\r\n")
        assert client.read().status == 302
        node.file.write_text(text + '[sites.a.error_pages]\n405 = "/page"\n')
        reload("error_pages.405: 405 has no page of a site")
        client.send(b"GET /none HTTP/1.1\r\nHost: a.example\r\n\r\n")
        assert client.read().body == b"a"
