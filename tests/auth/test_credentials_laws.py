"""Laws of zcserve.auth.credentials: what a client means is what is read, and whatever comes is read or is none."""

from __future__ import annotations

import base64
import unicodedata

import pytest

pytest.importorskip("hypothesis")
from hypothesis import given
from hypothesis import strategies as st

from zcserve.auth.credentials import parse_basic

PRINTED = st.text(st.characters(exclude_categories=("Cc", "Cs")), max_size=40)


@given(PRINTED.filter(lambda name: name and ":" not in unicodedata.normalize("NFC", name)), PRINTED)
def test_a_name_and_a_password_come_back(name: str, password: str) -> None:
    value = b"basic " + base64.b64encode(f"{name}:{password}".encode())
    assert parse_basic(value) == tuple(unicodedata.normalize("NFC", one).encode() for one in (name, password))


@given(st.binary(max_size=60), st.booleans())
def test_whatever_comes_is_a_pair_or_none(raw: bytes, is_coded: bool) -> None:
    told = parse_basic(b"Basic " + (base64.b64encode(raw) if is_coded else raw))
    if told is not None:
        assert told.name
        assert b":" not in told.name
        assert not any(unicodedata.category(one) == "Cc" for part in told for one in part.decode())
