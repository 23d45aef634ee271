"""Content negotiation over a real socket (RFC 9110 sections 12.5.3, 12.5.5), and `--compress`."""

from __future__ import annotations

import gzip
from collections.abc import Iterator

import pytest

from tests.support.client import Client
from tests.support.command import StartCommand
from tests.support.site import Serve, Site
from tests.support.waiting import WaitUntil
from zcserve import Server

MTIME = 1_445_412_480
SCRIPT = b"let x = 1;\n" * 100
# Stand-ins, for a server that trusts siblings. br is the smallest, gzip the largest of the three.
VARIANTS = {b"gzip": b"G" * 300, b"zstd": b"Z" * 250, b"br": b"B" * 200}
ENDINGS = {b"gzip": "gz", b"zstd": "zst", b"br": "br"}


@pytest.fixture(scope="module")
def server(lasting_site: Site, serve_lasting: Serve) -> Server:
    site = lasting_site
    site.write("app.js", SCRIPT, mtime=MTIME)
    site.write("index.html", SCRIPT, mtime=MTIME)
    for coding, content in VARIANTS.items():
        site.write(f"app.js.{ENDINGS[coding]}", content, mtime=MTIME)
    site.write("index.html.br", VARIANTS[b"br"], mtime=MTIME)
    site.write("tiny.js", b"x", mtime=MTIME)
    site.write("tiny.js.gz", b"larger than its file", mtime=MTIME)
    site.write("plain.js", SCRIPT, mtime=MTIME)
    site.write("orphan.js.gz", b"no file of that name", mtime=MTIME)
    started: Server = serve_lasting(site.root, trust_siblings=True)
    return started


@pytest.fixture
def client(server: Server) -> Iterator[Client]:
    with Client(server.port) as connected:
        yield connected


ACCEPTED = [
    ([], None),
    (["Accept-Encoding:"], None),
    (["Accept-Encoding: gzip"], b"gzip"),
    (["Accept-Encoding: GZip"], b"gzip"),
    (["Accept-Encoding: x-gzip"], b"gzip"),
    (["Accept-Encoding: zstd"], b"zstd"),
    (["Accept-Encoding: deflate"], None),
    (["Accept-Encoding: compress, sdch"], None),
    (["Accept-Encoding: gzip, deflate, br, zstd"], b"br"),
    (["Accept-Encoding: gzip, zstd"], b"zstd"),
    (["Accept-Encoding: gzip;q=1.0, br;q=0.9"], b"gzip"),
    (["Accept-Encoding: br;q=0.001, gzip;q=0.002"], b"gzip"),
    (["Accept-Encoding: gzip ; q=0.5 , br ;\tQ=0.500"], b"br"),
    (["Accept-Encoding: gzip", "Accept-Encoding: br"], b"br"),
    (["Accept-Encoding: *"], b"br"),
    (["Accept-Encoding: br;q=0, *"], b"zstd"),
    (["Accept-Encoding: gzip, *;q=0.5"], b"gzip"),
    (["Accept-Encoding: gzip;q=0.5"], b"gzip"),
    (["Accept-Encoding: identity"], None),
    (["Accept-Encoding: identity, gzip;q=0.5"], None),
    (["Accept-Encoding: identity;q=0.5, gzip"], b"gzip"),
    (["Accept-Encoding: gzip;q=0"], None),
    (["Accept-Encoding: gzip;q=0.000, br;q=0"], None),
    (["Accept-Encoding: identity;q=0, zstd;q=0.1"], b"zstd"),
    (["Accept-Encoding: *;q=0, gzip"], b"gzip"),
    (["Accept-Encoding: *;q=0, identity"], None),
    (["Accept-Encoding: gzip;q=2"], None),
    (["Accept-Encoding: gzip;q=0.1234"], None),
    (["Accept-Encoding: gzip;level=9"], None),
    (["Accept-Encoding: ,, gzip ,"], b"gzip"),
]


@pytest.mark.parametrize(("lines", "coding"), ACCEPTED, ids=[" + ".join(lines) or "none" for lines, _ in ACCEPTED])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_the_coding_wanted_most_is_sent_and_the_smallest_among_equals(
    client: Client, lines: list[str], coding: bytes | None, method: str
) -> None:
    response = client.get("/app.js", *lines, method=method)
    content = SCRIPT if coding is None else VARIANTS[coding]
    assert (response.status, response["Content-Encoding"]) == (200, coding)
    assert response["Content-Length"] == b"%d" % len(content)
    assert response["Content-Type"] == b"text/javascript; charset=utf-8"
    assert response["Vary"] == b"Accept-Encoding"
    assert response.body == (content if method == "GET" else b"")


@pytest.mark.parametrize(
    ("path", "accept", "status"),
    [
        ("/app.js", "identity;q=0", 406),
        ("/app.js", "*;q=0", 406),
        ("/app.js", "deflate, *;q=0", 406),
        ("/app.js", "identity;q=0, deflate", 406),
        ("/plain.js", "identity;q=0, gzip", 406),
        ("/plain.js", "gzip", 200),
        ("/plain.js", "*;q=0, identity;q=0.001", 200),
        ("/absent.js", "identity;q=0", 404),
    ],
)
def test_406_is_for_those_alone_that_refuse_identity_too(client: Client, path: str, accept: str, status: int) -> None:
    response = client.get(path, f"Accept-Encoding: {accept}")
    assert response.status == status
    if status == 406:
        assert response["Vary"] == b"Accept-Encoding"
    assert client.get("/plain.js").body == SCRIPT


