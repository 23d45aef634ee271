"""The snapshot: what is told agrees with what clients had, on both engines, with one lane and with two."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.client import Client, Response
from tests.support.engines import ENGINES
from tests.support.site import Serve, Site
from tests.support.stage import StageClient, write_servlets
from tests.support.trees import publish
from tests.support.waiting import WaitUntil
from zcserve import Config, Server
from zcserve.admin import survey
from zcserve.admin.node import Node
from zcserve.admin.snapshot import VERSION, snapshot_of
from zcserve.config.site import SiteTable
from zcserve.net import steps
from zcserve.net.loop import Loop
from zcserve.net.poller import Poller
from zcserve.site import accounts

LANES = [("python", 1), *[("native", lanes) for lanes in (1, 2) if "native" in ENGINES]]
MIB = 1 << 20
SERVLETS = {
    "some": """
    @servlet("/quick")
    def quick(request):
        return "quick"

    @servlet("/threaded", thread=True)
    def threaded(request):
        return "threaded"

    @servlet("/awaited")
    async def awaited(request):
        return "awaited"

    @servlet("/refuses")
    def refuses(request):
        raise HttpError(409, "no")

    @servlet("/fails")
    def fails(request):
        raise ValueError("it fails on purpose")
    """,
}
MOUNTED = """
def wsgi(environ, start_response):
    if environ["PATH_INFO"] == "/fails":
        raise ValueError("it fails on purpose")
    start_response("200 OK", [])
    return iter([b"a ", b"piece"]) if environ["PATH_INFO"] == "/pieces" else [b"whole"]

def write(environ, start_response):
    start_response("200 OK", [])(b"written")
    return []

async def asgi(scope, receive, send):
    if scope["type"] == "http":
        if scope["path"] == "/asgi/fails":
            raise ValueError("it fails on purpose")
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": b"a ", "more_body": scope["path"] == "/asgi/pieces"})
        await send({"type": "http.response.body", "body": b"piece"})
