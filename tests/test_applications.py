"""zcserve.applications: sites with servlets and mounts come, go and change by a reload, beside clients of others."""

from __future__ import annotations

import re
import shutil
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from itertools import count
from operator import gt
from pathlib import Path
from typing import Any

import pytest

from tests.support.begun import open_descriptors
from tests.support.client import Client
from tests.support.engines import ENGINES
from tests.support.stage import EVENTS, JOURNAL, StageClient
from tests.support.waiting import WaitUntil
from zcserve import Config, Server, applications
from zcserve.config.sources import load
from zcserve.servlets.imports import Imports

SAYS = """
import _words

@servlet("/said", methods=["GET", "POST"])
def said(request):
    return f"{_words.SAID} {len(request.body)}"

@servlet("/late")
def late(request):
    import _words
    return _words.SAID

@servlet("/kept", ttl=60)
def kept(request):
    return _words.SAID
"""
SLOW = """
from tests.support.stage import EVENTS

@servlet("/slow", thread=True)
def slow(request):
    EVENTS["slow"].set()
    EVENTS["go on"].wait(20)
    return "slow"

@servlet("/pieces", thread=True)
def pieces(request):
    yield "first "
    EVENTS["pieces"].set()
    EVENTS["go on"].wait(20)
    yield "last"
"""
HANGS = """
from tests.support.stage import EVENTS
EVENTS["go on"].wait(20)
"""


class Node:
    """A server of a site that stays, and of what a test writes beside it."""

    def __init__(self, path: Path, engine: str) -> None:
        self.path = path
        self.engine = engine
        self.file = path / "web.toml"
        (path / "www").mkdir()
        (path / "www" / "page").write_text("stays")
        self.write()
        self._before = set(sys.modules)
        self.server = Server(self.read(), self.read)

    def modules(self) -> list[str]:
        """Of its sites' applications, that sys.modules has."""
        new = set(sys.modules) - self._before
        return [name for name in new if name.startswith(("zcserve_servlet_", "_words", "mounted_"))]

    def read(self) -> Config:
        return load({"port": 0, "engine": self.engine, "grace_s": 20.0, "mount_reload": False}, {}, self.file)

    def folder(self, name: str, said: str, **more: str) -> Path:
        """A folder of servlets that says something, by a helper that all folders have."""
        folder = self.path / name
        folder.mkdir(exist_ok=True)
        (folder / "_words.py").write_text(f"SAID = {said!r}\n")
        for servlet, source in {"says": SAYS, **more}.items():
            (folder / f"{servlet}.py").write_text(f"from zcserve import servlet\n{source}")
        return folder

    def write(self, **sites: str) -> None:
        """Let the file name these sites, each with further keys, beside the one that stays."""
        text = ""
        for name, keys in {"stays": "", **sites}.items():
            text += f'[sites.{name}]\nroot = "{self.path / "www"}"\nhosts = "{name}.example"\n{keys}\n'
        self.file.write_text(text)


@pytest.fixture(params=["python", "native"])
def node(
    request: pytest.FixtureRequest, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Node]:
    if request.param == "native":
        pytest.importorskip("zcserve.net._lane")
    caplog.set_level("INFO")
    EVENTS.clear()
    # Mounts that other tests have not closed bring no modules back.
    monkeypatch.setattr(sys, "meta_path", [one for one in sys.meta_path if not isinstance(one, Imports)])
    made = Node(tmp_path, request.param)
    with made.server:
        yield made
        for event in list(EVENTS.values()):
            event.set()
    for name in made.modules():  # a server that ends leaves them to what runs at exit
        del sys.modules[name]


@pytest.fixture
def reload(node: Node, wait_until: WaitUntil) -> Callable[[], str]:
    """Reload, and return how it ended."""

    def reload() -> str:
        told: list[str] = []
        node.server.reload(told.append)
        wait_until(lambda: told)
        return told[0]

    return reload


def ending() -> list[str]:
    """Threads of applications that have not ended."""
    names = ("zcserve-watch", "zcserve-app-ends", "zcserve-servlet", "zcserve-async", "zcserve-mounts", "zcserve-load-")
    return [thread.name for thread in threading.enumerate() if thread.name.startswith(names)]


def ask(client: Client, site: str, path: str, body: bytes = b"") -> bytes:
    """What a site answers, or the status of an answer that is no 200."""
    method = b"POST" if body else b"GET"
    host = b"Host: %b.example\r\nContent-Length: %d\r\n\r\n" % (site.encode(), len(body))
    client.send(b"%b %b HTTP/1.1\r\n%b%b" % (method, path.encode(), host, body))
    answer = client.read()
    return answer.body if answer.status == 200 else str(answer.status).encode()


