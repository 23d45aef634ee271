"""zcserve.phrases: what RFC 9110 section 15 calls the status codes, on every Python."""

from __future__ import annotations

import pytest

from zcserve.phrases import PHRASES


@pytest.mark.parametrize(
    ("status", "phrase"),
    [
        (100, "Continue"),
        (206, "Partial Content"),
        (404, "Not Found"),
        (413, "Content Too Large"),
        (414, "URI Too Long"),
        (416, "Range Not Satisfiable"),
        (422, "Unprocessable Content"),
        (504, "Gateway Timeout"),
    ],
)
def test_a_status_has_its_present_phrase(status: int, phrase: str) -> None:
    assert PHRASES[status] == phrase


def test_each_phrase_can_stand_in_a_status_line() -> None:
    assert all(100 <= status <= 599 and phrase.isprintable() and phrase.isascii() for status, phrase in PHRASES.items())