def test_a_variant_larger_than_its_file_is_for_those_that_refuse_the_file(client: Client) -> None:
    assert client.get("/tiny.js", "Accept-Encoding: gzip").body == b"x"
    assert client.get("/tiny.js", "Accept-Encoding: gzip, identity;q=0").body == b"larger than its file"


def test_the_index_file_of_a_directory_has_its_variants(client: Client) -> None:
    response = client.get("/", "Accept-Encoding: br")
    assert (response["Content-Encoding"], response.body) == (b"br", VARIANTS[b"br"])
    assert client.get("/")["Vary"] == b"Accept-Encoding"


def test_what_has_no_variants_does_not_vary(client: Client) -> None:
    assert client.get("/plain.js", "Accept-Encoding: gzip")["Vary"] is None


def test_a_compressed_file_without_its_base_is_a_file(client: Client) -> None:
    response = client.get("/orphan.js.gz", "Accept-Encoding: gzip")
    assert (response["Content-Type"], response["Content-Encoding"]) == (b"application/gzip", None)
    assert response["Vary"] is None
    assert client.get("/orphan.js", "Accept-Encoding: gzip").status == 404


def test_a_sibling_older_than_its_file_is_not_used_and_is_reported(
    site: Site, command: StartCommand, wait_until: WaitUntil
) -> None:
    site.write("app.js", SCRIPT, mtime=MTIME)
    site.write("app.js.gz", VARIANTS[b"gzip"], mtime=MTIME - 1)
    site.write("app.js.br", VARIANTS[b"br"], mtime=MTIME)
    process = command(site.root, "--trust-siblings")
    with Client(process.port) as client:
        assert client.get("/app.js", "Accept-Encoding: gzip").body == SCRIPT
        assert client.get("/app.js", "Accept-Encoding: gzip, br;q=0.1").body in (SCRIPT, VARIANTS[b"br"])
        assert client.get("/app.js.gz").body == VARIANTS[b"gzip"]
    wait_until(lambda: [line for line in process.lines if "app.js.gz" in line and "older" in line])


# --- --compress -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def server_that_compresses(tmp_path_factory: pytest.TempPathFactory, serve_lasting: Serve) -> Server:
    site = Site(tmp_path_factory.mktemp("compressing") / "site")
    site.write("app.js", SCRIPT, mtime=MTIME)
    site.write("large.txt", SCRIPT * 1000, mtime=MTIME)
    site.write("short.js", b"let x = 1;", mtime=MTIME)
    site.write("image.png", SCRIPT, mtime=MTIME)
    site.write("has.js", SCRIPT, mtime=MTIME)
    site.write("has.js.gz", VARIANTS[b"gzip"][:20], mtime=MTIME)
    started: Server = serve_lasting(site.root, compress=True, trust_siblings=True)
    return started


@pytest.fixture
def compressing(server_that_compresses: Server) -> Iterator[Client]:
    with Client(server_that_compresses.port) as client:
        yield client


@pytest.mark.parametrize(("path", "content"), [("/app.js", SCRIPT), ("/large.txt", SCRIPT * 1000)])
def test_compress_makes_gzip_with_the_standard_library(compressing: Client, path: str, content: bytes) -> None:
    response = compressing.get(path, "Accept-Encoding: gzip")
    assert response["Content-Encoding"] == b"gzip"
    assert gzip.decompress(response.body) == content
    assert response["Vary"] == b"Accept-Encoding"
    identity = compressing.get(path)
    assert (identity.body, identity["Vary"]) == (content, b"Accept-Encoding")
    assert identity["ETag"] != response["ETag"]


def test_compress_makes_brotli_where_it_is_installed(compressing: Client) -> None:
    brotli = pytest.importorskip("brotli")
    response = compressing.get("/app.js", "Accept-Encoding: br")
    assert response["Content-Encoding"] == b"br"
    assert brotli.decompress(response.body) == SCRIPT


def test_compress_makes_zstd_where_it_is_installed(compressing: Client) -> None:
    try:
        from compression import zstd
    except ImportError:
        zstd = pytest.importorskip("backports.zstd")
    response = compressing.get("/app.js", "Accept-Encoding: zstd")
    assert response["Content-Encoding"] == b"zstd"
    assert zstd.decompress(response.body) == SCRIPT


@pytest.mark.parametrize("path", ["/short.js", "/image.png"])
def test_compress_leaves_alone_what_does_not_pay(compressing: Client, path: str) -> None:
    response = compressing.get(path, "Accept-Encoding: gzip, br, zstd")
    assert (response.status, response["Content-Encoding"], response["Vary"]) == (200, None, None)


def test_compress_makes_only_what_is_missing(compressing: Client) -> None:
    assert compressing.get("/has.js", "Accept-Encoding: gzip").body == VARIANTS[b"gzip"][:20]


def test_without_compress_nothing_is_made(client: Client) -> None:
    assert client.get("/plain.js", "Accept-Encoding: gzip").body == SCRIPT
