"""zcserve.config.keys: every field has a key, a flag and a row in the reference."""

from __future__ import annotations

from dataclasses import fields

from zcserve.config.keys import KEYS, reference
from zcserve.config.table import Config


def test_every_field_has_a_key_and_every_limit_a_reason() -> None:
    assert list(KEYS) == [f.name for f in fields(Config)]
    assert len({key.flag for key in KEYS.values()}) == len(KEYS)
    limits = [key for key in KEYS.values() if key.name.endswith(("_max", "_min", "_timeout_s"))]
    assert len(limits) >= 15
    assert all(key.option.why for key in limits)


def test_the_reference_has_one_table_row_for_every_key() -> None:
    lines = reference().splitlines()
    for key in KEYS.values():
        rows = [line for line in lines if line.startswith(f"| `{key.flag}` |")]
        assert len(rows) == 1
        assert rows[0].count("|") == (6 if key.option.why else 4)
        assert key.option.why in rows[0]
