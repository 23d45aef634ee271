"""zcserve.config.keys: every field has a key, a flag and a row in the reference."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import pytest

from zcserve.config.keys import KEYS, of_no_use, reference
from zcserve.config.table import TABLES, Config


def test_every_field_has_a_key_and_every_limit_a_reason() -> None:
    assert list(KEYS) == [f.name for f in fields(Config) if f.name not in (*TABLES, "sites", "places")]
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


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({}, []),
        ({"listen": (":80",), "compress": True, "compress_dir": "kept"}, []),
        ({"listen": (":80",), "port": 81}, ["--listen"]),
        ({"listen": ("unix:s",), "host": "*"}, ["--listen"]),
        ({"pin_cpus": True, "engine": "python"}, ["--pin-cpus"]),
        ({"pin_cpus": True}, []),
        ({"port": 81, "compress_dir": "kept"}, ["--compress-dir"]),
        ({"hosts": ("a.example",)}, ["--hosts"]),
        ({"hosts": ("a.example",), "unknown_host": "421"}, []),
        ({"unknown_host": "421"}, ["--unknown-host"]),
    ],
)
def test_what_is_set_for_nothing_is_told(given: dict[str, Any], told: list[str]) -> None:
    lines = list(of_no_use(Config(root="www", **given)))
    assert [any(flag in line for line in lines) for flag in told] == [True] * len(told)
    assert len(lines) == len(told)
