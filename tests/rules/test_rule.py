"""zcserve.rules.rule: what a field of a rule may be, and what is refused with its reason."""

from __future__ import annotations

import pytest

from zcserve.errors import UsageError
from zcserve.rules.rule import (
    LINES_BYTES_MAX,
    NAME_BYTES_MAX,
    REFUSED,
    VALUE_BYTES_MAX,
    HeaderRule,
    check_length,
    check_name,
    check_value,
)


@pytest.mark.parametrize("name", ["X-A", "x", "Cache-Control", "!#$%&'*+-.^_`|~9", "a" * NAME_BYTES_MAX])
def test_a_name_is_a_token(name: str) -> None:
    assert check_name(name, verb="set") == name.encode()


@pytest.mark.parametrize("name", ["", "X A", "X:", "X-\r\nY", "é", "?", "a" * (NAME_BYTES_MAX + 1), "\0", '"x"', "a/b"])
def test_what_is_no_token_is_no_name(name: str) -> None:
    with pytest.raises(UsageError, match="is not the name of a field"):
        check_name(name, verb="set")


@pytest.mark.parametrize("verb", ["set", "add", "remove"])
@pytest.mark.parametrize("name", sorted(REFUSED))
def test_what_the_server_says_itself_no_rule_says(name: bytes, verb: str) -> None:
    with pytest.raises(UsageError, match="by a rule: ") as error:
        check_name(name.decode().title(), verb=verb)
    assert REFUSED[name] in str(error.value)


def test_vary_may_only_be_added_and_a_type_only_be_set() -> None:
    assert check_name("Vary", verb="add") == b"Vary"
    assert check_name("Content-Type", verb="set") == b"Content-Type"
    for name, verb in [("Vary", "set"), ("Vary", "remove"), ("Content-Type", "add"), ("content-type", "remove")]:
        with pytest.raises(UsageError, match=f"{name}.* by a rule"):
            check_name(name, verb=verb)


@pytest.mark.parametrize("value", ["a", "a b", "a\tb", "</a.css>; rel=preload", "x" * VALUE_BYTES_MAX, "100%", "%d%b"])
def test_a_value_is_printable(value: str) -> None:
    assert check_value(value) == value.encode()


@pytest.mark.parametrize(
    "value",
    ["", " a", "a ", "a\r\nX: y", "a\n", "a\0b", "\x7f", "é", "x" * (VALUE_BYTES_MAX + 1), 5, True, None, ["a"]],
)
def test_what_would_be_more_than_one_value_is_none(value: object) -> None:
    with pytest.raises(UsageError, match="accepted: printable ASCII"):
        check_value(value)


def test_the_fields_of_a_rule_are_so_many_bytes_at_most() -> None:
    check_length([(b"X", b"y" * (LINES_BYTES_MAX - 5))])
    with pytest.raises(UsageError, match="too many for one rule"):
        check_length([(b"X", b"y" * (LINES_BYTES_MAX - 4))])


def test_what_a_rule_means_does_not_hang_on_where_it_stands() -> None:
    class Here:
        def where(self, *path: str | int) -> str:
            return "here"

    assert HeaderRule(("/a",), written=Here()).meaning == HeaderRule(("/a",)).meaning
    assert HeaderRule(("/a",)).meaning != HeaderRule(("/b",)).meaning
