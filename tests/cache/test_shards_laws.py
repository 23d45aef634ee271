"""The law of shards: whatever is done to a table, it answers as a dict."""

from __future__ import annotations

from typing import Any

import pytest

from zcserve.cache.shards import Shards, enter

pytest.importorskip("hypothesis")
from hypothesis import given
from hypothesis import strategies as st

KEYS = st.sampled_from([b"/%d" % number for number in range(40)])
VALUES = st.none() | st.integers(0, 3)
ITEMS = st.dictionaries(KEYS, VALUES, max_size=6)
DEEDS = st.lists(
    st.tuples(st.just("put"), ITEMS)
    | st.tuples(st.just("set"), st.tuples(KEYS, VALUES))
    | st.tuples(st.just("pop"), KEYS)
    | st.tuples(st.just("delete"), KEYS),
    max_size=30,
)


def do(table: Any, deed: str, what: Any) -> tuple[Any, object]:
    """The table, and what the deed gave."""
    match deed:
        case "put":
            return enter(table, what), None
        case "set":
            table[what[0]] = what[1]
            return table, None
        case "pop":
            return table, table.pop(what, "nothing")
    try:
        del table[what]
    except KeyError as error:
        return table, error.args
    return table, None


@given(ITEMS, st.integers(0, 12), DEEDS)
def test_a_table_is_a_dict(items: dict[bytes, Any], bound: int, deeds: list[tuple[str, Any]]) -> None:
    model = dict(items)
    table: Any = dict(items)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("zcserve.cache.shards.DICT_KEYS_MAX", bound)
        for deed, what in deeds:
            table, gave = do(table, deed, what)
            model, expected = do(model, deed, what) if deed != "put" else (model | what, None)
            assert gave == expected
            assert isinstance(table, Shards) or len(table) <= max(bound, len(items) + 1) + 6
    assert (table == model, len(table), bool(table)) == (True, len(model), bool(model))
    assert sorted(table) == sorted(table.keys()) == sorted(model)
    assert dict(table.items()) == model
    assert sorted(map(repr, table.values())) == sorted(map(repr, model.values()))
    for number in range(40):
        key = b"/%d" % number
        assert (key in table, table.get(key), table.get(key, 7)) == (key in model, model.get(key), model.get(key, 7))
        if key in model:
            assert table[key] == model[key]
        else:
            with pytest.raises(KeyError):
                table[key]
