"""zcserve.rules.lines: lines and words of files of rules, with their places."""

from __future__ import annotations

import pytest

from zcserve.rules import lines
from zcserve.rules.lines import DIALECTS, Line, lines_of, words_of
from zcserve.rules.where import Problem, Where


def never(_: str) -> bool:
    """No line hides a file."""
    return False


def read(data: bytes) -> tuple[list[tuple[str, int, int]], list[tuple[int, int, str]]]:
    problems: list[Problem] = []
    found = [(line.text, line.where.line, line.where.column) for line in lines_of(data, "f", problems, never)]
    return found, [(told.where.line, told.where.column, told.text) for told in problems]


@pytest.mark.parametrize(
    ("data", "found"),
    [
        (b"", []),
        (b"/a /b", [("/a /b", 1, 1)]),
        (b"\xef\xbb\xbf/a /b\r\n\r\n  /c\t/d \r\n", [("/a /b", 1, 1), ("/c\t/d", 3, 3)]),
        (b"# one\n  # two\n\n/a\n", [("/a", 4, 1)]),
        ("/\u00fc /\u20ac".encode(), [("/\u00fc /\u20ac", 1, 1)]),
    ],
)
def test_lines_have_places_and_no_comments(data: bytes, found: list[tuple[str, int, int]]) -> None:
    assert read(data) == (found, [])


def test_what_is_no_utf8_is_told_with_its_column_and_the_other_lines_hold() -> None:
    assert read(b"/a\n/\xc3\xbc /\xff\n/b") == ([("/a", 1, 1), ("/b", 3, 1)], [(2, 5, "this line is no UTF-8")])


def test_what_is_too_long_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    long = b"  /" + b"a" * lines.LINE_CHARACTERS_MAX
    assert read(long + b"\n/b") == ([("/b", 2, 1)], [(1, 3, "a line has 8192 characters at most")])
    monkeypatch.setattr(lines, "FILE_BYTES_MAX", 3)
    problems: list[Problem] = []
    assert list(lines_of(b"/abc", "f", problems, never)) == []
    assert [problem.is_grave for problem in problems] == [True]


def test_what_is_left_out_is_grave_where_it_may_hide_files_and_a_comment_never_may() -> None:
    problems: list[Problem] = []
    data = b"hide \xff\nshow \xff\n # hide \xff\nhide " + b"a" * lines.LINE_CHARACTERS_MAX
    assert list(lines_of(data, "f", problems, lambda text: "hide" in text)) == []
    assert [problem.is_grave for problem in problems] == [True, False, False, True]


def test_words_have_columns_and_end_where_a_comment_begins() -> None:
    words = words_of(Line("/a  /b#c\t301 # why", Where("f", 7, 3)))
    assert [(word.text, word.where.column) for word in words] == [("/a", 3), ("/b#c", 7), ("301", 12)]


def test_a_dialect_is_found_by_its_name() -> None:
    assert [(name, dialect.status) for name, dialect in DIALECTS.items()] == [("netlify", 301), ("cloudflare", 302)]
