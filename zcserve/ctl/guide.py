"""What `zcserve ctl` says of itself: all commands, and the words of one."""

from __future__ import annotations

from collections.abc import Iterable
from textwrap import wrap

from zcserve.ctl.commands import COMMANDS, COMMON, TOP, VIEWS, Command, Flag

_WIDTH = 100
_LEFT = 24

_EXIT_CODES = """\
exit codes:
  0  done; `ready`: it is
  1  the node refuses, is not ready, or has done only some of it
  2  wrong use: nothing was asked
  3  the node cannot be reached, or does not answer in time
"""


def overview() -> str:
    """What there is."""
    views = [(_usage(command), command.help) for command in VIEWS]
    verbs = [(_usage(command), command.help) for command in COMMANDS.values() if command not in VIEWS]
    return (
        "usage: zcserve ctl COMMAND [--admin unix:PATH|HOST:PORT] [--json]\n\n"
        f"ask:\n{_rows(views)}\ntell:\n{_rows(verbs)}\nflags of all:\n{_rows(map(_row, COMMON))}\n{_EXIT_CODES}\n"
        "zcserve ctl COMMAND --help has its flags. A directory with such a name is served as ./ctl, or by --root.\n"
    )


def manual(command: Command) -> str:
    """One command."""
    operand = command.operand()
    rows = [(operand[1].operand, operand[1].help)] if operand is not None else []
    rows += map(_row, command.flags())
    own = f"{_rows(rows)}\n" if rows else ""
    usage = f"usage: zcserve ctl {_usage(command)} [flags]\n\n{command.help}\n\n"
    return f"{usage}{own}flags of all commands:\n{_rows(map(_row, COMMON))}\n{_EXIT_CODES}"


def rows(flags: Iterable[Flag]) -> str:
    """A line for each flag."""
    return _rows(map(_row, flags))


def manual_of_top() -> str:
    """`zcserve top`."""
    return (
        "usage: zcserve top [flags]\n\nlive numbers of a node: rates from two of its /stats. q or Ctrl-C ends it.\n\n"
        f"{_rows(map(_row, TOP))}"
    )


def _usage(command: Command) -> str:
    operand = command.operand()
    if operand is None:
        return command.name
    word = operand[1]
    text = f"{word.operand}{'...' if word.type is list and not word.is_lines else ''}"
    if word.null:
        text = f"{text}|--{word.null}"
    return f"{command.name} {f'[{text}]' if word.optional else text}"


def _row(flag: Flag) -> tuple[str, str]:
    more = " (repeatable)" if flag.is_repeatable else ""
    return f"{flag.flag} {flag.metavar}".strip(), flag.help + more


def _rows(rows: Iterable[tuple[str, str]]) -> str:
    lines = []
    for name, help in rows:
        first, *others = wrap(help, _WIDTH - _LEFT - 2) or [""]
        if len(name) > _LEFT - 2:
            lines.append(f"  {name}")
            name = ""
        lines.append(f"  {name:{_LEFT}}{first}")
        lines += [f"  {'':{_LEFT}}{other}" for other in others]
    return "".join(f"{line.rstrip()}\n" for line in lines)
