"""zcserve.net.reply: responses as segments behind a prefix."""

from __future__ import annotations

import time

import pytest

from zcserve.cache import heads
from zcserve.cache.entry import Body, Segment, Span
from zcserve.net import reply
from zcserve.net.fields import CLOSE, KEEP, KEEP_10

HEAD = heads.build("a.txt", 100, 0, b'"tag"', encoding=b"", cache_control="max-age=1", vary=True)
CONTENT = bytes(range(100))


class InMemory(Body):
    def head(self) -> bytes:
        return HEAD

    def part(self, start: int, stop: int) -> Segment:
        return memoryview(CONTENT)[start:stop]


BODY = InMemory(100)


def bytes_of(made: reply.Reply) -> tuple[list[bytes], bytes]:
    """The field lines and the content."""
    assert not any(isinstance(segment, Span) for segment in made.segments)
    head, blank, content = b"".join(bytes(segment) for segment in made.segments).partition(b"\r\n\r\n")  # type: ignore[arg-type]
    assert blank
    return head.split(b"\r\n"), content


def test_the_whole_is_the_head_and_the_content() -> None:
    made = reply.whole(BODY, with_content=True)
    lines, content = bytes_of(made)
    assert (made.status, made.length, made.body) == (200, 100, BODY)
    assert b"Content-Length: 100" in lines
    assert content == CONTENT


def test_head_is_the_head_alone() -> None:
    made = reply.whole(BODY, with_content=False)
    assert bytes_of(made) == (HEAD.removesuffix(b"\r\n\r\n").split(b"\r\n"), b"")
    assert made.length == 0


def test_304_is_the_tail_of_the_head() -> None:
    lines, content = bytes_of(reply.not_modified(BODY))
    assert lines == [b'ETag: "tag"', b"Cache-Control: max-age=1", b"Vary: Accept-Encoding"]
    assert content == b""


def test_one_range_has_its_own_length_and_the_rest_of_the_head() -> None:
    made = reply.partial(BODY, ((10, 20),))
    lines, content = bytes_of(made)
    assert lines[:2] == [b"Content-Length: 10", b"Content-Range: bytes 10-19/100"]
    assert lines[2:] == HEAD.removesuffix(b"\r\n\r\n").split(b"\r\n")[1:]
    assert (content, made.length) == (CONTENT[10:20], 10)


def test_parts_are_as_long_as_they_say_and_have_a_boundary_of_their_own() -> None:
    first, second = (reply.partial(BODY, ((0, 1), (50, 60))) for _ in range(2))
    lines, content = bytes_of(first)
    assert lines[0] == b"Content-Length: %d" % len(content) == b"Content-Length: %d" % first.length
    assert lines[1].startswith(b"Content-Type: multipart/byteranges; boundary=")
    assert sum(line.startswith(b"Content-Type") for line in lines) == 1
    assert lines[1] != bytes_of(second)[0][1]
    boundary = lines[1].rpartition(b"=")[2]
    assert content.count(b"\r\n--" + boundary) == 3
    assert content.endswith(b"\r\n--" + boundary + b"--\r\n")


@pytest.mark.parametrize(("query", "location"), [(None, b"/d/"), (b"", b"/d/?"), (b"a=b", b"/d/?a=b")])
def test_a_redirect_keeps_the_query(query: bytes | None, location: bytes) -> None:
    made = reply.redirect(b"/d/", query, with_content=True)
    assert made.status == 301
    assert b"Location: " + location in bytes_of(made)[0]


def test_416_tells_the_size() -> None:
    made = reply.unsatisfiable(7, extra=reply.VARY)
    assert made.status == 416
    assert {b"Content-Range: bytes */7", b"Vary: Accept-Encoding"} <= set(bytes_of(made)[0])


@pytest.mark.parametrize("status", [301, 400, 404, 405, 406, 408, 412, 413, 414, 416, 417, 431, 501, 503, 505])
def test_a_page_says_its_status_and_has_the_same_head_without_content(status: int) -> None:
    full, head = (reply.page(status, with_content=one, extra=b"X: y\r\n") for one in (True, False))
    lines, content = bytes_of(full)
    assert b"%d" % status in content
    assert b"Content-Length: %d" % len(content) in lines
    assert b"X: y" in lines
    assert bytes_of(head) == (lines, b"")
    assert (full.length, head.length) == (len(content), 0)


def test_404_has_the_page_of_the_site() -> None:
    lines, content = bytes_of(reply.not_found(b"<p>gone</p>", with_content=True))
    assert content == b"<p>gone</p>"
    assert b"Content-Length: 11" in lines
    assert bytes_of(reply.not_found(b"<p>gone</p>", with_content=False)) == (lines, b"")


# --- prefixes ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mode", "line"), [(KEEP, b""), (KEEP_10, b"Connection: keep-alive\r\n"), (CLOSE, b"Connection: close\r\n")]
)
def test_a_prefix_has_status_server_date_and_connection(
    monkeypatch: pytest.MonkeyPatch, mode: int, line: bytes
) -> None:
    monkeypatch.setattr(time, "time", lambda: 1_000_000_000.9)
    prefixes = reply.Prefixes()
    date = b"Server: zcserve\r\nDate: Sun, 09 Sep 2001 01:46:40 GMT\r\n"
    assert prefixes.of(404, mode) == b"HTTP/1.1 404 Not Found\r\n" + date + line
    assert prefixes.ok[mode] == b"HTTP/1.1 200 OK\r\n" + date + line


def test_the_date_is_computed_once_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1_000_000_000.0
    monkeypatch.setattr(time, "time", lambda: now)
    prefixes = reply.Prefixes()
    first, ok = prefixes.of(404, KEEP), prefixes.ok
    now += 0.9
    prefixes.refresh()
    assert prefixes.of(404, KEEP) is first
    assert prefixes.ok is ok
    now += 0.1
    prefixes.refresh()
    assert b"01:46:41" in prefixes.of(404, KEEP)
    assert b"01:46:41" in prefixes.ok[KEEP]
