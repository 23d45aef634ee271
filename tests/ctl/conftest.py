"""Nodes to be asked: a real one of each engine, and one that answers what a test says."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from typing import TypeAlias

import pytest

from tests.support.canned import Canned, CannedNode
from tests.support.engines import ENGINES
from tests.support.site import Serve, Site
from zcserve import Server

StartCanned: TypeAlias = Callable[[Mapping[str, Canned]], CannedNode]


@pytest.fixture(autouse=True)
def _no_node_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ZCSERVE_ADMIN", "ZCSERVE_ADMIN_TOKEN_FILE", "ZCSERVE_CONFIG"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def socket_path(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Where an admin listener may be: a short path, since the kernel's limit is 107 bytes."""
    return str(tmp_path_factory.mktemp("ctl") / "admin.sock")


@pytest.fixture(params=ENGINES)
def node(request: pytest.FixtureRequest, site: Site, serve: Serve, socket_path: str) -> Server:
    """A server of each engine with one page, and an admin listener at `socket_path`."""
    site.write("page", b"a page")
    return serve(site.root, engine=request.param, admin=f"unix:{socket_path}")


@pytest.fixture
def canned(socket_path: str) -> Iterator[StartCanned]:
    """`canned(answers)`: a node at `socket_path` that answers so."""
    with ExitStack() as stack:
        yield lambda answers: stack.enter_context(CannedNode(socket_path, answers))
