"""Scripts with which a shell completes `zcserve`: made from the tables of flags and verbs, so that none is written
twice.

A script is words and a little of its shell's grammar. It runs nothing while somebody types.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from zcserve.ctl.commands import COMMANDS, COMMON, EXPLAIN, NODE, PROGRAMS, SHELLS, TOP, Flag
from zcserve.ctl.shell import EXIT_DONE, EXIT_WRONG_USE, complain, say
from zcserve.errors import UsageError, nearest

PROGRAM = "zcserve completion"
# What stands for a file, or a directory, in a table of flags.
_OF_FILES = frozenset(("FILE", "DIR", "PATH", "PATH|-", "FILE|-"))
# What leads to the server's own flags, behind the first word.
_OTHERS = ("*",)
# Behind these stands a value, which is no command.
_VALUED = " | ".join(flag.flag for flag in COMMON if flag.metavar)


class Line(NamedTuple):
    """A kind of command line. `words` are those behind `zcserve` that lead to it.

    operands  words that may follow, with their help
    takes_files  whether a file may
    """

    words: tuple[str, ...]
    flags: tuple[Flag, ...]
    operands: tuple[tuple[str, str], ...] = ()
    takes_files: bool = False


def lines(server: Sequence[Flag]) -> tuple[Line, ...]:
    """All kinds of command lines; the last are those that begin like no other. `server` are the server's own flags."""
    found = []
    for command in COMMANDS.values():
        operand = command.operand()
        is_file = operand is not None and (operand[1].is_lines or operand[1].operand in _OF_FILES)
        choices = tuple((choice, "") for choice in operand[1].choices) if operand is not None else ()
        found.append(Line(("ctl", command.name), (*COMMON, *command.flags()), choices, takes_files=is_file))
    verbs = tuple((command.name, command.help) for command in COMMANDS.values())
    found.append(Line(("ctl",), COMMON, verbs))
    found.append(Line(("top",), TOP))
    found.append(Line(("check",), tuple(server), takes_files=True))
    found.append(Line(("explain",), (*EXPLAIN, *server)))
    found.append(Line(("node",), NODE))
    found.append(Line(("passwd",), ()))
    found.append(Line(("completion",), (), tuple((shell, f"a script for {shell}") for shell in SHELLS)))
    found.append(Line((), tuple(server), tuple(PROGRAMS.items()), takes_files=True))
    found.append(Line(_OTHERS, tuple(server), takes_files=True))
    return tuple(found)


def main(argv: Sequence[str], server: Sequence[Flag]) -> int:
    """Print the script of a shell, and return the exit code."""
    try:
        if not argv or argv[0] in ("-h", "--help"):
            say(_USAGE)
            return EXIT_DONE
        if len(argv) > 1:
            raise UsageError(f"unexpected argument {argv[1]!r}; accepted: one shell")
        if (make := _MAKERS.get(argv[0])) is None:
            near = nearest(argv[0], SHELLS)
            raise UsageError(f"{argv[0]!r} is no shell known here: did you mean {near}? Known: {', '.join(SHELLS)}")
        say(make(lines(server)))
        return EXIT_DONE
    except UsageError as error:
        return complain(PROGRAM, error, EXIT_WRONG_USE)


_USAGE = """\
usage: zcserve completion bash|zsh|fish

prints a script that completes flags, commands and their words:
  bash  zcserve completion bash > ~/.local/share/bash-completion/completions/zcserve
  zsh   zcserve completion zsh > DIR/_zcserve, where DIR is one of $fpath
  fish  zcserve completion fish > ~/.config/fish/completions/zcserve.fish
"""


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"


def _pattern(kind: Line) -> str:
    """In a `case` of bash and zsh."""
    if kind.words == _OTHERS:
        return "'ctl '*) ;;\n        *"  # a command of ctl that is not known has no flags
    return _quoted(" ".join(kind.words))


def _names(flags: Iterable[Flag]) -> list[str]:
    return list(dict.fromkeys(flag.flag for flag in flags))


def _is_of_files(flag: Flag) -> bool:
    return flag.metavar in _OF_FILES


# ---- bash and zsh


def _by_kind(words: str, cursor: str, first: int, cases: Iterable[str]) -> str:
    """Which kind of command line it is, and what is offered in each. In `words`, the shell's array, the word behind
    `zcserve` is the `first`, and the one that is typed stands at `cursor`."""
    text = _KIND.replace("@WORDS@", words).replace("@CURSOR@", cursor).replace("@VALUED@", _VALUED)
    return text.replace("@FIRST@", str(first)).replace("@SECOND@", str(first + 1)).replace("@CASES@", "".join(cases))


_KIND = """\
    if ((@CURSOR@ > @FIRST@)); then
        kind=${@WORDS@[@FIRST@]}
        if [[ $kind == ctl ]]; then
            for ((at = @SECOND@; at < @CURSOR@; at++)); do
                word=${@WORDS@[at]}
                if [[ -n $is_value ]]; then is_value=; continue; fi
                case $word in
                    @VALUED@) is_value=1 ;;
                    -*) ;;
                    *) kind="ctl $word"; break ;;
                esac
            done
        fi
    fi
    case $kind in
@CASES@    esac
"""


# ---- bash


