"""An origin that misbehaves: what comes of each of its answers, with nothing wrong ever in a release."""

from __future__ import annotations

import gzip
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.listed import Listing, on_disk, read_files, write_files
from tests.support.origins import Cut, Exchange, Origin, Trick, answers, becomes, cut, rightly, running_origin, stalls
from zcserve.errors import UsageError
from zcserve.fleet.fetching import Fetch, Fetched, FetchError, Progress
from zcserve.fleet.folders import Folders
from zcserve.fleet.pacing import Backoff, Slowness
from zcserve.fleet.receiving import CancelledError, Pace
from zcserve.fleet.sources.source import READ_S as READ_S_DEFAULT
from zcserve.fleet.sources.source import SourceError

pytest.importorskip("urllib3")

from zcserve.fleet.sources.origin import REDIRECTS_MAX, OriginSource, retry_after_s

CONTENT = bytes(range(256)) * 400  # 102,400 bytes
QUICK = Backoff(tries=4, first_s=0.002)
READ_S = 0.25


@pytest.fixture(scope="module")
def origin() -> Iterator[Origin]:
    with running_origin() as one:
        yield one


def fetch(
    origin: Origin,
    tmp_path: Path,
    contents: dict[str, bytes],
    pace: Pace | None = None,
    on_progress: Callable[[Progress], object] = lambda _: None,
) -> Fetched:
    source = OriginSource(origin.url + "/", 4, READ_S)
    listing, folders, pace = Listing.of(contents), Folders(tmp_path), pace or Pace(backoff=QUICK)
    try:
        return Fetch(listing, source, folders, read=Listing.parse, pace=pace, parallel=4, on_progress=on_progress).run()
    finally:
        source.close()


def half(then: Trick) -> list[Trick]:
    """Half of it comes, and what is asked for then gets this answer."""
    return [cut(51_200), then]


def without_length(exchange: Exchange) -> None:
    exchange.send("200 OK", exchange.content, Content_Length=None, Connection="close")
    raise Cut


OTHER = bytes(reversed(CONTENT))
GOOD: dict[str, tuple[list[Trick], int]] = {  # and how many bytes come in all
    "all is right": ([], 102_400),
    "cut short, and resumed": ([cut(51_200)], 102_400),
    "cut before the first byte": ([cut(0)], 102_400),
    "reset": ([cut(0, reset=True)], 102_400),
    "cut again and again, with progress": ([cut(0), cut(0), cut(0)], 102_400),
    "stalls, and is given up": ([stalls(51_200)], 102_400),
    "the range is passed over": (half(answers("200 OK", CONTENT)), 153_600),
    "the range is refused": (half(answers("416 Range Not Satisfiable")), 153_600),
    "another range comes": (half(answers("206 Partial Content", b"x", Content_Range="bytes 1-1/102400")), 153_600),
    "a range comes without saying which": (half(answers("206 Partial Content", b"x")), 153_600),
    "a range nobody asked for": ([answers("206 Partial Content", b"x", Content_Range="bytes 0-0/102400")], 102_401),
    "500 and 429": ([answers("500 Oh"), answers("429 Slow Down", Retry_After="0")], 102_400),
    "wrong once": ([answers("200 OK", OTHER)], 204_800),
    "shorter once": ([answers("200 OK", b"short")], 102_400),
    "says nothing of its length": ([without_length], 102_400),
    "redirects within the origin": ([answers("302 Found", Location="/elsewhere/right")], 102_400),
    "names the coding of its own file": ([answers("200 OK", CONTENT, Content_Encoding="br")], 102_400),
    "it is another version, and then the right one": ([becomes(OTHER, cut(51_200)), becomes(CONTENT)], 153_600),
}


@pytest.mark.parametrize("name", GOOD)
def test_it_comes_whole_in_the_end(name: str, origin: Origin, tmp_path: Path) -> None:
    path = f"/good/{list(GOOD).index(name)}"
    tricks, moved = GOOD[name]
    origin.contents |= {path: CONTENT, "/elsewhere/right": CONTENT}
    origin.tricks[path] = [*tricks]
    done = fetch(origin, tmp_path, {path: CONTENT})
    assert read_files(tmp_path / done.release.tree) == on_disk({path: CONTENT})
    assert done.moved == moved
    assert origin.tricks[path] == []


