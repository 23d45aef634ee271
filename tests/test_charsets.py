"""zcserve.charsets: names of charsets that a browser or Python knows, and those that nothing does."""

from __future__ import annotations

import pytest

from zcserve.charsets import LABELS, is_known, is_name


@pytest.mark.parametrize("name", ["utf-8", "UTF-8", "Latin1", "x-sjis", "X-User-Defined", "cp437", "utf_16"])
def test_what_a_browser_or_python_reads_is_known_in_any_case(name: str) -> None:
    assert is_known(name)


@pytest.mark.parametrize(
    "name",
    ["utf-88", "", "utf8mb4", "base64", "rot13", "zlib", "idna", "punycode", "unicode_escape", "raw-unicode-escape",
     "undefined", "a\0b", "\ud800"],
)  # fmt: skip
def test_what_is_no_charset_of_text_is_not_known(name: str) -> None:
    assert not is_known(name)


def test_each_label_of_the_standard_is_a_name() -> None:
    assert len(LABELS) > 200
    assert [label for label in LABELS if not is_name(label) or not is_known(label)] == []
    assert all(label == label.lower() for label in LABELS)


@pytest.mark.parametrize(
    ("name", "expected"),
    [("a" * 60, True), ("a" * 61, False), ("", False), ("a b", False), ("a;b", False), ('a"', False), ("a:b", False),
     ("!#$%&+^_`{}~-", True), ("ansi_x3.4-1968", True), ("\u00fc", False), ("utf-8\n", False)],
)  # fmt: skip
def test_a_name_has_up_to_60_of_some_characters(name: str, expected: bool) -> None:
    assert is_name(name) is expected
