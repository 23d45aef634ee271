"""zcserve.auth.remembered: what was right is known for a while."""

from __future__ import annotations

import pytest

from zcserve.auth import remembered
from zcserve.auth.credentials import Credentials
from zcserve.auth.remembered import REMEMBERED_S, Remembered

TOLD = Credentials(b"alice", b"open sesame")


def test_what_was_right_is_known_for_its_time_and_no_longer() -> None:
    now = 0.0
    memory = Remembered(lambda: now)
    digest = memory.digest_of(TOLD)
    assert not memory.knows("hash", b"alice", digest)
    memory.add("hash", b"alice", digest)
    now = REMEMBERED_S - 1
    assert memory.knows("hash", b"alice", digest)
    assert not memory.knows("hash", b"alice", memory.digest_of(Credentials(b"alice", b"other")))
    assert not memory.knows("another hash", b"alice", digest)  # the password was changed
    assert not memory.knows("hash", b"bob", digest)
    now = REMEMBERED_S
    assert not memory.knows("hash", b"alice", digest)
    assert memory.knew("hash", b"alice", digest)  # it is no guess
    assert not memory.knew("hash", b"alice", memory.digest_of(Credentials(b"alice", b"other")))
    assert not memory.knew("another hash", b"alice", digest)
    assert not memory.knew("hash", b"bob", digest)
    memory.add("hash", b"alice", digest)
    assert memory.knows("hash", b"alice", digest)
    assert len(memory) == 1


def test_the_one_that_was_used_longest_ago_goes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remembered, "REMEMBERED_MAX", 2)
    memory = Remembered(lambda: 0.0)
    for name in (b"a", b"b"):
        memory.add("hash", name, b"digest")
    assert memory.knows("hash", b"a", b"digest")
    memory.add("hash", b"c", b"digest")
    assert [name for name in (b"a", b"b", b"c") if memory.knows("hash", name, b"digest")] == [b"a", b"c"]


def test_a_digest_says_nothing_of_the_password_and_is_of_one_pair() -> None:
    memory, other = Remembered(lambda: 0.0), Remembered(lambda: 0.0)
    assert memory.digest_of(TOLD) == memory.digest_of(TOLD) != other.digest_of(TOLD)
    assert memory.digest_of(Credentials(b"ab", b"c")) != memory.digest_of(Credentials(b"a", b"bc"))
    assert TOLD.password not in memory.digest_of(TOLD)
