"""zcserve.net.sending: a stream of a test, and an owner that notes what it is told."""

from __future__ import annotations

from typing import Any

import pytest

from zcserve.net.counts import Tally
from zcserve.net.framing import Outgoing
from zcserve.net.output import Output
from zcserve.net.owner import Stop
from zcserve.net.sending import Sending


class Place:
    """One stream on its way: it stands for the stream, and for the owner."""

    def __init__(self, length: int | None = None) -> None:
        self.give: Any = None
        self.told: list[object] = []
        self.raises = False
        self.output = Output(Tally())
        self.outgoing = Outgoing(self, 200, length, chunked=length is None)
        self.sending = Sending(self.outgoing, self.output, self, lambda outgoing: self.told.append(outgoing.sent))

    def pull(self, give: Any) -> None:
        self.give = give

    def close(self) -> None:
        self.told.append("closed")

    def resumed(self) -> None:
        raise AssertionError

    def proceed(self, stop: Stop) -> None:
        self.told.append(stop)
        if self.raises:
            raise RuntimeError

    def end(self) -> None:
        self.told.append("cut")

    def fail(self) -> None:
        self.told.append("failed")


def test_a_piece_is_waited_for_until_it_comes_and_the_end_is_told_once() -> None:
    place = Place()
    assert place.sending.pull()
    place.give(b"some")
    assert (place.sending.is_awaited, place.told) == (False, [Stop.STREAM])
    assert place.sending.pull()
    place.give(b"")
    assert place.told == [Stop.STREAM, "closed", 4, Stop.SHARE]
    assert b"".join(bytes(part) for part in place.output.segments if isinstance(part, bytes)) == (
        b"4\r\nsome\r\n0\r\n\r\n"
    )


@pytest.mark.parametrize("piece", [None, b""])
def test_content_that_ends_before_its_length_is_cut(piece: bytes | None) -> None:
    place = Place(length=10)
    place.sending.pull()
    place.give(piece)
    assert place.told == ["cut"]


def test_a_piece_for_a_client_that_is_gone_is_nothing() -> None:
    place = Place()
    place.sending.pull()
    place.sending.close()
    place.give(b"late")
    assert (place.told, place.output.segments) == (["closed", 0], [])
    assert not place.sending.is_awaited


def test_the_owner_is_told_where_going_on_raises() -> None:
    place = Place()
    place.raises = True
    place.sending.pull()
    with pytest.raises(RuntimeError):
        place.give(b"some")
    assert place.told == [Stop.STREAM, "failed"]
