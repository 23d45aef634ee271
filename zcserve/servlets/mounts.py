"""Existing applications below paths of the site: `--mount /app=package.module:application`.

A mount is its prefix and an application that is imported once, when the server starts, with the working directory first
among the places that are looked at. Whether it is WSGI or ASGI shows in the callable: ASGI's is a coroutine function.
Of several mounts the longest prefix that fits answers; what the site has as a file is not asked here.
"""

from __future__ import annotations

import importlib
import inspect
import os
import re
import sys
import traceback
from collections.abc import Iterable
from functools import partial
from typing import Any, NamedTuple

from zcserve.errors import HttpError, LoadError, UsageError
from zcserve.http import canonical_path
from zcserve.servlets.asgi import Asgi
from zcserve.servlets.context import Context
from zcserve.servlets.wsgi import Wsgi

_ACCEPTED = "accepted: a path, =, a module, : and a name in it, such as /app=package.module:application"
_NAME = r"[^\W\d]\w*(?:\.[^\W\d]\w*)*"
_TARGET = re.compile(rf"({_NAME}):({_NAME})")


class Mount(NamedTuple):
    """`prefix` is canonical and has no slash at its end: b"" for the whole site. `target` is "module:attribute"."""

    prefix: bytes
    target: str


def parse_mount(text: str) -> Mount:
    """A mount from "/app=package.module:application". Nothing is imported. Raises UsageError."""
    path, equals, target = text.rpartition("=")
    if not equals or not _TARGET.fullmatch(target):
        raise UsageError(f"{text!r} is not a mount; {_ACCEPTED}")
    try:
        prefix = canonical_path(path.encode("utf-8", "surrogateescape"))
    except HttpError as error:
        raise UsageError(f"{text!r}: {path!r} is not a path: {error.reason}; {_ACCEPTED}") from None
    return Mount(prefix.rstrip(b"/"), target)


def load(text: str, context: Context) -> Wsgi | Asgi:
    """Import what a mount names. Raises UsageError, LoadError where it cannot be had, that says why."""
    mount = parse_mount(text)
    application = _application(mount.target)
    if not callable(application):
        raise LoadError(f"{mount.target} is {type(application).__name__}, which cannot be called: no application")
    kind = Asgi if is_asgi(application) else Wsgi
    return kind(mount.prefix, f"mount {text}", application, context)


def _application(target: str) -> Any:
    module_name, _, names = target.partition(":")
    here = os.getcwd()
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        found: Any = importlib.import_module(module_name)
    except (Exception, SystemExit) as error:
        raise LoadError(f"{module_name} cannot be imported: {_reason(error)}") from error
    for name in names.split("."):
        try:
            found = getattr(found, name)
        except AttributeError:
            raise LoadError(f"{module_name} has no {names}") from None
    return found


def _reason(error: BaseException) -> str:
    """What went wrong, on one line, and where in the application's own files."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{type(error).__name__}: {error.msg} ({error.filename}, line {error.lineno})"
    said = f"{type(error).__name__}: {' '.join(str(error).split())}"
    last = traceback.extract_tb(error.__traceback__)[-1]
    if last.filename.startswith(("<frozen importlib", importlib.__file__)):
        return said  # it was not found
    return f"{said} ({last.filename}:{last.lineno})"


def is_asgi(application: Any) -> bool:
    """Whether to call it gives a coroutine; of a class, a WSGI application by PEP 3333's own example, it does not."""
    while isinstance(application, partial):
        application = application.func
    return inspect.iscoroutinefunction(application) or inspect.iscoroutinefunction(type(application).__call__)


class Mounts:
    """All applications of a server."""

    def __init__(self, texts: Iterable[str], context: Context, faults: list[str] | None = None) -> None:
        """Imports them. Raises UsageError, for two of one prefix, too; but what does not load goes to `faults`, if they
        are given."""
        found: dict[bytes, Wsgi | Asgi] = {}
        for text in texts:
            try:
                resource = load(text, context)
            except LoadError as error:
                if faults is None:
                    raise
                faults.append(f"mount {text}: {error}")
                continue
            if resource.prefix in found:
                raise UsageError(f"{found[resource.prefix].name} and {resource.name} are for the same path")
            found[resource.prefix] = resource
        self._by_prefix = found
        self._begun: list[Wsgi | Asgi] = []

    def find(self, path: bytes) -> Wsgi | Asgi | None:
        """The application that a canonical path lies below: that of the longest prefix, in whole segments."""
        if not self._by_prefix:
            return None
        prefix = path
        while True:
            if (resource := self._by_prefix.get(prefix)) is not None:
                return resource
            if not prefix:
                return None
            prefix = prefix[: prefix.rfind(b"/")]

    def start(self) -> None:
        """Let each begin. Raises UsageError; those that have begun are to be closed then, too."""
        for resource in self._by_prefix.values():
            resource.start()
            self._begun.append(resource)

    def close(self) -> None:
        """Let those that have begun end, the last first."""
        while self._begun:
            self._begun.pop().close()
