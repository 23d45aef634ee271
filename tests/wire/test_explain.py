"""zcserve.explain: what is told of a request is what a server of the same configuration answers, on both engines; and
why."""

from __future__ import annotations

import gzip
import json
import os
import re
import shlex
from base64 import b64decode
from collections.abc import Iterable
from pathlib import Path
from textwrap import dedent
from typing import Any, NamedTuple

import pytest

from tests.support.client import Client, Response
from tests.support.command import CHECKOUT
from zcserve import Config, Server
from zcserve.command import main
from zcserve.config.sources import load
from zcserve.explain import explanation_of
from zcserve.net.explanation import request_of
from zcserve.rules.preset import SECURE

WRITTEN = """
root = "{root}/www"
hosts = ["www.example"]
clean_urls = true
secure_headers = true
cache_control = "max-age=60"
unknown_host = "421"

[[rules]]
path = "/docs/**"
set = {{ X-A = "1", X-Frame-Options = "DENY" }}

[[rules]]
path = "*.css"
remove = ["X-A"]
add = {{ X-B = "2" }}

[[redirects]]
from = "/old/*"
to = "/docs/:splat"

[[redirects]]
from = "/docs/forced"
to = "/about"
status = 302
force = true

[[redirects]]
from = "/go/:name"
to = "/:name"
status = 200

[[redirects]]
from = "/gone"
status = 410

[[redirects]]
from = "/lost"
to = "/about"
status = 404

[[rules]]
path = "/open/**"
cors = "*"
add = {{ Vary = "X-C" }}

[[rules]]
path = "/listed/**"
cors = {{ origins = ["https://a.example"], expose = ["X-A"], methods = ["PUT"], max_age = 60, credentials = true }}

[[rules]]
path = "/listed/own.json"
set = {{ Access-Control-Allow-Origin = "https://own.example" }}

[[redirects]]
from = "/listed/moved"
to = "/about"
status = 302

[[redirects]]
from = "/listed/as"
to = "/listed/a.json"
status = 200

[sites.app]
hosts = ["app.example", "*.app.example"]
root = "{root}/app"
spa = true
clean_urls = false
secure_headers = false

[sites.cors]
hosts = ["cors.example"]
root = "{root}/app"
clean_urls = false
secure_headers = false

[[sites.cors.rules]]
path = "/**"
cors = "*"
set = {{ X-A = "1" }}

[[sites.cors.rules]]
path = "/404.html"
cors = {{ origins = ["https://a.example"] }}

[sites.plain]
hosts = ["plain.example"]
root = "{root}/app"
clean_urls = false
secure_headers = false

[sites.pages]
hosts = ["pages.example"]
root = "{root}/app"
secure_headers = false

[sites.pages.error_pages]
404 = "/sub/"
403 = "/index.html"

[[sites.pages.rules]]
path = "/index.html"
set = {{ X-A = "1" }}

[[sites.pages.redirects]]
from = "/closed/*"
status = 403

[[sites.pages.redirects]]
from = "/law"
status = 451

[sites.more]
hosts = ["more.example"]
root = "{root}/more"
listing = true
immutable = true
spa = true
clean_urls = false
secure_headers = false
tag_header = "Surrogate-Key"
index = ["start.html"]

[[sites.more.rules]]
path = "/dl/**"
download = "data.bin"
tags = ["dl", "all"]

[[sites.more.rules]]
path = "/dl/kept/"
listing = false
"""
MORE_HEADERS = b"/css/*\n  X-A: 1\n  Cache-Control: no-cache\n/gone\n  X-B: 2\n/dl\n  X-A: 3\n"
MORE_REDIRECTS = b"""/gone 410
/law/* /page.html 451
/old/:a/* /new/:splat?from=:a 308
/q id=:id /dl/:id 302
/q x=1 /css/
/served /dl/a.bin 200
/dl/forced /page.html 404!
https://more.example/host /page.html 301
"""
CSS = b"a { color: red }\n" * 100
# The same, as one implementation of gzip has it: others have other lengths.
CSS_GZ = "H4sIAAAAAAACA0tUqFZIzs/JL7JSKEpNUajlShwVGBUYFRgVGBUYFRgcAgAG/NxapAYAAA=="

