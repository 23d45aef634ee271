"""zcserve.net.writer: what one answer puts into the output and into the log, and what its owner is told."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.support.connection_side import bytes_of
from tests.support.house import CONTENT, House
from tests.support.memory import body_of, head_of, large_body_of
from zcserve.cache.entry import Body, Entry
from zcserve.net.counts import Tally
from zcserve.net.fields import Fields
from zcserve.net.framing import Outgoing
from zcserve.net.output import Output
from zcserve.net.owner import Stop
from zcserve.net.writer import Writer
from zcserve.site import reply
from zcserve.site.reply import Give, Reply

LINES = (b"Host: test",)


class Desk:
    """A writer, its output, and the log's lines."""

    def __init__(self, here: House) -> None:
        self.here = here
        self.output = Output(Tally())
        self.log: list[tuple[Any, ...]] = []
        here.service.log = lambda client, method, target, fields, *rest: self.log.append(
            (client, method, target, fields is not None, *rest)
        )
        self.writer = Writer(here.service, self.output, "192.0.2.7")

    def fields(self, *lines: bytes, version: bytes = b"HTTP/1.1") -> Fields:
        """What these lines of a head mean."""
        head = b"GET / " + version + b"\r\n" + b"".join(line + b"\r\n" for line in (*LINES, *lines)) + b"\r\n"
        parsed = self.here.service.parser.parse(head, 0)
        assert parsed is not None
        return parsed[2]

    def hit(self, method: bytes, body: Body, *lines: bytes, version: bytes = b"HTTP/1.1") -> Stop | None:
        entry = Entry(b"/page", b"", body.size, 0)
        entry.body, entry.etag = body, b'"tag"'
        return self.writer.write_hit(method, b"/page?v", self.fields(*lines, version=version), entry, body)

    def sent(self) -> bytes:
        return b"".join(map(bytes_of, self.output.segments))

    def head_and_content(self) -> tuple[list[bytes], bytes]:
        head, _, content = self.sent().partition(b"\r\n\r\n")
        return head.split(b"\r\n"), content


@pytest.fixture
def desk(house: Callable[..., House]) -> Desk:
    return Desk(house())


# --- representations --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("method", "content"), [(b"GET", CONTENT), (b"HEAD", b"")])
def test_a_hit_has_the_head_that_was_made_at_load_and_head_no_content(
    desk: Desk, method: bytes, content: bytes
) -> None:
    assert desk.hit(method, body_of(CONTENT)) is None
    lines, sent = desk.head_and_content()
    assert lines[0] == b"HTTP/1.1 200 OK"
    assert desk.sent().partition(b"Content-Length")[2].startswith(head_of(CONTENT).partition(b"Content-Length")[2])
    assert sent == content
    assert desk.log == [("192.0.2.7", method, b"/page?v", True, 200, len(content))]
    assert desk.writer.says_no_more is None


@pytest.mark.parametrize(
    ("lines", "status", "content"),
    [
        ((b"Range: bytes=0-2",), b"206", CONTENT[:3]),
        ((b'If-None-Match: "tag"',), b"304", b""),
        ((b'If-Match: "other"',), b"412", None),
        ((b"Range: bytes=99-",), b"416", None),
        ((b'If-None-Match: "other"',), b"200", CONTENT),
    ],
)
def test_conditions_and_ranges_of_a_hit_are_minded(
    desk: Desk, lines: tuple[bytes, ...], status: bytes, content: bytes | None
) -> None:
    assert desk.hit(b"GET", body_of(CONTENT), *lines) is None
    head, sent = desk.head_and_content()
    assert head[0].split()[1] == status
    assert content is None or sent == content
    assert desk.log[0][-2:] == (int(status), len(sent))


@pytest.mark.parametrize("lines", [(), (b"Range: bytes=0-",)])
def test_a_large_body_goes_out_first_and_is_named_should_it_be_cut(desk: Desk, lines: tuple[bytes, ...]) -> None:
    assert desk.hit(b"GET", large_body_of(bytes(1 << 20)), *lines) is Stop.SHARE
    assert desk.output.about == (b"GET", b"/page?v")
    assert len(desk.head_and_content()[1]) == 1 << 20


def test_a_head_of_a_large_body_and_a_small_range_of_one_go_out_with_what_follows(desk: Desk) -> None:
    assert desk.hit(b"HEAD", large_body_of(bytes(1 << 20))) is None
    assert desk.hit(b"GET", large_body_of(bytes(1 << 20)), b"Range: bytes=0-9") is None
    assert desk.output.about is None


def test_what_waits_to_be_sent_keeps_its_body(desk: Desk) -> None:
    for method, lines in ((b"GET", ()), (b"HEAD", ()), (b"GET", (b"Range: bytes=0-2",))):
        body = body_of(CONTENT)
        desk.hit(method, body, *lines)
        assert desk.output.flush(FullTransport(), 1 << 20)  # type: ignore[arg-type]
        assert body.pins == 1
        desk.output.drop(desk.here.fetcher)  # type: ignore[arg-type]


