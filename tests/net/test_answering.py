"""zcserve.net.answering: one request without a connection: what it gives at once, what it waits for, how it is left."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.memory import HandFetcher, body_of
from tests.support.places import Place, Places
from zcserve import Config, http, paths
from zcserve.cache.entry import Entry, Fleeting, Redirect
from zcserve.cache.fetcher import Renewed
from zcserve.cache.index import Generation
from zcserve.cache.root import Root
from zcserve.errors import HttpError
from zcserve.forwarded import Origin
from zcserve.net import leading
from zcserve.net.answering import RENEWALS_MAX, Answering
from zcserve.net.bodies import Allowance
from zcserve.net.framing import frame
from zcserve.net.front import Shelf
from zcserve.net.head import SentHead
from zcserve.net.leading import lasting
from zcserve.net.loop import Loop
from zcserve.net.poller import Poller
from zcserve.net.prefixes import Prefixes
from zcserve.net.request import Parser
from zcserve.net.service import Service
from zcserve.rules.redirects import Queries
from zcserve.servlets.request import Request
from zcserve.site.exchange import Answer, Stored
from zcserve.site.reply import Reply
from zcserve.site.site import Site

CONTENT = b"the content"


class Asks:
    """What began a request."""

    client = "192.0.2.7"
    origin: Origin | None = None

    def __init__(self) -> None:
        self.resumptions = 0
        self.said = b""
        self.failed = False

    def addresses(self) -> tuple[object, object]:
        return ("192.0.2.7", 4), ("192.0.2.1", 80)

    def head(self) -> SentHead:
        return SentHead(self.said)

    def resumed(self) -> None:
        self.resumptions += 1

    def fail(self) -> None:
        self.failed = True


def entry_of(key: bytes, body: Fleeting | None) -> Entry:
    entry = Entry(key, b"", len(CONTENT), 0)
    entry.body, entry.etag = body, b'"tag"'
    return entry


class Desk:
    """A service without connections, and the request at hand."""

    def __init__(self, root: Path, made: Answer | None) -> None:
        self.loop = Loop(Poller())
        self.fetcher = HandFetcher()
        self.asks = Asks()
        self.place = Place(made)
        config = Config(root=root)
        self.generation = Generation(Root(root))
        self.generation.resources = {
            b"/page": entry_of(b"/page", body_of(CONTENT)),
            b"/cold": entry_of(b"/cold", None),
            b"/dir": Redirect(b"/dir/"),
        }
        self.site = Site(0, self.generation)
        self.site.application = Places(self.place)
        self.service = Service(
            config=config,
            loop=self.loop,
            parser=Parser(config),
            prefixes=Prefixes(),
            fetcher=self.fetcher,  # type: ignore[arg-type]
            sites=(self.site,),
            bodies=Allowance(1000),
        )

    def request(self, target: bytes, *lines: bytes, method: bytes = b"GET") -> Answering:
        head = b"".join(
            (method, b" ", target, b" HTTP/1.1\r\nHost: test\r\n", *(line + b"\r\n" for line in lines), b"\r\n")
        )
        parsed = self.service.parser.parse(head, 0)
        assert parsed is not None
        self.asks.said = head
        made = Answering(self.service, self.site, self.asks, *parsed[:3])
        if self.site.application is not None:
            made.find_resource()
        return made

    def turn(self) -> None:
        self.loop.call_soon(lambda: None)
        self.loop.run_once()


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Callable[..., Desk]]:
    made: list[Desk] = []

    def build(answer: Answer | None = None) -> Desk:
        made.append(Desk(tmp_path, answer))
        return made[-1]

    yield build
    for one in made:
        one.loop.close()


def status_of(step: object) -> int:
    assert isinstance(step, Reply)
    return step.status


def content_of(step: object, method: bytes = b"GET") -> bytes:
    assert isinstance(step, Reply)
    segments, _, _ = frame(step, method, b"HTTP/1.0")
    return b"".join(bytes(one) for one in segments).partition(b"\r\n\r\n")[2]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("method", "target", "lines", "status", "content"),
    [
        (b"GET", b"/page", (), 200, CONTENT),
        (b"GET", b"/page?v=1", (), 200, CONTENT),
        (b"HEAD", b"/page", (), 200, b""),
        (b"GET", b"/page", (b"Range: bytes=4-6",), 206, CONTENT[4:7]),
        (b"GET", b"/page", (b'If-None-Match: "tag"',), 304, b""),
        (b"GET", b"/page", (b"Accept-Encoding: identity;q=0",), 406, None),
        (b"GET", b"/dir", (), 301, None),
        (b"GET", b"/absent", (), 404, None),
        (b"HEAD", b"/absent", (), 404, b""),
        (b"GET", b"/%zz", (), 400, None),
        (b"OPTIONS", b"*", (), 200, b""),
        (b"POST", b"/page", (), 405, None),
        (b"BREW", b"/page", (), 501, None),
    ],
)
def test_what_is_known_is_answered_at_once(
    desk: Callable[..., Desk],
    method: bytes,
    target: bytes,
    lines: tuple[bytes, ...],
    status: int,
    content: bytes | None,
) -> None:
    here = desk()
    step = here.request(target, *lines, method=method).answer()
    assert isinstance(step, Reply)
    assert step.status == status
    assert content is None or content_of(step, method) == content
    assert not here.asks.resumptions


def test_what_is_not_resident_is_loaded_and_then_answered(desk: Callable[..., Desk]) -> None:
    here = desk()
    request = here.request(b"/cold", b"Range: bytes=0-3")
    assert request.answer() is None
    assert request.wait
    here.fetcher.done[0](body_of(CONTENT))
    assert (here.asks.resumptions, bool(request.wait)) == (1, False)
    step = request.go_on()
    assert (status_of(step), content_of(step)) == (206, CONTENT[:4])


def test_a_file_that_changes_all_the_time_is_given_up(desk: Callable[..., Desk]) -> None:
    here = desk()
    request = here.request(b"/cold")
    step = request.answer()
    for _ in range(RENEWALS_MAX + 1):
        assert step is None
        here.fetcher.done[-1](Renewed())
        step = request.go_on()
    assert isinstance(step, Reply)
    assert step.status == 503


def test_the_choice_is_made_when_the_answer_can_be_sent(desk: Callable[..., Desk]) -> None:
    here = desk()
    request = here.request(b"/cold")
    assert request.answer() is None
    here.fetcher.done[0](Renewed())
    del here.generation.resources[b"/cold"]  # between `resumed` and `go_on`
    assert status_of(request.go_on()) == 404


@pytest.mark.parametrize(("target", "status"), [(b"/cold", 503), (b"/app", 504)])
def test_what_takes_too_long_has_another_answer(desk: Callable[..., Desk], target: bytes, status: int) -> None:
    here = desk()
    request = here.request(target)
    assert request.answer() is None
    assert request.is_with_application is (target == b"/app")
    left: list[bool] = []
    for exchange in here.place.exchanges:
        exchange.abandoned = lambda: left.append(True)
    request.expire()
    assert status_of(request.go_on()) == status
    assert (request.wait, request.is_with_application) == (None, False)
    assert here.fetcher.cancelled == (target == b"/cold")
    assert left == [True] * (target == b"/app")


def test_an_application_answers_now_or_later(desk: Callable[..., Desk]) -> None:
    answer = Reply(200, (), b"made")
    now = desk(answer)
    assert now.request(b"/app").answer() is answer
    later = desk()
    request = later.request(b"/app")
    assert request.answer() is None
    (exchange,) = later.place.exchanges
    assert (exchange.client, exchange.addresses()) == (Asks.client, later.asks.addresses())
    exchange.finish(answer)
    later.turn()
    assert later.asks.resumptions == 1
    assert request.go_on() is answer


def test_an_entry_of_the_application_is_negotiated_like_a_file(desk: Callable[..., Desk]) -> None:
    here = desk()
    entry = here.generation.resources[b"/page"]
    assert isinstance(entry, Entry)
    here.place.made = Stored(here.generation, entry, fields=((b"A", b"b"),))
    assert status_of(here.request(b"/app", b'If-None-Match: "tag"').answer()) == 304
    step = here.request(b"/app").answer()
    assert isinstance(step, Reply)
    assert (step.added, content_of(step)) == (((b"A", b"b"),), CONTENT)
    here.place.made = Stored(here.generation, entry, status=418)
    assert status_of(here.request(b"/app", b'If-None-Match: "tag"').answer()) == 418


class Closes:
    """A stream that counts how often it is closed."""

    closed = 0

    def pull(self, give: object) -> None:
        raise AssertionError

    def close(self) -> None:
        self.closed += 1


@pytest.mark.parametrize("when", ["before", "after"])
def test_an_answer_that_is_not_wanted_is_discarded_once(desk: Callable[..., Desk], when: str) -> None:
    here = desk()
    stream = Closes()
    request = here.request(b"/app")
    assert request.answer() is None
    (exchange,) = here.place.exchanges
    if when == "before":
        request.cancel()
        exchange.finish(Reply(200, (), stream))
        here.turn()
        assert not here.asks.resumptions
    else:
        exchange.finish(Reply(200, (), stream))
        here.turn()
        request.cancel()
    request.cancel()
    assert stream.closed == 1


def test_nothing_comes_of_a_load_that_is_not_wanted(desk: Callable[..., Desk]) -> None:
    here = desk()
    request = here.request(b"/cold")
    assert request.answer() is None
    request.cancel()
    here.fetcher.done[0](body_of(CONTENT))
    request.fail()
    assert (here.fetcher.cancelled, here.asks.resumptions, here.asks.failed) == (1, 0, False)


def test_a_body_is_kept_for_the_application_and_counts_until_the_answer_is_on_its_way(
    desk: Callable[..., Desk],
) -> None:
    here = desk(Reply(200, (), b"made"))
    request = here.request(b"/app", b"Content-Length: 5", method=b"POST")
    body = request.begin_body()
    body.feed(b"12345", 0, 10)
    assert here.service.bodies.held == 5
    assert request.end_body(body) is here.place.made
    assert here.place.exchanges[0].body == b"12345"
    request.end()
    assert here.service.bodies.held == 0
    large = here.request(b"/app", b"Content-Length: 101", method=b"POST")
    with pytest.raises(HttpError, match="100 bytes"):
        large.begin_body()


def test_a_body_that_no_resource_wants_is_thrown_away(desk: Callable[..., Desk]) -> None:
    here = desk()
    request = here.request(b"/page", b"Content-Length: 5", method=b"POST")
    body = request.begin_body()
    body.feed(b"12345", 0, 10)
    assert here.service.bodies.held == 0
    assert status_of(request.end_body(body)) == 405


class Learning(Poller, Shelf):
    """A front that notes what it is taught of a site."""

    def __init__(self) -> None:
        super().__init__()
        self.taught: list[tuple[bytes, Entry]] = []

    def shelf(self, number: int) -> Shelf:
        return self

    def teach(self, target: bytes, entry: Entry) -> None:
        self.taught.append((target, entry))


def test_what_an_application_keeps_is_taught_and_no_file(desk: Callable[..., Desk]) -> None:
    here = desk(Reply(200, (), b"made"))
    here.loop.front = front = Learning()
    page = here.generation.resources[b"/page"]
    assert isinstance(page, Entry)
    for target in (b"/page", b"/page?v=1", b"/dir", b"/app"):
        here.request(target).answer()
    here.place.made = Stored(here.generation, page)
    here.request(b"/app").answer()
    assert not front.taught
    here.place.made = Stored(here.generation, page, own=True)
    here.request(b"/app?v=1").answer()
    assert front.taught == [(b"/app?v=1", page)]


def test_a_path_leads_to_its_file_or_directory_for_good_and_else_where_no_application_may_own_it(
    desk: Callable[..., Desk],
) -> None:
    here = desk()
    resources = here.generation.resources
    assert lasting(here.site, b"/page") == (resources[b"/page"], True, Queries.ANY, 200)
    for other_spelling in (b"/%70age", b"http://test/page", b"/none", b"*", b"", b"//dir"):
        assert lasting(here.site, other_spelling) is None
    moved = lasting(here.site, b"/dir")
    assert moved is not None
    assert isinstance(moved.answer, Reply)
    assert (moved.is_own, moved.queries, moved.answer.status) == (True, Queries.SENT, 301)
    assert moved.answer.fields[-1] == (b"Location", b"/dir/")
    here.site.application = None
    absent = lasting(here.site, b"/none")
    assert absent is not None
    assert (absent.answer, absent.is_own, absent.queries) == (here.site.not_found(), False, Queries.ANY)


def test_an_application_is_told_what_the_request_says(desk: Callable[..., Desk]) -> None:
    here = desk()
    here.request(b"/app", b"X-A:  1 ", b"x-a: 2").answer()
    (exchange,) = here.place.exchanges
    assert exchange.head.version == b"HTTP/1.1"
    assert exchange.head.lines == ((b"Host", b"test"), (b"X-A", b"1"), (b"x-a", b"2"))


@pytest.mark.parametrize(
    ("target", "method", "status"),
    [(b"/x/../app", b"GET", 200), (b"//absent", b"GET", 404), (b"/%70age", b"POST", 405)],
)
def test_the_canonical_form_of_a_target_is_computed_once(
    desk: Callable[..., Desk], monkeypatch: pytest.MonkeyPatch, target: bytes, method: bytes, status: int
) -> None:
    computed: list[bytes] = []

    def canonical_of(decoded: bytes) -> bytes:
        computed.append(decoded)
        return http.canonical_of(decoded)

    monkeypatch.setattr(paths, "canonical_of", canonical_of)
    monkeypatch.setattr(leading, "canonical_path", canonical_of)
    here = desk(Reply(200, (), b"made"))
    assert status_of(here.request(target, method=method).answer()) == status
    assert len(computed) == 1
    for exchange in here.place.exchanges:
        assert Request.of(exchange, {}).path == "/app"
    assert len(computed) == 1
