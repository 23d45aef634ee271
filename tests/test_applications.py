"""zcserve.applications: sites with servlets and mounts come, go and change by a reload, beside clients of others."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.client import Client
from tests.support.stage import EVENTS
from tests.support.waiting import WaitUntil
from zcserve import Config, Server
from zcserve.config.sources import load

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
    EVENTS["begun"].set()
    EVENTS["go on"].wait(20)
    return "slow"

@servlet("/pieces", thread=True)
def pieces(request):
    yield "first "
    EVENTS["begun"].set()
    EVENTS["go on"].wait(20)
    yield "last"
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
        self.server = Server(self.read(), self.read)

    def read(self) -> Config:
        return load({"port": 0, "engine": self.engine, "grace_s": 20.0}, {}, self.file)

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
def node(request: pytest.FixtureRequest, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> Iterator[Node]:
    if request.param == "native":
        pytest.importorskip("zcserve.net._lane")
    caplog.set_level("INFO")
    made = Node(tmp_path, request.param)
    with made.server:
        yield made
        for event in list(EVENTS.values()):
            event.set()


@pytest.fixture
def reload(node: Node, wait_until: WaitUntil) -> Callable[[], str]:
    """Reload, and return how it ended."""

    def reload() -> str:
        told: list[str] = []
        node.server.reload(told.append)
        wait_until(lambda: told)
        return told[0]

    return reload


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
    wait_until(lambda: not [name for name in sys.modules if name.startswith("zcserve_servlet_")])
