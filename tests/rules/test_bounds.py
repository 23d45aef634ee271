"""The bounds of rules, as what reads rules and what reads manifests has them."""

from __future__ import annotations

from pathlib import Path

import pytest

from zcserve.cache.ruled import open_root
from zcserve.cache.walk import walk
from zcserve.config.table import Config
from zcserve.errors import UsageError
from zcserve.rules.book import Rulebook
from zcserve.rules.bounds import FILES, HEADERS_FILE, PRIORITY_MAX, PRIORITY_MIN, REDIRECTS_FILE, TAG_CHARACTERS_MAX
from zcserve.rules.tagged import check_tag


@pytest.mark.parametrize("priority", [PRIORITY_MIN, PRIORITY_MAX])
def test_a_priority_at_a_bound_is_taken_and_the_next_one_is_refused(tmp_path: Path, priority: int) -> None:
    rules = Rulebook(Config(root=tmp_path, rules=({"path": "/a", "priority": priority},))).rules()
    assert rules.priority_of(b"/a") == priority
    beyond = priority + (1 if priority > 0 else -1)
    with pytest.raises(UsageError, match=f"{PRIORITY_MIN} to {PRIORITY_MAX}"):
        Rulebook(Config(root=tmp_path, rules=({"path": "/a", "priority": beyond},)))


def test_a_tag_of_as_many_characters_is_taken_and_of_one_more_refused() -> None:
    assert check_tag("x" * TAG_CHARACTERS_MAX)
    with pytest.raises(UsageError, match=f"{TAG_CHARACTERS_MAX} at most"):
        check_tag("x" * (TAG_CHARACTERS_MAX + 1))


def test_files_of_rules_are_those_that_are_read_and_not_served(tmp_path: Path) -> None:
    (tmp_path / HEADERS_FILE).write_text("/a\n  X-A: 1\n")
    (tmp_path / REDIRECTS_FILE).write_text("/b /a\n")
    assert [name.decode() for name in FILES] == [HEADERS_FILE, REDIRECTS_FILE]
    root = open_root(tmp_path, Rulebook(Config(root=tmp_path)))
    assert root.rules.fields_of(b"/a").lines == ((b"X-A", b"1"),)
    assert root.rules.answer(b"/b", None)
    assert dict(walk(root, index=()).resources).keys() <= {b"/"}
