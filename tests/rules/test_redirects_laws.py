"""Laws of redirects: what is compiled answers as the plain interpreter does, and no request forges a target."""

from __future__ import annotations

import re

import pytest

from zcserve.http import canonical_path
from zcserve.rules.redirects import Action, Redirects, parse_redirect

pytest.importorskip("hypothesis")
from hypothesis import event, given, settings
from hypothesis import strategies as st

from tests.support import plain_rules as plain
from tests.support.rule_inputs import RULES, SENT, keys_for, parsed, rules_of_a_site


def leads_to(action: Action) -> str:
    return (action.location or action.key + b"?" * bool(action.query) + action.query).decode()


@given(RULES, st.data())
@settings(max_examples=settings().max_examples // 2)
def test_what_is_compiled_answers_as_the_plain_interpreter_and_forges_nothing(
    rules: list[plain.Rule], data: st.DataObject
) -> None:
    accepted, redirects = parsed(rules)
    compiled = Redirects(redirects)
    for _ in range(3):
        key, query = data.draw(keys_for(rules)), data.draw(SENT)
        action = compiled.answer(key, query.encode())
        told = None if action is None else (redirects.index(action.rule), action.status, leads_to(action))
        event("a rule answers" if told else "no rule answers")
        assert told == plain.answer(accepted, key.decode(), query), (key, query)
        if action is not None:
            forges_nothing(action)


def forges_nothing(action: Action) -> None:
    """What a request filled in is no end of a line, no host, no parameter of its own, and leads no way upwards."""
    target = action.rule.target
    assert re.fullmatch(rb"[!-~]*", action.location + action.key + action.query)
    if target is None or action.key:
        assert canonical_path(action.key or b"/") == (action.key or b"/")
        return
    assert action.location.startswith(target.origin + b"/")
    assert target.origin or not action.location.startswith(b"//")
    path, _, asked = action.location.partition(b"#")[0].partition(b"?")
    assert not {b".", b".."} & {*path.split(b"/")}
    if target.query is not None:
        assert asked.count(b"&") == target.text.count("&")
        assert asked.count(b"=") == target.text.count("=")


@given(st.lists(rules_of_a_site(), max_size=3))
@settings(max_examples=settings().max_examples // 4)
def test_what_is_written_in_another_way_is_the_same_rule(rules: list[plain.Rule]) -> None:
    accepted, redirects = parsed(rules)
    for rule, redirect in zip(accepted, redirects, strict=True):
        again = "/" + rule.source[1:].replace("/", "//").replace("a", "%61").replace("//*", "/*")
        assert parse_redirect(again, "", status=404, where=redirect.where).pattern.segments == redirect.pattern.segments
