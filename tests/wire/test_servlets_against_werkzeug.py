"""What a servlet is told of a request, against h11 and werkzeug: generated requests, an echo, on both engines.

h11 writes most requests, and says what they are: method, target, fields, content. werkzeug says what they mean: query,
cookies, forms, files. Where zcserve means something else on purpose, the name in `DIFFERENT` says why, each with a
test of its own; what is generated for the comparison stays clear of these.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote, quote_plus, unquote_to_bytes

import pytest

from tests.support.site import Serve, Site
from tests.support.stage import StageClient, write_servlets
from zcserve import Config, Server

pytest.importorskip("h11")
pytest.importorskip("hypothesis")
pytest.importorskip("werkzeug")
pytest.importorskip("multipart")
import h11
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from werkzeug.wrappers import Request as Meant

METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")
EXAMPLES = 100

ECHO = """
def echo(request):
    form, files = request.form, request.files
    return {
        "method": request.method, "target": request.target, "version": request.version, "path": request.path,
        "query_string": request.query_string, "query": request.query.pairs, "headers": request.headers.pairs,
        "cookies": request.cookies, "body": request.body.hex(), "type": request.content_type,
        "form": form.pairs, "client": request.client,
        "files": [(name, file.filename, file.content_type, file.content.hex()) for name, file in files.pairs],
    }

@servlet("/loop/{rest:path}", methods=["GET", "POST", "PUT", "PATCH", "DELETE"])
def in_loop(request, rest):
    return echo(request)

@servlet("/thread/{rest:path}", methods=["GET", "POST", "PUT", "PATCH", "DELETE"], thread=True)
def in_thread(request, rest):
    return echo(request)
