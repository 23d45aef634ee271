"""A request on its way through an application is answered once, and given up at most once."""

from __future__ import annotations

from zcserve.paths import SentPath
from zcserve.site.exchange import Answer, Exchange, HeadLines, Stored
from zcserve.site.reply import Reply


def exchange_of(answers: list[tuple[Exchange, Answer | None]]) -> Exchange:
    def finish(exchange: Exchange, answer: Answer | None) -> None:
        answers.append((exchange, answer))

    head, path = HeadLines(b"HTTP/1.1"), SentPath(b"/app")
    return Exchange(b"GET", b"/app", path, None, head, b"", "127.0.0.1", lambda: (None, None), finish)


def test_an_answer_comes_with_its_exchange() -> None:
    answers: list[tuple[Exchange, Answer | None]] = []
    exchange, reply = exchange_of(answers), Reply(200)
    exchange.finish(reply)
    assert answers == [(exchange, reply)]


def test_an_application_hears_once_that_the_client_is_gone() -> None:
    heard: list[str] = []
    exchange = exchange_of([])
    exchange.abandoned = lambda: heard.append("gone")
    exchange.abandon()
    exchange.abandon()
    assert heard == ["gone"]


def test_what_is_answered_is_not_given_up() -> None:
    heard: list[str] = []
    exchange = exchange_of([])
    exchange.abandoned = lambda: heard.append("gone")
    exchange.end()
    exchange.abandon()
    assert not heard


def test_what_comes_too_late_is_not_sent_and_its_body_counts_no_more() -> None:
    done: list[str] = []

    class Late(Stored):
        def discard(self) -> None:
            done.append("discarded")

    class Body:
        def release(self) -> None:
            done.append("released")

    exchange = exchange_of([])
    exchange.discard(None)
    exchange.hold = Body()
    exchange.discard(Late.__new__(Late))
    assert done == ["discarded", "released"]
