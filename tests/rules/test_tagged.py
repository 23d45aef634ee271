"""zcserve.rules.tagged: what may be a tag, which rules give it, and how answers tell of it."""

from __future__ import annotations

import pytest

from zcserve.errors import UsageError
from zcserve.rules.bounds import TAG_CHARACTERS_MAX
from zcserve.rules.rule import HeaderRule
from zcserve.rules.tagged import COMPARED_MAX, Tags, check_tag

RULES = (
    HeaderRule(("*.css",), tags=("css", "assets")),
    HeaderRule(("/x",), set=((b"X-A", b"b"),)),
    HeaderRule(("/assets/",), tags=("assets", "v:1.0")),
)


@pytest.mark.parametrize("tag", ["a", "post:1", "A-b_c.d:0", "x" * TAG_CHARACTERS_MAX])
def test_a_tag_has_letters_digits_and_some_signs(tag: str) -> None:
    assert check_tag(tag) == tag


@pytest.mark.parametrize("tag", ["", "a b", "a,b", "a\n", "é", "a/b", "*", "x" * (TAG_CHARACTERS_MAX + 1)])
def test_what_would_be_two_for_some_reader_or_is_too_long_is_refused(tag: str) -> None:
    with pytest.raises(UsageError, match="is not a tag"):
        check_tag(tag)


def test_a_tag_is_the_rules_that_give_it() -> None:
    tags = Tags(RULES)
    assert tags.names == ("assets", "css", "v:1.0")
    assert ("css" in tags, "none" in tags) == (True, False)
    assert [sorted(tags.givers(tag)) for tag in ("assets", "css", "none")] == [[0, 2], [0], []]
    assert tags.of((0, 1, 2)) == ("css", "assets", "v:1.0")
    assert tags.of((1,)) == ()


@pytest.mark.parametrize(
    ("header", "value"), [("Surrogate-Key", b"css assets v:1.0"), ("Cache-Tag", b"css,assets,v:1.0")]
)
def test_each_field_has_its_own_sign_between_tags(header: str, value: bytes) -> None:
    tags = Tags(RULES, header)
    assert tags.lines((0, 2)) == ((header.encode(), value),)
    assert tags.lines((1,)) == ()


def test_without_a_field_nothing_is_told() -> None:
    assert Tags(RULES).lines((0, 2)) == ()


def test_the_tag_that_is_meant_is_told_and_of_many_only_some_are_compared() -> None:
    assert Tags(RULES).nearest("aset") == "assets"
    assert Tags(()).nearest("a") is None
    many = [HeaderRule(("/a",), tags=(f"post:{number}",)) for number in range(COMPARED_MAX * 100)]
    assert Tags(many).nearest("post:4711x") == "post:4711"