BAD: dict[str, tuple[Trick, int, str]] = {  # for how many requests at most, and what is said of it
    "another content": (answers("200 OK", OTHER), 3, "has sha256 [0-9a-f]{64}, and the manifest says "),
    "too short": (answers("200 OK", b"short"), 3, "has 5 bytes, and the manifest says 102400"),
    "too long, and says so": (answers("200 OK", CONTENT + b"x"), 3, "has 102401 bytes, and the manifest says"),
    "too long, in secret": (
        answers("200 OK", b"19001\r\n" + CONTENT + b"x\r\n0\r\n\r\n", Content_Length=None, Transfer_Encoding="chunked"),
        3,
        "has more than the 102400 bytes that the manifest says",
    ),
    "its length is more than there is": (cut(0), 4, "IncompleteRead|Connection broken"),
    "encoded, though identity was asked for": (
        answers("200 OK", gzip.compress(CONTENT), Content_Encoding="gzip"),
        3,
        "bytes, and the manifest says 102400 .it came with Content-Encoding: gzip.",
    ),
    "absent": (answers("404 Not Found", b"no"), 1, "answers 404 Not Found"),
    "forbidden": (answers("403 Forbidden"), 1, "answers 403 Forbidden"),
    "broken for long": (answers("503 Busy"), 4, "answers 503 Busy"),
    "wants to be left alone": (answers("503 Busy", Retry_After="3600"), 1, "wants to be asked again in 3600s"),
    "leads elsewhere": (answers("301 Moved", Location="http://127.0.0.2/x"), 1, "redirects to another origin.*0.2/x"),
    "leads to what is no URL": (answers("302 Found", Location="http://[::1"), 1, "redirects to what is no URL"),
    "leads in a circle": (answers("302 Found", Location="?"), REDIRECTS_MAX + 1, "redirects more than 3 times"),
    "no HTTP at all": (lambda exchange: exchange.connection.sendall(b"SSH-2.0\r\n\r\n"), 4, "Connection|BadStatus"),
}


@pytest.mark.parametrize("name", BAD)
def test_it_never_becomes_visible_and_is_named(name: str, origin: Origin, tmp_path: Path) -> None:
    path = f"/bad/{list(BAD).index(name)}"
    trick, requests, said = BAD[name]
    origin.contents |= {path: CONTENT, "/bad/beside": b"beside"}
    origin.tricks[path] = [trick] * 10
    contents = {path: CONTENT, "/bad/beside": b"beside"}
    with pytest.raises(FetchError, match=f"^{path}: .*({said})") as caught:
        fetch(origin, tmp_path, contents)
    assert list(caught.value.failures) == [path]
    assert len(origin.of(path)) == requests
    assert not any(one.name[0] != "." for one in tmp_path.iterdir())
    # Once it is right it comes, and what was beside it does not come again.
    origin.tricks[path] = []
    asked = len(origin.of("/bad/beside"))
    assert read_files(tmp_path / fetch(origin, tmp_path, contents).release.tree) == on_disk(contents)
    assert len(origin.of("/bad/beside")) == asked


def test_what_comes_after_a_failure_is_of_the_same_version(origin: Origin, tmp_path: Path) -> None:
    origin.contents["/version"] = CONTENT
    origin.tricks["/version"] = [cut(51_200), rightly]
    fetch(origin, tmp_path, {"/version": CONTENT})
    first, second = origin.of("/version")
    assert "range" not in first.fields
    assert second.fields["range"] == "bytes=51200-"
    assert second.fields["if-range"].startswith('"')
    assert first.fields["accept-encoding"] == "identity"


def test_connections_are_used_again(origin: Origin, tmp_path: Path) -> None:
    contents = {f"/many/{number}": b"%d" % number for number in range(60)}
    origin.contents |= contents
    before = origin.connections
    fetch(origin, tmp_path, contents)
    assert origin.connections - before <= 4


def test_what_comes_too_slowly_is_given_up(origin: Origin, tmp_path: Path) -> None:
    origin.contents["/slow"] = CONTENT
    pace = Pace(backoff=Backoff(tries=2, first_s=0.001), slowness=lambda: Slowness(1 << 30, 0.0))
    with pytest.raises(FetchError, match="/slow: comes too slowly"):
        fetch(origin, tmp_path, {"/slow": CONTENT}, pace)


def test_a_source_that_asks_for_a_pause_has_it_of_all_files(origin: Origin, tmp_path: Path) -> None:
    contents = {f"/pause/{number}": b"%d" % number for number in range(8)}
    origin.contents |= contents
    origin.tricks |= {path: [answers("429 Slow Down", Retry_After="60")] for path in contents}
    pace = Pace(backoff=QUICK)
    with pytest.raises(CancelledError):
        fetch(origin, tmp_path, contents, pace, lambda now: pace.cancelled.set() if now.wait_s == 60 else None)
    assert pace.pauses.left_s(time.monotonic()) > 50
    assert sum(len(origin.of(path)) for path in contents) <= 4  # one of each thread


def test_a_run_that_is_cancelled_does_not_wait_for_a_source_that_stands_still(origin: Origin, tmp_path: Path) -> None:
    origin.contents |= {"/still": CONTENT, "/beside": b"beside"}
    origin.tricks["/still"] = [stalls(51_200)]
    pace = Pace(backoff=QUICK)
    source = OriginSource(origin.url, 2)  # waits for 20 s
    listing = Listing.of({"/still": CONTENT, "/beside": b"beside"})
    run = Fetch(
        listing,
        source,
        Folders(tmp_path),
        read=Listing.parse,
        pace=pace,
        on_progress=lambda now: pace.cancelled.set() if now.moved > 51_200 else None,
    )
    began = time.monotonic()
    with pytest.raises(CancelledError):
        run.run()
    assert time.monotonic() - began < READ_S_DEFAULT / 2
    source.close()


