"""Which gateway an application speaks is seen in it, whatever it is; and a wrong one is told in a line."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any
from wsgiref.validate import validator

import pytest

from tests.support.connection_side import Side
from zcserve.errors import UsageError
from zcserve.servlets.asgi import Asgi
from zcserve.servlets.gateways import Gateway, gateway_of, is_factory
from zcserve.servlets.mounts import load
from zcserve.servlets.wsgi import Wsgi


async def coroutine(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] != "http":
        raise NotImplementedError
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": scope["path"].encode()})


def plain(environ: Any, start_response: Any) -> list[bytes]:
    start_response("200 OK", [])
    return [(environ["SCRIPT_NAME"] + environ["PATH_INFO"]).encode()]


class Awaited:
    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await coroutine(scope, receive, send)

    async def method(self, scope: Any, receive: Any, send: Any) -> None:
        await coroutine(scope, receive, send)


class Static:
    @staticmethod
    def __call__(scope: Any, receive: Any, send: Any) -> Any:
        return coroutine(scope, receive, send)


class OfItsOwn:
    """As Sentry's middleware: `__call__` is the instance's."""

    __slots__ = ("__call__",)

    def __init__(self, run: Any) -> None:
        self.__call__ = run


class Returns:
    """Calls what it wraps, and is no coroutine function itself."""

    def __init__(self, application: Any) -> None:
        self.application = application

    def __call__(self, scope: Any, receive: Any, send: Any) -> Any:
        return self.application(scope, receive, send)


class AwaitedClass:
    """As Starlette's HTTPEndpoint."""

    def __init__(self, scope: Any, receive: Any, send: Any) -> None:
        self.asked = scope, receive, send

    def __await__(self) -> Iterator[Any]:
        return coroutine(*self.asked).__await__()


class Second:
    """ASGI 2."""

    def __init__(self, scope: Any) -> None:
        self.scope = scope

    async def __call__(self, receive: Any, send: Any) -> None:
        await coroutine(self.scope, receive, send)


def second(scope: Any) -> Any:
    return functools.partial(coroutine, scope)


class Called:
    def __init__(self, environ: Any = None, start_response: Any = None) -> None:
        self.asked = environ, start_response

    def __call__(self, environ: Any, start_response: Any) -> list[bytes]:
        return plain(environ, start_response)

    def method(self, environ: Any, start_response: Any) -> list[bytes]:
        return plain(environ, start_response)

    def __iter__(self) -> Iterator[bytes]:
        return iter(plain(*self.asked))


def wrapped(application: Any) -> Any:
    @functools.wraps(application)
    def call(*args: Any, **kwargs: Any) -> Any:
        return application(*args, **kwargs)

    return call


def passed_on(application: Any) -> Any:
    def call(*args: Any) -> Any:
        return application(*args)

    return call


class WrappedMethod:
    @wrapped
    def method(self, environ: Any, start_response: Any) -> list[bytes]:
        return plain(environ, start_response)


def four(more: Any, scope: Any, receive: Any, send: Any) -> Any:
    return coroutine(scope, receive, send)


ASGI: dict[str, Any] = {
    "a coroutine function": coroutine,
    "an instance": Awaited(),
    "an instance with a static call": Static(),
    "a method": Awaited().method,
    "an instance's own call": OfItsOwn(coroutine),
    "an instance's own method": OfItsOwn(Awaited().method),
    "an instance's own instance": OfItsOwn(Awaited()),
    "an instance that returns a coroutine": Returns(coroutine),
    "a partial": functools.partial(coroutine),
    "a partial of partials": functools.partial(functools.partial(Awaited())),
    "a partial that gives an argument": functools.partial(four, None),
    "a lambda": lambda s, r, w: coroutine(s, r, w),
    "a lambda of any": lambda *a: coroutine(*a),
    "wrapped": wrapped(coroutine),
    "wrapped twice": wrapped(wrapped(Returns(coroutine).__call__)),
    "a wrapped instance": wrapped(functools.partial(Awaited())),
    "passed on": passed_on(Awaited()),
    "a class whose instances are awaited": AwaitedClass,
}
ASGI_2: dict[str, Any] = {"a class": Second, "a function": second, "a lambda": lambda scope: Second(scope)}


class Unbound:
    def __getattr__(self, name: str) -> Any:
        raise RuntimeError("working outside of a request")

    def __call__(self, environ: Any, start_response: Any) -> Any:
        return plain(environ, start_response)


WSGI: dict[str, Any] = {
    "a function": plain,
    "an instance": Called(),
    "a method": Called().method,
    "a class": Called,
    "a partial": functools.partial(plain),
    "a partial of an instance": functools.partial(Called()),
    "a lambda": lambda e, s: plain(e, s),
    "a proxy without what it stands for": Unbound(),
    "wrapped": wrapped(plain),
    "a wrapped method": WrappedMethod().method,
    "passed on": passed_on(plain),
    "an instance's own call": OfItsOwn(plain),
    "a validator": validator(plain),
}