def test_sites_with_servlets_come_change_and_go(node: Node, reload: Callable[[], str], wait_until: WaitUntil) -> None:
    one, two = node.folder("one", "one"), node.folder("two", "two")
    with Client(node.server.port) as client:
        assert ask(client, "a", "/said") == b"421"
        node.write(a=f'servlets = "{one}"', b=f'servlets = "{two}"')
        assert reload() == ""
        for site, said in (("a", b"one"), ("b", b"two")) * 2:
            assert ask(client, site, "/said", b"abc") == said + b" 3"
            assert ask(client, site, "/late") == said  # of its own folder, though the other was loaded last
            assert ask(client, site, "/kept") == said
        assert ask(client, "stays", "/page") == b"stays"
        node.write(a=f'servlets = "{two}"', b=f'servlets = "{one}"\ncache_control = "max-age=9"')
        assert reload() == ""
        for site, said in (("a", b"two"), ("b", b"one")) * 2:
            assert ask(client, site, "/said") == said + b" 0"
            assert ask(client, site, "/kept") == said
        node.write(b="")
        assert reload() == ""
        assert [ask(client, site, "/late") for site in "ab"] == [b"421", b"404"]
    wait_until(lambda: not node.modules())


def test_what_is_under_way_in_a_site_that_goes_ends_as_it_would_have(
    node: Node, reload: Callable[[], str], wait_until: WaitUntil
) -> None:
    folder = node.folder("one", "one", slow=SLOW)
    node.write(a=f'servlets = "{folder}"')
    assert reload() == ""
    with ExitStack() as stack:
        slow, pieces, sends, other = (stack.enter_context(StageClient(node.server.port)) for _ in range(4))
        slow.send(b"GET /slow HTTP/1.1\r\nHost: a.example\r\n\r\n")
        pieces.send(b"GET /pieces HTTP/1.1\r\nHost: a.example\r\n\r\n")
        sends.send(b"POST /said HTTP/1.1\r\nHost: a.example\r\nContent-Length: 4000\r\n\r\n" + b"x" * 3000)
        assert EVENTS["slow"].wait(20)
        assert EVENTS["pieces"].wait(20)
        node.write()
        assert reload() == ""
        assert ask(other, "a", "/said") == b"421"
        assert "zcserve-watch" in ending()
        sends.send(b"x" * 1000)
        assert sends.read().body == b"one 4000"
        EVENTS["go on"].set()
        assert slow.read().body == b"slow"
        assert pieces.read().body == b"first last"
    wait_until(lambda: not ending())
    assert node.modules() == []


def test_what_does_not_end_is_cut_and_told(
    node: Node, reload: Callable[[], str], wait_until: WaitUntil, caplog: pytest.LogCaptureFixture
) -> None:
    folder = node.folder("one", "one", slow=SLOW)
    node.write(a=f'servlets = "{folder}"')
    assert reload() == ""
    node.server.service.config = replace(node.server.config, grace_s=0.2)
    with Client(node.server.port) as pieces:
        pieces.send(b"GET /pieces HTTP/1.1\r\nHost: a.example\r\n\r\n")
        assert EVENTS["pieces"].wait(20)
        node.write()
        assert reload() == ""
        wait_until(lambda: "site a: calls in its former applications have not ended within --grace" in caplog.text)
        wait_until(lambda: "zcserve-watch" not in ending())
        EVENTS["go on"].set()


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ("1 / 0\n", "a servlet does not load: two/bad.py:2: ZeroDivisionError: division by zero"),
        ("raise KeyboardInterrupt\n", "KeyboardInterrupt ("),
        (HANGS, "its applications have not loaded within 0.3 s ("),
    ],
)
def test_applications_that_do_not_load_leave_the_site_as_it_was(
    node: Node,
    reload: Callable[[], str],
    wait_until: WaitUntil,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    source: str,
    told: str,
) -> None:
    one, two = node.folder("one", "one"), node.folder("two", "two", bad=source)
    node.write(a=f'servlets = "{one}"')
    assert reload() == ""
    monkeypatch.setattr(applications, "LOADED_WITHIN_S", 0.3 if source is HANGS else 20.0)
    node.write(a=f'servlets = "{two}"', b=f'servlets = "{two}"')
    with Client(node.server.port) as client:
        assert reload() == "not all sites could be built, the log says why: a, b"
        assert f"site a is as it was: {told}" in caplog.text
        assert [ask(client, site, "/late") for site in "ab"] == [b"one", b"421"]
        assert f"bad.py:{4 if source is HANGS else 2}" in caplog.text
        if source is HANGS:
            reload()
            assert "site b is as it was: its applications are being loaded still" in caplog.text
            EVENTS["go on"].set()
            wait_until(lambda: not [one for one in threading.enumerate() if one.name.startswith("zcserve-load-")])
        (two / "bad.py").unlink()
        monkeypatch.setattr(applications, "LOADED_WITHIN_S", 20.0)
        assert reload() == ""
        assert [ask(client, site, "/late") for site in "ab"] == [b"two", b"two"]


