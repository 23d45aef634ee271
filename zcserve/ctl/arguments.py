"""A command line -> values and operands, by a table of flags.

argparse is not used: its import alone costs as much as all that `zcserve ctl ready` does, and it cannot name the
nearest flag. The syntax is the same: `--flag value`, `--flag=value`, flags anywhere, `--` before what begins with a
dash.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from zcserve.ctl.commands import Flag
from zcserve.errors import UsageError, nearest

_NOUNS = {int: "a whole number", float: "a number"}


def read(argv: Sequence[str], flags: Sequence[Flag], *, to_operand: bool = False) -> tuple[dict[str, Any], list[str]]:
    """The values by their words, and the operands. With `to_operand`, only what stands before the first operand is
    read, and the second is all that comes from there on. Raises UsageError."""
    known = {flag.flag: flag for flag in flags}
    values: dict[str, Any] = {}
    operands: list[str] = []
    left = list(argv)
    while left:
        text = left[0]
        if text == "--" and not to_operand:
            return values, operands + left[1:]
        if not text.startswith("-") or text in ("-", "--"):
            if to_operand:
                break
            operands.append(left.pop(0))
            continue
        left.pop(0)
        name, equals, value = text.partition("=")
        if (flag := known.get(name)) is None:
            raise UsageError(f"unknown flag {name}; the nearest known is {nearest(name, known)}")
        if not flag.metavar:
            if equals:
                raise UsageError(f"{name} takes no value, and has {value!r}")
            _put(values, flag, flag.value)
        elif equals:
            _put(values, flag, _typed(flag, value))
        elif not left:
            raise UsageError(f"{name} needs a value: {flag.metavar}, {flag.help}")
        else:
            _put(values, flag, _typed(flag, left.pop(0)))
    return values, operands or left


def _put(values: dict[str, Any], flag: Flag, value: Any) -> None:
    if flag.is_repeatable:
        values.setdefault(flag.word, []).append(value)
    elif values.setdefault(flag.word, value) != value:
        raise UsageError(f"{flag.word} is given twice: {values[flag.word]!r} and {value!r}")


def _typed(flag: Flag, text: str) -> Any:
    if flag.choices and text not in flag.choices:
        raise UsageError(f"{flag.flag}: {text!r} is unknown; accepted: one of {', '.join(flag.choices)}")
    try:
        return flag.type(text)
    except ValueError:
        raise UsageError(f"{flag.flag}: {text!r} is not {_NOUNS[flag.type]}") from None
