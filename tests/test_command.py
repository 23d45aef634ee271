"""zcserve.command: the first word of a command line."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.command import CHECKOUT
from zcserve.command import main


def test_a_programs_name_is_that_program(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ctl"]) == 0
    assert capsys.readouterr().out.startswith("usage: zcserve ctl")
    assert main(["top", "--help"]) == 0
    assert capsys.readouterr().out.startswith("usage: zcserve top")
    assert main(["completion", "fish"]) == 0
    assert "complete -c zcserve" in capsys.readouterr().out


def test_a_directory_with_such_a_name_is_served_by_its_path_or_by_the_flag(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "top").mkdir()
    assert main(["./top", "--check", "--engine", "python"]) == 0
    assert main(["--root", "top", "--check", "--engine", "python"]) == 0
    capsys.readouterr()
    assert main(["top", "--check"]) == 2
    assert capsys.readouterr().err.startswith("zcserve top: unknown flag --check")


def test_check_and_explain_take_the_servers_flags(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "check").mkdir()
    (tmp_path / "check" / "a.txt").write_bytes(b"a")
    told = []
    for words in (["check", "check"], ["-t", "./check"], ["--root", "check", "--check"]):
        assert main([*words, "--engine", "python"]) == 0
        told.append(capsys.readouterr().out)
    assert told[0].startswith("root check: 1 file, 1 B")
    assert told[0] == told[1] == told[2]
    assert main(["check", "--nothing"]) == 2
    assert main(["explain", "/a.txt", "--root", "check"]) == 0
    assert "file       a.txt" in capsys.readouterr().out


def test_all_else_is_the_servers(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("zcserve ")
    assert main(["--help"]) == 0
    help = capsys.readouterr().out
    assert "zcserve ctl [COMMAND]" in help
    assert "is served as ./ctl" in help


def test_the_installed_command_is_this_one() -> None:
    assert 'zcserve = "zcserve.command:main"' in (CHECKOUT / "pyproject.toml").read_text()


def test_a_word_that_is_neither_a_command_nor_there_is_told_with_what_is_meant(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for word, meant in (("chekc", "zcserve check?"), ("explian", "zcserve explain?"), ("purge", "zcserve ctl purge?")):
        assert main([word, "/a"]) == 2
        told = capsys.readouterr().err
        assert told.startswith(f"zcserve: {word!r} is neither a command nor a directory here: did you mean {meant} ")
        assert told.count("\n") == 1
    assert main(["www"]) == 2  # like no command
    assert "root 'www' does not exist" in capsys.readouterr().err
    (tmp_path / "chek").mkdir()
    assert main(["chek", "--check", "--engine", "python"]) == 0