"""


@pytest.fixture(scope="module", params=["python", "native"])
def port(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    if request.param == "native":
        pytest.importorskip("zcserve.net._lane")
    folder = write_servlets(tmp_path_factory.mktemp("echo"), echo=ECHO)
    root = tmp_path_factory.mktemp("site")
    with Server(Config(root=root, port=0, engine=request.param, servlets=str(folder), servlet_slow_s=60.0)) as server:
        yield server.port


class Parsed(NamedTuple):
    """A request as h11 understands it."""

    method: str
    target: str
    fields: list[tuple[str, str]]
    body: bytes


def parsed(data: bytes) -> list[Parsed]:
    """All requests of a stream."""
    server = h11.Connection(h11.SERVER)
    server.receive_data(data)
    found = []
    while isinstance(event := server.next_event(), h11.Request):
        fields = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in event.headers.raw_items()]
        body = b""
        while isinstance(piece := server.next_event(), h11.Data):
            body += bytes(piece.data)
        assert isinstance(piece, h11.EndOfMessage)
        found.append(Parsed(event.method.decode(), event.target.decode(), fields, body))
        server.send(h11.Response(status_code=200, headers=[("Content-Length", "0")]))
        server.send(h11.EndOfMessage())
        server.start_next_cycle()
    return found


def meant(request: Parsed) -> Meant:
    """As werkzeug understands it, through the environ that a WSGI server would make."""
    path, _, query = request.target.partition("?")
    environ: dict[str, Any] = {
        "REQUEST_METHOD": request.method,
        "SCRIPT_NAME": "",
        "PATH_INFO": unquote_to_bytes(path).decode("latin-1"),
        "QUERY_STRING": query,
        "SERVER_NAME": "test",
        "SERVER_PORT": "80",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "wsgi.url_scheme": "http",
        "wsgi.input": io.BytesIO(request.body),
        "CONTENT_LENGTH": str(len(request.body)),
    }
    for name, value in request.fields:
        key = name.upper().replace("-", "_")
        if key == "CONTENT_TYPE":
            environ[key] = value
        elif key not in ("CONTENT_LENGTH", "TRANSFER_ENCODING"):
            joint = "; " if key == "COOKIE" else ", "
            key = f"HTTP_{key}"
            environ[key] = f"{environ[key]}{joint}{value}" if key in environ else value
    return Meant(environ)


def echoes(port: int, data: bytes, count: int = 1, cuts: tuple[int, ...] = ()) -> list[dict[str, Any]]:
    """What the servlet was told; the stream is sent in the pieces that `cuts` make."""
    with StageClient(port) as client:
        at = 0
        for cut in sorted({min(cut, len(data)) for cut in cuts} | {len(data)}):
            client.send(data[at:cut])
            at = cut
        answers = [client.read() for _ in range(count)]
    assert [answer.status for answer in answers] == [200] * count, (data, answers)
    return [json.loads(answer.body) for answer in answers]


def compare(port: int, data: bytes, count: int = 1, cuts: tuple[int, ...] = ()) -> None:
    requests = parsed(data)
    assert len(requests) == count
    for said, request in zip(echoes(port, data, count, cuts), requests, strict=True):
        assert (said["method"], said["target"], said["body"]) == (request.method, request.target, request.body.hex())
        assert said["version"] == "HTTP/1.1"
        assert [tuple(pair) for pair in said["headers"]] == request.fields
        oracle = meant(request)
        assert said["path"] == oracle.path
        assert said["query_string"] == oracle.query_string.decode("latin-1")
        assert by_name(said["query"]) == by_name(oracle.args.items(multi=True))
        assert said["cookies"] == {name: oracle.cookies[name] for name in oracle.cookies}
        assert said["type"] == oracle.mimetype
        assert by_name(said["form"]) == by_name(oracle.form.items(multi=True))
        files = [(name, file.filename, file.mimetype, file.read().hex()) for name, file in oracle.files.items(True)]
        assert by_name(said["files"]) == by_name(files)


def by_name(pairs: Any) -> dict[str, list[tuple[Any, ...]]]:
    """Without the order of different names: werkzeug gives fields back name by name."""
    found: dict[str, list[tuple[Any, ...]]] = {}
    for name, *rest in pairs:
        found.setdefault(name, []).append(tuple(rest))
    return found


# --- requests -------------------------------------------------------------------------------------------------

text = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
segments = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="/\0"), min_size=1, max_size=8).filter(
    lambda segment: segment not in (".", "..")
)
percent = st.sampled_from([quote, lambda text, safe="": "".join(f"%{byte:02x}" for byte in text.encode())])
paths = st.builds(
    lambda place, parts, spell: f"/{place}/" + "/".join(spell(part, safe="") for part in parts),
    st.sampled_from(["loop", "thread"]),
    st.lists(segments, min_size=1, max_size=3),
    percent,
)
urlencoded = st.one_of(
    st.lists(st.tuples(text, text), max_size=6).map(
        lambda pairs: "&".join(f"{quote_plus(name)}={quote_plus(value)}" for name, value in pairs)
    ),
    st.text("ab=&+%;2C3/?:@!$'()*,.~-_0", max_size=20).filter(
        lambda query: _is_utf8(unquote_to_bytes(query))  # else see DIFFERENT
    ),
)


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


targets = st.builds(lambda path, query: path if query is None else f"{path}?{query}", paths, st.none() | urlencoded)

# What decides about the message, or is generated below.
TAKEN = {"host", "connection", "content-length", "transfer-encoding", "expect", "upgrade", "cookie", "content-type",
         "http2-settings", "te", "keep-alive", "proxy-connection"}  # fmt: skip
names = st.text("abcxyzABCXYZ019-!#$%&'*+.^`|~", min_size=1, max_size=12).filter(lambda name: name.lower() not in TAKEN)
values = st.text(st.characters(min_codepoint=0x20, max_codepoint=0xFF, exclude_categories=["Cc"]), max_size=20).map(
    lambda value: value.strip(" ")
)
known = st.sampled_from(
    ["Accept: text/html", "ACCEPT-ENCODING: gzip, br;q=0.5", "If-None-Match: *", "Range: bytes=0-1", "Referer: /x",
     "if-modified-since: Sun, 06 Nov 1994 08:49:37 GMT", "User-Agent: a b", "X-Forwarded-For: 192.0.2.1"]
).map(lambda line: tuple(line.split(": ")))  # fmt: skip
cookie_names = st.text("abcXYZ019-_.!", min_size=1, max_size=6)
cookie_values = st.text("abcXYZ019-_.!=/:%()[]{}?@+", max_size=8)
cookies = st.lists(st.tuples(cookie_names, cookie_values), min_size=1, max_size=4).map(
    lambda pairs: ("Cookie", "; ".join(f"{name}={value}" for name, value in pairs).encode().decode("latin-1"))
)
fields = st.lists(st.one_of(st.tuples(names, values), known, cookies), max_size=6)


def multipart(parts: list[tuple[str, str | None, str | None, bytes]], boundary: str) -> bytes:
    written = []
    for name, filename, kind, content in parts:
        lines = [f'Content-Disposition: form-data; name="{name}"' + (f'; filename="{filename}"' if filename else "")]
        lines += [f"Content-Type: {kind}"] if kind else []
        written.append(f"--{boundary}\r\n".encode() + "\r\n".join(lines).encode() + b"\r\n\r\n" + content + b"\r\n")
    return b"".join(written) + f"--{boundary}--\r\n".encode()


labels = st.text("abcxyz 019-_.ü€[]", min_size=1, max_size=8).map(str.strip).filter(bool)
contents = st.binary(max_size=60).filter(lambda content: b"\r\n--" not in content) | text.map(str.encode)
kinds = st.sampled_from(["text/plain", "image/png"])
part = st.tuples(labels, st.none(), st.none() | kinds, contents) | st.tuples(labels, labels, kinds, contents)
bodies = st.one_of(
    st.just((None, b"")),
    st.tuples(
        st.sampled_from([None, "application/json", "text/plain; charset=utf-8", "Image/PNG"]), st.binary(max_size=300)
    ),
    st.tuples(
        st.sampled_from(["application/x-www-form-urlencoded", "Application/X-WWW-Form-URLEncoded; charset=utf-8"]),
        urlencoded.map(str.encode),
    ),
    st.builds(
        lambda parts, boundary: (f"multipart/form-data; boundary={boundary}", multipart(parts, boundary)),
        st.lists(part, min_size=1, max_size=4),
        st.sampled_from(["b", "----WebKitFormBoundary7MA4YWxkTrZu0gW"]),
    ),
)


def written(
    method: str, target: str, fields: list[tuple[str, str]], body: tuple[str | None, bytes], chunk: int | None
) -> bytes:
    """A request as h11 writes it: counted, or in chunks."""
    kind, content = body
    lines = [("Host", "test"), *fields, *([("Content-Type", kind)] if kind else [])]
    if chunk is not None:
        lines.append(("Transfer-Encoding", "chunked"))
    elif content or method != "GET":
        lines.append(("Content-Length", str(len(content))))
    client = h11.Connection(h11.CLIENT)
    encoded = [(name.encode(), value.encode("latin-1")) for name, value in lines]
    data = client.send(h11.Request(method=method, target=target, headers=encoded))
    if chunk is None:
        pieces = [content] if content else []
    else:
        pieces = [content[at : at + chunk] for at in range(0, len(content), chunk)]
    for piece in pieces:
        data += client.send(h11.Data(data=piece))
    return bytes(data + client.send(h11.EndOfMessage()))


requests = st.builds(written, st.sampled_from(METHODS), targets, fields, bodies, st.none() | st.integers(1, 40))
law = settings(max_examples=EXAMPLES, deadline=None, database=None, suppress_health_check=list(HealthCheck))


@law
@given(requests)
def test_a_request_means_what_it_means_to_others(port: int, data: bytes) -> None:
    compare(port, data)


@law
@given(st.lists(requests, min_size=2, max_size=5), st.lists(st.integers(1, 2000), max_size=4))
def test_a_pipeline_means_what_its_requests_mean(port: int, stream: list[bytes], cuts: list[int]) -> None:
    compare(port, b"".join(stream), len(stream), tuple(cuts))


@law
@given(targets, fields)
def test_asked_again_it_means_the_same(port: int, target: str, fields: list[tuple[str, str]]) -> None:
    """The lane learns a head's lines from plain requests, and asks the servlet itself from then on."""
    compare(port, written("GET", target, fields, (None, b""), None) * 4, 4)