W, A, P, C = "http://www.example", "http://x.app.example", "http://plain.example", "http://cors.example"
E, M = "http://pages.example", "http://more.example"
OWN, OTHER = "Origin: https://a.example", "Origin: https://other.example"
LEAVE = "Access-Control-Request-Method: PUT"
# Method, URL, further lines; {etag} is that of /docs/site.css.
REQUESTS: tuple[tuple[str, ...], ...] = (
    ("GET", W + "/docs/site.css"),
    ("HEAD", W + "/docs/site.css"),
    ("GET", W + "/docs/site.css?a=b", "Accept-Encoding: gzip"),
    ("GET", W + "/docs/site.css", "Accept-Encoding: gzip;q=0.5, identity;q=0.4"),
    ("GET", W + "/docs/site.css", "Accept-Encoding: br, identity;q=0"),
    ("GET", W + "/docs/site.css.gz"),
    ("GET", W + "/docs/site.css", "If-None-Match: {etag}"),
    ("GET", W + "/docs/site.css", "If-None-Match: *", "Accept-Encoding: gzip"),
    ("GET", W + "/docs/site.css", 'If-None-Match: "other"'),
    ("GET", W + "/docs/site.css", 'If-Match: "other"'),
    ("GET", W + "/docs/site.css", "If-Modified-Since: Fri, 31 Dec 2027 23:59:59 GMT"),
    ("GET", W + "/docs/site.css", "If-Unmodified-Since: Fri, 01 Jan 1999 00:00:00 GMT"),
    ("GET", W + "/docs/site.css", "Range: bytes=0-9"),
    ("GET", W + "/docs/site.css", "Range: bytes=99999-"),
    ("HEAD", W + "/docs/site.css", "Range: bytes=0-9"),
    ("GET", W + "/docs//./site%2Ecss"),
    ("GET", W + "/docs"),
    ("GET", W + "/docs?q"),
    ("GET", W + "/docs/"),
    ("GET", W + "/about"),
    ("GET", W + "/about.html"),
    ("GET", W + "/none"),
    ("GET", W + "/old/a/b?q=1"),
    ("GET", W + "/docs/forced"),
    ("GET", W + "/go/about"),
    ("GET", W + "/go/nowhere"),
    ("GET", W + "/gone"),
    ("GET", W + "/lost"),
    ("GET", W + "/%00"),
    ("GET", W + "/%zz"),
    ("OPTIONS", W + "/about"),
    ("OPTIONS", W + "/none"),
    ("OPTIONS", "*", "Host: www.example"),
    ("POST", W + "/about"),
    ("POST", W + "/old/a/b?q=1"),
    ("PUT", W + "/docs/forced"),
    ("POST", W + "/gone"),
    ("POST", W + "/listed/moved", OWN),
    ("BREW", W + "/about"),
    ("GET", A + "/some/where"),
    ("GET", A + "/some/where.js"),
    ("GET", A + "/", "Connection: close"),
    ("GET", P + "/"),
    ("GET", P + "/none"),
    ("GET", P + "/sub"),
    ("OPTIONS", P + "/none"),
    ("GET", E + "/none"),
    ("GET", E + "/closed/x", "Range: bytes=0-0"),
    ("GET", E + "/law"),
    ("GET", "http://other.example/"),
    ("POST", "http://other.example/"),
    ("GET", "/", "Host: app.example:81"),
    ("GET", "/", "Host: two names"),
    ("GET", "/" + "x" * 9000, "Host: app.example"),
    *(
        (method, url, *lines)
        for method, url in (
            ("GET", W + "/open/a.json"), ("GET", W + "/listed/a.json"), ("HEAD", W + "/listed/own.json"),
            ("GET", W + "/listed/as"), ("GET", W + "/listed/moved"), ("GET", W + "/listed"),
            ("GET", W + "/listed/none"),
            ("OPTIONS", W + "/open/a.json"), ("OPTIONS", W + "/listed/a.json"), ("OPTIONS", W + "/listed/moved"),
            ("OPTIONS", W + "/listed/own.json"), ("OPTIONS", W + "/listed/none"),
            ("OPTIONS", W + "/about"), ("OPTIONS", W + "/none"), ("OPTIONS", C + "/"), ("OPTIONS", C + "/none"),
            ("GET", C + "/"), ("GET", C + "/sub"), ("GET", C + "/none"), ("POST", C + "/"),
        )
        for lines in ((OWN,), (OTHER,), (OWN, LEAVE))
    ),
    ("OPTIONS", W + "/listed/a.json", OTHER, LEAVE),
    ("OPTIONS", C + "/none", OTHER, LEAVE),
    ("OPTIONS", "*", "Host: www.example", OWN, LEAVE),
    ("GET", C + "/none"),
    ("GET", W + "/listed/a.json", OWN, "Range: bytes=0-1"),
    ("GET", W + "/listed/a.json", OWN, "Range: bytes=9999-"),
    ("GET", W + "/listed/a.json", OWN, "If-None-Match: *"),
    # Ranges and conditions together, several ranges, and what is wrong of them.
    ("GET", W + "/docs/site.css", "Range: bytes=-5"),
    ("GET", W + "/docs/site.css", "Range: bytes=5-"),
    ("GET", W + "/docs/site.css", "Range: bytes=9-5"),
    ("GET", W + "/docs/site.css", "Range: lines=1-2"),
    ("GET", W + "/docs/site.css", "Range: bytes=0-0, 5-6"),
    ("GET", W + "/docs/site.css", "Range: bytes=0-0, 1-1, -1", "Accept-Encoding: gzip"),
    ("GET", W + "/docs/site.css", "Range: bytes=0-9", "If-Range: {etag}"),
    ("GET", W + "/docs/site.css", "Range: bytes=0-9", 'If-Range: "other"'),
    ("GET", W + "/docs/site.css", "Range: bytes=0-9", "If-Range: Tue, 14 Nov 2023 22:13:20 GMT"),
    ("GET", W + "/docs/site.css", "Range: bytes=0-9", "If-None-Match: {etag}"),
    ("GET", W + "/docs/site.css", "Range: bytes=0-9", 'If-Match: {etag}, "other"'),
    ("GET", W + "/docs/site.css", "If-None-Match: W/{etag}"),
    ("GET", W + "/docs/site.css", "If-Modified-Since: yesterday"),
    ("GET", W + "/about", "If-Modified-Since: Fri, 31 Dec 2027 23:59:59 GMT"),
    ("HEAD", W + "/about", "Range: bytes=0-0"),
    ("GET", W + "/none", "Range: bytes=0-0"),
    ("HEAD", W + "/none"),
    ("GET", W + "/lost", "If-None-Match: *"),
    ("GET", W + "/gone", "Accept-Encoding: identity;q=0"),
    ("GET", W + "/docs/site.css", "Accept-Encoding: *;q=0"),
    ("HEAD", W + "/old/x"),
    ("TRACE", W + "/about"),
    ("DELETE", W + "/none"),
    # Listings, the page of --spa, files of rules in a root.
    ("GET", M + "/"),
    ("GET", M + "/css/"),
    ("GET", M + "/css/?format=json"),
    ("GET", M + "/css/", "If-None-Match: *"),
    ("GET", M + "/css/", "Range: bytes=0-9"),
    ("HEAD", M + "/css/"),
    ("GET", M + "/css"),
    ("GET", M + "/css?format=json"),
    ("OPTIONS", M + "/css/"),
    ("POST", M + "/css/"),
    ("GET", M + "/css/app.3f2a9c1d4b5e6f70.css"),
    ("GET", M + "/css/plain.css"),
    ("GET", M + "/dl/"),
    ("GET", M + "/dl/a.bin"),
    ("GET", M + "/dl/a.bin", "Range: bytes=0-0"),
    ("GET", M + "/dl/kept/"),
    ("GET", M + "/dl/kept"),
    ("GET", M + "/dl/forced"),
    ("GET", M + "/dl/none"),
    ("GET", M + "/dl/none.bin"),
    ("GET", M + "/some/where"),
    ("GET", M + "/gone"),
    ("POST", M + "/gone"),
    ("GET", M + "/law/x", "Range: bytes=0-0"),
    ("GET", M + "/law"),
    ("GET", M + "/old/%C3%A9/b/c%20d"),
    ("POST", M + "/old/a/b?x=1"),
    ("GET", M + "/q?id=5%2F6"),
    ("GET", M + "/q?x=1&y=2"),
    ("GET", M + "/q?x=2"),
    ("GET", M + "/served", "If-None-Match: *"),
    ("GET", M + "/host"),
    ("GET", M + "/_headers"),
    ("GET", M + "/_redirects"),
    ("GET", M + "/.hidden"),
    ("GET", M + "/start.html"),
)  # fmt: skip

