"""Decorators, patterns, and the table that finds them."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest

from zcserve.paths import SentPath
from zcserve.servlets.routes import ConflictError, Hole, Route, Table, parse_pattern, routes_of, servlet

SEGMENT, REST = Hole.SEGMENT, Hole.REST


def get(request: object) -> bytes:
    return b"got"


def route(path: str, *methods: str, name: str = "a", where: str = "servlets/a.py:1") -> Route:
    return Route(get, name, frozenset(methods or ("GET", "HEAD")), path, None, False, False, where)


def table(*paths: str) -> Table:
    made = Table()
    for path in paths:
        made.add(route(path))
    return made


def module_of(source: str, name: str = "hello") -> ModuleType:
    """The module that servlets/hello.py would be."""
    module = ModuleType(f"zcserve_servlet_{name}")
    module.__file__ = f"/somewhere/servlets/{name}.py"
    exec(compile("from zcserve.servlets.routes import servlet\n" + source, module.__file__, "exec"), vars(module))
    return module


def told(routes: list[Route]) -> list[tuple[str, str, list[str]]]:
    return [(each.function.__name__, each.path, sorted(each.methods)) for each in routes]


# --- patterns ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "steps", "names"),
    [
        ("/", (b"",), ()),
        ("/a", (b"a",), ()),
        ("/a/", (b"a", b""), ()),
        ("/hello/{name}", (b"hello", SEGMENT), ("name",)),
        ("/{a}/{b}/", (SEGMENT, SEGMENT, b""), ("a", "b")),
        ("/files/{rest:path}", (b"files", REST), ("rest",)),
        ("/{rest:path}", (REST,), ("rest",)),
        ("/café/a b", (b"caf%C3%A9", b"a%20b"), ()),
        ("/caf%c3%a9/%61%20b", (b"caf%C3%A9", b"a%20b"), ()),
        ("/%7Bname%7D", (b"%7Bname%7D",), ()),
        ("/{größe}", (SEGMENT,), ("größe",)),
        ("/a|b/~c", (b"a%7Cb", b"~c"), ()),
    ],
)
def test_a_pattern_is_literals_in_canonical_encoding_and_holes(
    text: str, steps: tuple[object, ...], names: tuple[str, ...]
) -> None:
    assert parse_pattern(text) == (steps, names)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "begin with a slash"),
        ("hello", "begin with a slash"),
        ("/a//b", "no request has the segment ''"),
        ("/a/./b", "no request has"),
        ("/a/..", "no request has"),
        ("/a/%2e%2e/b", "no request has"),
        ("/a%2Fb", "no request has"),
        ("/a?b=c", "bad character"),
        ("/a#b", "bad character"),
        ("/100%", "percent-encoding"),
        ("/%00", "NUL"),
        ("/a/b-{name}", "must be a whole"),
        ("/{name}.html", "must be a whole"),
        ("/{a}{b}", "must be a whole"),
        ("/{name:int}", "must be a whole"),
        ("/{", "must be a whole"),
        ("/{}", "cannot be the name"),
        ("/{1st}", "cannot be the name"),
        ("/{a}/{a}", "two parameters"),
        ("/{rest:path}/edit", "nothing can stand behind"),
        ("/{rest:path}/", "nothing can stand behind"),
    ],
)
def test_a_bad_pattern_says_what_is_wrong_with_it(text: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        servlet(text)


# --- the decorator ----------------------------------------------------------------------------------------


def test_the_decorator_gives_the_function_back() -> None:
    assert servlet("/a")(get) is get
    del get.__servlet__  # type: ignore[attr-defined]

    @servlet
    def bare(request: object) -> str:
        return "bare"

    assert bare(None) == "bare"


def generator(request: object) -> Any:
    yield b""


async def async_generator(request: object) -> Any:
    yield b""


def post(request: object) -> bytes:
    return b""


@pytest.mark.parametrize(
    ("options", "function", "why"),
    [
        ({"path": "/a", "methods": "GET"}, get, "a list of methods"),
        ({"path": "/a", "methods": []}, get, "a list of methods"),
        ({"path": "/a", "methods": ["get"]}, get, "'get' is no method"),
        ({"path": "/a", "methods": ["GET", "FETCH"]}, get, "'FETCH' is no method"),
        ({"ttl": 0}, get, "greater than 0"),
        ({"ttl": -1}, get, "greater than 0"),
        ({"ttl": float("nan")}, get, "greater than 0"),
        ({"ttl": float("inf")}, get, "greater than 0"),
        ({"ttl": 5}, post, "only what GET returns"),
        ({"ttl": 5, "path": "/a", "methods": ["GET", "POST"]}, get, "only what GET returns"),
        ({"ttl": 5, "path": "/a"}, generator, "generator"),
        ({"ttl": 5, "path": "/a"}, async_generator, "generator"),
    ],
)
def test_what_cannot_be_is_a_value_error_at_the_call(
    options: dict[str, Any], function: Callable[..., Any], why: str
) -> None:
    with pytest.raises(ValueError, match=why):
        servlet(**options)(function)
    assert not hasattr(function, "__servlet__")


def test_only_functions_are_servlets() -> None:
    with pytest.raises(TypeError, match="above a function"):
        servlet("/a")(functools.partial(get))
    with pytest.raises(TypeError, match="above a function"):
        servlet(dict)


# --- the routes of a module -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "routes"),
    [
        ("def get(request): ...", [("get", "/csp?hello", ["GET", "HEAD"])]),
        ("async def post(request): ...", [("post", "/csp?hello", ["POST"])]),
        ("get = lambda request: b''", [("<lambda>", "/csp?hello", ["GET", "HEAD"])]),
        ("@servlet\ndef delete(request): ...", [("delete", "/csp?hello", ["DELETE"])]),
        ("@servlet(ttl=5)\ndef get(request): ...", [("get", "/csp?hello", ["GET", "HEAD"])]),
        (
            "@servlet(methods=['PUT', 'POST'])\ndef save(request): ...",
            [("save", "/csp?hello", ["POST", "PUT"])],
        ),
        ("@servlet('/a/{x}')\ndef one(request, x): ...", [("one", "/a/{x}", ["GET", "HEAD"])]),
        ("@servlet('/a/{x}')\ndef get(request, x): ...", [("get", "/a/{x}", ["GET", "HEAD"])]),
        ("@servlet('/a/{x}')\ndef one(request, **params): ...", [("one", "/a/{x}", ["GET", "HEAD"])]),
        (
            "@servlet\n@servlet('/b', methods=['POST'])\n@servlet('/a')\ndef get(request): ...\nagain = get",
            [("get", "/a", ["GET", "HEAD"]), ("get", "/b", ["POST"]), ("get", "/csp?hello", ["GET", "HEAD"])],
        ),
        ("def put(request): ...\ndef patch(request): ...\ndef render(): ...\nclass Get: ...", [
            ("put", "/csp?hello", ["PUT"]),
            ("patch", "/csp?hello", ["PATCH"]),
        ]),
        ("from urllib.request import urlopen as get\ndef post(request): ...", [("post", "/csp?hello", ["POST"])]),
    ],
)  # fmt: skip
def test_the_routes_of_a_module(source: str, routes: list[tuple[str, str, list[str]]]) -> None:
    assert told(routes_of(module_of(source), "hello")) == routes


@pytest.mark.parametrize(
    ("source", "why"),
    [
        ("", "servlets/hello.py has no function of its own named get, post"),
        ("from urllib.request import urlopen as get", "no function of its own"),
        ("def Get(request): ...", "no function of its own"),
        ("def hello(request): ...", "no function of its own"),
        ("@servlet\ndef hello(request): ...", r"servlets/hello.py:2: @servlet above hello needs a path"),
        ("@servlet('/a/{x}')\ndef one(request): ...", r"hello.py:2: one\(request, x=...\) does not fit.*'x'"),
        ("@servlet('/a')\ndef one(request, x): ...", r"one\(request\) does not fit.*'x'"),
        ("@servlet('/a/{request}')\ndef one(request): ...", "does not fit"),
        ("\n\ndef get(): ...", r"hello.py:4: get\(request\) does not fit"),
        (
            "from zcserve_servlet_other import shared",
            "hello.py: shared has @servlet, but is a function of zcserve_servlet_other",
        ),
    ],
)
def test_a_module_without_servlets_says_what_and_where(source: str, why: str, monkeypatch: pytest.MonkeyPatch) -> None:
    other = module_of("@servlet('/shared')\ndef shared(request): ...", "other")
    monkeypatch.setitem(sys.modules, other.__name__, other)
    with pytest.raises(ValueError, match=why):
        routes_of(module_of(source), "hello")


def test_a_route_tells_how_it_runs_and_where_it_stands() -> None:
    source = """
    @servlet("/slow", thread=True)
    def slow(request): ...
    @servlet("/kept", ttl=5)
    def kept(request): ...
    @servlet("/later")
    async def later(request): ...
    @servlet("/feed")
    async def feed(request): yield b""
    """
    slow, kept, later, feed = routes_of(module_of("if True:" + source), "hello")
    assert [each.is_async for each in (slow, kept, later, feed)] == [False, False, True, True]
    assert (slow.thread, kept.thread) == (True, False)
    assert (slow.ttl, kept.ttl) == (None, 5)
    assert slow.where == "servlets/hello.py:3"
    assert kept.name == "hello"


def test_a_wrapped_function_is_known_by_what_it_wraps_and_called_as_its_wrapper() -> None:
    source = """import functools
