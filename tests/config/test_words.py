"""zcserve.config.words: what is told of a word that is no key."""

from __future__ import annotations

import pytest

from zcserve.config.keys import BY_WORD
from zcserve.config.table import TABLES
from zcserve.config.words import OF_TABLES, about_unknown
from zcserve.rules import protected, reading

KNOWN = [*BY_WORD, *TABLES, "sites"]


@pytest.mark.parametrize(
    ("word", "told"),
    [
        ("prot", "the nearest known is port"),
        ("Head-Timeout", "the nearest known is head_timeout"),
        ("rule", "the nearest known is rules"),
        ("error_page", "the nearest known is error_pages"),
        ("path", "it is a word of [[rules]] and [[auth]], and stands below such a line"),
        ("from", "it is a word of [[redirects]], and stands below such a line"),
        ("ssl", "TLS is not spoken here: put a proxy in front"),
        ("gzip", "compress = true makes variants"),
        ("worker-processes", "lanes = 4, or lanes = 'auto'"),
        ("server_name", "hosts = ['example.org']"),
        ("qwertz", "no key is like it: zcserve --help lists all"),
    ],
)
def test_a_word_that_is_no_key_is_told_with_what_may_be_meant(word: str, told: str) -> None:
    assert about_unknown(word, KNOWN).startswith(f"unknown key '{word}'; {told}")


def test_words_of_tables_are_those_that_are_read() -> None:
    assert OF_TABLES == {
        "rules": reading.WORDS,
        "redirects": reading.REDIRECT_WORDS,
        "auth": protected.WORDS,
    }


def test_what_is_told_names_keys_that_there_are() -> None:
    from zcserve.config import words

    for word in ("ssl", "gzip", "threads", "max_age", "docroot", "domain", "bind", "log", "browse", "fallback", "mime"):
        told = about_unknown(word, KNOWN).partition("; ")[2]
        assert " = " not in told or told.split(" = ")[0] in BY_WORD, told
    assert words.OF_TABLES.keys() <= TABLES.keys()
