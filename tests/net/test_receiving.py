"""zcserve.net.receiving: a body that comes piece by piece, of a client that may be slow."""

from __future__ import annotations

from math import inf
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from zcserve import Config
from zcserve.errors import HttpError
from zcserve.net.fields import CHUNKED
from zcserve.net.owner import Stop
from zcserve.net.received import Discard
from zcserve.net.receiving import Receiving


class Here:
    """A body of `length` bytes, and the time."""

    def __init__(self, length: int) -> None:
        config = Config(root=Path("/"), body_timeout_s=2.0, body_rate_min=2)
        self.loop = SimpleNamespace(now=100.0)
        service: Any = SimpleNamespace(config=config, loop=self.loop)
        self.receiving = Receiving(service, Discard(length, 1000, 1000))


def test_a_body_is_over_when_all_of_it_came_and_what_is_behind_it_is_not_taken() -> None:
    here = Here(5)
    assert here.receiving.take(b"head12", 4, 9) == (6, 0)
    assert here.receiving.stop is Stop.BODY
    assert here.receiving.take(b"345GET", 0, 9) == (3, 0)
    assert here.receiving.stop is None


def test_chunks_are_counted_and_more_than_the_share_wait_for_the_next_turn() -> None:
    here = Here(CHUNKED)
    data = b"1\r\na\r\n" * 3 + b"0\r\n\r\n"
    at, lines = here.receiving.take(data, 0, 2)
    assert (data[at:], lines) == (b"\r\n1\r\na\r\n0\r\n\r\n", 2)
    assert here.receiving.stop is Stop.SHARE
    assert here.receiving.take(data, at, 9) == (len(data), 3)  # the last chunk and the trailers end, too
    assert here.receiving.stop is None


def test_what_cannot_be_a_body_is_refused() -> None:
    with pytest.raises(HttpError):
        Here(CHUNKED).receiving.take(b"no number\r\n", 0, 9)


def test_a_body_has_a_pace_once_some_of_it_is_missing() -> None:
    here = Here(9)
    assert (here.receiving.due(), here.receiving.suffices()) == (inf, False)
    here.receiving.take(b"1", 0, 9)
    assert here.receiving.due() == 102
    here.loop.now = 102.0
    assert not here.receiving.suffices()  # one byte in two seconds
    here.receiving.take(b"2345", 0, 9)
    assert here.receiving.suffices()
    assert here.receiving.due() == 104


def test_a_client_does_not_pay_for_the_time_in_which_the_server_reads_nothing() -> None:
    here = Here(9)
    here.receiving.rest()  # nothing is missing yet
    here.receiving.take(b"1", 0, 9)
    here.loop.now = 101.5
    here.receiving.rest()
    assert here.receiving.due() == 103.5
