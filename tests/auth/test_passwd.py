"""zcserve.auth.passwd: `zcserve passwd NAME` makes a line that a site takes."""

from __future__ import annotations

import io
import sys

import pytest

from zcserve.auth.hashes import is_password
from zcserve.auth.passwd import USAGE, main
from zcserve.auth.users import parse_file
from zcserve.command import main as command

pytest.importorskip("argon2")


@pytest.fixture
def typed(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    stdin = io.StringIO()
    monkeypatch.setattr(sys, "stdin", stdin)
    return stdin


def test_a_line_is_made_of_the_first_line_of_standard_input(
    typed: io.StringIO, capsys: pytest.CaptureFixture[str]
) -> None:
    typed.write("se cret \nmore\n")
    typed.seek(0)
    assert command(["passwd", "zoë"]) == 0
    hashes, doubts = parse_file("users", capsys.readouterr().out.encode())
    assert doubts == []
    assert [name.decode() for name in hashes] == ["zoë"]
    assert is_password(hashes["zoë".encode()], b"se cret ")


def test_in_a_terminal_it_is_asked_for_twice(
    typed: io.StringIO, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(typed, "isatty", lambda: True, raising=False)
    answers = iter(["one", "one", "one", "two"])
    monkeypatch.setattr("getpass.getpass", lambda prompt: next(answers))
    assert main(["bob"]) == 0
    assert main(["bob"]) == 2
    assert "the two are not the same" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "text", "told"),
    [
        ([], "x", "one name is wanted"),
        (["a", "b"], "x", "one name is wanted"),
        (["a:b"], "x", "no colon"),
        (["#a"], "x", "is a comment"),
        (["a"], "", "the password is empty"),
        (["a"], "\x01\n", "a control character"),
        (["a"], "p" * 2000, "1024 bytes at most"),
    ],
)
def test_wrong_use_is_told(
    words: list[str], text: str, told: str, typed: io.StringIO, capsys: pytest.CaptureFixture[str]
) -> None:
    typed.write(text)
    typed.seek(0)
    assert main(words) == 2
    assert told in capsys.readouterr().err


def test_help_says_how(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    assert capsys.readouterr().out == USAGE
