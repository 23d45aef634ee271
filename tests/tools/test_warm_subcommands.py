"""The table of subcommands: each has a module, help, and errors of one line."""

from __future__ import annotations

from importlib import import_module

import pytest

from tools.warm.subcommands import SUBCOMMANDS
from tools.warm_cache import main


@pytest.mark.parametrize("name", SUBCOMMANDS)
def test_each_has_a_module_that_says_what_it_does_and_its_exit_codes(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    module = import_module(f"tools.warm.{SUBCOMMANDS[name].module}")
    assert "Exit codes: 0 " in (module.__doc__ or "")
    with pytest.raises(SystemExit) as caught:
        main([name, "--help"])
    assert caught.value.code == 0
    assert f"usage: warm_cache {name}" in (out := capsys.readouterr().out)
    assert "Exit codes: 0 " in out


@pytest.mark.parametrize("name", SUBCOMMANDS)
def test_wrong_use_is_one_line_and_exit_code_2(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([name, "--no-such-flag"]) == 2
    out, err = capsys.readouterr()
    assert err.startswith("warm_cache: ")
    assert err.count("\n") == 1
    assert not out


def test_the_help_of_all_names_them(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    out = capsys.readouterr().out
    assert all(f"  {name} " in out and one.summary in out for name, one in SUBCOMMANDS.items())


def test_a_word_that_is_none_is_told_with_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["manifset"]) == 2
    assert "'manifset' is no subcommand; the nearest known is manifest" in capsys.readouterr().err
