"""Fixtures for content that changes while it is served."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from wire.client import Client, Response

from zcserve import Server


@pytest.fixture(autouse=True)
def _engine_is_built(request: pytest.FixtureRequest) -> None:
    """A test that is parametrized with an `engine` has it, or is skipped."""
    callspec = getattr(request.node, "callspec", None)
    if callspec is not None and callspec.params.get("engine") == "native":
        pytest.importorskip("zcserve.net._lane")


@pytest.fixture(params=["python", "native"])
def engine(request: pytest.FixtureRequest) -> str:
    """The name of each engine that is built."""
    if request.param == "native":
        pytest.importorskip("zcserve.net._lane")
    return str(request.param)


@pytest.fixture(params=["python", "native"])
def live(request: pytest.FixtureRequest, serve: Any) -> Callable[..., Server]:
    """`live(root, **config)`: a server of this engine."""
    if request.param == "native":
        pytest.importorskip("zcserve.net._lane")
    return lambda root, **config: serve(root, **{"engine": request.param} | config)


@pytest.fixture
def becomes(wait_until: Any) -> Callable[..., Response]:
    """`becomes(client, target, body)`: wait until it is answered with this body (None: 404)."""

    def answered(client: Client, target: str, body: bytes | None) -> Response:
        def matches() -> Response | None:
            answer = client.get(target)
            if body is None:
                return answer if answer.status == 404 else None
            return answer if answer.status == 200 and answer.body == body else None

        return wait_until(matches)

    return answered
