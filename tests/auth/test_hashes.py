"""zcserve.auth.hashes: which forms of hashes are taken, and what they are of."""

from __future__ import annotations

import sys

import pytest

from tests.support.passwords import ALICE, ALICE_ARGON2, ALICE_BCRYPT, BOB, BOB_BCRYPT
from zcserve.auth import hashes
from zcserve.auth.hashes import check_hash, doubt_about, hash_of, is_password
from zcserve.errors import UsageError

pytest.importorskip("bcrypt")
pytest.importorskip("argon2")


@pytest.mark.parametrize(("hashed", "password"), [(ALICE_ARGON2, ALICE), (ALICE_BCRYPT, ALICE), (BOB_BCRYPT, BOB)])
def test_a_hash_is_of_its_password_alone(hashed: str, password: str) -> None:
    assert check_hash(hashed) == hashed
    assert is_password(hashed, password.encode())
    for other in (b"", password.encode() + b"x", password.upper().encode(), hashed.encode()):
        assert not is_password(hashed, other)


@pytest.mark.parametrize(
    ("hashed", "told"),
    [
        ("secret", "plain text"),
        ("", "plain text"),
        ("$apr1$salt$hash", "MD5, as htpasswd makes it without -B"),
        ("{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g=", "SHA-1 without a salt"),
        ("$1$salt$hash", "MD5"),
        ("$6$salt$hash", "SHA-512 of crypt"),
        ("$2y$04$short", "bcrypt that is cut short"),
        ("$2y$04$" + "9" * 53, "or of another form"),
        (ALICE_BCRYPT.replace("$04$", "$31$"), "cost 31; accepted: 04 to 15"),
        (ALICE_ARGON2.replace("2id", "2i"), "another form than argon2id"),
        (ALICE_ARGON2.replace("m=64", "m=4194304"), "m=262144 (KiB)"),
        (ALICE_ARGON2.replace("t=1", "t=99"), "t=16"),
        (ALICE_ARGON2.replace("m=64", "m=1"), "accepted"),
        (ALICE_ARGON2 + "\n", "argon2 in another form"),
    ],
)
def test_what_is_weak_or_too_much_work_is_refused_with_what_to_do(hashed: str, told: str) -> None:
    with pytest.raises(UsageError) as caught:
        check_hash(hashed)
    assert told in str(caught.value)
    assert "accepted" in str(caught.value)
    assert not hashed or hashed not in str(caught.value)  # it may be a password


def test_what_is_quick_to_guess_is_taken_and_told() -> None:
    assert "bcrypt of cost 04 is quick to guess" in doubt_about(ALICE_BCRYPT)
    assert "argon2id with m=64 (KiB) is quick to guess" in doubt_about(ALICE_ARGON2)
    assert doubt_about(ALICE_BCRYPT.replace("$04$", "$12$")) == ""


def test_a_new_hash_is_taken_without_a_doubt_by_either_library(monkeypatch: pytest.MonkeyPatch) -> None:
    hashed = hash_of(b"one")
    assert hashed.startswith("$argon2id$")
    assert (check_hash(hashed), doubt_about(hashed), is_password(hashed, b"one")) == (hashed, "", True)
    monkeypatch.setitem(sys.modules, "argon2", None)
    hashed = hash_of(b"one")
    assert (hashed[:7], doubt_about(hashed), is_password(hashed, b"one")) == ("$2b$12$", "", True)
    with pytest.raises(UsageError, match="bcrypt reads 72 bytes of a password"):
        hash_of(b"p" * 73)
    assert is_password(ALICE_BCRYPT, b"p" * 100) is False  # which bcrypt itself refuses to read


def test_a_library_that_is_not_there_is_told_with_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, hashed in (("bcrypt", ALICE_BCRYPT), ("argon2", ALICE_ARGON2)):
        monkeypatch.setitem(sys.modules, name, None)
        with pytest.raises(UsageError, match=r"pip install 'zcserve\[auth\]'"):
            check_hash(hashed)
    with pytest.raises(UsageError, match="no library that makes hashes"):
        hash_of(b"one")
    assert hashes.INSTALL == "pip install 'zcserve[auth]'"
