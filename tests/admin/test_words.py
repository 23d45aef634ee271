"""Words of verbs: what is read from JSON, and what is refused, by name."""

from __future__ import annotations

import ast
import json
from pathlib import Path
from typing import Any, get_args

import pytest

from zcserve.admin import words
from zcserve.admin.words import LOG_LEVELS, VerbError, Word, Wording
from zcserve.config.table import LogLevel

PURGE = Wording(
    "purge",
    "forget",
    {
        "path": Word(str, "what", optional=False),
        "mode": Word(str, "how", default="soft", choices=("soft", "hard")),
        "limit": Word(int, "how many", default=10),
        "share": Word(float, "of all", default=1.0),
        "deep": Word(bool, "all below", default=False),
        "tags": Word(list, "which", default=()),
    },
)
DEFAULTS = {"mode": "soft", "limit": 10, "share": 1.0, "deep": False, "tags": ()}


@pytest.mark.parametrize(
    ("given", "read"),
    [
        ({"path": "/a"}, {}),
        ({"path": "/a", "mode": "hard", "limit": 3}, {"mode": "hard", "limit": 3}),
        ({"path": "/a", "share": 1, "deep": True, "tags": ["x"]}, {"share": 1, "deep": True, "tags": ["x"]}),
    ],
)
def test_words_are_read_with_the_defaults_of_those_that_are_not_there(given: Any, read: Any) -> None:
    assert PURGE.read(json.dumps(given).encode()) == {"path": "/a", **DEFAULTS, **read}


def test_null_is_a_value_of_a_word_that_may_be_that() -> None:
    root = Word(str, "which", optional=False, null="drop")
    prepare = Wording("prepare", "load", {"root": root})
    assert prepare.read(b'{"root": null}') == {"root": None}
    for body, told in ((b"{}", "prepare needs root: which"), (b'{"root": 1}', "root must be a text or null, not 1")):
        with pytest.raises(VerbError, match=told):
            prepare.read(body)


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (b"", "purge needs path: what"),
        (b"{}", "purge needs path: what"),
        (b'{"path": 1}', "path must be a text, not 1"),
        (b'{"path": null}', "path must be a text, not null"),
        (b'{"path": "/a", "limit": true}', "limit must be a whole number, not true"),
        (b'{"path": "/a", "limit": 1.5}', "limit must be a whole number, not 1.5"),
        (b'{"path": "/a", "deep": 1}', "deep must be true or false, not 1"),
        (b'{"path": "/a", "tags": ["x", 1]}', "tags must be a list of texts"),
        (b'{"path": "/a", "mode": "hart"}', 'mode cannot be "hart": did you mean hard?'),
        (b'{"pat": "/a"}', '"pat" is no word of purge: did you mean path?'),
        (b"[]", "the body must be a JSON object"),
        (b"{", "the body is no JSON"),
        (b"[" * 100_000, "the body is no JSON"),
        (b"\xff\xfe", "the body is no JSON"),
    ],
)
def test_what_is_wrong_is_named(body: bytes, told: str) -> None:
    with pytest.raises(VerbError) as caught:
        PURGE.read(body)
    assert caught.value.status == 400
    assert told in str(caught.value)


def test_what_is_said_twice_is_refused_and_so_is_a_list_that_is_too_long() -> None:
    with pytest.raises(VerbError, match='"path" is said twice'):
        PURGE.read(b'{"path": "/a", "deep": true, "path": "/b"}')
    short = PURGE._replace(items_max=2)
    assert short.read(b'{"path": "/a", "tags": ["x", "y"]}')["tags"] == ["x", "y"]
    with pytest.raises(VerbError, match="tags has 3 items, and may have 2"):
        short.read(b'{"path": "/a", "tags": ["x", "y", "z"]}')


def test_a_verb_without_words_takes_none() -> None:
    verb = Wording("reload", "")
    assert verb.read(b"") == verb.read(b" {} ") == {}
    with pytest.raises(VerbError, match="takes none"):
        verb.read(b'{"now": true}')


def test_a_refusal_tells_what_would_do() -> None:
    assert VerbError(400, "no", ("a", "b")).told() == {"error": "no", "accepted": ["a", "b"]}
    assert VerbError(409, "no").told() == {"error": "no"}


def test_the_levels_of_the_log_are_those_of_the_flag() -> None:
    assert get_args(LogLevel) == LOG_LEVELS


def test_it_imports_nothing_of_the_server() -> None:
    tree = ast.parse(Path(words.__file__).read_bytes())
    modules = {node.module for node in tree.body if isinstance(node, ast.ImportFrom)}
    assert not [module for module in modules if module is not None and module.startswith("zcserve")]
