"""Scripts of shells: asked of the shells themselves, where they are installed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import zcserve
from tests.support.terminal import Terminal
from zcserve import cli
from zcserve.admin.words import Word, Wording
from zcserve.config.keys import KEYS
from zcserve.ctl import commands
from zcserve.ctl.commands import COMMANDS, COMMON, PROGRAMS, SHELLS
from zcserve.ctl.completion import bash, fish, lines, main, zsh

CHECKOUT = Path(zcserve.__file__).parents[1]
# A verb with words of each kind, whatever there is.
POLISH = commands.verb(
    Wording(
        "polish",
        "make it shine: it's 50% off",
        {
            "file": Word(list, "which", operand="FILE|-", is_lines=True),
            "mode": Word(str, "how", choices=("soft", "hard")),
            "deep": Word(bool, "all below", default=False),
        },
    )
)
LEVEL = commands.verb(
    Wording("rank", "say which", {"level": Word(str, "which", operand="LEVEL", choices=("upper", "lower"))})
)
# What stands before the cursor, some of what is offered, and some of what is not.
ASKED = [
    ("", {"ctl", "top", "completion"}, {"ready"}),
    ("c", {"ctl", "completion"}, {"top"}),
    ("--lan", {"--lanes"}, {"--listen"}),
    ("--no-w", {"--no-watch"}, set()),
    ("--engine ", {"auto", "python", "native"}, {"ctl"}),
    ("--engine auto --lo", {"--log-level"}, {"--lanes"}),
    ("ctl ", {*COMMANDS, "polish"}, {"ctl", "some.file"}),
    ("ctl re", {"ready", "reload"}, {"live"}),
    ("ctl --admin ready pol", {"polish"}, {"ready"}),
    ("ctl ready --", {"--json", "--admin", "--timeout"}, {"--hard", "--lanes"}),
    ("ctl polish --", {"--json", "--hard", "--deep", "--mode"}, {"--lanes"}),
    ("ctl polish --mode ", {"soft", "hard"}, {"--json"}),
    ("ctl polish some", {"some.file"}, {"other.file"}),
    ("ctl rank u", {"upper"}, {"lower"}),
    ("ctl ready --token-file some", {"some.file"}, {"ready"}),
    ("top --", {"--once", "--every", "--config"}, {"--json"}),
    ("completion ", set(SHELLS), {"ctl", "some.file"}),
]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two files, and the scripts with a verb more."""
    (tmp_path / "files").mkdir()
    for name in ("some.file", "other.file"):
        (tmp_path / "files" / name).touch()
    for command in (POLISH, LEVEL):
        monkeypatch.setitem(COMMANDS, command.name, command)
    for make in (bash, zsh, fish):
        (tmp_path / make.__name__).write_text(make(lines(cli.flags())))
    return tmp_path


def judge(offered: list[set[str]]) -> None:
    """Whether what a shell offers is as in ASKED."""
    for (line, wanted, unwanted), found in zip(ASKED, offered, strict=True):
        assert wanted <= found, (line, found)
        assert not unwanted & found, (line, found)


def run(*argv: str, cwd: Path) -> str:
    done = subprocess.run(argv, cwd=cwd, capture_output=True, text=True, timeout=60, check=True)
    assert done.stderr == ""
    return done.stdout


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash")
def test_bash_offers_what_there_is(folder: Path) -> None:
    asked = "\n".join(
        f"COMP_WORDS=(zcserve {' '.join(map(repr, words))}); COMP_CWORD={len(words)}; _zcserve;"
        ' printf "%s\\n" "${COMPREPLY[@]}" =='
        for words in (line.split(" ") for line, _, _ in ASKED)
    )
    out = run("bash", "--norc", "--noprofile", "-c", f". ../bash\n{asked}", cwd=folder / "files")
    judge([set(part.split()) for part in out.split("==\n")[:-1]])


@pytest.mark.peer
def test_fish_offers_what_there_is_and_says_what_it_is(folder: Path) -> None:
    asked = "\n".join(f"complete -C 'zcserve {line}'; echo ==" for line, _, _ in ASKED)
    environ = {"HOME": str(folder), "PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8"}
    done = subprocess.run(
        ["fish", "--no-config", "-c", f"source ../fish\n{asked}"],
        cwd=folder / "files",
        env=environ,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stderr == ""
    judge([{line.split("\t")[0] for line in part.splitlines()} for part in done.stdout.split("==\n")[:-1]])
    assert "polish\tmake it shine: it's 50% off" in done.stdout


ZSH_SETUP = """\
PS1= PS2=
zstyle ':completion:*' list-separator '#'
autoload -Uz compinit
compinit -u -d ../dump
. ../zsh
compadd() { local -a all; builtin compadd -O all "$@"; print -l -- @$^all >> ../out; builtin compadd "$@" }
ask() { zle list-choices; print '==' >> ../out; BUFFER= }
zle -N ask
bindkey '^I' ask
touch ../out
"""


@pytest.mark.peer
def test_zsh_offers_what_there_is(folder: Path) -> None:
    """It completes in a terminal alone: what it lists there is written down, and a line is typed for each question."""
    (folder / "setup").write_text(ZSH_SETUP)
    out = folder / "out"

    def is_answered(count: int) -> Callable[[str], bool]:
        return lambda _: out.read_text().count("==\n") == count

    environ = {"PATH": os.environ["PATH"], "HOME": str(folder), "ZDOTDIR": str(folder)}
    with Terminal(["zsh", "-f", "-i"], environ, cwd=folder / "files") as terminal:
        terminal.type(". ../setup\r")
        terminal.read_until(lambda text: out.exists())
        for count, (line, _, _) in enumerate(ASKED, 1):
            terminal.type(f"zcserve {line}\t")
            terminal.read_until(is_answered(count))
    parts = out.read_text().split("==\n")[:-1]
    judge([{line[1:] for line in part.splitlines() if line[:1] == "@"} for part in parts])


@pytest.mark.parametrize("shell", SHELLS)
def test_a_script_has_all_flags_commands_and_words(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([shell], cli.flags()) == 0
    script = capsys.readouterr().out
    names = {key.flag for key in KEYS.values()} | {flag.flag for flag in COMMON} | {"--check", "--no-watch"}
    for command in COMMANDS.values():
        names |= {command.name} | {flag.flag for flag in command.flags()}
    for name in names | set(PROGRAMS):
        assert (name.lstrip("-") if shell == "fish" else name) in script


@pytest.mark.parametrize(
    ("argv", "code", "told"),
    [
        ([], 0, ""),
        (["--help"], 0, ""),
        (["bahs"], 2, "zcserve completion: 'bahs' is no shell known here: did you mean bash?"),
        (["bash", "zsh"], 2, "zcserve completion: unexpected argument 'zsh'"),
    ],
)
def test_wrong_use_is_told(argv: list[str], code: int, told: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(argv, ()) == code
    out, err = capsys.readouterr()
    assert err.startswith(told)
    assert out.startswith("usage: zcserve completion") == (code == 0)


def test_the_command_prints_a_script() -> None:
    environ = os.environ | {"PYTHONPATH": str(CHECKOUT)}
    argv = [sys.executable, "-m", "zcserve", "completion", "bash"]
    assert (
        "complete -F _zcserve zcserve"
        in subprocess.run(argv, env=environ, capture_output=True, text=True, timeout=60, check=True).stdout
    )
