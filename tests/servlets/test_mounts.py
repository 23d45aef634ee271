"""Mounts: what may be written, what is imported, which application answers."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.connection_side import Side
from zcserve.errors import UsageError
from zcserve.servlets import mounts as mounts_module
from zcserve.servlets.asgi import Asgi
from zcserve.servlets.mounts import Mount, Mounts, load, parse_mount
from zcserve.servlets.wsgi import Wsgi


@pytest.fixture
def side(tmp_path: Path) -> Iterator[Side]:
    side = Side(tmp_path)
    yield side
    side.close()


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str, str], None]]:
    """`write(path, source)`: a Python file in the working directory, whose modules are forgotten afterwards."""
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    monkeypatch.setattr(sys, "path", sys.path[:])
    monkeypatch.setattr(sys, "meta_path", sys.meta_path[:])  # mounts that are not closed bring their modules back
    before = set(sys.modules)

    def write(path: str, source: str) -> None:
        file = here / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(source)

    yield write
    for name in set(sys.modules) - before:
        del sys.modules[name]


@pytest.mark.parametrize(
    ("text", "prefix", "target"),
    [
        ("/app=package.module:application", b"/app", "package.module:application"),
        ("/app/=m:a", b"/app", "m:a"),
        ("/=m:a", b"", "m:a"),
        ("//a/./b/../c//=m:a", b"/a/c", "m:a"),
        ("/a%20b=m:a.b", b"/a%20b", "m:a.b"),
        ("/a%2db=m:a", b"/a-b", "m:a"),
        ("/x=y=m:a", b"/x=y", "m:a"),
    ],
)
def test_a_mount_is_a_canonical_prefix_and_a_target(text: str, prefix: bytes, target: str) -> None:
    assert parse_mount(text) == Mount(prefix, target)


@pytest.mark.parametrize(
    "text",
    [
        "", "/app", "/app=", "/app=module", "/app=module:", "/app=:a", "app=m:a", "=m:a", "/a?b=m:a", "/a b=m:a",
        "/%=m:a", "/%00=m:a", "/ü=m:a", "/\udcff=m:a", "/app=m:a:b", "/app=m/n:a", "/app=.m:a",
        "/app=m.:a",
    ],
)  # fmt: skip
def test_what_is_no_mount_is_told(text: str) -> None:
    with pytest.raises(UsageError, match="accepted: a path, =, a module"):
        parse_mount(text)


@pytest.mark.parametrize(
    ("text", "told", "call"),
    [
        ("/app=asgi:m:a", "asgi", ""),
        ("/app=wsgi:m:a", "wsgi", ""),
        ("/app=m:a()", "", "()"),
        ("/app=asgi:m:a.b(1, 'x', debug=True, size=-2)", "asgi", "(1, 'x', debug=True, size=-2)"),
        ("/app=m:a(x='=y:z')", "", "(x='=y:z')"),
    ],
)
def test_a_mount_may_tell_its_gateway_and_call_a_factory(text: str, told: str, call: str) -> None:
    mount = parse_mount(text)
    assert (mount.prefix, mount.told, mount.call) == (b"/app", told, call)


def test_a_module_may_be_named_as_a_gateway() -> None:
    assert parse_mount("/app=wsgi:application") == Mount(b"/app", "wsgi:application")
    assert parse_mount("/app=asgi:wsgi:application") == Mount(b"/app", "wsgi:application", "asgi")


@pytest.mark.parametrize(
    "call", ["(x)", "(f())", "(__import__('os'))", "(*[1])", "(**{})", "()()", "().b", "(1", "(a=b)"]
)
def test_a_factory_gets_literals_only(call: str) -> None:
    with pytest.raises(UsageError, match=r"accepted: a path|are literals"):
        parse_mount(f"/app=m:a{call}")


WSGI_SOURCE = """
def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [environ["SCRIPT_NAME"].encode()]
class holder:
    application = staticmethod(application)
number = 5
made = []
def create(name="", *, broken=False):
    made.append(name)
    if broken:
        1 / 0
    return application
"""
ASGI_SOURCE = """
seen = []
async def application(scope, receive, send):
    seen.append(scope["type"])
    if scope["type"] == "lifespan":
        while True:
            message = await receive()
            seen.append(message["type"])
            await send({"type": message["type"] + ".complete"})
    await send({"type": "http.response.start", "status": 200})
    await send({"type": "http.response.body", "body": scope["root_path"].encode()})
async def unable(scope, receive, send):
    assert (await receive())["type"] == "lifespan.startup"
    await send({"type": "lifespan.startup.failed", "message": "no luck"})
