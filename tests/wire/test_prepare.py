"""A release is prepared beside the live one, and flipped to: by either engine, with one lane and two, over sockets."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.client import Client
from tests.support.following import checked
from tests.support.linked import Releases
from tests.support.site import Serve
from zcserve import Server

LAYOUTS: dict[str, dict[str, Any]] = {
    "python": {"engine": "python"},
    "1 lane": {"engine": "native", "lanes": 1},
    "2 lanes": {"engine": "native", "lanes": 2},
}


def tell(server: Server, verb: str, **words: Any) -> tuple[int, Any]:
    body = json.dumps(words).encode()
    with Client(str(server.config.admin).removeprefix("unix:")) as client:
        fields = f"Host: a\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        client.send(f"POST /{verb} HTTP/1.1\r\n{fields}".encode() + body)
        response = client.read()
    return response.status, json.loads(response.body)


def prepare(server: Server, root: Path | None) -> Any:
    status, told = tell(server, "prepare", root=None if root is None else str(root))
    assert status == 200, told
    return told


@pytest.fixture
def releases(tmp_path: Path) -> Releases:
    made = Releases(tmp_path / "releases")
    made.make(1)
    made.point(1)
    return made


@pytest.fixture(params=LAYOUTS)
def start(
    request: pytest.FixtureRequest, serve: Serve, tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., Server]:
    if request.param != "python":
        pytest.importorskip("zcserve.net._lane")
    where = tmp_path_factory.mktemp("admin") / "socket"
    return lambda root, **config: serve(root, **{"admin": f"unix:{where}", **LAYOUTS[request.param], **config})


def test_a_release_is_prepared_and_flipped_to(releases: Releases, start: Callable[..., Server]) -> None:
    server = start(releases.root, keep_generations=1)
    second = releases.make(2)
    with Client(server.port) as client:
        assert client.get("/assets/0.2.js").status == 404
        told = prepare(server, second)
        assert (told["files"], told["share"], told["root"]) == (7, 1.0, str(second))
        assert checked(client.get("/assets/0.2.js")).body == releases.asset(2, 0)
        assert checked(client.get("/")).body == releases.page(1)
        releases.point(2)
        status, _ = tell(server, "reload", wait=True)
        assert status == 200
        assert checked(client.get("/")).body == releases.page(2)
        assert checked(client.get("/assets/0.1.js")).body == releases.asset(1, 0)