@pytest.fixture
def side(tmp_path: Path) -> Iterator[Side]:
    side = Side(tmp_path)
    side.context.tasks.begin()
    yield side
    side.close()


@pytest.fixture
def mount(side: Side, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Wsgi | Asgi]:
    """`mount(application, told)`: as --mount would have it."""

    def mount(application: Any, told: str = "") -> Wsgi | Asgi:
        module = ModuleType("of_a_gateway")
        vars(module)["a"] = application
        monkeypatch.setitem(sys.modules, "of_a_gateway", module)
        return load(f"/app={told}of_a_gateway:a", side.context)

    return mount


@pytest.mark.parametrize(
    ("application", "gateway"),
    [
        *(pytest.param(each, Gateway.ASGI, id=f"asgi, {name}") for name, each in ASGI.items()),
        *(pytest.param(each, Gateway.ASGI_2, id=f"asgi 2, {name}") for name, each in ASGI_2.items()),
        *(pytest.param(each, Gateway.WSGI, id=f"wsgi, {name}") for name, each in WSGI.items()),
    ],
)
def test_it_is_seen_and_called(
    side: Side, mount: Callable[..., Wsgi | Asgi], application: Any, gateway: Gateway
) -> None:
    assert gateway_of(application) is gateway
    assert not is_factory(application)
    resource = mount(application)
    resource.start()
    if application is not WSGI["a validator"]:  # it wants fields
        assert side.ask(resource, "/app/x").content == b"/app/x"


def test_what_is_told_goes_first(side: Side, mount: Callable[..., Wsgi | Asgi]) -> None:
    assert isinstance(mount(plain, "wsgi:"), Wsgi)
    assert isinstance(mount(lambda *a: plain(*a), "asgi:"), Asgi)
    assert side.ask(mount(Second, "asgi:"), "/app/x").content == b"/app/x"


def test_frameworks_are_seen() -> None:
    flask = pytest.importorskip("flask")
    starlette = pytest.importorskip("starlette.applications")
    application = flask.Flask("seen")
    assert gateway_of(application) is Gateway.WSGI
    assert gateway_of(application.wsgi_app) is Gateway.WSGI
    assert gateway_of(starlette.Starlette()) is Gateway.ASGI
    wsgi = pytest.importorskip("django.core.handlers.wsgi")
    asgi = pytest.importorskip("django.core.handlers.asgi")
    assert gateway_of(wsgi.WSGIHandler.__new__(wsgi.WSGIHandler)) is Gateway.WSGI
    assert gateway_of(asgi.ASGIHandler.__new__(asgi.ASGIHandler)) is Gateway.ASGI


@pytest.mark.parametrize("application", [coroutine, lambda *_: coroutine(None, None, None), lambda s, r, w: None])
def test_a_wrong_wsgi_is_a_line_that_says_how_to_tell(
    side: Side, mount: Callable[..., Wsgi | Asgi], caplog: pytest.LogCaptureFixture, application: Any
) -> None:
    answer = side.ask(mount(application, "wsgi:"), "/app/x")
    assert answer.status == 500
    (record,) = [record for record in caplog.records if record.name.startswith("zcserve")]
    assert "if it is ASGI, write asgi: before its module" in record.getMessage()
    assert "\n" not in record.getMessage()
    assert record.exc_info is None


@pytest.mark.parametrize("application", [plain, Called(), Called, lambda *_: [b"wsgi"]])
def test_a_wrong_asgi_ends_the_start(mount: Callable[..., Wsgi | Asgi], application: Any) -> None:
    with pytest.raises(UsageError, match="if it is WSGI, write wsgi: before its module"):
        mount(application, "asgi:").start()


def test_a_factory_that_looks_like_wsgi_is_a_line_that_says_how_to_tell(
    side: Side, mount: Callable[..., Wsgi | Asgi], caplog: pytest.LogCaptureFixture
) -> None:
    answer = side.ask(mount(lambda name, debug=False: plain), "/app/x")
    assert answer.status == 500
    assert "if it is a factory, write () behind its name" in caplog.text
    assert "Traceback" not in caplog.text


def test_an_error_of_the_applications_own_is_no_wrong_gateway(
    side: Side, mount: Callable[..., Wsgi | Asgi], caplog: pytest.LogCaptureFixture
) -> None:
    def fails(environ: Any, start_response: Any) -> list[bytes]:
        raise TypeError("its own")

    def fails_below(environ: Any, start_response: Any) -> list[bytes]:
        return len()  # type: ignore[call-arg, return-value]

    for application in (fails, fails_below):
        caplog.clear()
        assert side.ask(mount(application), "/app/x").status == 500
        assert "write asgi:" not in caplog.text
        assert "TypeError" in caplog.text


def test_what_makes_an_application_is_no_application() -> None:
    assert is_factory(lambda: plain)
    assert is_factory(lambda config=None: plain)
    assert not is_factory(lambda *a: plain)
