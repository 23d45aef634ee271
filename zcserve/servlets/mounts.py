"""Existing applications below paths of the site: `--mount /app=package.module:application`.

A mount is its prefix and an application that is imported when the server starts, with the working directory first
among the places that are looked at. `module:create_app()` calls a factory, with literals as arguments if need be. How
the application is called shows in the callable (gateways.py), or is told: `/app=asgi:module:application`.
Of several mounts the longest prefix that fits answers; what the site has as a file is not asked here.

When a module changes (remount.py), or at SIGHUP, all applications are imported anew (imports.py), those of ASGI begin,
and then all take the place of the old ones between two turns of the loop. An old one answers what it has begun, and its
lifespan ends behind that. When anything fails, all old ones go on.
"""

from __future__ import annotations

import ast
import gc
import importlib
import os
import re
import sys
import time
import traceback
from collections.abc import Callable, Collection, Iterable
from contextlib import nullcontext
from functools import partial
from typing import Any, NamedTuple

from zcserve.errors import HttpError, LoadError, UsageError, ZcserveError, line_of
from zcserve.http import canonical_path
from zcserve.log import Block, Log, put_back
from zcserve.net import forks
from zcserve.servlets import importers, imports
from zcserve.servlets.asgi import SHUTDOWN_WITHIN_S, Asgi
from zcserve.servlets.context import Context
from zcserve.servlets.folder import told
from zcserve.servlets.gateways import Gateway, gateway_of, is_factory, single
from zcserve.servlets.imports import Imports
from zcserve.servlets.loading import told_when_late
from zcserve.servlets.remount import GATHER_S, Remount
from zcserve.servlets.wsgi import Wsgi
from zcserve.site.exchange import Answer, Exchange

_log = Log(__name__)

# How often files are read again that are written while they are loaded. What goes on for longer is another edit.
LOADS_MAX = 5

_LOADERS = {__file__, imports.__file__, importers.__file__}

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
        raise UsageError(f"--mount: {text!r} is not a mount; {_ACCEPTED}")
    path, told, target, call = match.groups("")
    try:
        prefix = canonical_path(path.encode("utf-8", "surrogateescape"))
    except HttpError as error:
        raise UsageError(f"--mount: {text!r}: {path!r} is not a path: {error.reason}; {_ACCEPTED}") from None
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
    raise UsageError(
        f"--mount: {call!r}: the arguments of a factory are literals, such as (), (1, 'two') or (debug=True)"
    )


