"""Several sites on one server, by the name that a request asks for: what each serves, and what it leaves the others."""

from __future__ import annotations

import re
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.support.client import Client, Response
from tests.support.upgrades import StartLine
from tests.support.waiting import WaitUntil
from zcserve import Config, Server
from zcserve.config.site import SiteTable
from zcserve.errors import UsageError

HELLO = """
from zcserve import servlet

@servlet
def hello(request):
    return "hello"
"""

Start = Callable[..., Server]


class Hoster:
    """Directories, each with a page that names it; and a table for each."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def root(self, name: str, **files: bytes) -> Path:
        root = self.path / name
        root.mkdir(parents=True, exist_ok=True)
        (root / "page").write_bytes(name.encode())
        for file, content in files.items():
            (root / file.replace("_", ".")).write_bytes(content)
        return root

    def table(self, name: str, *hosts: str, **values: Any) -> SiteTable:
        root = values.pop("root", None) or self.root(name)
        return SiteTable(name=name, hosts=hosts or (f"{name}.example",), values={"root": root} | values)


@pytest.fixture
def hoster(tmp_path: Path) -> Hoster:
    return Hoster(tmp_path)


@pytest.fixture
def start(engine: str) -> Iterator[Start]:
    """`start(root=..., sites=...)`: a server of this engine."""
    with ExitStack() as stack:
        named: dict[str, Any] = {"port": 0, "engine": engine}
        yield lambda **config: stack.enter_context(Server(Config(**named, **config)))


def get(client: Client, host: str, target: str = "/page", version: str = "1.1") -> Response:
    lines = [f"GET {target} HTTP/{version}", f"Host: {host}" if host else "Connection: keep-alive"]
    client.send(("\r\n".join(lines) + "\r\n\r\n").encode())
    return client.read()


def ask(client: Client, host: str, target: str = "/page", version: str = "1.1") -> bytes:
    """The status of the answer, and its body."""
    answer = get(client, host, target, version)
    return str(answer.status).encode() + b" " + (answer.body if answer.status == 200 else b"")


def lead(link: Path, release: Path) -> None:
    """Let a root be this release, by the rename of a symlink."""
    aside = link.with_name(link.name + ".new")
    aside.symlink_to(release)
    aside.rename(link)


@pytest.fixture
def server(hoster: Hoster, start: Start) -> Server:
    """A default site, one with nothing but a wildcard, one with a wildcard and a name, and one below that."""
    tables = (
        hoster.table("wild", "*.wild.example"),
        hoster.table("wide", "*.example.org", "wide.example"),
        hoster.table("deep", "*.deep.example.org", "deep.example.org", cache_control="max-age=7", index=("page",)),
    )
    return start(root=hoster.root("www"), hosts=("www.example",), sites=tables, cache_control="no-cache")


def test_a_connection_asks_each_site_by_its_name(server: Server) -> None:
    with Client(server.port) as client:
        for _ in range(2):  # alternating, and again when all is known
            assert ask(client, "www.example") == b"200 www"
            assert ask(client, "WIDE.example:81") == b"200 wide"
            assert ask(client, "a.example.org.") == b"200 wide"
            assert ask(client, "a.wild.example") == b"200 wild"
            assert ask(client, "deep.example.org") == b"200 deep"
            assert ask(client, "a.b.deep.example.org") == b"200 deep"
            assert ask(client, "127.0.0.1") == b"200 www"
            assert ask(client, "www.example", "http://deep.example.org/page") == b"200 deep"
            assert ask(client, "deep.example.org", "http://other.example/page?q") == b"200 www"
            assert ask(client, "deep.example.org", "/") == b"200 deep"
            assert ask(client, "wide.example", "/") == b"404 "
            assert ask(client, "", "/page", "1.0") == b"200 www"


def test_requests_in_a_pipe_are_for_different_sites(server: Server) -> None:
    hosts = ["www.example", "wide.example", "deep.example.org"] * 20
    with Client(server.port) as client:
        client.send(b"".join(b"GET /page HTTP/1.1\r\nHost: %b\r\n\r\n" % host.encode() for host in hosts))
        assert [client.read().body for _ in hosts] == [b"www", b"wide", b"deep"] * 20


def test_each_site_sends_its_files_as_its_own_configuration_says(server: Server) -> None:
    with Client(server.port) as client:
        told = [get(client, host)["Cache-Control"] for host in ("www.example", "deep.example.org")]
    assert told == [b"no-cache", b"max-age=7"]


def test_rules_are_one_sites(hoster: Hoster, start: Start) -> None:
    ruled = hoster.table("ruled", rules=({"path": "/page", "set": {"X-A": "b"}},))
    moved = hoster.table("moved", redirects=({"from": "/old/*", "to": "/page"},))
    server = start(root=hoster.root("www"), sites=(ruled, moved))
    with Client(server.port) as client:
        for _ in range(2):
            assert [get(client, f"{name}.example")["X-A"] for name in ("ruled", "moved", "x")] == [b"b", None, None]
            assert [ask(client, f"{name}.example", "/old/1") for name in ("moved", "ruled")] == [b"301 ", b"404 "]


def test_a_name_that_no_site_has_is_misdirected_where_told(hoster: Hoster, start: Start) -> None:
    server = start(root=hoster.root("www"), hosts=("www.example",), unknown_host="421", sites=(hoster.table("blog"),))
    with Client(server.port) as client:
        assert ask(client, "other.example") == b"421 "
        client.send(b"POST /page HTTP/1.1\r\nHost: other.example\r\nContent-Length: 5\r\n\r\nhello")
        assert client.read().status == 421
        assert ask(client, "www.example") == b"200 www"
        assert ask(client, "blog.example") == b"200 blog"
        assert ask(client, "blog.example", "http://other.example/page") == b"421 "
        assert ask(client, "", "/page", "1.0") == b"200 www"


def test_with_sites_alone_all_other_names_are_misdirected(hoster: Hoster, start: Start) -> None:
    server = start(sites=(hoster.table("blog"),))
    with Client(server.port) as client:
        assert ask(client, "blog.example") == b"200 blog"
        assert ask(client, "127.0.0.1") == b"421 "
        assert ask(client, "", "/page", "1.0") == b"421 "


def test_a_site_reloads_beside_a_client_of_another(
    hoster: Hoster, start: Start, wait_until: WaitUntil, caplog: pytest.LogCaptureFixture
) -> None:
    """And one that cannot be built goes on with what it had, by name in the log."""
    caplog.set_level("INFO")
    one, gone = hoster.path / "one", hoster.path / "gone"
    for name in ("one", "one2", "gone"):
        hoster.root(name + "-1")
    lead(one, hoster.path / "one-1")
    lead(gone, hoster.path / "gone-1")
    server = start(root=hoster.root("www"), sites=(hoster.table("one", root=one), hoster.table("gone", root=gone)))
    with Client(server.port) as client:
        assert [ask(client, name + ".example") for name in ("one", "gone", "x")] == [
            b"200 one-1",
            b"200 gone-1",
            b"200 www",
        ]
        (hoster.path / "www" / "page").write_bytes(b"patched")
        wait_until(lambda: ask(client, "x.example") == b"200 patched")
        lead(one, hoster.path / "one2-1")
        gone.unlink()
        server.reload()
        wait_until(lambda: ask(client, "one.example") == b"200 one2-1")
        wait_until(lambda: "site gone: reload failed, the old content goes on" in caplog.text)
        assert ask(client, "gone.example") == b"200 gone-1"
        assert ask(client, "x.example") == b"200 patched"
        wait_until(lambda: "site one: reloaded: 1 file," in caplog.text)


def test_what_is_cold_or_changed_or_pinned_is_its_own_sites(hoster: Hoster, start: Start) -> None:
    """The same paths in two sites are two files, for the fetcher and for pins."""
    here, there = (
        hoster.root(name, file_css=bytes([at]) * 200_000, other_css=bytes([at + 2]) * 200_000)
        for at, name in enumerate(("here", "there"), 1)
    )
    tables = (hoster.table("here", root=here, pin=("file.css",)), hoster.table("there", root=there, pin=()))
    server = start(root=hoster.root("www"), sites=tables, memory="500K", watch=False)
    with Client(server.port) as client:
        for _ in range(2):  # one of these has room beside what is pinned
            assert get(client, "here.example", "/file.css").body == b"\1" * 200_000
            assert get(client, "there.example", "/file.css").body == b"\2" * 200_000
            assert get(client, "there.example", "/other.css").body == b"\4" * 200_000
        (there / "file.css").write_bytes(b"\5" * 200_000)
        assert get(client, "there.example", "/file.css").body == b"\5" * 200_000
        assert get(client, "here.example", "/file.css").body == b"\1" * 200_000
    assert len(server.store.held) == 1


def test_a_site_whose_root_is_missing_is_named_at_the_start(hoster: Hoster) -> None:
    table = SiteTable(
        name="lost",
        hosts=("lost.example",),
        values={"root": hoster.path / "lost"},
        find=lambda word="": f"web.toml:{3 if word == 'root' else 1}:1: ",
    )
    with pytest.raises(UsageError, match=r"^web\.toml:3:1: sites\.lost: root .* does not exist"):
        Server(Config(root=hoster.root("www"), port=0, sites=(table,))).open()


def test_a_grave_line_is_told_with_its_site_and_the_path_of_its_file(hoster: Hoster) -> None:
    table = hoster.table("one")
    root = Path(table.values["root"])
    (root / "_redirects").write_text("/a /b\n/s.txt 404 !\n")
    with pytest.raises(UsageError, match=rf"^site one: {re.escape(str(root))}/_redirects:2:12: "):
        Server(Config(root=hoster.root("www"), port=0, sites=(table,))).open()


def test_what_is_guaranteed_must_be_there_at_the_start(hoster: Hoster) -> None:
    tables = tuple(hoster.table(name) for name in ("one", "two"))
    big = tuple(replace(table, memory_min=20 << 20, find=lambda *_, name=table.name: f"{name}: ") for table in tables)
    with pytest.raises(UsageError, match=r"^two: memory_min: all sites together are guaranteed 40\.0 MiB"):
        Server(Config(root=hoster.root("www"), port=0, memory=32 << 20, sites=big)).open()


def test_a_crawl_of_one_site_leaves_another_its_guarantee(hoster: Hoster, start: Start) -> None:
    """And one site takes no more than its most, at the start, too."""
    files = {f"f{number}": bytes([number]) * 40_000 for number in range(25)}
    kept, capped, crawled = (hoster.root(name, **files) for name in ("kept", "capped", "crawled"))
    tables = (
        replace(hoster.table("kept", root=kept), memory_min=500_000),
        replace(hoster.table("capped", root=capped), memory_max=200_000),
    )
    server = start(root=crawled, sites=tables, memory=1 << 20, watch=False)

    def resident(number: int) -> int:
        """Bytes of content of a site."""
        entries = service.sites[number].live.entries()
        return sum(entry.size for entry in entries if entry.body is not None)

    service = server.service
    assert resident(0) >= 300_000  # the default site, which is loaded first, leaves the others theirs
    assert resident(1) >= 460_000
    with Client(server.port) as client:
        for _ in range(2):
            for host in ("capped.example", "www.example"):
                for name, content in files.items():
                    assert get(client, host, f"/{name}").body == content
                assert resident(1) >= 460_000
                assert resident(2) <= 200_000
        assert resident(0) >= 300_000
        known = server.store.evictions
        for entry in service.sites[1].live.entries():
            if entry.body is not None:
                assert get(client, "kept.example", entry.key.decode()).status == 200
        assert server.store.evictions == known


def test_servlets_are_one_sites(hoster: Hoster, start: Start, tmp_path: Path) -> None:
    folder = tmp_path / "csp"
    folder.mkdir()
    (folder / "hello.py").write_text("def get(request):\n    return 'hello'\n")
    server = start(root=hoster.root("www"), sites=(hoster.table("app", servlets=str(folder)),))
    with Client(server.port) as client:
        for _ in range(2):
            assert ask(client, "app.example", "/csp?hello") == b"200 hello"
            assert ask(client, "www.example", "/csp?hello") == b"404 "
            assert ask(client, "app.example") == b"200 app"


def test_a_hundred_sites_start_and_answer(hoster: Hoster, start: Start) -> None:
    server = start(sites=tuple(hoster.table(f"s{number}") for number in range(100)))
    with Client(server.port) as client:
        for number in range(100):
            assert ask(client, f"S{number}.example") == f"200 s{number}".encode()
    assert server.contents.readiness().is_ready
    assert "serving 100 sites" in server.contents.status()


def test_both_engines_say_the_same_bytes_of_several_sites(hoster: Hoster) -> None:
    pytest.importorskip("zcserve.net._lane")
    heads = [
        b"GET /page HTTP/1.1\r\nHost: %b\r\n\r\n",
        b"HEAD /page HTTP/1.1\r\nHost: %b:80\r\n\r\n",
        b"GET /absent HTTP/1.1\r\nHost: %b\r\n\r\n",
        b"GET /page HTTP/1.1\r\nHost: %b\r\nRange: bytes=1-2\r\n\r\n",
        b"OPTIONS * HTTP/1.1\r\nHost: %b\r\n\r\n",
        b"DELETE /page HTTP/1.1\r\nHost: %b\r\n\r\n",
        b"GET http://%b/page HTTP/1.1\r\nHost: other.example\r\n\r\n",
        b"GET nothing HTTP/1.1\r\nHost: %b\r\nConnection: close\r\n\r\n",
    ]
    root, table = hoster.root("www"), hoster.table("blog")
    hosts = (b"www.example", b"blog.example", b"other.example")
    said: list[list[bytes]] = []
    for engine in ("python", "native"):
        named: Any = {"hosts": ("www.example",), "unknown_host": "421", "engine": engine, "port": 0}
        with Server(Config(root=root, sites=(table,), **named)) as server:
            said.append([_without_date(_all_of(server, head % host)) for host in hosts for head in heads])
    assert said[0] == said[1]


def _all_of(server: Server, head: bytes) -> bytes:
    with socket.create_connection(("127.0.0.1", server.port), 20) as client:
        client.sendall(head)
        client.shutdown(socket.SHUT_WR)
        return b"".join(iter(lambda: client.recv(65536), b""))


def _without_date(sent: bytes) -> bytes:
    return b"\r\n".join(line for line in sent.split(b"\r\n") if not line.startswith((b"Date:", b"Last-Modified:")))


def test_an_upgrade_keeps_all_sites_and_what_they_have_in_memory(
    hoster: Hoster, line: StartLine, wait_until: WaitUntil, engine: str
) -> None:
    file = hoster.path / "web.toml"
    logs = hoster.path / "logs"
    logs.mkdir()
    tables = (
        f'[sites.{name}]\nhosts = ["{name}.example"]\nroot = "{hoster.root(name)}"\naccess_log = "{logs}/{name}"\n'
        for name in ("one", "two")
    )
    file.write_text("".join(f'{table}memory_min = "1M"\nmemory_max = "2M"\n' for table in tables))
    process = line(hoster.root("www"), "--config", str(file), "--engine", engine)
    with Client(process.port) as client:
        assert ask(client, "two.example") == b"200 two"
    process.upgrade()
    assert process.await_said(r"(\d+) resident files taken over") == ["3"]
    with Client(process.port) as client:
        assert [ask(client, f"{name}.example") for name in ("one", "two", "x")] == [b"200 one", b"200 two", b"200 www"]
        (hoster.path / "two" / "page").write_bytes(b"patched")
        wait_until(lambda: ask(client, "two.example") == b"200 patched")
        wait_until(lambda: (logs / "one").read_text().count("GET /page") == 1)
        wait_until(lambda: (logs / "two").read_text().count("GET /page") >= 3)  # one of them before the upgrade


def test_the_lane_answers_for_each_site_by_itself(hoster: Hoster, start: Start, engine: str) -> None:
    if engine == "python":
        return  # there is none
    tables = tuple(hoster.table(name) for name in ("one", "two"))
    server = start(root=hoster.root("www"), sites=tables)
    with Client(server.port) as client:
        names = ("one", "two", "www")

        def bodies(target: str) -> list[bytes]:
            return [ask(client, name + ".example", target) for name in names]

        assert bodies("/page") == [b"200 one", b"200 two", b"200 www"]
        handed = server.service.requests
        for _ in range(10):
            assert bodies("/page?v=1") == [b"200 one", b"200 two", b"200 www"]
            assert bodies("/nothing") == [b"404 "] * 3
        assert server.service.requests == handed
