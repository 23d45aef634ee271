"""zcserve.auth.credentials: what Authorization says."""

from __future__ import annotations

import base64
import unicodedata
from typing import Literal

import pytest

from zcserve.auth.credentials import (
    NAME_BYTES_MAX,
    PASSWORD_BYTES_MAX,
    Credentials,
    credentials_of,
    normal_name,
    parse_basic,
)


def basic(raw: bytes) -> bytes:
    return b"Basic " + base64.b64encode(raw)


def test_the_examples_of_the_rfc_are_read() -> None:
    assert parse_basic(b"Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==") == Credentials(b"Aladdin", b"open sesame")
    assert parse_basic(b"Basic dGVzdDoxMjPCow==") == Credentials(b"test", "123£".encode())


@pytest.mark.parametrize(
    ("raw", "told"),
    [
        (b"a:b:c:", (b"a", b"b:c:")),
        (b"a:", (b"a", b"")),
        ("e\u0301:e\u0301".encode(), ("é".encode(), "é".encode())),  # a letter and its accent are one letter
    ],
)
def test_the_first_colon_divides_and_letters_are_in_normal_form(raw: bytes, told: tuple[bytes, bytes]) -> None:
    assert parse_basic(basic(raw)) == told


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"Basic",
        b"Basic ",
        b"Basic YTpi!",
        b"Basic YTp i",
        b"Basic YTpi, Basic YTpi",
        b"Basic YTpiYQ",  # its padding is missing
        b"Digest YTpi",
        b"BasicYTpi",
        basic(b"no colon"),
        basic(b":password"),
        basic(b"a\x00:b"),
        basic(b"a:b\r\n"),
        basic(b"a:\x7f"),
        basic(b"a:\xff"),
        basic(b"n" * (NAME_BYTES_MAX + 1) + b":b"),
        basic(b"a:" + b"p" * (PASSWORD_BYTES_MAX + 1)),
    ],
)
def test_what_cannot_be_read_in_one_way_is_none(value: bytes) -> None:
    assert parse_basic(value) is None


def test_one_line_is_read_and_of_several_none() -> None:
    line = (b"AUTHORIZATION", basic(b"a:b"))
    assert credentials_of((line, (b"Host", b"x"))) == (b"a", b"b")
    assert credentials_of((line, line)) is None
    assert credentials_of(((b"Proxy-Authorization", line[1]),)) is None


def test_a_name_has_no_colon() -> None:
    with pytest.raises(ValueError, match="no colon"):
        normal_name("a:b")


def test_what_is_too_long_is_not_sorted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Combining marks are sorted for the normal form, in a time that grows by the square of their number."""
    sorted_: list[int] = []

    def noted(form: Literal["NFC"], text: str) -> str:
        sorted_.append(len(text.encode()))
        return normalize(form, text)

    normalize = unicodedata.normalize
    monkeypatch.setattr(unicodedata, "normalize", noted)
    marks = "\u0301\u0316" * 3000
    assert parse_basic(basic(f"a:{marks}".encode())) is None
    assert parse_basic(basic(f"a{marks}:b".encode())) is None
    assert parse_basic(basic(("a:" + "\u0958" * 300).encode())) is None  # grows in normal form
    assert max(sorted_) <= PASSWORD_BYTES_MAX