"""
FILES = [
    ("GET", "/page", 200, ""),
    ("HEAD", "/page", 200, ""),
    ("GET", "/page?q=1", 200, ""),
    ("GET", "/page", 304, "If-None-Match: *"),
    ("GET", "/page", 206, "Range: bytes=0-2"),
    ("GET", "/page", 206, "Range: bytes=0-1,3-4"),
    ("GET", "/page", 412, 'If-Match: "other"'),
    ("GET", "/page", 416, "Range: bytes=1000-"),
    ("GET", "/a/", 200, ""),
]
OTHERS = [("GET", "/absent", 404, ""), ("GET", "/a", 301, ""), ("POST", "/page", 405, "Content-Length: 0")]
CALLS = [
    ("/quick", 200), ("/threaded", 200), ("/awaited", 200), ("/refuses", 409), ("/fails", 500), ("/wsgi", 200),
    ("/wsgi/pieces", 200), ("/wsgi/fails", 500), ("/write", 200), ("/asgi", 200), ("/asgi/pieces", 200),
    ("/asgi/fails", 500),
]  # fmt: skip


@pytest.fixture
def look(ask: Callable[..., Response]) -> Callable[[], dict[str, Any]]:
    """One look, as JSON has it."""
    return lambda: json.loads(ask("/stats").body)


@pytest.fixture
def start(site: Site, serve: Serve, socket_path: str, tmp_path: Path) -> Callable[..., Server]:
    """`start(engine, lanes, **config)`: a server of a page, an index, and a file that is too large for memory."""
    site.write("page", b"a page")
    site.write("a/index.html", b"an index")
    site.write("large", bytes(9 * MIB))

    def one(engine: str, lanes: int, **config: Any) -> Server:
        settings = {"memory": 16 * MIB, "slab_bytes": MIB, "admin": f"unix:{socket_path}", "watch": False}
        return serve(site.root, engine=engine, lanes=lanes, **settings | config)

    return one


@pytest.mark.parametrize(("engine", "lanes"), LANES)
def test_the_figures_are_those_that_clients_have_counted(
    start: Callable[..., Server],
    look: Callable[[], Any],
    engine: str,
    lanes: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / f"mounted_{engine}_{lanes}.py").write_text(MOUNTED)
    monkeypatch.syspath_prepend(tmp_path)
    mounts = [f"/{name}=mounted_{engine}_{lanes}:{name}" for name in ("wsgi", "write", "asgi")]
    server = start(engine, lanes, servlets=str(write_servlets(tmp_path, **SERVLETS)), mount=mounts)
    had: Counter[tuple[int, str]] = Counter()
    clients = [StageClient(server.port) for _ in range(4)]
    for client in clients:
        for method, target, status, *lines in FILES * 5 + OTHERS:
            assert client.get(target, *filter(None, lines), method=method).status == status, target
            had[status, method] += 1
        for target, status in CALLS * 2:
            assert client.get(target).status == status
            had[status, "GET"] += 1
    told = look()
    for client in clients:
        client.close()
    assert {(one["code"], one["method"]): one["total"] for one in told["requests"]["by"]} == had
    assert told["requests"]["total"] == had.total()
    assert told["cache"]["hits_total"] == len(clients) * 5 * len(FILES)
    assert told["cache"]["misses_total"] == told["cache"]["loads_total"] == 0
    assert told["servlets"]["calls_total"] == told["servlets"]["duration_s"]["count"] == len(clients) * 2 * len(CALLS)
    assert told["servlets"]["errors_total"] == len(clients) * 2 * 3
    assert told["connections"]["accepted_total"] == told["connections"]["open"] == len(clients)
    assert sum(told["connections"]["by_state"].values()) == len(clients)
    assert [one["lane"] for one in told["lanes_detail"]] == [*range(lanes if engine == "native" else 0)]
    assert sum(one["requests_total"] for one in told["lanes_detail"]) <= had.total()
    assert "it fails on purpose" not in told["warnings"][-1]["text"]  # that is the traceback's
    assert "failed, error" in told["warnings"][-1]["text"]


@pytest.mark.parametrize(("engine", "lanes"), LANES)
def test_lines_that_are_left_out_and_slow_requests_are_counted(
    start: Callable[..., Server],
    look: Callable[[], Any],
    ask: Callable[..., Response],
    engine: str,
    lanes: int,
    tmp_path: Path,
    wait_until: WaitUntil,
) -> None:
    log = tmp_path / "access.log"
    server = start(engine, lanes, access_log=str(log), access_log_sample=10, slow_log_s=0.05)
    with StageClient(server.port) as client:
        for _ in range(100):
            client.get("/page")
        client.send(b"GET /page HTTP/1.1\r\n")
        wait_until(lambda: look()["connections"]["by_state"]["reading"] == 1)
        time.sleep(0.06)  # it is this that is slow
        client.send(b"Host: a\r\n\r\n")
        client.read()
        wait_until(lambda: look()["requests"]["slow_total"] == 1)
    wait_until(lambda: look()["log"]["left_out_lines_total"] + len(log.read_text().splitlines()) == 101)
    text = ask("/metrics").body
    assert b"\nzcserve_http_slow_requests_total 1\n" in text
    assert b"\nzcserve_log_lines_left_out_total 90\n" in text


@pytest.mark.parametrize("engine", ENGINES)
def test_what_does_not_fit_is_a_miss_is_loaded_and_is_named(
    start: Callable[..., Server],
    look: Callable[[], Any],
    engine: str,
    wait_until: WaitUntil,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(survey, "FRESH_S", 0.0)
    monkeypatch.setattr(steps, "SHARE_MAX", 1.0)
    server = start(engine, 1)
    with StageClient(server.port) as client:
        assert len(client.get("/large").body) == 9 * MIB
        for _ in range(3):
            client.get("/page")
    told = look()
    assert told["cache"]["misses_total"] == told["cache"]["loads_total"] == 1
    assert told["cache"]["hits_total"] == 3
    assert told["generation"]["left_out"] == 1
    assert 0 < told["cache"]["resident_bytes"] < told["cache"]["budget_bytes"] == 16 * MIB
    assert told["cache"]["entries"] == 2
    assert told["generation"]["files"] == told["cache"]["files"] == 3

    def is_named() -> bool:
        told = look()
        hot = [one["path"] for one in told["hottest"]]
        return bool(told["does_not_fit"] == [{"path": "/large", "bytes": 9 * MIB}] and hot == ["/page"])

    wait_until(is_named)  # a lane tells of its uses once a second
    with StageClient(server.port) as client:

        def is_drawn() -> Any:
            client.send(b"GET /page HTTP/1.1\r\nHost: a\r\n\r\n" * 100)
            for _ in range(100):
                client.read()
            return look()["cache"]["curve"]

        ratios = [one["hit_ratio"] for one in wait_until(is_drawn)]
    assert ratios == sorted(ratios)


def test_a_generation_and_its_events_are_counted_over_a_reload(
    start: Callable[..., Server], look: Callable[[], Any], site: Site, wait_until: WaitUntil
) -> None:
    server = start("auto", 1, watch=True)
    site.write("new", b"new")
    wait_until(lambda: look()["generation"]["patches_total"] == 1)
    before = look()
    server.reload()
    wait_until(lambda: look()["generation"]["reloads_total"] == 1)
    told = look()
    assert (before["generation"]["number"], told["generation"]["number"]) == (1, 2)
    assert told["generation"]["files"] == 4
    assert told["watcher"]["events_total"] >= before["watcher"]["events_total"] > 0
    assert told["watcher"]["is_watching"] is True
    assert told["release"]["since"] > before["release"]["since"]


def test_of_more_sites_than_are_told_the_others_are_one(
    start: Callable[..., Server], look: Callable[[], Any], site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(accounts, "NAMED_MAX", 2)
    names = ("a", "b", "c", "d")
    tables = (SiteTable(name=name, hosts=(f"{name}.example",), values={"root": site.root}) for name in names)
    server = start("python", 1, sites=tuple(tables))
    for content, misses in zip(server.contents, (1, 2, 4, 8, 16), strict=True):
        content.site.misses += misses
    told = look()["sites"]
    assert [(one["name"], one["misses_total"], one["files"] is None) for one in told] == [
        ("default", 1, False),
        ("a", 2, False),
        ("(others)", 28, True),
    ]


@pytest.mark.parametrize("engine", ENGINES)
def test_each_site_is_told_of_by_itself(
    start: Callable[..., Server],
    look: Callable[[], Any],
    site: Site,
    tmp_path: Path,
    wait_until: WaitUntil,
    engine: str,
) -> None:
    blog = tmp_path / "blog"
    blog.mkdir()
    for number in range(5):
        publish(blog / f"{number}", b"12345")
    for name in ("large", "larger"):
        publish(blog / name, bytes(9 * MIB))
    table = SiteTable(name="blog", hosts=("blog.example",), values={"root": blog})
    server = start(engine, 1, sites=(table,), watch=True)
    with Client(server.port) as client:
        for target, host in (("large", "a"), ("large", "blog"), ("larger", "blog"), ("page", "a")):
            client.send(f"GET /{target} HTTP/1.1\r\nHost: {host}.example\r\n\r\n".encode())
            assert client.read().status == 200
    wait_until(lambda: look()["survey_age_s"] is not None)
    told = look()
    first, second = told["sites"]
    assert [first["name"], second["name"]] == ["default", "blog"]
    assert [second["root"], second["directory"]] == [str(blog), str(blog.resolve())]
    ages = {"generation": first["generation"] | {"age_s": told["generation"]["age_s"]}, "watcher": first["watcher"]}
    assert ages == {key: told[key] for key in ages}
    assert [first["files"], second["files"], told["cache"]["files"]] == [3, 7, 10]
    assert [first["misses_total"], second["misses_total"], told["cache"]["misses_total"]] == [1, 2, 3]
    assert [first["hits_total"], second["hits_total"], told["cache"]["hits_total"]] == [1, 0, 1]
    assert [first["requests_total"], second["requests_total"], told["requests"]["total"]] == [2, 2, 4]
    sizes = [told["requests"]["response_bytes_total"], *(one["response_bytes_total"] for one in (first, second))]
    assert sizes[0] == sizes[1] + sizes[2] > 27 * MIB
    assert [first["resident_bytes"], second["resident_bytes"]] == [len(b"a page") + len(b"an index"), 25]
    publish(blog / "new", b"new")
    wait_until(lambda: look()["sites"][1]["generation"]["patches_total"])
    first, second = look()["sites"]
    assert [second["generation"]["paths"], first["generation"]["patches_total"]] == [8, 0]
    assert second["watcher"]["events_total"] > first["watcher"]["events_total"] == 0


def test_while_the_node_starts_there_are_no_clients_to_tell_of(tmp_path: Path) -> None:
    loop = Loop(Poller())
    told = snapshot_of(Node(Config(root=tmp_path), loop, lambda told: None, lambda told: ""))
    loop.close()
    assert told["version"] == VERSION
    assert told["ready"]["is_ready"] is False
    for part in ("requests", "connections", "cache", "generation", "watcher", "queues", "servlets"):
        assert told[part] is None
    assert told["sites"] == []
    assert told["process"]["cpu_s"] > 0
    json.dumps(told)


def _keys(told: Any, before: str = "") -> set[str]:
    """All keys of objects, with those that they are in."""
    if isinstance(told, list):
        return set().union(*(_keys(one, before) for one in told))
    if not isinstance(told, dict):
        return set()
    found = {f"{before}{key}" for key in told}
    return found.union(*(_keys(value, f"{before}{key}.") for key, value in told.items()))


def test_each_key_is_documented(start: Callable[..., Server], look: Callable[[], Any], tmp_path: Path) -> None:
    start("auto", 1, servlets=str(write_servlets(tmp_path, **SERVLETS)))
    text = (Path(__file__).parents[2] / "docs/admin.md").read_text()
    free = ("connections.shed_total.", "connections.refused_total.", "connections.waits_total.")  # reasons
    for key in _keys(look()):
        if not key.startswith(free):
            assert f"`{key.rpartition('.')[2]}`" in text, f"docs/admin.md does not say what {key} is"
