"""docs/rules.md: what it shows is what is done."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from zcserve.http import canonical_path
from zcserve.rules import lines, patterns, redirects, targets, trie
from zcserve.rules.headers_file import read_headers
from zcserve.rules.patterns import parse_pattern
from zcserve.rules.redirects_file import read_redirects

PAGE = (Path(__file__).parents[2] / "docs" / "rules.md").read_text()


def blocks(kind: str) -> list[bytes]:
    return [block.encode() for block in re.findall(rf"```{kind}\n(.*?)```", PAGE, re.DOTALL)]


def rows(heading: str) -> list[list[str]]:
    """The cells of the table below a heading."""
    table = re.findall(r"^\|(.*)\|$", PAGE.split(f"\n## {heading}\n")[1].split("\n## ")[0], re.MULTILINE)
    return [[cell.strip() for cell in row.split("|")] for row in table[2:]]


ROWS = rows("Patterns of redirects")


@pytest.mark.parametrize(("pattern", "paths", "takes"), ROWS)
def test_a_pattern_takes_what_the_page_says(pattern: str, paths: str, takes: str) -> None:
    expected = {name: value.encode() for name, value in re.findall(r"(\w+) `(.*?)`", takes)}
    if "splat: nothing" in takes:
        expected = {"splat": b""}
    found = [
        parse_pattern(pattern.strip("`")).match(canonical_path(path.encode())) for path in re.findall("`(.*?)`", paths)
    ]
    assert found
    assert {str(one) for one in found} == {str(None if takes == "no match" else expected)}


def test_files_on_the_page_are_right() -> None:
    assert [read_redirects(block).problems for block in blocks("redirects")] == [()]
    assert [read_headers(block).problems for block in blocks("headers")] == [()]
    assert [len(read_redirects(block).rules) for block in blocks("redirects")] == [5]


def test_limits_on_the_page_are_those_of_the_code() -> None:
    assert f"mix literals, placeholders and text around stars in {trie.SHAPES_MAX} ways" in PAGE
    limits = (
        f"{lines.FILE_BYTES_MAX // 2**20} MiB a file, {lines.RULES_MAX:,} rules,",
        f"{lines.LINE_CHARACTERS_MAX:,} characters a line,\n{patterns.PATTERN_CHARACTERS_MAX:,} characters a pattern,",
        f"{targets.TARGET_CHARACTERS_MAX:,} a target, {redirects.CONDITIONS_MAX} parameters a rule",
    )
    assert " ".join(limits) in PAGE
    assert " ".join(map(str, redirects.REDIRECTS)) in PAGE
