"""A server that steps aside answers everything, and each answer is its connection's last, on each engine and in each
lane; until it steps back, and is as it was."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.support.client import Client
from tests.support.following import in_loop
from tests.support.site import Serve, Site
from tests.support.stage import write_servlets
from tests.support.upgrades import StartLine
from tests.support.waiting import WaitUntil
from zcserve import Server

CLIENTS = 8  # with two lanes four in each
SERVLET = """
@servlet("/made")
def get(request):
    return b"made"
"""
ANSWERS = {"/page": b"a page", "/large": b"large " * 50_000, "/made": b"made"}
LAYOUTS: dict[str, dict[str, Any]] = {
    "python": {"engine": "python"},
    "1 lane": {"engine": "native", "lanes": 1},
    "2 lanes": {"lanes": 2},
}


@pytest.fixture(params=LAYOUTS)
def server(request: pytest.FixtureRequest, serve: Serve, site: Site, tmp_path: Path) -> Server:
    if request.param != "python":
        pytest.importorskip("zcserve.net._lane")
    for target in ("/page", "/large"):
        site.write(target[1:], ANSWERS[target])
    folder = write_servlets(tmp_path, it=SERVLET)
    return serve(site.root, servlets=str(folder), **LAYOUTS[request.param])


def closes(client: Client, target: str, *lines: str) -> bool:
    """Whether the answer, which is right, is the connection's last."""
    answer = client.get(target, *lines)
    assert answer.status == 404 if target == "/nowhere" else answer.body == ANSWERS[target]
    is_last = bool(answer["Connection"] == b"close")
    if is_last:
        assert client.at_end()
    return is_last


def test_each_answer_is_its_connections_last_until_the_server_steps_back(server: Server, wait_until: WaitUntil) -> None:
    targets = ["/page", "/large", "/made", "/nowhere"]
    with ExitStack() as stack:
        come: Callable[[], Client] = lambda: stack.enter_context(Client(server.port))  # noqa: E731
        old, stay = ([come() for _ in range(CLIENTS)] for _ in "12")
        assert not any(closes(client, targets[i % 4]) for i, client in enumerate(old + stay))
        for times in range(2):
            assert in_loop(server, server.drain.step_aside)
            assert not in_loop(server, server.drain.step_aside)  # it is so already
            # Another lane hears of it in a turn of its own, and so do clients that are accepted there.
            wait_until(lambda: all(closes(come(), "/page") for _ in range(CLIENTS)))
            if not times:
                assert all(closes(client, targets[i % 4]) for i, client in enumerate(old))
            with Client(server.port) as eager:
                eager.send(b"GET /page HTTP/1.1\r\nHost: test\r\n\r\n" * 3)  # the first is answered, and no more
                assert eager.read()["Connection"] == b"close"
                assert eager.at_end()
            assert server.is_serving
            assert in_loop(server, server.drain.step_back)
            assert not in_loop(server, server.drain.step_back)
            wait_until(lambda: not any(closes(come(), "/page") for _ in range(CLIENTS)))
        assert not any(closes(client, targets[i % 4]) for i, client in enumerate(stay * 2))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_node_that_is_drained_stays_so_in_an_upgrade_until_it_is_undrained(
    site: Site, line: StartLine, tmp_path: Path, wait_until: WaitUntil, layout: str
) -> None:
    if layout != "python":
        pytest.importorskip("zcserve.net._lane")
    site.write("page", ANSWERS["/page"])
    flags = [word for name, value in LAYOUTS[layout].items() for word in (f"--{name}", str(value))]
    node = line(site.root, "--admin", f"unix:{tmp_path / 'admin'}", *flags)

    def ask(method: str, target: str) -> tuple[int, Any]:
        with Client(str(tmp_path / "admin")) as operator:
            body = "Content-Type: application/json\r\nContent-Length: 2\r\n\r\n{}" if method == "POST" else "\r\n"
            operator.send(f"{method} {target} HTTP/1.1\r\nHost: a\r\n{body}".encode())
            answer = operator.read()
        return answer.status, json.loads(answer.body)

    def is_last() -> bool:
        with Client(node.port) as client:
            return closes(client, "/page")

    def all_are(last: bool) -> bool:
        return [is_last() for _ in range(CLIENTS)] == [last] * CLIENTS

    for verb in ("drain", "undrain"):
        is_drained = verb == "drain"
        assert ask("POST", f"/{verb}")[1]["changed"] is True
        node.await_end(node.upgrade())
        wait_until(lambda is_drained=is_drained: all_are(is_drained))
        assert ask("GET", "/readyz")[0] == (503 if is_drained else 200)
        told = {"draining": is_drained, "changed": False, "connections": 0}
        # The end of the last client may be seen late.
        wait_until(lambda verb=verb, told=told: ask("POST", f"/{verb}")[1] == told)
    assert len(node.said(r"process (\d+) was drained, and so is this one")) == 1


def test_a_server_that_stepped_aside_ends_in_order(server: Server, wait_until: WaitUntil) -> None:
    with Client(server.port) as idle:
        assert idle.get("/page").status == 200
        in_loop(server, server.drain.step_aside)
        server.loop.call_soon(server.stop)
        assert idle.at_end()
    wait_until(lambda: not server.is_serving)
