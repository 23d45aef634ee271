"""zcserve.net.exchanges: what one request has with its application. With files beside it: test_answering.py."""

from __future__ import annotations

import pytest

from tests.support.places import Place
from zcserve import Config
from zcserve.errors import HttpError
from zcserve.net.bodies import Allowance
from zcserve.net.exchanges import Exchanges
from zcserve.net.rewriting import Asked
from zcserve.paths import SentPath
from zcserve.site.exchange import Answer, Exchange, HeadLines
from zcserve.site.reply import Give, Reply

HEAD = HeadLines(b"HTTP/1.1")
BODY = b"12345"


class Asks:
    """What began the request."""

    client, origin = "192.0.2.7", None

    def addresses(self) -> tuple[object, object]:
        return ("192.0.2.7", 4), ("192.0.2.1", 80)

    def head(self) -> HeadLines:
        return HEAD

    def resumed(self) -> None:
        raise AssertionError

    def fail(self) -> None:
        raise AssertionError


class Closes:
    """A stream that counts how often it is closed."""

    closed = 0

    def pull(self, give: Give) -> None:
        raise AssertionError

    def close(self) -> None:
        self.closed += 1


class Desk:
    """The exchanges of a request with a body, for an application that answers with `made`, or later."""

    def __init__(self, made: Answer | None = None) -> None:
        self.bodies = Allowance(1000)
        self.place = Place(made)
        self.exchanges = Exchanges()
        body = self.exchanges.collect(self.place, len(BODY), self.bodies, Config(root="/"))
        body.feed(BODY, 0, 10)
        self.exchanges.keep(body)

    def begin(self) -> Answer | None:
        asked = Asked(self.place, b"/app?q", SentPath(b"/app"), b"q", b"/old")
        return self.exchanges.begin(asked, Asks(), b"POST", HEAD, b"joe", self.finish)

    def finish(self, exchange: Exchange, answer: Answer | None) -> None:
        assert exchange is self.place.exchanges[-1]
        assert self.exchanges.end(exchange, answer)


def test_an_application_is_told_what_began_the_request() -> None:
    answer = Reply(200)
    desk = Desk(answer)
    assert desk.begin() is answer
    assert not desk.exchanges.is_pending
    (told,) = desk.place.exchanges
    assert (told.method, told.target, told.path.key, told.query, told.original) == (
        b"POST",
        b"/app?q",
        b"/app",
        b"q",
        b"/old",
    )
    assert (told.client, told.origin, told.addresses()) == (Asks.client, None, Asks().addresses())
    assert (told.head, told.body, told.user) == (HEAD, BODY, b"joe")


def test_an_answer_that_comes_later_is_there_once() -> None:
    desk, answer = Desk(), Reply(200)
    assert desk.begin() is None
    assert desk.exchanges.is_pending
    desk.place.exchanges[0].finish(answer)
    assert not desk.exchanges.is_pending
    assert desk.exchanges.take() is answer
    with pytest.raises(AssertionError):
        desk.exchanges.take()


def test_an_application_that_declines_leaves_the_body_to_the_next() -> None:
    desk = Desk()
    desk.begin()
    desk.place.exchanges[0].decline()
    desk.begin()
    assert [exchange.body for exchange in desk.place.exchanges] == [BODY, BODY]


def test_a_body_counts_until_the_answer_is_on_its_way_or_the_application_is_done_with_it() -> None:
    desk = Desk(Reply(200))
    desk.begin()
    assert desk.bodies.held == len(BODY)
    desk.exchanges.release()
    assert desk.bodies.held == 0
    left: list[bool] = []
    desk = Desk()
    desk.begin()
    (exchange,) = desk.place.exchanges
    exchange.abandoned = lambda: left.append(True)
    desk.exchanges.abandon()
    assert (left, desk.exchanges.is_pending, desk.bodies.held) == ([True], False, len(BODY))
    assert not desk.exchanges.end(exchange, None)
    assert desk.bodies.held == 0


def test_an_answer_that_nothing_waits_for_is_discarded() -> None:
    desk, stream = Desk(), Closes()
    desk.begin()
    desk.exchanges.cancel()
    assert not desk.exchanges.end(desk.place.exchanges[0], Reply(200, (), stream))
    assert stream.closed == 1
    desk, stream = Desk(), Closes()
    desk.begin()
    desk.place.exchanges[0].finish(Reply(200, (), stream))
    desk.exchanges.cancel()
    desk.exchanges.cancel()
    assert stream.closed == 1


def test_an_answer_may_be_there_before_the_request_is() -> None:
    exchanges, bodies, answer = Exchanges(), Allowance(1000), Reply(200)
    exchanges.give(answer, 5, bodies)
    assert (bodies.held, exchanges.is_pending, exchanges.take()) == (5, False, answer)
    exchanges.release()
    assert bodies.held == 0


def test_a_body_is_as_long_as_the_resource_and_all_bodies_may_be() -> None:
    for bodies, size in ((Allowance(1000), 101), (Allowance(50), 51)):
        with pytest.raises(HttpError, match=f"{size - 1} bytes"):
            Exchanges().collect(Place(None), size, bodies, Config(root="/"))
