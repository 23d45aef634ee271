"""zcserve.site.reply: which fields and what content a request is answered with."""

from __future__ import annotations

import pytest

from zcserve.cache import heads
from zcserve.cache.entry import Body, Segment, Span
from zcserve.net.framing import frame
from zcserve.rules.compiled import HeadFields
from zcserve.site import reply

CACHED = HeadFields(((b"Cache-Control", b"max-age=1"),))
HEAD = heads.build("a.txt", 100, 0, b'"tag"', encoding=b"", vary=True, fields=CACHED)
CONTENT = bytes(range(100))


class InMemory(Body):
    def head(self) -> bytes:
        return HEAD

    def part(self, start: int, stop: int) -> Segment:
        return memoryview(CONTENT)[start:stop]


BODY = InMemory(100)


def bytes_of(made: reply.Reply, method: bytes = b"GET") -> tuple[list[bytes], bytes]:
    """The field lines and the content."""
    segments, length, outgoing = frame(made, method, b"HTTP/1.1")
    assert outgoing is None
    assert not any(isinstance(segment, Span) for segment in segments)
    head, blank, content = b"".join(bytes(segment) for segment in segments).partition(b"\r\n\r\n")  # type: ignore[arg-type]
    assert blank
    assert length == len(content)
    return head.split(b"\r\n"), content


def test_the_whole_is_the_head_and_the_content() -> None:
    made = reply.whole(BODY)
    lines, content = bytes_of(made)
    assert (made.status, made.length, made.body) == (200, 100, BODY)
    assert b"Content-Length: 100" in lines
    assert content == CONTENT


def test_head_is_the_head_alone() -> None:
    assert bytes_of(reply.whole(BODY), b"HEAD") == (HEAD.removesuffix(b"\r\n\r\n").split(b"\r\n"), b"")


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
    assert first.length == len(content)
    assert lines[0] == b"Content-Length: %d" % len(content)
    assert lines[1].startswith(b"Content-Type: multipart/byteranges; boundary=")
    assert sum(line.startswith(b"Content-Type") for line in lines) == 1
    assert lines[1] != bytes_of(second)[0][1]
    boundary = lines[1].rpartition(b"=")[2]
    assert content.count(b"\r\n--" + boundary) == 3
    assert content.endswith(b"\r\n--" + boundary + b"--\r\n")


@pytest.mark.parametrize(("query", "location"), [(None, b"/d/"), (b"", b"/d/?"), (b"a=b", b"/d/?a=b")])
def test_a_redirect_keeps_the_query(query: bytes | None, location: bytes) -> None:
    made = reply.redirect(301, b"/d/", query)
    assert made.status == 301
    assert b"Location: " + location in bytes_of(made)[0]


def test_416_tells_the_size() -> None:
    made = reply.unsatisfiable(7, reply.VARY)
    assert made.status == 416
    assert {b"Content-Range: bytes */7", b"Vary: Accept-Encoding"} <= set(bytes_of(made)[0])


@pytest.mark.parametrize("status", [301, 400, 404, 405, 406, 408, 412, 413, 414, 416, 417, 431, 501, 503, 505])
def test_a_page_says_its_status_and_has_the_same_head_without_content(status: int) -> None:
    page = reply.page(status, ((b"X", b"y"),))
    lines, content = bytes_of(page)
    assert b"%d" % status in content
    assert b"Content-Length: %d" % len(content) in lines
    assert b"X: y" in lines
    assert bytes_of(page, b"HEAD") == (lines, b"")


def test_404_has_the_page_of_the_site() -> None:
    lines, content = bytes_of(reply.not_found(b"<p>gone</p>"))
    assert content == b"<p>gone</p>"
    assert b"Content-Length: 11" in lines
    assert bytes_of(reply.not_found(b"<p>gone</p>"), b"HEAD") == (lines, b"")


@pytest.mark.parametrize(
    ("made", "lines"),
    [
        (reply.options(), [b"Allow: GET, HEAD, OPTIONS", b"Content-Length: 0"]),
        (
            reply.unsatisfiable(7, reply.VARY),
            [
                b"Content-Length: 149",
                b"Content-Type: text/html; charset=utf-8",
                b"X-Content-Type-Options: nosniff",
                b"Content-Range: bytes */7",
                b"Accept-Ranges: bytes",
                b"Vary: Accept-Encoding",
            ],
        ),
    ],
)
def test_the_fields_have_an_order(made: reply.Reply, lines: list[bytes]) -> None:
    assert bytes_of(made)[0] == lines


def test_what_an_application_adds_to_a_file_stands_first_and_changes_no_status_but_200() -> None:
    made = reply.whole(BODY).dressed(418, ((b"X", b"y"),))
    assert (made.status, bytes_of(made)) == (418, ([b"X: y", *HEAD.split(b"\r\n")[:-2]], CONTENT))
    part = reply.partial(BODY, ((10, 20),)).dressed(418, ((b"X", b"y"),))
    assert (part.status, bytes_of(part)[0][:2]) == (206, [b"X: y", b"Content-Length: 10"])