ASGI = """
import asyncio
from tests.support.stage import EVENTS, JOURNAL
from NAME import words

async def application(scope, receive, send):
    if scope["type"] == "lifespan":
        while True:
            what = (await receive())["type"].removeprefix("lifespan.")
            if words.SAID == "no luck":
                return await send({"type": "lifespan.startup.failed", "message": "no luck"})
            JOURNAL.append(f"{words.SAID} {what}")
            await send({"type": f"lifespan.{what}.complete"})
            if what == "shutdown":
                return
    from NAME import late
    await send({"type": "http.response.start", "status": 200})
    while scope["path"].endswith("/slow") and not EVENTS["go on"].is_set():
        EVENTS["slow"].set()
        await asyncio.sleep(0.005)
    await send({"type": "http.response.body", "body": f"{late.ask()} {words.SAID}".encode()})
"""
LATE = "def ask():\n    from NAME import words\n    return words.SAID\n"


_numbers = count()


class Package:
    """What sites mount: a package in the working directory, of a name that no other test has."""

    def __init__(self, here: Path) -> None:
        self.name = f"mounted_{next(_numbers)}"
        self.path = here / self.name
        self.path.mkdir()
        for name, source in {"__init__": "", "web": ASGI, "late": LATE}.items():
            (self.path / f"{name}.py").write_text(source.replace("NAME", self.name))
        self.say("one")

    def say(self, said: str) -> None:
        (self.path / "words.py").write_text(f"SAID = {said!r}\n")

    def mount(self, prefix: str) -> str:
        """The key of a site that has it there."""
        return f'mount = ["{prefix}={self.name}.web:application"]'


@pytest.fixture
def package(node: Node, monkeypatch: pytest.MonkeyPatch) -> Package:
    monkeypatch.chdir(node.path)
    monkeypatch.syspath_prepend(str(node.path))
    JOURNAL.clear()
    monkeypatch.setattr(node.server.sites, "reload_applications", lambda some, service, told: told(""))
    return Package(node.path)


def test_each_site_has_its_own_version_of_what_it_mounts(
    node: Node, package: Package, reload: Callable[[], str], wait_until: WaitUntil
) -> None:
    a, b = package.mount("/app"), package.mount("/app")
    node.write(a=a)
    assert reload() == ""
    package.say("two")
    node.write(a=a, b=b)
    assert reload() == ""
    with Client(node.server.port) as client, Client(node.server.port) as slow:
        for site, said in (("a", b"one one"), ("b", b"two two")) * 2:
            assert ask(client, site, "/app/x") == said
        slow.send(b"GET /app/slow HTTP/1.1\r\nHost: a.example\r\n\r\n")
        assert EVENTS["slow"].wait(20)
        package.say("three")
        node.write(a=package.mount("/new"), b=b)
        assert reload() == ""
        assert [ask(client, "a", path) for path in ("/new/x", "/app/x")] == [b"three three", b"404"]
        assert ask(client, "b", "/app/x") == b"two two"
        assert "one shutdown" not in JOURNAL
        EVENTS["go on"].set()
        slow.read()
        wait_until(lambda: "one shutdown" in JOURNAL)
        package.say("no luck")
        node.write(a=package.mount("/newer"), b=b)
        assert reload() == "not all sites could be built, the log says why: a"
        assert [ask(client, "a", "/new/x"), ask(client, "b", "/app/x")] == [b"three three", b"two two"]
        node.write(b=b + '\ncache_control = "max-age=9"')
        assert reload() == ""
        wait_until(lambda: "three shutdown" in JOURNAL)
        assert ask(client, "b", "/app/x") == b"two two"
        node.write()
        assert reload() == ""
    wait_until(lambda: not ending())
    assert [
        f"{said} {what}"
        for said, what in (
            ("one", "startup"),
            ("two", "startup"),
            ("three", "startup"),
            ("one", "shutdown"),
            ("three", "shutdown"),
            ("two", "shutdown"),
        )
    ] == JOURNAL
    assert node.modules() == []


