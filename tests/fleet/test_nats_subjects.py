"""Words of subjects: no two names of sites or nodes share one."""

from __future__ import annotations

import itertools
import re

import pytest

from zcserve.fleet import nats_streams, nats_subjects


@pytest.mark.parametrize(
    ("name", "word"),
    [("www", "www"), ("www.example.com", "www__example__com"), ("a_b", "a_-b"), ("a..b", "a____b"), ("a-b", "a-b")],
)
def test_a_name_is_one_word(name: str, word: str) -> None:
    assert nats_subjects.word(name) == word


def test_two_names_never_have_the_same_word() -> None:
    names = ["".join(one) for length in range(1, 6) for one in itertools.product("a._-", repeat=length)]
    words = {nats_subjects.word(name) for name in names}
    assert len(words) == len(names)
    assert all(re.fullmatch(r"[A-Za-z0-9_-]+", word) for word in words)


def test_commands_have_the_subject_that_their_stream_takes() -> None:
    for site in ("www", "www.example.com", "a_b"):
        assert nats_subjects.commands_subject(site) == nats_streams.commands(site).subject
