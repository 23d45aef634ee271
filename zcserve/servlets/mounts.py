"""Existing applications below paths of the site: `--mount /app=package.module:application`.

A mount is its prefix and an application that is imported once, when the server starts, with the working directory first
among the places that are looked at. `module:create_app()` calls a factory, with literals as arguments if need be. How
the application is called shows in the callable (gateways.py), or is told: `/app=asgi:module:application`.
Of several mounts the longest prefix that fits answers; what the site has as a file is not asked here.
"""

from __future__ import annotations

import ast
import importlib
import os
import re
import sys
import traceback
from collections.abc import Iterable
from typing import Any, NamedTuple

from zcserve.errors import HttpError, UsageError
from zcserve.http import canonical_path
from zcserve.servlets.asgi import Asgi
from zcserve.servlets.context import Context
from zcserve.servlets.gateways import Gateway, gateway_of, is_factory, single
from zcserve.servlets.wsgi import Wsgi

_ACCEPTED = (
    "accepted: a path, =, a module, : and a name in it, such as /app=package.module:application, with wsgi: or asgi: "
    "before the module, or () behind a factory's name, if need be"
)
_NAME = r"[^\W\d]\w*(?:\.[^\W\d]\w*)*"
_MOUNT = re.compile(rf"(.*?)=(?:(wsgi|asgi):)?({_NAME}:{_NAME})(\(.*\))?", re.DOTALL)


class Mount(NamedTuple):
    """`prefix` is canonical and has no slash at its end: b"" for the whole site. `target` is "module:attribute".
    `told` is "wsgi", "asgi" or "". `call` are the arguments of a factory, "()", or "" where there is none."""

    prefix: bytes
    target: str
    told: str = ""
    call: str = ""


def parse_mount(text: str) -> Mount:
    """A mount from "/app=package.module:application". Nothing is imported. Raises UsageError."""
    match = _MOUNT.fullmatch(text)
    if match is None:
        raise UsageError(f"{text!r} is not a mount; {_ACCEPTED}")
    path, told, target, call = match.groups("")
    try:
        prefix = canonical_path(path.encode("utf-8", "surrogateescape"))
    except HttpError as error:
        raise UsageError(f"{text!r}: {path!r} is not a path: {error.reason}; {_ACCEPTED}") from None
    if call:
        _arguments(call)
    return Mount(prefix.rstrip(b"/"), target, told, call)


def _arguments(call: str) -> tuple[list[Any], dict[str, Any]]:
    """The arguments that "(1, debug=True)" spells; all are literals. Raises UsageError."""
    try:
        tree = ast.parse(f"f{call}", mode="eval").body
        if isinstance(tree, ast.Call) and isinstance(tree.func, ast.Name):
            named = {keyword.arg: ast.literal_eval(keyword.value) for keyword in tree.keywords}
            if None not in named:  # as `**` has it
                return [ast.literal_eval(each) for each in tree.args], {str(name): named[name] for name in named}
    except (SyntaxError, ValueError, TypeError, MemoryError, RecursionError):
        pass
    raise UsageError(f"{call!r}: the arguments of a factory are literals, such as (), (1, 'two') or (debug=True)")


def load(text: str, context: Context) -> Wsgi | Asgi:
    """Import what a mount names. Raises UsageError that says why it cannot be had."""
    mount = parse_mount(text)
    application = _application(mount)
    if not callable(application):
        raise UsageError(
            f"{mount.target}{mount.call} is {type(application).__name__}, which cannot be called: no application"
        )
    if not mount.told and is_factory(application):
        raise UsageError(
            f"{mount.target}{mount.call} takes no request: if it makes the application, write {mount.target}()"
        )
    gateway = gateway_of(application, mount.told)
    name = f"mount {text}"
    if gateway is Gateway.WSGI:
        return Wsgi(mount.prefix, name, application, context)
    return Asgi(mount.prefix, name, application if gateway is Gateway.ASGI else single(application), context)


def _application(mount: Mount) -> Any:
    module_name, _, names = mount.target.partition(":")
    here = os.getcwd()
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        found: Any = importlib.import_module(module_name)
    except (Exception, SystemExit) as error:
        raise UsageError(f"{module_name} cannot be imported: {_reason(error)}") from error
    for name in names.split("."):
        try:
            found = getattr(found, name)
        except AttributeError:
            raise UsageError(f"{module_name} has no {names}") from None
    if not mount.call:
        return found
    arguments, named = _arguments(mount.call)
    try:
        return found(*arguments, **named)
    except (Exception, SystemExit) as error:
        raise UsageError(f"{mount.target}{mount.call} failed: {_reason(error)}") from error


def _reason(error: BaseException) -> str:
    """What went wrong, on one line, and where in the application's own files."""
    said = ": ".join(filter(None, (type(error).__name__, " ".join(str(error).split()))))
    last = traceback.extract_tb(error.__traceback__)[-1]
    if last.filename == __file__:
        return said  # what is called takes other arguments
    if last.filename.startswith(("<frozen importlib", importlib.__file__)):
        return said  # it was not found
    return f"{said} ({last.filename}:{last.lineno})"


class Mounts:
    """All applications of a server."""

    def __init__(self, texts: Iterable[str], context: Context) -> None:
        """Imports them. Raises UsageError, for two of one prefix, too."""
        found: dict[bytes, Wsgi | Asgi] = {}
        for text in texts:
            resource = load(text, context)
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
