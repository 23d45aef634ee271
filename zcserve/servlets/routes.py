"""Which function answers which path: the decorator `servlet`, patterns, and the table that finds them.

A servlet's module says it in one of two ways. A function that is decorated answers what its decorators say, and nothing
else. One that is not, and is named for a method (`def get(request)`), answers /csp?NAME.

A pattern is a path whose segments are literal, `{name}` (one segment, not empty), or at its end `{name:path}` (all that
is left, not empty). Paths are compared in canonical encoding (`zcserve.http.canonical_path`), so that a pattern may be
spelled as its author likes; `{name:path}` gets its part of the path as it was sent (`zcserve.paths`). At each segment a
literal goes before `{name}` and that before `{name:path}`; what leads nowhere is taken back. A trailing slash counts.
Methods take no part: the path alone decides, and 405 is the caller's.

This module calls no servlet and knows neither files nor requests. Odd: the table is a tree, so a search visits a node
once at most, whatever the path; and a pattern without parameters needs no search, since it wins wherever it fits.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from math import inf
from pathlib import PurePath
from types import FunctionType, ModuleType
from typing import Any, Final, NamedTuple, TypeVar, overload
from urllib.parse import quote, unquote

from zcserve.errors import HttpError, ZcserveError
from zcserve.http import KNOWN_METHODS, canonical_path
from zcserve.paths import SentPath

F = TypeVar("F", bound=Callable[..., Any])

# What an undecorated function may be named to answer /csp?NAME; HEAD is made of GET.
NAMED_METHODS: Final = ("GET", "POST", "PUT", "PATCH", "DELETE")

_METHODS = frozenset(method.decode() for method in KNOWN_METHODS)
_PARAMETER = re.compile(r"\{([^{}:]*)(:path)?\}")
_PRINTABLE = "".join(map(chr, range(0x21, 0x7F)))


class ConflictError(ZcserveError):
    """Two functions want the same requests: the message names what and both places."""


@dataclass(frozen=True, slots=True)
class Options:
    """What one decorator says. `path` None stands for /csp?NAME; then no methods stand for the function's name."""

    path: str | None
    methods: tuple[str, ...]
    ttl: float | None
    thread: bool


@dataclass(frozen=True, slots=True)
class Route:
    """A function and the requests that it answers.

    name      the servlet's name, "hello"
    methods   with HEAD where there is GET
    path      its pattern, or "/csp?NAME"
    ttl       seconds for which a result may be kept, None for none
    thread    it may block, so it runs in the pool
    is_async  it is a coroutine function or an asynchronous generator function
    where     "servlets/hello.py:12"
    """

    function: Callable[..., Any]
    name: str
    methods: frozenset[str]
    path: str
    ttl: float | None
    thread: bool
    is_async: bool
    where: str


class Match(NamedTuple):
    """What is at a path: its routes by method, and the path's parameters, decoded. Not to be changed. `open_at`: the
    segments before what `{name:path}` took, None where there is no such parameter."""

    by_method: Mapping[str, Route]
    params: dict[str, str]
    open_at: int | None = None


@overload
def servlet(path: F, /) -> F: ...
@overload
def servlet(
    path: str | None = None, *, methods: Sequence[str] | None = None, ttl: float | None = None, thread: bool = False
) -> Callable[[F], F]: ...
def servlet(
    path: Any = None, *, methods: Sequence[str] | None = None, ttl: float | None = None, thread: bool = False
) -> Any:
    """Make a function answer `path`, a pattern; several of these may stand above one function.

    methods  GET (with HEAD) unless told
    ttl      the result of a GET is for every client, and is kept for so many seconds (zcserve/servlets/results.py): the
             request has method GET, target, query and the path's parameters, but no header lines, cookies or client
    thread   it may block: it runs in a pool of threads

    Without a path it is about /csp?NAME, and without methods the function's name is the method: `@servlet(ttl=5)` or
    plain `@servlet` above `def get(request)`. The function itself comes back, and can be called as before.
    Raises ValueError for what cannot be, TypeError for what is not a function.
    """
    if callable(path):
        return servlet()(path)
    options = Options(path, _checked_methods(path, methods), ttl, thread)
    if path is not None and parse_pattern(path).steps == (b"csp",):
        raise ValueError(f"path {path!r} is for servlets by their names: leave it out, and /csp?NAME leads here")
    if ttl is not None and not 0 < ttl < inf:
        raise ValueError(f"ttl={ttl!r}: a number of seconds greater than 0")

    def mark(function: F) -> F:
        if not isinstance(function, FunctionType):
            raise TypeError(f"@servlet stands above a function, this is {function!r}")
        if ttl is not None:
            _check_ttl(function, options)
        # Not appended: functools.wraps gives the list to other functions, too.
        vars(function)["__servlet__"] = [*vars(function).get("__servlet__", ()), options]
        return function

    return mark