"""


def test_what_lies_in_the_working_directory_is_imported(side: Side, write: Callable[[str, str], None]) -> None:
    write("mounted_package/__init__.py", "")
    write("mounted_package/wsgi.py", WSGI_SOURCE)
    write("mounted_asgi.py", ASGI_SOURCE)
    wsgi = load("/w=mounted_package.wsgi:holder.application", side.context)
    asgi = load("/a=mounted_asgi:application", side.context)
    assert isinstance(wsgi, Wsgi)
    assert isinstance(asgi, Asgi)
    assert side.ask(wsgi, "/w/x").content == b"/w"
    assert side.ask(asgi, "/a/x").content == b"/a"


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("mounted_nowhere:a", "mounted_nowhere cannot be imported: ModuleNotFoundError: No module named"),
        ("mounted_bad:a", r"mounted_bad cannot be imported: ZeroDivisionError: .* \(.*mounted_bad.py:2\)"),
        ("mounted_typo:a", r"mounted_typo cannot be imported: SyntaxError: .*mounted_typo.py, line 1"),
        ("mounted_exit:a", "mounted_exit cannot be imported: SystemExit: 3"),
        ("mounted_mute:a", r"mounted_mute cannot be imported: Mute \(.*mounted_mute.py:3\)"),
        ("mounted_lazy:a", r"mounted_lazy does not give a: ValueError: two lines \(.*mounted_lazy.py:2\)"),
        ("mounted_good:nothing", "mounted_good has no nothing"),
        ("mounted_good:holder.nothing", "mounted_good has no holder.nothing"),
        ("mounted_good:number", "mounted_good:number is int, which cannot be called"),
        ("mounted_good:create", r"create takes no request: if it makes the application, write mounted_good:create\(\)"),
        (
            "mounted_good:create(broken=True)",
            r"create\(broken=True\) failed: ZeroDivisionError: .* \(.*mounted_good.py:",
        ),
        ("mounted_good:create(1, 2)", r"create\(1, 2\) failed: TypeError: create\(\) takes [^(]*$"),
    ],
)
def test_what_cannot_be_had_is_told_with_its_reason(
    side: Side, write: Callable[[str, str], None], target: str, said: str
) -> None:
    write("mounted_bad.py", "x = 1\n1 / 0\n")
    write("mounted_typo.py", "def\n")
    write("mounted_exit.py", "raise SystemExit(3)\n")
    write("mounted_mute.py", "class Mute(Exception):\n    __str__ = None\nraise Mute\n")
    write("mounted_lazy.py", "def __getattr__(name):\n    raise ValueError('two\\nlines')\n")
    write("mounted_good.py", WSGI_SOURCE)
    with pytest.raises(UsageError, match=said):
        load(f"/app={target}", side.context)


def test_a_factory_is_called_once(side: Side, write: Callable[[str, str], None]) -> None:
    write("mounted_good.py", WSGI_SOURCE)
    wsgi = load("/app=mounted_good:create('x', broken=False)", side.context)
    assert isinstance(wsgi, Wsgi)
    assert [side.ask(wsgi, "/app/x").content for _ in range(2)] == [b"/app"] * 2
    assert sys.modules["mounted_good"].made == ["x"]


def test_the_longest_prefix_answers_in_whole_segments(side: Side, write: Callable[[str, str], None]) -> None:
    write("mounted_good.py", WSGI_SOURCE)
    mounts = Mounts([f"{path}=mounted_good:application" for path in ("/a", "/a/b/c", "/d")], side.context)

    def found(path: bytes) -> bytes | None:
        resource = mounts.find(path)
        return None if resource is None else resource.prefix

    expected = {
        b"/": None, b"/ab": None, b"/x/a": None, b"/a": b"/a", b"/a/": b"/a", b"/a/b": b"/a", b"/a/b/": b"/a",
        b"/a/b/c": b"/a/b/c", b"/a/b/c/d/e": b"/a/b/c", b"/a/b/cd": b"/a", b"/d/x": b"/d",
    }  # fmt: skip
    assert {path: found(path) for path in expected} == expected


def test_a_mount_of_all_answers_what_no_other_does(side: Side, write: Callable[[str, str], None]) -> None:
    write("mounted_good.py", WSGI_SOURCE)
    mounts = Mounts(["/=mounted_good:application", "/a=mounted_good:application"], side.context)
    assert [mounts.find(path).prefix for path in (b"/", b"/x/y", b"/a", b"/ab")] == [b"", b"", b"/a", b""]  # type: ignore[union-attr]
    assert Mounts([], side.context).find(b"/") is None


def test_two_mounts_of_one_path_are_refused(side: Side, write: Callable[[str, str], None]) -> None:
    write("mounted_good.py", WSGI_SOURCE)
    with pytest.raises(UsageError, match="are for the same path"):
        Mounts(["/a=mounted_good:application", "/a/=mounted_good:holder.application"], side.context)


def test_those_that_have_begun_end(side: Side, write: Callable[[str, str], None]) -> None:
    write("mounted_asgi.py", ASGI_SOURCE)
    write("mounted_good.py", WSGI_SOURCE)
    texts = ["/a=mounted_asgi:application", "/w=mounted_good:application", "/u=mounted_asgi:unable"]
    mounts = Mounts(texts, side.context)
    with pytest.raises(UsageError, match="mount /u=mounted_asgi:unable could not start: no luck"):
        mounts.start()
    mounts.close()
    assert sys.modules["mounted_asgi"].seen == ["lifespan", "lifespan.startup", "lifespan.shutdown"]


HANGS = """
import asyncio

async def application(scope, receive, send):
    await receive()
    await send({"type": "lifespan.startup.complete"})
    await receive()
    await asyncio.sleep(60)
"""


def test_those_that_hang_at_the_end_have_one_time_together(
    side: Side, write: Callable[[str, str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mounts_module, "SHUTDOWN_WITHIN_S", 0.1)
    write("mounted_hanging.py", HANGS)
    mounts = Mounts([f"/{number}=mounted_hanging:application" for number in range(30)], side.context)
    mounts.start()
    began = time.monotonic()
    mounts.close()
    assert time.monotonic() - began < 1.5  # not 30 times 0.1 s
