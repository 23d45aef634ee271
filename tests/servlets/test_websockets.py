"""zcserve.servlets.websockets: each wish for a WebSocket is refused, and a flood of them is a few lines."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.connection_side import Side
from zcserve.servlets.websockets import TOLD_EVERY_S, NoWebSockets


class Clock:
    """What stands for time, of a machine that has just begun: it moves by hand."""

    def __init__(self) -> None:
        self.now = 5.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("zcserve.servlets.websockets.time", clock)
    return clock


def test_a_wish_is_answered_501_and_told_with_the_request_and_what_to_do(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    side = Side(tmp_path)
    got = side.ask(NoWebSockets(), "/chat\x1b?room=1", method="GET")
    assert (got.status, got.whole) == (501, True)
    assert b"WebSockets are not spoken here." in got.content
    (message,) = caplog.messages
    assert message.startswith("GET /chat\\x1b?room=1 asks for a WebSocket, which zcserve does not speak")
    assert message.endswith("have a proxy in front send this path to a server that does")
    assert caplog.records[0].levelname == "WARNING"
    side.close()


def test_clients_that_come_again_and_again_are_a_line_a_minute(
    tmp_path: Path, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    side, refusal = Side(tmp_path), NoWebSockets()
    for _ in range(4):
        assert side.ask(refusal, "/one").status == 501
    clock.now += TOLD_EVERY_S - 0.1
    assert side.ask(refusal, "/one").status == 501
    assert len(caplog.messages) == 1
    clock.now += 0.1
    assert side.ask(refusal, "/two").status == 501
    assert caplog.messages[1].startswith("GET /two asks")
    assert caplog.messages[1].endswith("does; 4 more since the last line")
    clock.now += TOLD_EVERY_S
    side.ask(refusal, "/three")
    assert caplog.messages[2].startswith("GET /three asks")
    assert caplog.messages[2].endswith("a server that does")
    side.close()


def test_no_body_is_read_for_it() -> None:
    assert NoWebSockets().body_bytes_max == 0