def test_a_reload_is_done_when_what_stays_is_loaded_anew_and_says_why_it_is_not(
    node: Node, package: Package, reload: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    sites = node.server.sites
    monkeypatch.setattr(sites, "reload_applications", partial(type(sites).reload_applications, sites))
    folder, words = node.folder("one", "one"), package.path / "words.py"
    node.write(a=package.mount("/app"), b=f'servlets = "{folder}"')
    assert reload() == ""

    def said() -> list[bytes]:
        with Client(node.server.port) as client:
            return [ask(client, "a", "/app/x"), ask(client, "b", "/late")]

    package.say("two")
    assert (reload(), said()) == ("", [b"two two", b"one"])
    words.write_text("1 / 0\n")
    mount = f"mount /app={package.name}.web:application"
    why = f"{package.name}.web cannot be imported: ZeroDivisionError: division by zero ({words}:1)"
    told = f"site a: {node.file}:8:1: {mount}: {why}"
    assert (reload(), said()) == (told, [b"two two", b"one"])
    package.say("three")
    (folder / "_words.py").write_text("1 / 0\n")
    told = "site b: a servlet does not load: one/_words.py:1: ZeroDivisionError: division by zero"
    assert (reload(), said()) == (told, [b"three three", b"one"])
    shutil.rmtree(folder)
    assert (reload(), said()) == (f"site b: servlets: {folder} cannot be read", [b"three three", b"one"])
    node.folder("one", "four")
    assert (reload(), said()) == ("", [b"three three", b"four"])
    monkeypatch.setattr(applications, "LOADED_WITHIN_S", 0.3)
    words.write_text(HANGS)
    told = "site a: its applications have not been loaded within 0.3 s"
    assert (reload(), said()) == (told, [b"three three", b"four"])


COUNTED = """
from tests.support.stage import EVENTS, JOURNAL
JOURNAL.append("begins")
EVENTS["go on"].wait(20)
JOURNAL.append("ends")
"""


def test_few_applications_are_loaded_anew_side_by_side(
    node: Node, reload: Callable[[], str], wait_until: WaitUntil
) -> None:
    folder = node.folder("one", "one", counted=COUNTED + "def get(request):\n    return 'counted'\n")
    node.write(**dict.fromkeys("abcde", f'servlets = "{folder}"'))
    EVENTS["go on"].set()
    assert reload() == ""
    EVENTS["go on"].clear()
    JOURNAL.clear()
    told: list[str] = []
    node.server.reload(told.append)
    wait_until(lambda: len(JOURNAL) >= applications.RELOADED_AT_ONCE)
    with Client(node.server.port) as client:
        assert ask(client, "stays", "/page") == b"stays"
    EVENTS["go on"].set()
    wait_until(lambda: told)
    begun = [JOURNAL[: n + 1].count("begins") - JOURNAL[: n + 1].count("ends") for n in range(len(JOURNAL))]
    assert (told, len(JOURNAL), max(begun)) == ([""], 10, applications.RELOADED_AT_ONCE)


def test_a_mount_that_fails_or_hangs_leaves_the_site_as_it_was_and_holds_up_no_other(
    node: Node,
    package: Package,
    reload: Callable[[], str],
    wait_until: WaitUntil,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    words = package.path / "words.py"
    node.write(a=package.mount("/app"))
    assert reload() == ""
    with Client(node.server.port) as client:
        words.write_text("1 / 0\n")
        node.write(a=package.mount("/new"))
        assert reload() == "not all sites could be built, the log says why: a"
        told = f"mount /new={package.name}.web:application: {package.name}.web cannot be imported: ZeroDivisionError"
        assert re.search(rf"reload: site a is as it was: \S+:\d+:1: {re.escape(told)}", caplog.text)
        assert f"({words}:1)" in caplog.text
        words.write_text(HANGS)
        monkeypatch.setattr(applications, "LOADED_WITHIN_S", 0.5)
        node.write(a=package.mount("/new"))
        assert reload() == "not all sites could be built, the log says why: a"
        assert f"its applications have not loaded within 0.5 s ({words}:3)" in caplog.text
        assert [ask(client, "a", path) for path in ("/app/x", "/new/x")] == [b"one one", b"404"]
        monkeypatch.setattr(applications, "LOADED_WITHIN_S", 20.0)
        node.write(a=package.mount("/new"), b=f'servlets = "{node.folder("two", "two")}"')
        assert reload() == "not all sites could be built, the log says why: a"
        assert [ask(client, "a", "/app/x"), ask(client, "b", "/late")] == [b"one one", b"two"]
        package.say("two")
        EVENTS["go on"].set()
        wait_until(lambda: not [name for name in ending() if name.startswith("zcserve-load-")])
        assert [ask(client, "a", path) for path in ("/app/x", "/new/x")] == [b"one one", b"404"]
        assert reload() == ""
        assert [ask(client, "a", path) for path in ("/app/x", "/new/x")] == [b"404", b"two two"]


def test_ten_reloads_beside_a_flood_lose_nothing_and_leave_nothing(
    node: Node, package: Package, reload: Callable[[], str], wait_until: WaitUntil
) -> None:
    one, two = node.folder("one", "one", slow=SLOW), node.folder("two", "two")
    keys = f'servlets = "{one}"\n{package.mount("/app")}'
    over = threading.Event()
    asked = [0, 0]

    def flood(number: int, site: str, path: str, said: set[bytes]) -> None:
        with Client(node.server.port) as client:
            while not over.is_set():
                assert ask(client, site, path) in said
                asked[number] += 1

    def all_leave() -> int:
        """How many descriptors are open without these sites."""
        node.write()
        assert reload() == ""
        wait_until(lambda: not ending())
        return open_descriptors()

    node.write(a=keys, c=f'servlets = "{two}"')
    assert reload() == ""
    before = all_leave()
    with ThreadPoolExecutor(2) as pool:
        node.write(c=f'servlets = "{two}"')
        assert reload() == ""
        floods = [
            pool.submit(flood, 0, "stays", "/page", {b"stays"}),
            pool.submit(flood, 1, "c", "/said", {b"two 0", b"one 0"}),
        ]
        try:
            for number in range(10):
                then = list(asked)
                node.write(a=keys, c=f'servlets = "{(one, two)[number % 2]}"')
                assert reload() == ""
                with Client(node.server.port) as client:
                    assert ask(client, "a", "/late") == b"one"
                    assert ask(client, "a", "/app/x") == b"one one"
                node.write(c=f'servlets = "{(one, two)[number % 2]}"\ncache_control = "max-age={number}"')
                assert reload() == ""
                wait_until(lambda then=then: all(map(gt, asked, then)))
        finally:
            over.set()
        for each in floods:
            each.result()
    all_leave()
    wait_until(lambda: open_descriptors() <= before)
    assert node.modules() == []


def test_figures_of_calls_are_of_all_sites_and_do_not_fall(
    node: Node, reload: Callable[[], str], wait_until: WaitUntil
) -> None:
    def calls() -> int:
        outcomes = node.server.sites.applications.outcomes
        lanes = node.server.service.counts().lanes
        return sum(look.times for look in [outcomes.look(), *(lane.calls for lane in lanes)]) if outcomes else -1

    one, two = node.folder("one", "one"), node.folder("two", "two")
    assert calls() == -1
    with Client(node.server.port) as client:
        node.write(a=f'servlets = "{one}"', b=f'servlets = "{two}"')
        assert reload() == ""
        assert [ask(client, site, "/said") for site in "abb"] == [b"one 0", b"two 0", b"two 0"]
        wait_until(lambda: calls() == 3)
        node.write(a=f'servlets = "{two}"')
        assert reload() == ""
        assert ask(client, "a", "/said") == b"two 0"
    wait_until(lambda: calls() == 4)


@pytest.mark.parametrize("engine", ENGINES)
def test_the_only_site_gets_other_servlets_and_loses_them(
    tmp_path: Path, wait_until: WaitUntil, engine: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    folders = []
    for name in ("one", "two"):
        folders.append(tmp_path / name)
        folders[-1].mkdir()
        (folders[-1] / "says.py").write_text(f"def get(request):\n    return {name!r}\n")
    named: dict[str, Any] = {"root": tmp_path, "port": 0, "engine": engine}
    told = [Config(**named)]
    with Server(told[0], lambda: told[-1]) as server, Client(server.port) as client:
        for servlets, said in (
            ("", b"404"),
            (folders[0], b"one"),
            (folders[1], b"two"),
            (folders[0], b"one"),
            ("", b"404"),
        ):
            ends: list[str] = []
            told.append(Config(**named, servlets=str(servlets)))
            server.reload(ends.append)
            wait_until(lambda ends=ends: ends)
            assert (ends[0], ask(client, "any", "/csp?says")) == ("", said)
    wait_until(lambda: not ending())
