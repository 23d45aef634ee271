"""docs/examples/README.md: each example is named there, and has what it needs."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from tests.support.examples import EXAMPLES, shown_in

NAMES = sorted(path.name for path in EXAMPLES.iterdir() if path.is_dir())


def test_the_page_names_each_example_and_no_other() -> None:
    named = re.findall(r"^\| \[(\w+)\]\((\w+)/README\.md\)", (EXAMPLES / "README.md").read_text(), re.MULTILINE)
    assert sorted(named) == [(name, name) for name in NAMES]


@pytest.mark.parametrize("name", NAMES)
def test_an_example_has_a_test_a_command_and_a_configuration_that_says_why(name: str) -> None:
    assert (Path(__file__).parent / f"test_{name}.py").exists()
    page = (EXAMPLES / name / "README.md").read_text()
    is_made = (EXAMPLES / name / "make.py").exists()
    command = "python3 make.py && " if is_made else ""
    assert f"\n    {command}zcserve --config site.toml\n" in page
    assert len(list(shown_in(page))) >= 3
    if not is_made or "/site.toml" not in (EXAMPLES / name / ".gitignore").read_text():
        text = (EXAMPLES / name / "site.toml").read_text()
        assert tomllib.loads(text)
        assert text.count("#") >= 4