def _checked_methods(path: str | None, methods: Sequence[str] | None) -> tuple[str, ...]:
    if methods is None:
        return () if path is None else ("GET",)
    if isinstance(methods, str) or not methods:
        raise ValueError(f'methods={methods!r}: a list of methods, as ["GET", "POST"]')
    if unknown := set(methods) - _METHODS:
        raise ValueError(f"methods={methods!r}: {min(unknown)!r} is no method (they are upper-case)")
    return tuple(methods)


def _check_ttl(function: FunctionType, options: Options) -> None:
    if set(options.methods or (function.__name__.upper(),)) - {"GET", "HEAD"}:
        raise ValueError(f"ttl={options.ttl!r} above {function.__name__}: only what GET returns can be kept")
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise ValueError(f"ttl={options.ttl!r} above {function.__name__}: a generator's result cannot be kept")


class Hole(Enum):
    """The steps of a pattern that are not literal."""

    SEGMENT = 1
    REST = 2


class Pattern(NamedTuple):
    """`steps` behind the first slash: literals in canonical encoding, and holes. `names` are those of the holes."""

    steps: tuple[bytes | Hole, ...]
    names: tuple[str, ...]


def parse_pattern(text: str) -> Pattern:
    """The pattern that `text` spells. Raises ValueError that says what is wrong with it."""
    if not text.startswith("/"):
        raise ValueError(f"path {text!r} does not begin with a slash")
    steps: list[bytes | Hole] = []
    names: list[str] = []
    pieces = text[1:].split("/")
    for at, piece in enumerate(pieces, 1):
        last = at == len(pieces)
        if (parameter := _PARAMETER.fullmatch(piece)) is None:
            steps.append(_literal(text, piece, last))
            continue
        if not parameter[1].isidentifier():
            raise ValueError(f"path {text!r}: {parameter[1]!r} cannot be the name of a parameter")
        if parameter[1] in names:
            raise ValueError(f"path {text!r} has two parameters {parameter[1]!r}")
        if parameter[2] and not last:
            raise ValueError(f"path {text!r}: {piece} takes all that is left, so nothing can stand behind it")
        steps.append(Hole.REST if parameter[2] else Hole.SEGMENT)
        names.append(parameter[1])
    return Pattern(tuple(steps), tuple(names))


def _literal(text: str, piece: str, last: bool) -> bytes:
    """A segment in canonical encoding; only the last may be empty."""
    if "{" in piece or "}" in piece:
        raise ValueError(
            f"path {text!r}: {piece!r} must be a whole {{name}} or {{name:path}} (a brace itself is %7B, %7D)"
        )
    try:
        canonical = canonical_path(b"/" + quote(piece, safe=_PRINTABLE).encode())[1:]
    except HttpError as error:
        raise ValueError(f"path {text!r}: {error.reason}") from None
    if b"/" in canonical or not (canonical or (last and not piece)):
        raise ValueError(f"path {text!r}: no request has the segment {piece!r} in its path")
    return canonical


class _Node:
    """What may follow some steps: by a literal, by a segment, by all that is left; and the routes that end here."""

    __slots__ = ("by_method", "literals", "names", "open_at", "rest", "segment")

    def __init__(self) -> None:
        self.literals: dict[bytes, _Node] = {}
        self.segment: _Node | None = None
        self.rest: _Node | None = None
        self.names: tuple[str, ...] = ()
        self.open_at: int | None = None
        self.by_method: dict[str, Route] = {}

    def grow(self, step: bytes | Hole) -> _Node:
        """The node behind `step`, made if need be."""
        if step is Hole.SEGMENT:
            self.segment = self.segment or _Node()
            return self.segment
        if step is Hole.REST:
            self.rest = self.rest or _Node()
            return self.rest
        assert isinstance(step, bytes)
        return self.literals.setdefault(step, _Node())

    def search(self, segments: list[bytes], at: int, values: list[bytes]) -> _Node | None:
        """The node at which the segments from `at` on end; `values` gets those that stand in holes."""
        if at == len(segments):
            return self if self.by_method else None
        segment = segments[at]
        below = self.literals.get(segment)
        if below is not None and (end := below.search(segments, at + 1, values)) is not None:
            return end
        if segment and self.segment is not None:
            values.append(segment)
            if (end := self.segment.search(segments, at + 1, values)) is not None:
                return end
            values.pop()
        if self.rest is not None and (rest := b"/".join(segments[at:])):
            values.append(rest)
            return self.rest
        return None