class FullTransport:
    """A client that takes nothing."""

    def send(self, *_: object) -> int:
        raise BlockingIOError

    send_before_file = send_file = send

    def unacknowledged(self) -> int:
        return 0


# --- persistence ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("lines", "version", "draining", "told", "says_no_more"),
    [
        ((), b"HTTP/1.1", False, None, None),
        ((), b"HTTP/1.0", False, b"Connection: close", True),
        ((b"Connection: keep-alive",), b"HTTP/1.0", False, b"Connection: keep-alive", None),
        ((b"Connection: close",), b"HTTP/1.1", False, b"Connection: close", True),
        ((b"Connection: close",), b"HTTP/1.1", True, b"Connection: close", True),
        ((), b"HTTP/1.1", True, b"Connection: close", False),
    ],
)
@pytest.mark.parametrize("kind", ["hit", "reply"])
def test_the_client_is_told_whether_its_connection_goes_on(
    desk: Desk,
    kind: str,
    lines: tuple[bytes, ...],
    version: bytes,
    draining: bool,
    told: bytes | None,
    says_no_more: bool | None,
) -> None:
    desk.here.service.draining = draining
    if kind == "hit":
        stop = desk.hit(b"GET", body_of(CONTENT), *lines, version=version)
    else:
        made = desk.writer.write(reply.page(404), b"GET", b"/a", desk.fields(*lines, version=version))
        assert not isinstance(made, Outgoing)
        stop = made
    assert stop is (None if says_no_more is None else Stop.END)
    assert [line for line in desk.head_and_content()[0] if line.startswith(b"Connection")] == [told] * bool(told)
    assert desk.writer.says_no_more is says_no_more


@pytest.mark.parametrize("lines", [(), (b"Connection: close",)])
def test_an_answer_that_must_be_the_last_is_so_and_more_may_come_whatever_the_client_says(
    desk: Desk, lines: tuple[bytes, ...]
) -> None:
    assert desk.writer.write(reply.page(405), b"POST", b"/a", desk.fields(*lines), True) is Stop.END
    assert b"Connection: close" in desk.head_and_content()[0]
    assert desk.writer.says_no_more is False


def test_what_is_no_request_is_answered_and_logged_without_one(desk: Desk) -> None:
    assert desk.writer.write(reply.page(400), b"GET", b"", None) is Stop.END
    assert b"Connection: close" in desk.head_and_content()[0]
    ((client, method, target, has_fields, status, _),) = desk.log
    assert (client, method, target, has_fields, status) == ("192.0.2.7", b"", b"", False, 400)
    assert desk.writer.says_no_more is False


# --- content that comes piece by piece --------------------------------------------------------------------------------


class Nothing:
    """A stream that is not pulled."""

    def pull(self, give: Give) -> None:
        raise AssertionError

    def close(self) -> None:
        raise AssertionError


@pytest.mark.parametrize(
    ("lines", "version", "length", "last"),
    [
        ((), b"HTTP/1.1", None, False),
        ((b"Connection: close",), b"HTTP/1.1", None, True),
        ((b"Connection: keep-alive",), b"HTTP/1.0", None, True),  # its end is the connection's
        ((b"Connection: keep-alive",), b"HTTP/1.0", 10, False),
    ],
)
def test_a_stream_is_begun_and_its_log_line_is_the_callers(
    desk: Desk, lines: tuple[bytes, ...], version: bytes, length: int | None, last: bool
) -> None:
    answer = Reply(200, (), Nothing(), length)
    outgoing = desk.writer.write(answer, b"GET", b"/a", desk.fields(*lines, version=version))
    assert isinstance(outgoing, Outgoing)
    assert outgoing.last is last
    assert (b"Connection: close" in desk.head_and_content()[0]) is last
    assert desk.log == []
    desk.writer.client = "198.51.100.4"
    desk.writer.log(b"GET", b"/a", desk.fields(), 200, 5)
    assert desk.log == [("198.51.100.4", b"GET", b"/a", True, 200, 5)]


def test_without_a_log_nothing_is_written_down(desk: Desk) -> None:
    desk.here.service.log = None
    desk.hit(b"GET", body_of(CONTENT))
    desk.writer.write(reply.page(404), b"GET", b"/a", desk.fields())
    desk.writer.log(b"GET", b"/a", desk.fields(), 200, 5)
    assert desk.log == []


def test_an_answer_is_counted_for_the_site_that_it_is_of_or_for_none(desk: Desk) -> None:
    tally, site = desk.here.service.tally, desk.here.service.site_of(b"")
    desk.writer.be_for(site)
    assert (desk.output.answers, desk.writer.line) == (tally.of(site.account), site.log)
    desk.writer.be_for(None)
    assert (desk.output.answers, desk.writer.line) == (tally.no_sites, None)