def load(text: str, context: Context) -> Wsgi | Asgi:
    """Import what a mount names. Raises UsageError, LoadError where it cannot be had, that says why."""
    mount = parse_mount(text)
    application = _application(mount)
    if not callable(application):
        raise LoadError(
            f"{mount.target}{mount.call} is {type(application).__name__}, which cannot be called: no application"
        )
    if not mount.told and is_factory(application):
        raise LoadError(
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
        raise LoadError(f"{module_name} cannot be imported: {_reason(error)}") from error
    for name in names.split("."):
        try:
            found = getattr(found, name)
        except AttributeError:
            raise LoadError(f"{module_name} has no {names}") from None
        except (Exception, SystemExit) as error:  # a module's own __getattr__
            raise LoadError(f"{module_name} does not give {names}: {_reason(error)}") from error
    if not mount.call:
        return found
    arguments, named = _arguments(mount.call)
    try:
        return found(*arguments, **named)
    except (Exception, SystemExit) as error:
        raise LoadError(f"{mount.target}{mount.call} failed: {_reason(error)}") from error


def _reason(error: BaseException) -> str:
    """What went wrong, on one line, and where in the application's own files."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{line_of(error)} ({error.filename}, line {error.lineno})"
    said = line_of(error)
    last = traceback.extract_tb(error.__traceback__)[-1]
    if last.filename == __file__:
        return said  # what is called takes other arguments
    if last.filename.startswith(("<frozen importlib", importlib.__file__, imports.__file__, importers.__file__)):
        return said  # it was not found
    return f"{said} ({last.filename}:{last.lineno})"


class Mounted:
    """A `Resource` at a prefix: whatever application is there by the time that a request is complete."""

    def __init__(self, current: Wsgi | Asgi) -> None:
        self.current = current
        self.prefix = current.prefix
        self.name = current.name
        self.body_bytes_max = current.body_bytes_max

    def respond(self, exchange: Exchange) -> Answer | None:
        """As `Resource.respond`."""
        return self.current.respond(exchange)


class Mounts:
    """All applications of a server. They are loaded anew together: two that share a module share one version of it."""

    def __init__(
        self, texts: Iterable[str], context: Context, faults: list[str] | None = None, *, beside: bool = False
    ) -> None:
        """Imports them. Raises UsageError, for two of one prefix, too; but what does not load goes to `faults`, if they
        are given. `beside`: the server serves, and files may have changed since some others of theirs were compiled."""
        self._texts = tuple(texts)
        self._context = context
        self._begun: list[Wsgi | Asgi] = []
        self._retiring: list[Wsgi | Asgi] = []  # that were replaced, and may have requests still
        self._remount: Remount | None = None
        self._meanwhile = "nothing is served before it has"
        packages = (parse_mount(text).target.partition(":")[0].partition(".")[0] for text in self._texts)
        self._imports = Imports(os.getcwd(), packages) if self._texts else None
        try:
            with self._imports.afresh(from_sources=beside) if self._imports is not None else nullcontext():
                self._by_prefix = {prefix: Mounted(one) for prefix, one in self._load(faults).items()}
        except BaseException:
            self.close()
            raise
        self._meanwhile = "the last good version goes on"

    def _load(self, faults: list[str] | None = None) -> dict[bytes, Wsgi | Asgi]:
        found: dict[bytes, Wsgi | Asgi] = {}
        here = os.getpid()
        for text in self._texts:
            try:
                with told_when_late(f"mount {text}", self._meanwhile):
                    resource = load(text, self._context)
            except LoadError as error:
                told = f"{self._context.config.places.get('mount', '')}mount {text}: {error}"
                if faults is None:
                    raise LoadError(told) from error.__cause__
                faults.append(told)
                continue
            finally:
                if os.getpid() != here:
                    forks.end()
                put_back()
            if resource.prefix in found:
                raise UsageError(f"{found[resource.prefix].name} and {resource.name} are for the same path")
            found[resource.prefix] = resource
        return found

    def find(self, path: bytes) -> Mounted | None:
        """What a canonical path lies below: the mount with the longest prefix, in whole segments."""
        if not self._by_prefix:
            return None
        prefix = path
        while True:
            if (resource := self._by_prefix.get(prefix)) is not None:
                return resource
            if not prefix:
                return None
            prefix = prefix[: prefix.rfind(b"/")]

    def first_segments(self) -> Collection[bytes] | None:
        """The first segments of the paths that lie below a mount; None: all do."""
        return None if b"" in self._by_prefix else {prefix.split(b"/")[1] for prefix in self._by_prefix}

    def depth(self, path: bytes) -> int:
        """The segments of the prefix that `find` goes by, 0 where it finds nothing."""
        found = self.find(path)
        return found.prefix.count(b"/") if found is not None else 0

    def start(self) -> None:
        """Let each begin. Raises UsageError; those that have begun are to be closed then, too."""
        for mounted in self._by_prefix.values():
            self._begin(mounted.current)
        if self._imports is not None and self._imports.loaded:
            watches = self._context.config.mount_reload
            self._remount = Remount(self._imports, load=self._load_anew, retire=self._retire, watches=watches)
            self._imports.noted = self._remount.look

    def _begin(self, resource: Wsgi | Asgi) -> None:
        with told_when_late(f"{resource.name}, at its startup,", self._meanwhile):
            resource.start()
        self._begun.append(resource)

    def close(self) -> None:
        """Let those that have begun end, the last first."""
        if self._imports is not None:
            self._imports.close()
        if self._remount is not None:
            self._remount.close()
        until = time.monotonic() + SHUTDOWN_WITHIN_S
        for one in reversed(self._begun):
            one.begin_to_end()  # side by side: else each that hangs would have its own time
        while self._begun:
            self._begun.pop().close(until)

    def leave(self) -> None:
        """No request finds them any more: load nothing anew."""
        if self._remount is not None:
            self._remount.end()

    @property
    def is_busy(self) -> bool:
        """After `leave`: whether a call has not returned, wanted or not, of what does not run in the pool, or a load is
        under way."""
        if self._remount is not None and self._remount.is_running:
            return True
        return any(isinstance(one, Asgi) and one.calls for one in list(self._begun))

    def forget_modules(self) -> None:
        """Once it is closed: its modules are not found any more."""
        if self._imports is not None:
            self._imports.forget_modules()

    # --- anew ---------------------------------------------------------------------------------------------

    def reload(self, told: Callable[[str], object]) -> None:
        """Load all anew. Returns at once; `told` hears in the loop, once requests go to what was loaded, why that
        failed, or ""."""
        if self._remount is not None:
            self._remount.ask(lambda why: self._context.call_soon(partial(told, why)))
        else:
            told("")

    def _load_anew(self) -> str:
        """In the thread of `Remount`. What fails leaves everything as it was: why it did, or "". Files that were
        written meanwhile are read again: half of a file, or of an edit, may load and be wrong."""
        for _ in range(LOADS_MAX - 1):
            if (why := self._try_to_load(is_last=False)) is not None:
                return why
            time.sleep(GATHER_S)
        return self._try_to_load(is_last=True) or ""

    def _try_to_load(self, *, is_last: bool) -> str | None:
        """Why that failed, or ""; None: it is to be tried again."""
        assert self._imports is not None
        begun: list[Wsgi | Asgi] = []
        try:
            with self._imports.afresh():
                found = self._load()
                with told_when_late("mounts: a module of theirs", self._meanwhile):
                    self._imports.import_rest()
                if not is_last:
                    self._imports.require_rest()
                for prefix, one in list(found.items()):
                    if one.application is self._by_prefix[prefix].current.application:
                        del found[prefix]  # none of its modules was noted: it goes on
                        continue
                    self._begin(one)
                    begun.append(one)
        except BaseException as error:  # SystemExit, too: an application does not end the server
            for one in reversed(begun):
                self._end(one)
            if not is_last and self._imports.changed():
                return None
            cause = error.__cause__ if isinstance(error, UsageError) else error
            trace = f":\n{told(cause, _LOADERS).rstrip()}" if cause is not None else ""
            said = error if isinstance(error, ZcserveError) else _reason(error)
            _log.error("mounts: the last good version goes on: %s%s", said, Block(trace))
            self._imports.show_lines()
            return str(said)
        self._context.call_soon(partial(self._flip, found))
        return ""

    def _flip(self, found: dict[bytes, Wsgi | Asgi]) -> None:
        """From now on requests go to these. In the loop's thread."""
        for prefix, one in found.items():
            mounted = self._by_prefix[prefix]
            self._retiring.append(mounted.current)
            mounted.current = one
            _log.info("%s loaded again", one.name)
        if (django := sys.modules.get("django.urls")) is not None:
            django.clear_url_caches()  # or it would go on with the views that it has found before
        if self._remount is not None:
            self._remount.look()

    def _retire(self) -> bool:
        """Let those end that were replaced and have no requests; whether others are left."""
        if not self._retiring:
            return False
        self._end_idle()
        if not self._retiring:
            # An application's modules are circles, and may hold much. The collector looks at them when there are many
            # new objects: by then a dozen applications may wait.
            gc.collect()
        return bool(self._retiring)

    def _end_idle(self) -> None:
        for one in list(self._retiring):
            if not (isinstance(one, Asgi) and one.calls):
                self._retiring.remove(one)
                self._end(one)

    def _end(self, one: Wsgi | Asgi) -> None:
        if one in self._begun:  # or the server ends, and has ended it
            self._begun.remove(one)
            one.close()