OF_RULES = {name.lower() for name, _ in SECURE} | {b"x-a", b"x-b"}


def is_of_cors(name: bytes) -> bool:
    return name.startswith(b"access-control-")


def is_of_rules(name: bytes) -> bool:
    return name in OF_RULES or is_of_cors(name)


def without_boundary(field: tuple[bytes, bytes]) -> tuple[bytes, bytes]:
    """A field of an answer with several ranges, as far as it is the same each time."""
    name, value = field
    return name, b"" if name == b"content-length" else re.sub(rb"boundary=.*", b"", value)


def in_order(fields: Iterable[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """Fields as they come, those of CORS last: what the request's origin has is sent before what all have."""
    return sorted(fields, key=lambda field: is_of_cors(field[0]))


class Asked(NamedTuple):
    """A configuration, its file, and the answers of a server to all requests, each as it was first given and later."""

    config: Config
    file: Path
    etag: str
    answers: dict[tuple[str, ...], list[Response]]


def lines_of(request: tuple[str, ...], etag: str) -> list[str]:
    return [line.replace("{etag}", etag) for line in request[2:]]


@pytest.fixture(scope="module", params=["python", "native"])
def asked(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Asked:
    if request.param == "native":
        pytest.importorskip("zcserve.net._lane")
    root = tmp_path_factory.mktemp("explained")
    files = {
        "www/docs/site.css": CSS, "www/docs/site.css.gz": gzip.compress(CSS, mtime=0), "www/docs/index.html": b"docs",
        "www/docs/forced": b"never", "www/about.html": b"about", "www/404.html": b"no such page",
        "www/open/a.json": b"{}", "www/listed/a.json": b"{}", "www/listed/own.json": b"{}",
        "app/index.html": b"app", "app/sub/index.html": b"sub",
        "more/css/app.3f2a9c1d4b5e6f70.css": CSS, "more/css/plain.css": CSS, "more/dl/a.bin": b"a",
        "more/page.html": b"p", "more/dl/kept/b": b"b", "more/index.html": b"app", "more/.hidden": b"",
        "more/dl/forced": b"never",
        "more/_headers": MORE_HEADERS, "more/_redirects": MORE_REDIRECTS,
    }  # fmt: skip
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
        os.utime(root / name, (1_700_000_000, 1_700_000_000))
    file = root / "site.toml"
    file.write_text(WRITTEN.format(root=root))
    config = load({"port": "0", "engine": request.param}, {}, file)
    with Server(config) as server:
        etag = ask(server.port, ("GET", W + "/docs/site.css"), "")["ETag"].decode()
        answers = {one: [ask(server.port, one, etag) for _ in range(2)] for one in REQUESTS}
    return Asked(config, file, etag, answers)


def ask(port: int, request: tuple[str, ...], etag: str) -> Response:
    method, url = request[:2]
    with Client(port) as client:
        client.send(request_of(url, method, lines_of(request, etag)))
        return client.read(method=method)


@pytest.mark.parametrize("request_", REQUESTS, ids=lambda request: " ".join(request)[:80])
def test_status_and_fields_are_those_that_a_server_sends(asked: Asked, request_: tuple[str, ...]) -> None:
    told = explanation_of(asked.config, request_[1], request_[0], lines_of(request_, asked.etag))
    expected = [(name.lower().encode(), value.encode()) for name, value in told.fields]
    for answer in asked.answers[request_]:
        assert told.status == answer.status
        sent = [field for field in answer.fields if field[0] != b"date"]
        if any("boundary" in note for note in told.notes):
            assert list(map(without_boundary, expected)) == list(map(without_boundary, sent))
        else:
            assert expected == sent
    # What header rules are said to do is what is sent.
    lines: list[tuple[bytes, bytes]] = []
    for effect in told.effects:
        lines = [line for line in lines if line not in effect.taken] + list(effect.given)
    said = [(name.lower(), value) for name, value in lines]
    assert in_order(field for field in said if is_of_rules(field[0])) == in_order(
        field for field in expected if is_of_rules(field[0])
    )
    if told.status < 400:  # else what is said of content is left out at the end
        assert set(said) <= set(expected)  # which has more: Vary of variants, what the configuration says of all files


def told(asked: Asked, capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """What the command prints, blanks joined."""
    assert main(["explain", *words, "--config", str(asked.file)]) == 0
    return "\n".join(" ".join(line.split()) for line in capsys.readouterr().out.splitlines())


def test_the_command_tells_site_file_variant_and_rules(asked: Asked, capsys: pytest.CaptureFixture[str]) -> None:
    text = told(asked, capsys, W + "/docs/site.css", "-H", "Accept-Encoding: gzip", "--no-secure-headers")
    size = len(gzip.compress(CSS))
    assert text.startswith(
        f"""\
GET /docs/site.css of www.example
site default: it has this name
path /docs/site.css
answer a file
file docs/site.css.gz
variant gzip: of identity {len(CSS)} B q=1, gzip {size} B q=1 the one that is wanted most, the smallest of equals
headers {asked.file}:9:1: rules[0] (/docs/**)
+ X-A: 1
+ X-Frame-Options: DENY
headers {asked.file}:13:1: rules[1] (*.css)
- X-A: 1
+ X-B: 2
status 200
Server: zcserve
"""
    )


@pytest.mark.parametrize(
    ("words", "lines"),
    [
        ((W + "/old/x",), ["answer a redirect", "rule {file}:18:1: /old/* to /docs/:splat, 301", "Location: /docs/x"]),
        ((W + "/docs/forced",), ["rule {file}:22:1: /docs/forced to /about, 302, with force"]),
        ((W + "/go/about",), ["answer a rewrite", "file about.html"]),
        ((W + "/about",), ["answer a file by a clean URL"]),
        ((W + "/docs",), ["answer a directory: its own path ends in a slash"]),
        ((W + "/none",), ["answer nothing is at this path: the page 404.html", "status 404"]),
        ((E + "/none",), ["answer nothing is at this path: the page sub/", "status 404"]),
        ((E + "/closed/x",), ["answer a page for an error", "file index.html", "+ X-A: 1", "status 403"]),
        ((A + "/a/b",), ["site app: the host lies below *.app.example", "file index.html"]),
        (("http://else.example/",), ["site none: no site has this name", "status 421"]),
        ((W + "/about", "-X", "POST"), ["status 405", "Allow: GET, HEAD, OPTIONS"]),
        ((W + "/about", "-H", "If-None-Match: *"), ["condition If-None-Match has this ETag", "status 304"]),
        (
            (W + "/listed/a.json", "-H", OWN),
            [
                "headers {file}:47:1: rules[3] (/listed/**)",
                "+ Vary: Origin",
                "+ Access-Control-Allow-Credentials: true",
            ],
        ),
        (
            (W + "/listed/a.json", "-X", "OPTIONS", "-H", OWN, "-H", LEAVE),
            ["answer what a page of another origin may ask for", "+ Access-Control-Max-Age: 60", "status 204"],
        ),
        (
            (W + "/listed/a.json", "-X", "OPTIONS", "-H", OTHER, "-H", LEAVE),
            ["answer no leave for a page of another origin", "status 204"],
        ),
        ((W + "/%00",), ["answer refused: NUL in the path", "status 400"]),
    ],
)
def test_the_command_tells_what_decided(
    asked: Asked, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], lines: list[str]
) -> None:
    text = told(asked, capsys, *words).splitlines()
    assert [line for line in lines if line.format(file=asked.file) not in text] == []


def test_a_switch_is_told_by_its_flag_and_only_where_it_gives_fields(
    asked: Asked, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "headers --secure-headers (/**)" in told(asked, capsys, W + "/about")
    listed = told(asked, capsys, M + "/dl/")  # a site with listing and immutable
    assert "rule --listing" in listed
    assert "headers --" not in listed


def test_the_same_as_json(asked: Asked, capsys: pytest.CaptureFixture[str]) -> None:
    found: dict[str, Any] = json.loads(told(asked, capsys, W + "/docs/site.css", "--json"))
    assert (found["site"], found["file"], found["status"]) == ("default", "docs/site.css", 200)
    assert found["rules"][-1] == {
        "where": f"{asked.file}:13:1: rules[1] (*.css)", "taken": ["X-A: 1"], "given": ["X-B: 2"],
    }  # fmt: skip
    assert "X-B: 2" in found["fields"]


@pytest.mark.parametrize(
    ("words", "why"),
    [
        ((), "no URL given"),
        (("/", "/again"), "unexpected argument '/again'; accepted: one URL"),
        (("/", "--methd"), "unknown flag --methd"),
        (("relative",), "'relative' is no URL"),
        (("/", "-X", "G T"), "'G T' is no method"),
        (("/", "-H", "nothing"), "'nothing' is no header field"),
        (("/", "-H", "A: b\r\nC: d"), "is no header field"),
        (("/", "--root", "/nowhere"), "/nowhere"),
    ],
)
def test_wrong_use_is_told_in_a_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], why: str
) -> None:
    assert main(["explain", *words, *(() if "--root" in words else ("--root", str(tmp_path)))]) == 2
    error = capsys.readouterr().err
    assert why in error
    assert error.count("\n") == 1


def test_the_example_of_the_documentation_is_what_is_printed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    section = (CHECKOUT / "docs" / "rules.md").read_text().partition("## What a request gets")[2].partition("\n## ")[0]
    blocks = [dedent(block) for block in re.findall(r"(?:^    .*\n|^\n(?=    ))+", section, re.MULTILINE)]
    written, commands = blocks[0].lstrip("\n"), "".join(blocks[1:])
    (tmp_path / "site.toml").write_text(written)
    (tmp_path / "www" / "docs").mkdir(parents=True)
    for name, content in (("site.css", CSS), ("site.css.gz", b64decode(CSS_GZ))):
        (tmp_path / "www" / "docs" / name).write_bytes(content)
        os.utime(tmp_path / "www" / "docs" / name, (1_700_000_000, 1_700_000_000))
    monkeypatch.chdir(tmp_path)
    asked = re.findall(r"^\$ zcserve (.*)\n((?:[^$\n].*\n)+)", commands, re.MULTILINE)
    assert len(asked) == 2
    for words, expected in asked:
        assert main(shlex.split(words)) == 0
        assert capsys.readouterr().out == expected


def test_variants_that_would_be_made_are_told_as_such(tmp_path: Path) -> None:
    (tmp_path / "a.css").write_bytes(CSS)
    found = explanation_of(Config(root=tmp_path, compress=True), "/a.css", lines=("Accept-Encoding: gzip",))
    assert found.variant.startswith("gzip: of ")
    assert found.notes == ["the variant is made after the start; until then the file itself is sent"]


def test_an_application_is_told_of_and_not_called(tmp_path: Path) -> None:
    (tmp_path / "www").mkdir()
    (tmp_path / "www" / "page").write_bytes(b"page")
    config = Config(root=tmp_path / "www", mount=("/api=no.module:app",))
    assert explanation_of(config, "/page").notes == []
    assert explanation_of(config, "/api/x").notes == [
        "an application is asked first, and is not called here: this is where it has no answer"
    ]
