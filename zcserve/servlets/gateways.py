"""Which gateway an application speaks: WSGI (PEP 3333), ASGI, or ASGI in its second version.

The callable itself tells, whatever it is: a function, a lambda, a method, a partial, a class, an instance, something
wrapped. A coroutine function is ASGI. Of all else the number of positional arguments decides: WSGI passes two, ASGI
three, ASGI 2 one. What takes any number (`*args`) is judged by what it wraps, and where that tells nothing, by an
offer: it is called as a server of ASGI calls it at its start, and is ASGI if that gives something to await.

`--mount /app=asgi:module:application` or `wsgi:` settles it. Calls that show that a gateway was the wrong one raise
`WrongGatewayError`.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator
from enum import Enum
from types import BuiltinFunctionType, FunctionType, MethodType
from typing import Any

from zcserve.errors import HttpError

# How deep is looked for what a callable wraps.
LAYERS_MAX = 32


class Gateway(Enum):
    """How an application is called."""

    WSGI = "wsgi"
    ASGI = "asgi"
    ASGI_2 = "asgi 2"


class WrongGatewayError(HttpError):
    """500: an application does not speak the gateway that it was called by. The reason says how to tell."""

    def __init__(self, called_as: str, what: str) -> None:
        other = "asgi" if called_as == "wsgi" else "wsgi"
        super().__init__(
            500, f"called as {called_as.upper()}, it {what}: if it is {other.upper()}, write {other}: before its module"
        )


def gateway_of(application: Any, told: str = "") -> Gateway:
    """The gateway of what can be called. `told`: "asgi" or "wsgi" where the user says so."""
    if told == "wsgi":
        return Gateway.WSGI
    found = _shown(application)
    if told == "asgi":
        return Gateway.ASGI_2 if found is Gateway.ASGI_2 else Gateway.ASGI
    return found or _offered(application)


def is_factory(application: Any) -> bool:
    """Whether it looks like what makes an application: it can be called without arguments, and not as WSGI or ASGI."""
    return _fits(application, 0) and not _fits(application, 2) and not _fits(application, 3)


def single(application: Callable[[Any], Any]) -> Any:
    """An application of ASGI 2, for callers of ASGI 3."""

    async def application_3(scope: Any, receive: Any, send: Any) -> None:
        await application(scope)(receive, send)

    return application_3


def call_wsgi(application: Callable[..., Any], environ: Any, start_response: Any) -> Any:
    """Call an application of WSGI. Raises WrongGatewayError, HttpError for a factory, and what it raises."""
    result = _call("wsgi", application, environ, start_response)
    if inspect.isawaitable(result):
        _close(result)
        raise WrongGatewayError("wsgi", "returned a coroutine")
    if callable(result) and not hasattr(result, "__iter__"):
        raise HttpError(500, "it returned an application: if it is a factory, write () behind its name")
    return result


def call_asgi(application: Callable[..., Any], scope: Any, receive: Any, send: Any) -> Any:
    """What to await of a call of ASGI. Raises WrongGatewayError, and what the application raises."""
    result = _call("asgi", application, scope, receive, send)
    if not inspect.isawaitable(result):
        _close(result)
        raise WrongGatewayError("asgi", "returned no coroutine")
    return result


def _call(gateway: str, application: Callable[..., Any], *arguments: Any) -> Any:
    try:
        return application(*arguments)
    except TypeError as error:
        own = error.__traceback__ is not None and error.__traceback__.tb_next is not None
        if own or _binds(_called(application), len(arguments), follow_wrapped=False) is not False:
            raise  # the application's own
        raise WrongGatewayError(gateway, f"does not take {len(arguments)} arguments") from None


def _close(result: Any) -> None:
    if callable(close := getattr(result, "close", None)):
        close()


# --- what a callable shows ----------------------------------------------------------------------------------


def _shown(application: Any) -> Gateway | None:
    """What is seen without a call; None for nothing."""
    called = _called(application)
    if inspect.iscoroutinefunction(called):
        return Gateway.ASGI
    if (found := _by_count(called, follow_wrapped=False)) is not None:
        return found
    if any(map(inspect.iscoroutinefunction, [*_layers(application), *_layers(called)])):
        return Gateway.ASGI
    return _by_count(called, follow_wrapped=True) or _by_count(application, follow_wrapped=True)


def _called(application: Any) -> Any:
    """What runs in the end when it is called: of an instance its `__call__`, from a slot of its own, too."""
    for _ in range(LAYERS_MAX):
        if isinstance(application, (FunctionType, MethodType, BuiltinFunctionType, functools.partial, type)):
            break
        call: Any = inspect.getattr_static(type(application), "__call__")  # as it stands there, a staticmethod too
        bound = call.__get__(application, type(application)) if hasattr(call, "__get__") else call
        if not isinstance(bound, (FunctionType, MethodType, functools.partial)):
            break
        application = bound
    return application


def _layers(application: Any) -> Iterator[Any]:
    """What it wraps, from the outside in."""
    for _ in range(LAYERS_MAX):
        inner = application.func if isinstance(application, functools.partial) else _wrapped(application)
        if inner is None:
            return
        application = _called(inner)
        yield application


def _wrapped(application: Any) -> Any:
    try:
        inner = getattr(application, "__wrapped__", None)
    except Exception:  # a `__getattr__` of its own: some proxies raise RuntimeError outside of a request
        return None
    return inner if callable(inner) else None


def _by_count(called: Any, *, follow_wrapped: bool) -> Gateway | None:
    takes = {count for count in range(4) if _binds(called, count, follow_wrapped=follow_wrapped)}
    if 2 in takes and 3 in takes:
        return None  # any number
    if 2 in takes or 3 in takes:
        return Gateway.WSGI if 2 in takes else Gateway.ASGI
    return Gateway.ASGI_2 if takes == {1} else None


def _fits(application: Any, count: int) -> bool:
    return _binds(_called(application), count, follow_wrapped=False) is True


def _binds(called: Any, count: int, *, follow_wrapped: bool) -> bool | None:
    """Whether it can be called with so many positional arguments; None where that cannot be seen."""
    try:
        signature = inspect.signature(called, follow_wrapped=follow_wrapped)
    except Exception:  # TypeError and ValueError, and what a `__getattr__` of its own raises
        return None
    try:
        signature.bind(*range(count))
    except TypeError:
        return False
    return True


def _offered(application: Any) -> Gateway:
    """Offer a lifespan, as a server of ASGI does at its start: what cannot take it raises, or gives nothing to await.
    What it gives is not begun."""

    async def nothing(*_: Any) -> Any: ...

    try:
        result = application({"type": "lifespan", "asgi": {"version": "3.0"}, "state": {}}, nothing, nothing)
        is_asgi = inspect.isawaitable(result)
        _close(result)
    except (Exception, SystemExit):
        return Gateway.WSGI
    return Gateway.ASGI if is_asgi else Gateway.WSGI