def bash(kinds: Sequence[Line]) -> str:
    """A function for `complete -F`."""
    cases = []
    for kind in kinds:
        values = []
        for flag in kind.flags:
            if flag.choices:
                values.append(f"{flag.flag}) _zcserve_words {_quoted(' '.join(flag.choices))}; return ;;")
            elif _is_of_files(flag):
                values.append(f"{flag.flag}) _zcserve_files; return ;;")
            elif flag.metavar:
                values.append(f"{flag.flag}) return ;;")
        offered = " ".join((*(name for name, _ in kind.operands), *_names(kind.flags)))
        pattern = _pattern(kind)
        files = "\n            _zcserve_files" if kind.takes_files else ""
        inner = "\n                ".join(values) or "*) ;;"
        cases.append(
            f"        {pattern})\n            case $before in\n                {inner}\n            esac\n"
            f"            _zcserve_words {_quoted(offered)}{files} ;;\n"
        )
    return _BASH.replace("@KIND@", _by_kind("COMP_WORDS", "COMP_CWORD", 1, cases))


_BASH = """\
# bash completion of zcserve, made by `zcserve completion bash`
_zcserve_words() { COMPREPLY+=($(compgen -W "$1" -- "$now")); }
_zcserve_files() { compopt -o filenames 2> /dev/null; local IFS=$'\\n'; COMPREPLY+=($(compgen -f -- "$now")); }
_zcserve() {
    local now=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD - 1]} kind= at word is_value=
    COMPREPLY=()
@KIND@}
complete -F _zcserve zcserve
"""


# ---- zsh


def zsh(kinds: Sequence[Line]) -> str:
    """A file for $fpath, or to be sourced behind compinit."""
    cases = []
    for kind in kinds:
        pattern = _pattern(kind)
        values = "".join(
            f"                {flag.flag}) {_zsh_value(flag)}; return ;;\n" for flag in kind.flags if flag.metavar
        )
        offered = [f"{_zsh_text(name)}:{_zsh_text(help)}" for name, help in kind.operands]
        flags = dict.fromkeys(f"{_zsh_text(flag.flag)}:{_zsh_text(flag.help)}" for flag in kind.flags)
        body = f"            case $before in\n{values}            esac\n" if values else ""
        if offered:
            body += f"            rows=({' '.join(map(_quoted, offered))})\n            _describe command rows\n"
        body += f"            rows=({' '.join(map(_quoted, flags))})\n            _describe -o flag rows\n"
        if kind.takes_files:
            body += "            _files\n"
        cases.append(f"        {pattern})\n{body}            ;;\n")
    return _ZSH.replace("@KIND@", _by_kind("words", "CURRENT", 2, cases))


def _zsh_value(flag: Flag) -> str:
    if flag.choices:
        return f"compadd -- {' '.join(map(_quoted, flag.choices))}"
    return "_files" if _is_of_files(flag) else f"_message -r {_quoted(flag.metavar)}"


def _zsh_text(text: str) -> str:
    return text.replace("\\", "\\\\").replace(":", "\\:")


_ZSH = """\
#compdef zcserve
# zsh completion of zcserve, made by `zcserve completion zsh`
_zcserve() {
    local before=${words[CURRENT-1]} kind= word is_value=
    local -i at
    local -a rows
@KIND@}
if [[ $zsh_eval_context[-1] == loadautofunc ]]; then
    _zcserve "$@"
else
    compdef _zcserve zcserve
fi
"""


# ---- fish


def fish(kinds: Sequence[Line]) -> str:
    """Commands `complete`."""
    asks = _FISH.replace("@VALUED@", _VALUED.replace(" |", "")).replace("@PROGRAMS@", " ".join(PROGRAMS))
    out = ["# fish completion of zcserve, made by `zcserve completion fish`", asks, "complete -c zcserve -f"]
    for kind in kinds:
        wanted = " ".join(("__zcserve_is", *map(_quoted, kind.words)))
        begin = f'complete -c zcserve -n "{wanted}"'
        out += [f"{begin} -a {_quoted(name)} -d {_quoted(help)}" for name, help in kind.operands]
        for flag in {flag.flag: flag for flag in kind.flags}.values():
            name = flag.flag.lstrip("-")
            line = f"{begin} {'-l' if flag.flag.startswith('--') else '-s'} {name} -d {_quoted(flag.help)}"
            if flag.choices:
                line += f" -x -a {_quoted(' '.join(flag.choices))}"
            elif flag.metavar:
                line += " -r -F" if _is_of_files(flag) else " -x"
            out.append(line)
        if kind.takes_files:
            out.append(f"{begin} -F")
    return "\n".join(out) + "\n"


_FISH = """\
function __zcserve_is --description 'whether the command line is of this kind'
    set -l words (commandline -opc)
    set -l kind
    set -l is_value
    if set -q words[2]
        set kind $words[2]
        contains -- $kind @PROGRAMS@; or set kind '*'
        if test "$kind" = ctl
            for word in $words[3..-1]
                if test -n "$is_value"
                    set is_value
                    continue
                end
                switch $word
                    case @VALUED@
                        set is_value 1
                    case '-*'
                    case '*'
                        set kind ctl $word
                        break
                end
            end
        end
    end
    test "$kind" = "$argv"
end"""

_MAKERS = {"bash": bash, "zsh": zsh, "fish": fish}
