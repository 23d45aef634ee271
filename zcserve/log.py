"""The log, which nothing from outside can forge.

A log line names what comes from outside: paths of files, targets, header values, what an exception says.

- `Log`: no value in a message of ours has a control character. A line end, an ANSI escape, half a surrogate pair appear
  as Python escapes them (`\\n`, `\\x1b`). Only a `Block` (a stack, a traceback) has several lines. This holds whichever
  handler writes the record.
- `Formatter`: a blank begins each line of a record but its first. So a line that does not begin with a blank begins a
  record, whatever an exception says in its traceback. It escapes what other loggers say, too: mounted applications have
  their own.

The access log has a format of its own: net/access_log.py.
"""

from __future__ import annotations

import logging
import sys
import traceback
from collections.abc import Mapping
from types import TracebackType
from typing import TypeAlias

ExcInfo: TypeAlias = (
    "bool | tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None] "
    "| BaseException | None"
)

_INDENT = "  "


def printable(text: str) -> str:
    """`text` with every character escaped that is no letter, mark, digit, sign or plain space."""
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in text)


class Block(str):
    """Text of several lines, for a message that ends with them."""

    __slots__ = ()

    def __str__(self) -> str:
        return "\n".join(map(printable, self.split("\n")))


class Log(logging.LoggerAdapter[logging.Logger]):
    """The logger of a module. Arguments that are no numbers are put into the message as text, made printable."""

    def __init__(self, name: str) -> None:
        super().__init__(logging.getLogger(name))

    def log(
        self,
        level: int,
        msg: object,
        *args: object,
        exc_info: ExcInfo = None,
        stack_info: bool = False,
        stacklevel: int = 1,
        extra: Mapping[str, object] | None = None,
        **_: object,
    ) -> None:
        """As `logging.Logger.log`. All other methods end here."""
        logger = self.logger
        if not logger.isEnabledFor(level):
            return
        file, line, function, stack = logger.findCaller(stack_info, stacklevel + 1)  # 1: this method
        safe = tuple(map(_safe, args))
        error = _error_of(exc_info)
        known = (type(error), error, error.__traceback__) if error is not None else None
        record = logger.makeRecord(logger.name, level, file, line, msg, safe, known, function, extra, stack)
        if error is not None:
            record.exc_text = str(Block("".join(traceback.format_exception(error)).rstrip("\n")))
        logger.handle(record)


class Formatter(logging.Formatter):
    """For the log of a process that is ours alone."""

    def format(self, record: logging.LogRecord) -> str:
        """The record's lines, all but the first indented."""
        first, *more = super().format(record).split("\n")
        return "\n".join([printable(first), *(_INDENT + printable(line) for line in more)])


def _safe(value: object) -> object:
    if isinstance(value, (int, float)):
        return value
    return str(value) if isinstance(value, Block) else printable(str(value))


def _error_of(exc_info: ExcInfo) -> BaseException | None:
    if isinstance(exc_info, BaseException):
        return exc_info
    if isinstance(exc_info, tuple):
        return exc_info[1]
    return sys.exc_info()[1] if exc_info else None
