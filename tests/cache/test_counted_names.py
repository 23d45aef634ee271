"""Which names of a root count: what a manifest asks of names is what a walk asks."""

from __future__ import annotations

import pytest

from zcserve.cache import naming
from zcserve.cache.counted_names import SIBLING_CODINGS, SIBLING_ENDINGS, is_hidden


@pytest.mark.parametrize(
    ("directory", "name", "hidden"),
    [
        (b"", b".git", True),
        (b"", b".well-known", False),
        (b"docs/", b".well-known", True),
        (b"", b"a.b", False),
        (b"docs/", b"_headers", False),
    ],
)
def test_a_name_is_hidden_that_begins_with_a_dot_but_for_well_known_at_the_top(
    directory: bytes, name: bytes, hidden: bool
) -> None:
    assert is_hidden(directory, name) is hidden


def test_each_ending_of_a_sibling_has_a_coding_and_leads_back_to_its_base() -> None:
    assert tuple(SIBLING_CODINGS) == SIBLING_ENDINGS
    for ending, coding in SIBLING_CODINGS.items():
        assert naming.base_of(b"page.css" + ending) == b"page.css"
        assert naming.sibling_of(b"page.css", coding) == b"page.css" + ending
