"""Verbs: each wording has something that is done."""

from __future__ import annotations

from zcserve.admin.orders import VERBS
from zcserve.admin.words import WORDINGS


def test_each_verb_says_one_of_the_wordings_and_each_wording_is_of_a_verb() -> None:
    assert [verb.wording for verb in VERBS] == list(WORDINGS)
