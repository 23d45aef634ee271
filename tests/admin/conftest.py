"""Admin listeners of real servers."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from tests.support.client import Client, Response, get
from tests.support.engines import ENGINES
from tests.support.site import Serve, Site
from zcserve import Server

StartAdmin: TypeAlias = Callable[..., Server]
Tell: TypeAlias = Callable[..., tuple[int, Any]]


@pytest.fixture
def socket_path(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Where an admin listener may be: a short path, since the kernel's limit is 107 bytes."""
    return str(tmp_path_factory.mktemp("admin") / "admin.sock")


@pytest.fixture
def page_root(site: Site) -> Path:
    """One page."""
    site.write("page", b"a page")
    return site.root


@pytest.fixture(params=ENGINES)
def node(request: pytest.FixtureRequest, page_root: Path, serve: Serve, socket_path: str) -> Server:
    """A server of each engine with one page, and an admin listener."""
    return serve(page_root, engine=request.param, admin=f"unix:{socket_path}")


@pytest.fixture
def ask(socket_path: str) -> Callable[..., Response]:
    """`ask(target, *lines, method="GET")`: one request."""

    return partial(get, socket_path)


@pytest.fixture
def tell(socket_path: str) -> Tell:
    """`tell(verb, **words)`: the status and the answer's object."""

    def one(verb: str, **words: Any) -> tuple[int, Any]:
        body = json.dumps(words).encode()
        with Client(socket_path) as client:
            fields = f"Host: a\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
            client.send(f"POST /{verb} HTTP/1.1\r\n{fields}".encode() + body)
            response = client.read()
        return response.status, json.loads(response.body)

    return one
