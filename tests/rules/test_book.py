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


def test_files_of_a_root_stand_before_the_toml_file_where_the_last_decides_and_behind_where_the_first_does(
    tmp_path: Path,
) -> None:
    config = Config(
        root=tmp_path,
        rules=({"path": "/**", "set": {"X-A": "toml"}},),
        redirects=({"from": "/old", "to": "/toml"},),
    )
    book = Rulebook(config)
    rules = book.rules(b"/*\n  X-A: file\n  X-B: file\n", b"/old /file\n/other /file\n")
    assert rules.fields_of(b"/x").lines == ((b"X-B", b"file"), (b"X-A", b"toml"))
    led = [rules.answer(key, None) for key in (b"/old", b"/other")]
    assert [action and action.location for action in led] == [b"/toml", b"/file"]
    assert book.told == [
        "_headers:1:1: X-A is as rules[0] says",
        "_redirects:1:1: /old leads where redirects[0] says",
    ]


def test_rules_are_compiled_anew_only_where_a_file_is_another(tmp_path: Path) -> None:
    book = Rulebook(Config(root=tmp_path))
    first = book.rules(b"/a\n  X-A: 1\n", None)
    assert book.rules(b"/a\n  X-A: 1\n", None) is first
    assert book.rules(None, None).digest == NO_RULES.digest
    assert book.rules(b"/a\n  X-A: 1\n", None).digest == first.digest


def test_who_may_read_is_said_once_and_the_rule_that_is_passed_over_is_told(tmp_path: Path) -> None:
    star = {"Access-Control-Allow-Origin": "https://b.example"}
    rules = (
        {"path": "/**", "cors": "*"},
        {"path": "/a/**", "add": star},
        {"path": "/c/x.json", "set": star},
        {"path": "/c/**", "cors": {"origins": ["https://a.example"]}},
    )
    book = Rulebook(Config(root=tmp_path, rules=rules))
    assert [line.partition(";")[0] for line in book.told] == [
        "rules[1]: Access-Control-Allow-Origin is said by rules[0], too",
        "rules[2]: Access-Control-Allow-Origin is said by rules[0], too",
    ]
    lines = {key: book.rules().fields_of(key).lines for key in (b"/a/b", b"/c/x.json", b"/c/y", b"/d")}
    assert lines == {
        b"/a/b": ((b"Access-Control-Allow-Origin", b"https://b.example"),),
        b"/c/x.json": ((b"Vary", b"Origin"),),
        b"/c/y": ((b"Vary", b"Origin"),),
        b"/d": ((b"Access-Control-Allow-Origin", b"*"),),
    }
    assert Rulebook(Config(root=tmp_path, rules=rules[:1] + rules[3:])).told == []


def test_the_dialect_of_a_site_says_how_the_files_of_its_root_are_meant(tmp_path: Path) -> None:
    headers = b"/*\n  X-A: 1\n/a.html\n  X-A: 2\n"
    led = b"/a.html /b\n/c /d 301\n/e/* /f/:splat\n/e/ /g\n/* /index.html 200\n"
    netlify, cloudflare = (Rulebook(Config(root=tmp_path, rules_dialect=name)) for name in ("netlify", "cloudflare"))
    first, other = netlify.rules(headers, led), cloudflare.rules(headers, led)
    assert first.fields_of(b"/a.html").lines == ((b"X-A", b"2"),)
    assert other.fields_of(b"/a.html").lines == ((b"X-A", b"1"), (b"X-A", b"2"))
    assert first.forced(b"/a.html", None) is None
    assert (action := other.forced(b"/a.html", None)) is not None
    assert (action.status, action.location) == (302, b"/b")
    assert first.answer(b"/x", None) is not None
    assert other.answer(b"/x", None) is None
    assert netlify.told == []
    for path, led_to in ((b"/c/", None), (b"/c", b"/d"), (b"/e", None), (b"/e/", b"/f/"), (b"/e/x", b"/f/x")):
        action = other.answer(path, None)
        assert (action.location if action is not None else None) == led_to
        assert (action := first.answer(path, None)) is not None
        assert action.location == (led_to or {b"/c/": b"/d", b"/e": b"/f/"}[path])
    assert cloudflare.told == [
        "_redirects:5:1: '/*' to '/index.html' is left out, as cloudflare does; write spa = true"
    ]
    assert Rulebook(Config(root=tmp_path, rules_dialect="cloudflare")).rules() is not NO_RULES
