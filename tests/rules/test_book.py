"""zcserve.rules.book: what of a configuration are rules."""

from __future__ import annotations

from pathlib import Path

import pytest

from zcserve.config.table import Config
from zcserve.errors import UsageError
from zcserve.rules.book import Rulebook
from zcserve.rules.compiled import NO_RULES
from zcserve.rules.preset import IMMUTABLE, SECURE


def test_without_any_there_are_none(tmp_path: Path) -> None:
    assert Rulebook(Config(root=tmp_path)).rules().digest == NO_RULES.digest


def test_presets_stand_before_what_is_written(tmp_path: Path) -> None:
    written = ({"path": "/a/**", "set": {"Cache-Control": "no-store"}, "remove": ["Referrer-Policy"]},)
    config = Config(root=tmp_path, rules=written, secure_headers=True, immutable=True, cache_control="no-cache")
    rules = Rulebook(config).rules()
    assert rules.fields_of(b"/x.8e0d62a0.js").lines == (*SECURE, (b"Cache-Control", IMMUTABLE))
    assert rules.fields_of(b"/x.js").lines == ((b"Cache-Control", b"no-cache"), *SECURE)
    kept = tuple(line for line in SECURE if line[0] != b"Referrer-Policy")
    assert rules.fields_of(b"/a/x.8e0d62a0.js").lines == (*kept, (b"Cache-Control", b"no-store"))


def test_the_same_rules_are_one_object(tmp_path: Path) -> None:
    book = Rulebook(Config(root=tmp_path))
    assert book.rules() is book.rules()


def test_what_is_wrong_is_told(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"^rules\[0\]\.set\.Date: 'Date' cannot be set"):
        Rulebook(Config(root=tmp_path, rules=({"path": "/a", "set": {"Date": "x"}},)))
