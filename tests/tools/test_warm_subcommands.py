"""The table of subcommands: each has a module, help, and errors of one line."""

from __future__ import annotations

import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

from tools.warm.subcommands import SUBCOMMANDS
from tools.warm_cache import main

ROOT = Path(__file__).parents[2]


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


def test_a_command_of_a_fleet_does_not_wait_for_the_import_of_what_loads_a_root() -> None:
    """The import of that takes longer than a purge, and as long as a third of a release."""
    program = (
        "import sys, tools.warm.purge, tools.warm.status, tools.warm.release, tools.warm.rollback, tools.warm.abort\n"
        "print([name for name in sys.modules if name in ('mmh3', 'zcserve.rules.compiled', 'zcserve.config.table')\n"
        "    or name.startswith(('zcserve.cache.', 'nats', 'cryptography')) and name != 'zcserve.cache.counted_names'])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout == "[]\n"


@pytest.mark.parametrize("has_client", [True, False])
def test_a_purge_goes_ahead_only_where_it_is_published_behind_that(
    has_client: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ahead = []
    monkeypatch.setattr("tools.warm.purge.is_there", lambda _: has_client)
    monkeypatch.setattr("tools.warm.purge.go_ahead", lambda _, command: ahead.append(command.id))
    monkeypatch.setattr("tools.warm.purging.purge", lambda *_: 0)
    flags = ["purge", "--nats", "nats://127.0.0.1:1", "--id", "one"]
    for wrong in (["--tag", "a b" * 99], ["--tag", "a", "--site", "a/b"], ["--tag", "a", "--token-file", "x"]):
        assert main([*flags, *wrong]) == 2
    if has_client:
        assert main(["purge", "--nats", "http://h", "--tag", "a"]) == 2
    assert ahead == []
    assert main([*flags, "--tag", "a"]) == 0
    assert ahead == (["one"] if has_client else [])
    assert capsys.readouterr().out == ""
