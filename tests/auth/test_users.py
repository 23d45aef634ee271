"""zcserve.auth.users: files of names and hashes."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.passwords import ALICE_ARGON2, ALICE_BCRYPT, BOB_BCRYPT
from zcserve.auth import users
from zcserve.auth.users import FILE_BYTES_MAX, Users, parse_file, put, read_file
from zcserve.errors import UsageError

pytest.importorskip("bcrypt")
pytest.importorskip("argon2")


def test_lines_are_names_and_hashes() -> None:
    text = f"# who may\r\n\n  alice:{ALICE_ARGON2}\r\nzoë q:{BOB_BCRYPT}".encode()
    hashes, doubts = parse_file("/etc/users", text)
    assert hashes == {b"alice": ALICE_ARGON2, "zoë q".encode(): BOB_BCRYPT}
    assert [doubt.split(": ")[0] for doubt in doubts] == ["/etc/users:3", "/etc/users:4"]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (f"a:{BOB_BCRYPT}\nb", "users:2: no colon"),
        ("a:secret", "users:1: the user 'a': plain text"),
        (f"\na:{BOB_BCRYPT}\na:{ALICE_BCRYPT}", "users:3: the user 'a' a second time"),
        (f":{BOB_BCRYPT}", "users:1: not a name"),
        (f"a:{BOB_BCRYPT}:x", "users:1: the user 'a': bcrypt that is cut short"),
    ],
)
def test_what_is_wrong_is_told_with_its_line_and_never_shown(text: str, told: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_file("users", text.encode())
    assert str(caught.value).startswith(told)
    assert "secret" not in str(caught.value)
    with pytest.raises(UsageError, match="users:1: it is not UTF-8"):
        parse_file("users", b"\xff:x")


def test_a_file_that_cannot_be_read_or_is_too_long_is_told(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be read: No such file"):
        read_file(str(tmp_path / "none"))
    (tmp_path / "long").write_bytes(b"#" * (FILE_BYTES_MAX + 1))
    with pytest.raises(UsageError, match="is too long; accepted: 2 MiB"):
        read_file(str(tmp_path / "long"))


def test_there_are_not_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(users, "USERS_MAX", 1)
    hashes: dict[bytes, str] = {}
    put(hashes, "a", BOB_BCRYPT)
    with pytest.raises(UsageError, match="more than 1 users"):
        put(hashes, "b", BOB_BCRYPT)


def test_a_name_that_nobody_has_is_checked_like_some_users_and_always_the_same() -> None:
    some = Users({b"a": ALICE_ARGON2, b"b": BOB_BCRYPT})
    names = [b"n%d" % number for number in range(64)]
    assert {some.stand_in(name) for name in names} == {ALICE_ARGON2, BOB_BCRYPT}
    assert [some.stand_in(name) for name in names] == [some.stand_in(name) for name in names]
