"""Laws of checks: what is said to do nothing answers nothing."""

from __future__ import annotations

import pytest

from zcserve.rules.checks import Kind, check_redirects
from zcserve.rules.redirects import Redirects

pytest.importorskip("hypothesis")
from hypothesis import event, given, settings
from hypothesis import strategies as st

from tests.support import plain_rules as plain
from tests.support.rule_inputs import RULES, SENT, keys_for, parsed


@given(RULES, st.data())
@settings(max_examples=settings().max_examples // 2)
def test_a_rule_that_never_matches_answers_nothing(rules: list[plain.Rule], data: st.DataObject) -> None:
    compiled = Redirects(parsed(rules)[1])
    never = [one.rule for one in check_redirects(compiled) if one.kind in (Kind.TWICE, Kind.NEVER, Kind.NOWHERE)]
    event(f"{min(len(never), 2)} rules never match")
    for _ in range(3 if never else 0):
        action = compiled.answer(data.draw(keys_for(rules)), data.draw(SENT).encode())
        assert action is None or action.rule not in never
