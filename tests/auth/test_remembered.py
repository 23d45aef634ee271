"""zcserve.auth.remembered: what was right is known for a while."""

from __future__ import annotations

import pytest

from zcserve.auth import remembered
from zcserve.auth.credentials import Credentials
from zcserve.auth.remembered import CLIENTS_MAX, GUESSES_MAX, REMEMBERED_S, Remembered

TOLD = Credentials(b"alice", b"open sesame")


def test_what_was_right_is_known_for_its_time_and_no_longer() -> None:
    now = 0.0
    memory = Remembered(lambda: now)
    digest = memory.digest_of(TOLD)
    assert not memory.knows("hash", b"alice", digest, "a")
    memory.add("hash", b"alice", digest, "a")
    now = REMEMBERED_S - 1
    assert memory.knows("hash", b"alice", digest, "a")
    assert not memory.knows("hash", b"alice", digest, "b")  # it is checked there
    assert not memory.knows("hash", b"alice", memory.digest_of(Credentials(b"alice", b"other")), "a")
    assert not memory.knows("another hash", b"alice", digest, "a")  # the password was changed
    assert not memory.knows("hash", b"bob", digest, "a")
    now = REMEMBERED_S
    assert not memory.knows("hash", b"alice", digest, "a")
    memory.add("hash", b"alice", digest, "a")
    assert memory.knows("hash", b"alice", digest, "a")
    assert len(memory) == 1


def test_what_is_no_guess_is_known_by_the_addresses_where_it_was_right() -> None:
    now = 0.0
    memory = Remembered(lambda: now)
    digest, other = (memory.digest_of(Credentials(b"alice", password)) for password in (b"right", b"guess"))
    memory.add("hash", b"alice", digest, "a")
    now = REMEMBERED_S
    assert memory.knew("hash", b"alice", digest, "a")
    for hashed, name, told, client in (
        ("hash", b"alice", digest, "b"),
        ("hash", b"alice", other, "a"),
        ("another hash", b"alice", digest, "a"),
        ("hash", b"bob", digest, "a"),
    ):
        assert not memory.knew(hashed, name, told, client)
    for number in range(CLIENTS_MAX):
        memory.add("hash", b"alice", digest, f"{number}")
        assert memory.knows("hash", b"alice", digest, "0")
    assert not memory.knew("hash", b"alice", digest, "a")  # used longest ago
    assert all(memory.knows("hash", b"alice", digest, f"{number}") for number in range(CLIENTS_MAX))


def test_so_many_guesses_for_a_user_at_its_address_and_nothing_is_right_there_until_a_check_says_so() -> None:
    now = 1000.0
    memory = Remembered(lambda: now)
    digest = memory.digest_of(TOLD)
    memory.add("hash", b"alice", digest, "a")
    for _ in range(2 * GUESSES_MAX):
        memory.note_guess("hash", b"alice", "b")  # where alice never was: nothing is told there
        memory.note_guess("hash", b"bob", "a")
    for _ in range(GUESSES_MAX):
        assert memory.knew("hash", b"alice", digest, "a")
        memory.note_guess("hash", b"alice", "a")
    assert not memory.knew("hash", b"alice", digest, "a")
    for _ in range(2):  # as often as it is checked, and no hundred more each time
        memory.add("hash", b"alice", digest, "a")
        assert memory.knew("hash", b"alice", digest, "a")
        memory.note_guess("hash", b"alice", "a")
        assert not memory.knew("hash", b"alice", digest, "a")
    now += REMEMBERED_S
    memory.add("hash", b"alice", digest, "a")
    memory.note_guess("hash", b"alice", "a")
    assert memory.knew("hash", b"alice", digest, "a")


def test_the_one_that_was_used_longest_ago_goes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remembered, "REMEMBERED_MAX", 2)
    memory = Remembered(lambda: 0.0)
    for name in (b"a", b"b"):
        memory.add("hash", name, b"digest", "a")
    assert memory.knows("hash", b"a", b"digest", "a")
    memory.add("hash", b"c", b"digest", "a")
    assert [name for name in (b"a", b"b", b"c") if memory.knows("hash", name, b"digest", "a")] == [b"a", b"c"]


def test_a_digest_says_nothing_of_the_password_and_is_of_one_pair() -> None:
    memory, other = Remembered(lambda: 0.0), Remembered(lambda: 0.0)
    assert memory.digest_of(TOLD) == memory.digest_of(TOLD) != other.digest_of(TOLD)
    assert memory.digest_of(Credentials(b"ab", b"c")) != memory.digest_of(Credentials(b"a", b"bc"))
    assert TOLD.password not in memory.digest_of(TOLD)
