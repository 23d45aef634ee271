"""The JSON of messages: what is read, and what an error says."""

from __future__ import annotations

import json

import pytest

from zcserve.fleet import forms
from zcserve.fleet.forms import FormError


def test_what_is_dumped_is_loaded() -> None:
    assert forms.load(forms.dump({"a": "é", "b": [1]})) == {"version": 1, "a": "é", "b": [1]}


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "message: is no JSON"),
        (b"\xff", "message: is no JSON"),
        (b"[]", "message: must be an object, not []"),
        (b"[" * 100_000, "message: is no JSON"),
        (b'{"a": NaN}', "message: is no JSON: NaN is no number"),
        (b'{"a": 1, "a": 2}', "message: is no JSON: 'a' comes twice"),
        (b" " * (forms.MESSAGE_BYTES_MAX + 1), "message: 262,145 bytes, and at most 262,144"),
        (b"{}", "version: is missing"),
        (b'{"version": true}', "version: must be a whole number from 1 on, not True"),
        (b'{"version": 0}', "version: must be a whole number from 1 on, not 0"),
        (b'{"version": 2}', "version: 2, and known is 1: this node is older than what sent it"),
    ],
)
def test_what_is_no_message_is_refused(data: bytes, said: str) -> None:
    with pytest.raises(FormError) as raised:
        forms.load(data)
    assert str(raised.value).startswith(said)


def test_what_is_too_long_is_not_sent() -> None:
    with pytest.raises(FormError, match="at most 262,144"):
        forms.dump({"a": "x" * forms.MESSAGE_BYTES_MAX})


@pytest.mark.parametrize("value", [None, 1, "", "a b", "ä", ".a", "a/b", "x" * 64, "a\n"])
def test_a_name_is_letters_digits_and_three_signs(value: object) -> None:
    with pytest.raises(FormError, match=r"^node: "):
        forms.name(value, "node")


@pytest.mark.parametrize("value", ["a", "A-1.b_c", "x" * 63])
def test_a_name_that_is_one(value: str) -> None:
    assert forms.name(value, "node") == value


@pytest.mark.parametrize("value", [-1, 2**53, 1.0, True, "1", None])
def test_a_number_is_whole_and_exact_in_json(value: object) -> None:
    with pytest.raises(FormError, match=r"^n: must be a whole number from 0 on"):
        forms.number(value, "n")


@pytest.mark.parametrize("value", [-0.1, 1.1, float("nan"), float("inf"), True, "1", None])
def test_a_real_number_is_within_its_bounds(value: object) -> None:
    with pytest.raises(FormError, match=r"^share: must be a number from 0 to 1"):
        forms.real(value, "share", 1.0)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("a", "tags: must be a list, not 'a'"),
        (["a", ""], "tags: holds an empty text"),
        (["a", 1], "tags[1]: must be a text, not 1"),
        (["a", "b\0"], "tags[1]: holds what is not printable"),
        (["abcd"], "tags[0]: 4 characters, and at most 3"),
        (["a", "b", "c"], "tags: 3, and at most 2; have fewer"),
    ],
)
def test_a_list_of_texts_names_the_one_that_is_wrong(value: object, said: str) -> None:
    with pytest.raises(FormError) as raised:
        forms.texts(value, "tags", 2, 3, "have fewer")
    assert str(raised.value).startswith(said)


def test_a_value_in_an_error_is_short() -> None:
    assert len(forms.shown(json.dumps(["x" * 1000]))) == 80