@pytest.mark.parametrize("path", ["/a%20b%25c%FF/%C3%A9.css.br"])
def test_paths_are_asked_for_as_the_server_has_them(path: str, origin: Origin, tmp_path: Path) -> None:
    origin.contents[path] = b"odd"
    done = fetch(origin, tmp_path, {path: b"odd"})
    assert read_files(tmp_path / done.release.tree) == on_disk({path: b"odd"})


def test_an_address_with_a_path_and_a_user() -> None:
    with running_origin({"/www/a": b"x"}) as origin:
        source = OriginSource(origin.url.replace("//", "//me:se%40cret@") + "/www/", 1)
        assert b"".join(source.open("/a", 0, "").pieces) == b"x"
        assert origin.asked[0].fields["authorization"] == "Basic bWU6c2VAY3JldA=="
        assert "cret" not in source.name
        source.close()


def test_an_origin_that_is_not_there_may_come() -> None:
    with running_origin() as origin:
        pass
    source = OriginSource(origin.url, 1)
    with pytest.raises(SourceError, match="refused") as caught:
        source.open("/a", 0, "")
    assert caught.value.retry


@pytest.mark.parametrize("url", ["http://", "http:///a", "http://h:x/", "http://h/?a", "http://h/#a", "http://é/"])
def test_an_address_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(UsageError, match=r"^source "):
        OriginSource(url, 1)


DATE = "Mon, 30 Nov 2026 18:00:00 GMT"


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, None),
        ({"Retry-After": "7"}, 7.0),
        ({"Retry-After": "soon"}, None),
        ({"Retry-After": "-1"}, None),
        ({"Retry-After": DATE, "Date": "Mon, 30 Nov 2026 17:59:30 GMT"}, 30.0),
        ({"Retry-After": DATE, "Date": "Mon, 30 Nov 2026 18:59:30 GMT"}, 0.0),
        ({"Retry-After": "1 Jan 99999999999999999 00:00:00 GMT"}, None),
    ],
)
def test_retry_after_counts_by_the_clock_of_the_origin(fields: dict[str, str], expected: float | None) -> None:
    assert retry_after_s(fields) == expected


# --- nginx ----------------------------------------------------------------------------------------------------

NGINX = """\
{user} pid {folder}/pid; daemon off; error_log {folder}/log; events {{}}
http {{
    access_log off; gzip on; gzip_types *; gzip_min_length 1; types {{}} default_type text/html;
    client_body_temp_path {folder}/1; proxy_temp_path {folder}/2; fastcgi_temp_path {folder}/3;
    uwsgi_temp_path {folder}/4; scgi_temp_path {folder}/5;
    limit_req_zone $binary_remote_addr zone=all:1m rate=50r/s;
    server {{
        listen 127.0.0.1:{port}; root {folder}/www; limit_req_status 429;
        location /limited/ {{ limit_req zone=all burst=2; }}
        location /encoded/ {{ add_header Content-Encoding br; }}
    }}
}}
"""


@pytest.mark.peer
def test_a_release_comes_from_nginx(tmp_path: Path) -> None:
    program = shutil.which("nginx") or "/usr/sbin/nginx"
    if not Path(program).exists():
        pytest.skip("needs nginx")
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port = one.getsockname()[1]
    contents = {f"/limited/{number}": b"%d" % number * 100 for number in range(30)}
    contents |= {"/a%20b/100%25%FF": b"odd", "/encoded/a.css.br": b"as it is", "/big": CONTENT * 20}
    write_files(tmp_path / "www", contents)
    user = "" if os.geteuid() else "user root;"  # what a test writes is for itself alone
    (tmp_path / "conf").write_text(NGINX.format(user=user, folder=tmp_path, port=port))
    with subprocess.Popen([program, "-c", str(tmp_path / "conf")], stderr=subprocess.DEVNULL) as process:
        try:
            for _ in range(200):
                try:
                    socket.create_connection(("127.0.0.1", port), 1).close()
                    break
                except OSError:
                    time.sleep(0.05)
            retries: list[str] = []
            source = OriginSource(f"http://127.0.0.1:{port}/", 8)
            run = Fetch(
                Listing.of(contents),
                source,
                Folders(tmp_path / "releases"),
                read=Listing.parse,
                pace=Pace(backoff=Backoff(tries=50, first_s=0.1, most_s=0.5)),
                on_progress=lambda now: retries.append(now.reason) if now.kind == "retry" else None,
            )
            done = run.run()
            assert read_files(tmp_path / "releases" / done.release.tree) == on_disk(contents)
            assert set(retries) == {"answers 429 Too Many Requests"}
            first = source.open("/big", 0, "")
            first.close()
            rest = source.open("/big", 2_000_000, first.version)
            assert (rest.start, b"".join(rest.pieces)) == (2_000_000, (CONTENT * 20)[2_000_000:])
            (tmp_path / "www" / "big").write_bytes(b"another")
            assert source.open("/big", 3, first.version).start == 0
            source.close()
        finally:
            process.terminate()
