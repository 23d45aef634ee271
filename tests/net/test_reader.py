"""zcserve.net.reader: who asks, and what the notes keep, of heads that are read."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.support.house import GET, House
from zcserve.forwarded import Proxies, Trusted
from zcserve.net.counts import Tally
from zcserve.net.output import Output
from zcserve.net.reader import Reader
from zcserve.net.writer import Writer

House_ = Callable[..., House]
FORWARDED = GET.replace(b"\r\n\r\n", b"\r\nX-Forwarded-For: 198.51.100.9\r\n\r\n")


def reader_of(here: House, peer: str = "192.0.2.7") -> tuple[Reader, Writer]:
    output = Output(Tally())
    writer = Writer(here.service, output, peer)
    return Reader(here.service, output, writer, peer), writer


class Kept:
    """Notes of a test: each is a list of what it was told."""

    def __init__(self) -> None:
        self.begun: list[list[object]] = []

    def begin(self, began: float) -> Any:
        self.begun.append([])
        return self.begun[-1]

    def read(self, note: list[object], head: bytes, given: bytes = b"") -> None:
        note += [head, given]


@pytest.mark.parametrize(("trusted", "needed"), [((), False), (("192.0.2.8",), False), (("192.0.2.7",), True)])
def test_the_parser_is_enough_without_notes_for_a_peer_that_is_not_trusted(
    house: House_, trusted: tuple[str, ...], needed: bool
) -> None:
    here = house()
    here.service.proxies = Proxies(Trusted(trusted)) if trusted else None
    assert reader_of(here)[0].is_needed is needed


def test_a_trusted_proxy_says_who_asks_for_one_request_at_a_time(house: House_) -> None:
    here = house()
    here.service.proxies = Proxies(Trusted(("192.0.2.7",)))
    reader, writer = reader_of(here)
    assert reader.read(FORWARDED, 0) is not None
    assert (writer.client, reader.origin is not None) == ("198.51.100.9", True)
    parsed = reader.read(FORWARDED + GET, len(FORWARDED))
    assert parsed is not None
    assert parsed[3] == len(FORWARDED + GET)
    assert (writer.client, reader.origin) == ("192.0.2.7", None)


def test_half_a_head_has_a_note_of_its_own_and_says_of_nobody(house: House_) -> None:
    here = house()
    notes: Any = Kept()
    here.service.notes = notes
    reader, writer = reader_of(here)
    assert reader.is_needed
    assert reader.read(GET[:9], 0) is None
    assert (notes.begun, writer.client) == ([[]], "192.0.2.7")
    reader.read(b"." + GET, 1, b"an id")
    assert notes.begun == [[], [GET, b"an id"]]
    assert writer.note is notes.begun[1]
