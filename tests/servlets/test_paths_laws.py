"""What WSGI and ASGI applications are told of any path is what PEP 3333 and the ASGI specification say, below a prefix
that is not left. The oracle does not know how the server finds it: it tries each place where the path may be cut."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pytest

from tests.support.connection_side import Side
from zcserve.paths import SentPath
from zcserve.servlets.asgi import Asgi
from zcserve.servlets.mounts import Mounts
from zcserve.servlets.wsgi import Wsgi

pytest.importorskip("hypothesis")
from hypothesis import given, settings
from hypothesis import strategies as st

PIECES = st.sampled_from([
    "/", "/", "//", "app", "in", "x", "..", ".", "%2e", "%2F", "%", "%4", "%00", "%ff", "%C3%A9", "%25", "%252F",
    "%252e", "+", "|", "http:",
])  # fmt: skip
TARGETS = st.builds(
    lambda start, parts: start + "".join(parts),
    st.sampled_from(["/", "/app/", "/app", "/app/in/", "/x/../app/"]),
    st.lists(PIECES),
)
HEX = b"0123456789abcdefABCDEF"


def wsgi(environ: Any, start_response: Any) -> list[bytes]:
    start_response("200 OK", [])
    return [repr((environ["SCRIPT_NAME"], environ["PATH_INFO"], environ["REQUEST_URI"])).encode()]


async def asgi(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200})
    told = repr((scope["root_path"], scope["path"], scope["raw_path"]))
    await send({"type": "http.response.body", "body": told.encode(errors="surrogatepass")})


def decoded(sent: bytes) -> bytes:
    """RFC 3986 section 2.1, byte by byte."""
    out, at = b"", 0
    while at < len(sent):
        digits = sent[at + 1 : at + 3]
        if sent[at] == 0x25 and len(digits) == 2 and all(digit in HEX for digit in digits):
            out += bytes((int(digits, 16),))
            at += 3
        else:
            out += sent[at : at + 1]
            at += 1
    return out


def walked(path: bytes) -> tuple[list[bytes], bool]:
    """The segments that a path leads to, and whether it stays below its beginning."""
    stack: list[bytes] = []
    stays = True
    for segment in path.split(b"/"):
        if segment == b"..":
            stays = stays and bool(stack)
            del stack[-1:]
        elif segment not in (b"", b"."):
            stack.append(segment)
    return stack, stays


def path_info(path: bytes, prefix: list[bytes]) -> bytes | None:
    """What stands behind the prefix; None where the path does not lie below it."""
    if walked(path)[0][: len(prefix)] != prefix:
        return None
    found = [
        path[cut:]
        for cut in range(len(path) + 1)
        if path[cut : cut + 1] in (b"", b"/")
        and path[:cut].endswith(b"/" + prefix[-1])
        and walked(path[:cut])[0] == prefix
        and walked(path[cut:])[1]
    ]
    assert len(found) == 1
    return found[0]


@pytest.fixture(scope="module")
def side(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Side]:
    side = Side(tmp_path_factory.mktemp("root"))
    side.context.tasks.begin()
    yield side
    side.close()


@pytest.mark.parametrize("prefix", [b"/app", b"/app/in"])
def test_applications_are_told_what_the_specifications_say(
    side: Side, monkeypatch: pytest.MonkeyPatch, prefix: bytes
) -> None:
    of_wsgi = Wsgi(prefix, "wsgi", wsgi, side.context)
    of_asgi = Asgi(prefix, "asgi", asgi, side.context)
    module = ModuleType("of_paths")
    vars(module)["wsgi"] = wsgi
    monkeypatch.setitem(sys.modules, "of_paths", module)
    mounts = Mounts([f"{prefix.decode()}=of_paths:wsgi"], side.context)

    @settings(max_examples=200)
    @given(TARGETS)
    def law(target: str) -> None:
        sent = target.encode()
        expected = path_info(decoded(sent), prefix[1:].split(b"/"))
        assert (mounts.find(SentPath(sent).key) is not None) == (expected is not None)
        if expected is None:
            return
        told = ast.literal_eval(side.ask(of_wsgi, target + "?q").content.decode())
        assert told == (prefix.decode(), expected.decode("latin-1"), target + "?q")
        told = ast.literal_eval(side.ask(of_asgi, target + "?q").content.decode())
        assert told == (prefix.decode(), (prefix + expected).decode(errors="replace"), sent)

    law()


def test_the_oracle_cuts_where_people_would() -> None:
    assert path_info(b"/app/a/../b", [b"app"]) == b"/a/../b"
    assert path_info(b"/x/../app/../app//b", [b"app"]) == b"//b"
    assert path_info(b"/app/..", [b"app"]) is None