# --- deliberate differences -----------------------------------------------------------------------------------

Said = dict[str, Any]


def of(data: bytes, port: int) -> tuple[Said, Meant]:
    return echoes(port, data)[0], meant(parsed(data)[0])


def get(target: str, *lines: str) -> bytes:
    return "\r\n".join([f"GET {target} HTTP/1.1", "Host: test", *lines, "", ""]).encode()


def post(kind: str, body: bytes) -> bytes:
    head = f"POST /loop/x HTTP/1.1\r\nHost: test\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


# name -> request, what the servlet is told, what werkzeug says
DIFFERENT: dict[str, tuple[bytes, Callable[[Said], Any], Callable[[Meant], Any], Any, Any]] = {
    "what is no UTF-8 in a query is U+FFFD, not percent signs that were not sent": (
        get("/loop/x?a=%ff"), lambda said: said["query"], lambda oracle: list(oracle.args.items()),
        [["a", "\ufffd"]], [("a", "%FF")],
    ),
    "what is no UTF-8 in a form, too": (
        post("application/x-www-form-urlencoded", b"a=%ff"), lambda said: said["form"],
        lambda oracle: list(oracle.form.items()), [["a", "\ufffd"]], [("a", "%FF")],
    ),
    "paths are canonical before they are looked up": (
        get("/loop/./a//b/../c"), lambda said: said["path"], lambda oracle: oracle.path,
        "/loop/a/c", "/loop/./a//b/../c",
    ),
    "quotes belong to a cookie's value (RFC 6265 section 5.2)": (
        get("/loop/x", 'Cookie: a="b c"'), lambda said: said["cookies"], lambda oracle: dict(oracle.cookies),
        {"a": '"b c"'}, {"a": "b c"},
    ),
    "a file of no type is application/octet-stream (RFC 7578 section 4.4)": (
        post("multipart/form-data; boundary=b", multipart([("a", "f", None, b"x")], "b")), lambda said: said["files"],
        lambda oracle: [(name, file.filename, file.mimetype) for name, file in oracle.files.items()],
        [["a", "f", "application/octet-stream", "78"]], [("a", "f", "")],
    ),
    "cookies are read as UTF-8, which browsers send": (
        get("/loop/x", "Cookie: a=\u00fc"), lambda said: said["cookies"], lambda oracle: dict(oracle.cookies),
        {"a": "\u00fc"}, {"a": "\u00c3\u00bc"},
    ),
    "a cookie without an equals sign is none": (
        get("/loop/x", "Cookie: a; b=c"), lambda said: said["cookies"], lambda oracle: dict(oracle.cookies),
        {"b": "c"}, {"a": "", "b": "c"},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", DIFFERENT)
def test_a_difference_is_deliberate(port: int, name: str) -> None:
    data, ours, theirs, said, oracle = DIFFERENT[name]
    told, meaning = of(data, port)
    assert ours(told) == said
    assert theirs(meaning) == oracle


def test_a_servlets_name_is_no_field_of_its_query(tmp_path: Path, site: Site, serve: Serve) -> None:
    """Of /csp?NAME&k=v the query begins behind NAME; to werkzeug NAME is a field without a value."""
    source = ECHO + "\ndef get(request):\n    return echo(request)\n"
    server = serve(site.root, servlets=str(write_servlets(tmp_path, echo=source)))
    data = get("/csp?echo&k=v&k=%20")
    said, oracle = of(data, server.port)
    assert (said["query_string"], said["query"]) == ("k=v&k=%20", [["k", "v"], ["k", " "]])
    assert list(oracle.args.items(multi=True)) == [("echo", ""), ("k", "v"), ("k", " ")]
