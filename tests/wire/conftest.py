"""Servers of each engine, with applications and with successors, and content that changes while it is served."""

from __future__ import annotations

import asyncio
import itertools
import sys
import threading
import types
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.support.client import Client, Response
from tests.support.command import StartCommand
from tests.support.following import Becomes, Known
from tests.support.site import Serve, Site
from tests.support.stage import ConnectTo, Mounted, NameApplication, StageClient
from tests.support.upgrades import Line, StartLine
from tests.support.waiting import WaitUntil
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
def live(request: pytest.FixtureRequest, serve: Serve) -> Serve:
    """`live(root, **config)`: a server of this engine."""
    if request.param == "native":
        pytest.importorskip("zcserve.net._lane")
    return lambda root, **config: serve(root, **{"engine": request.param} | config)


@pytest.fixture(scope="module", params=["python", "native"])
def lasting_live(request: pytest.FixtureRequest, serve_lasting: Serve) -> Serve:
    """As `live`, until the module's last test."""
    if request.param == "native":
        pytest.importorskip("zcserve.net._lane")
    return lambda root, **config: serve_lasting(root, **{"engine": request.param} | config)


@pytest.fixture
def known() -> Known:
    """`known(server)` waits until all that has changed by now is served."""

    def wait(server: Server) -> None:
        told = threading.Event()
        server.loop.call_soon(lambda: server.content.when_known(told.set))
        assert told.wait(20)

    return wait


@pytest.fixture
def becomes(wait_until: WaitUntil) -> Becomes:
    """`becomes(client, target, body)`: wait until it is answered with this body (None: 404)."""

    def answered(client: Client, target: str, body: bytes | None) -> Response:
        def matches() -> Response | None:
            answer = client.get(target)
            if body is None:
                return answer if answer.status == 404 else None
            return answer if answer.status == 200 and answer.body == body else None

        return wait_until(matches)

    return answered


_numbers = itertools.count()


@pytest.fixture
def module() -> Iterator[NameApplication]:
    """`module(application)`: a target that names it, as "module:application"."""
    made: list[str] = []

    def make(application: Any) -> str:
        name = f"mounted_over_sockets_{next(_numbers)}"
        sys.modules[name] = types.ModuleType(name)
        vars(sys.modules[name])["application"] = application
        made.append(name)
        return f"{name}:application"

    yield make
    for name in made:
        del sys.modules[name]


@pytest.fixture
def mounted(live: Serve, site: Site, module: NameApplication) -> Mounted:
    """`mounted(application, **config)`: a server of this engine that has it at /app."""

    def start(application: Any, **config: Any) -> Server:
        return live(site.root, mount=(f"/app={module(application)}",), **config)

    return start


@pytest.fixture
def client_of() -> Iterator[ConnectTo]:
    """`client_of(server)`: a client that is closed afterwards."""
    clients: list[StageClient] = []

    def connect(server: Server, **more: Any) -> StageClient:
        clients.append(StageClient(server.port, **more))
        return clients[-1]

    yield connect
    for client in clients:
        client.close()


@pytest.fixture
def django_urls() -> Any:
    """Django is configured once in a process."""
    pytest.importorskip("django")
    import django
    from django import http
    from django.conf import settings
    from django.urls import path, reverse

    if not settings.configured:
        settings.configure(
            SECRET_KEY="not a secret",
            ALLOWED_HOSTS=["*"],
            ROOT_URLCONF="django_urls_of_tests",
            MIDDLEWARE=["django.middleware.common.CommonMiddleware"],
            LOGGING_CONFIG=None,
            USE_TZ=True,
        )
        django.setup()
    urls: Any = types.ModuleType("django_urls_of_tests")

    def index(request: Any) -> Any:
        return http.HttpResponse("hello from django")

    def user(request: Any, name: str) -> Any:
        return http.JsonResponse({"name": name, "q": request.GET.getlist("q"), "url": reverse("user", args=["b"])})

    def take(request: Any) -> Any:
        return http.HttpResponseRedirect(reverse("user", args=[request.POST["name"]]))

    def stream(request: Any) -> Any:
        return http.StreamingHttpResponse((f"{n}\n" for n in range(5)), content_type="text/plain")

    async def stream_async(request: Any) -> Any:
        async def pieces() -> Any:
            for n in range(5):
                await asyncio.sleep(0)
                yield f"{n}\n"

        return http.StreamingHttpResponse(pieces(), content_type="text/plain")

    def file(request: Any) -> Any:
        return http.FileResponse(open(request.GET["path"], "rb"), content_type="application/x-large")

    urls.urlpatterns = [
        path("", index),
        path("user/<name>", user, name="user"),
        path("form", take),
        path("stream", stream),
        path("stream-async", stream_async),
        path("file", file),
    ]
    sys.modules["django_urls_of_tests"] = urls
    return urls


@pytest.fixture
def line(command: StartCommand, wait_until: WaitUntil) -> Iterator[StartLine]:
    """`line(root, *flags)`: a server that will be upgraded."""
    with ExitStack() as stack:

        def start(root: Path, *flags: str, **more: Any) -> Line:
            made = Line(command(root, *flags, **more), wait_until)
            stack.callback(made.end)
            return made

        yield start