def with_database(function):
    @functools.wraps(function)
    def wrapper(request, **params):
        return function(request, "database", **params)
    return wrapper

@with_database
@servlet("/a/{x}")
def one(request, database, x): return database + x

@servlet("/b")
@with_database
def two(request, database): return database
"""
    one, two = routes_of(module_of(source), "hello")
    assert one.function(None, x="!") == "database!"
    assert one.where == "servlets/hello.py:9"
    assert two.function(None) == "database"


# --- the table --------------------------------------------------------------------------------------------

HELLO = ("/hello/{name}", "/hello/world", "/hello/{name}/", "/files/{rest:path}", "/files/{name}/info", "/")
BACKTRACK = ("/a/b/c", "/a/{x}/d", "/{y}/b/e", "/{rest:path}")


@pytest.mark.parametrize(
    ("patterns", "path", "pattern", "params"),
    [
        (HELLO, b"/hello/world", "/hello/world", {}),
        (HELLO, b"/hello/you", "/hello/{name}", {"name": "you"}),
        (HELLO, b"/hello/caf%C3%A9", "/hello/{name}", {"name": "café"}),
        (HELLO, b"/hello/100%25", "/hello/{name}", {"name": "100%"}),
        (HELLO, b"/hello/you/", "/hello/{name}/", {"name": "you"}),
        (HELLO, b"/hello/", None, {}),
        (HELLO, b"/hello", None, {}),
        (HELLO, b"/hello/you/too", None, {}),
        (HELLO, b"/files/a", "/files/{rest:path}", {"rest": "a"}),
        (HELLO, b"/files/a/", "/files/{rest:path}", {"rest": "a/"}),
        (HELLO, b"/files/a/info", "/files/{name}/info", {"name": "a"}),
        (HELLO, b"/files/a/b/%3F", "/files/{rest:path}", {"rest": "a/b/?"}),
        (HELLO, b"/files/", None, {}),
        (HELLO, b"/files", None, {}),
        (HELLO, b"/", "/", {}),
        (HELLO, b"/files/a//b/./c%2F../d", "/files/{rest:path}", {"rest": "a//b/./c/../d"}),  # as sent
        (HELLO, b"/files/http://e.com//x", "/files/{rest:path}", {"rest": "http://e.com//x"}),
        (HELLO, b"/files/caf%E9", "/files/{rest:path}", {"rest": "caf\ufffd"}),
        (HELLO, b"//files/../files//a", "/files/{rest:path}", {"rest": "/a"}),
        (HELLO, b"/files/../hello/you", "/hello/{name}", {"name": "you"}),
        (HELLO, b"/files/a/../../x", None, {}),
        (BACKTRACK, b"/a/b/c", "/a/b/c", {}),
        (BACKTRACK, b"/a/b/d", "/a/{x}/d", {"x": "b"}),
        (BACKTRACK, b"/a/b/e", "/{y}/b/e", {"y": "a"}),
        (BACKTRACK, b"/a/b/f", "/{rest:path}", {"rest": "a/b/f"}),
        (BACKTRACK, b"/a", "/{rest:path}", {"rest": "a"}),
        (BACKTRACK, b"/", None, {}),
        (("/caf%c3%a9",), b"/caf%C3%A9", "/caf%c3%a9", {}),
    ],
)
def test_the_table_finds(patterns: tuple[str, ...], path: bytes, pattern: str | None, params: dict[str, str]) -> None:
    match = table(*patterns).find(SentPath(path))
    assert (match and match.by_method["GET"].path) == pattern
    assert (match.params if match else {}) == params


def test_a_path_has_the_routes_of_all_its_methods() -> None:
    made = Table()
    made.add(route("/a/{x}"))
    made.add(route("/a/{x}", "POST", "PUT"))
    match = made.find(SentPath(b"/a/b"))
    assert match is not None
    assert sorted(match.by_method) == ["GET", "HEAD", "POST", "PUT"]


def test_named_servlets_are_found_by_name_and_not_by_path() -> None:
    made = Table()
    made.add(route("/csp?a"))
    made.add(route("/csp?a", "POST"))
    named = made.named("a")
    assert named is not None
    assert sorted(named) == ["GET", "HEAD", "POST"]
    assert made.named("b") is None
    assert made.find(SentPath(b"/csp?a")) is None
    assert made.find(SentPath(b"/csp")) is None


@pytest.mark.parametrize(
    ("first", "second", "why"),
    [
        (route("/a"), route("/a", where="servlets/b.py:2"), "GET /a .servlets/b.py:2. is taken by servlets/a.py:1"),
        (route("/a", "POST"), route("/%61", "PUT", "POST"), "POST /%61"),
        (route("/csp?a"), route("/csp?a", where="servlets/b.py:2"), "servlets/b.py:2. is taken by servlets/a.py:1"),
        (route("/{x}"), route("/{y}", "POST", where="servlets/b.py:2"), "b.py:2. and /{x} .*a.py:1.*alike"),
        (route("/{x:path}"), route("/{y:path}", "POST"), "alike"),
    ],
)
def test_a_conflict_names_both_places_and_changes_nothing(first: Route, second: Route, why: str) -> None:
    made = Table()
    made.add(first)
    with pytest.raises(ConflictError, match=why):
        made.add(second)
    match = made.find(SentPath(b"/a"))
    by_method = match.by_method if match is not None else made.named("a")
    assert by_method is not None
    assert set(by_method.values()) == {first}


def test_parameters_on_the_way_may_have_any_name() -> None:
    made = table("/{x}/a", "/{y}/b")
    for path, params in ((b"/1/a", {"x": "1"}), (b"/1/b", {"y": "1"})):
        match = made.find(SentPath(path))
        assert match is not None
        assert match.params == params


def test_the_path_of_servlets_by_name_is_no_path_of_its_own() -> None:
    with pytest.raises(ValueError, match=r"leave it out, and /csp\?NAME"):
        servlet("/csp")
    servlet("/csp/more")