class Table:
    """All routes. Built by `add`, then only read, by any thread."""

    def __init__(self) -> None:
        self._root = _Node()
        self._plain: dict[bytes, Match] = {}  # paths of patterns without parameters
        self._named: dict[str, dict[str, Route]] = {}

    def add(self, route: Route) -> None:
        """Raises ConflictError, and adds nothing, where another route has the same path and one of its methods, or has
        other names for the same parameters."""
        if route.path == f"/csp?{route.name}":
            _put(self._named.setdefault(route.name, {}), route)
            return
        pattern = parse_pattern(route.path)
        node = self._root
        for step in pattern.steps:
            node = node.grow(step)
        for other in node.by_method.values():
            if node.names != pattern.names:
                raise ConflictError(
                    f"{route.path} ({route.where}) and {other.path} ({other.where}): name the parameters alike"
                )
        _put(node.by_method, route)
        node.names = pattern.names
        node.open_at = len(pattern.steps) - 1 if pattern.steps[-1] is Hole.REST else None
        if not pattern.names:
            literals = [step for step in pattern.steps if isinstance(step, bytes)]
            self._plain[b"/" + b"/".join(literals)] = Match(node.by_method, {})

    def find(self, path: SentPath) -> Match | None:
        """What is at `path`; None where there is nothing. All is decided by its key; what {name:path} gets is as
        sent."""
        if (match := self._plain.get(path.key)) is not None:
            return match
        values: list[bytes] = []
        node = self._root.search(path.key.split(b"/"), 1, values)
        if node is None:
            return None
        texts = [unquote(value.decode("ascii")) for value in values]
        if node.open_at is not None:
            texts[-1] = path.behind(node.open_at)[1:].decode(errors="replace")
        return Match(node.by_method, dict(zip(node.names, texts, strict=True)), node.open_at)

    def first_segments(self) -> Collection[bytes] | None:
        """The first segments of all paths that `find` may find something at, as in keys; None: each may be one."""
        root = self._root
        return None if root.segment is not None or root.rest is not None else root.literals.keys()

    def named(self, name: str) -> Mapping[str, Route] | None:
        """The routes of /csp?NAME by method."""
        return self._named.get(name)


def _put(by_method: dict[str, Route], route: Route) -> None:
    for method in sorted(route.methods):
        if (other := by_method.get(method)) is not None:
            raise ConflictError(f"{method} {route.path} ({route.where}) is taken by {other.where}")
    by_method.update(dict.fromkeys(route.methods, route))


def routes_of(module: ModuleType, name: str) -> list[Route]:
    """The routes of the module of servlet `name`, in the order of its functions.

    What is imported from elsewhere is none of the module's, such as a client's `get`. Raises ValueError that says what
    and where: there is no function; one is decorated but belongs elsewhere; one without a path is not named for a
    method; one cannot be called with its path's parameters.
    """
    routes: list[Route] = []
    seen: set[FunctionType] = set()
    for attribute, function in list(vars(module).items()):
        if not isinstance(function, FunctionType):
            continue
        options: list[Options] = vars(function).get("__servlet__", [])
        if not options and attribute.upper() in NAMED_METHODS and attribute.islower():
            if function.__module__ == module.__name__:
                routes.append(_route(function, name, Options(None, (attribute.upper(),), None, False)))
        elif options and function not in seen:
            seen.add(function)
            _require_own(function, attribute, module)
            routes.extend(_route(function, name, each) for each in options)
    if not routes:
        wanted = ", ".join(method.lower() for method in NAMED_METHODS)
        raise ValueError(f"{_file(module)} has no function of its own named {wanted}, and none with @servlet")
    return routes


def _require_own(function: FunctionType, attribute: str, module: ModuleType) -> None:
    if function.__module__ != module.__name__:
        raise ValueError(
            f"{_file(module)}: {attribute} has @servlet, but is a function of {function.__module__}: put @servlet "
            "where it is a servlet (and functools.wraps into decorators that stand below it)"
        )


def _route(function: FunctionType, name: str, options: Options) -> Route:
    where = _where(function)
    methods = options.methods
    if not methods:
        methods = (function.__name__.upper(),)
        if methods[0] not in NAMED_METHODS or not function.__name__.islower():
            raise ValueError(f"{where}: @servlet above {function.__name__} needs a path, or methods for /csp?{name}")
    names = parse_pattern(options.path).names if options.path is not None else ()
    _require_callable(function, names, where)
    return Route(
        function=function,
        name=name,
        methods=frozenset(methods) | ({"HEAD"} if "GET" in methods else set()),
        path=f"/csp?{name}" if options.path is None else options.path,
        ttl=options.ttl,
        thread=options.thread,
        is_async=inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function),
        where=where,
    )


def _require_callable(function: FunctionType, names: Iterable[str], where: str) -> None:
    """That `function(request, **params)` fits. What it wraps may take something else, so that is not asked."""
    try:
        inspect.signature(function, follow_wrapped=False).bind(None, **dict.fromkeys(names, ""))
    except TypeError as error:
        call = ", ".join(["request", *(f"{name}=..." for name in names)])
        raise ValueError(f"{where}: {function.__name__}({call}) does not fit its parameters: {error}") from None


def _where(function: FunctionType) -> str:
    inner = inspect.unwrap(function)
    code = getattr(inner, "__code__", function.__code__)
    return f"{_short(code.co_filename)}:{code.co_firstlineno}"


def _file(module: ModuleType) -> str:
    return _short(getattr(module, "__file__", None) or module.__name__)


def _short(file: str) -> str:
    """A file and the folder it lies in: "servlets/hello.py"."""
    return "/".join(PurePath(file).parts[-2:])
