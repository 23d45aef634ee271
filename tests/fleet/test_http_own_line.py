"""Which agent the list of nodes leads to: this one, another one, none, or something else."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress

import pytest

from zcserve.config.addresses import TcpAddress
from zcserve.fleet import http_own_line
from zcserve.fleet.http_listener import Answer, Listener, Request, json_answer
from zcserve.fleet.node_list import Listed

TOKEN = "a token of some length"


def test_an_agent_says_once_that_its_line_of_the_list_leads_to_another_one(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_own_line, "ASK_EVERY_S", 0.001)
    asked: list[str] = []
    nothing, own = Answer(), json_answer({"version": 1, "site": "www", "node": "n1", "boot": "own"})
    other = json_answer({"version": 2, "site": "www", "node": "n1", "boot": "other"})
    odd = [Answer(200, body) for body in (b"?", b"[]", b"{}", b'{"node": "n1"}', b'{"boot": "b", "node": "\\n"}')]
    answers = [own, nothing, *odd, other, other, own, other]

    async def answer(request: Request) -> Answer:
        asked.append("/".join(request.segments))
        return answers[min(len(asked), len(answers)) - 1]

    async def run() -> None:
        listener = Listener(TcpAddress("127.0.0.1", 0), TOKEN.encode(), answer, lambda _: 0)
        await listener.start()
        line = Listed("n1", f"http://127.0.0.1:{listener.port}")
        task = asyncio.create_task(http_own_line.follow(line, "own", TOKEN))
        async with asyncio.timeout(60):
            while len(asked) <= len(answers):
                await asyncio.sleep(0.005)
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        await listener.close()

    with caplog.at_level(logging.ERROR):
        asyncio.run(run())
    assert set(asked) == {"v1"}
    assert caplog.text.count("and there is another agent (of node n1)") == 2


def test_where_none_answers_nothing_is_said(caplog: pytest.LogCaptureFixture) -> None:
    async def run() -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(0.3):
                await http_own_line.follow(Listed("n1", "http://127.0.0.1:9"), "own", "")

    with caplog.at_level(logging.ERROR):
        asyncio.run(run())
    assert caplog.text == ""
