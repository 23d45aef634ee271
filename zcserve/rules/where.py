"""Where a rule was written, and what is wrong with what is written there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

from zcserve.errors import UsageError

# What a part of a rule is called, in the TOML file as in messages.
Part = Literal["from", "to", "status", "query", "rule"]


class Written(Protocol):
    """What knows where a rule was written."""

    def where(self, *path: str | int) -> str:
        """The file, line and column in words, of the rule or of what is found in it by `path`."""


@dataclass(frozen=True, slots=True, order=True)
class Where:
    """A place in a file. `line` and `column` (in characters) count from 1; 0 where they are not known."""

    file: str
    line: int = 0
    column: int = 0

    def __str__(self) -> str:
        return ":".join((self.file, *(str(number) for number in (self.line, self.column) if number)))

    def where(self, *path: str | int) -> str:
        """The same in words, as tables of the TOML file tell it; what stands in a line has no place of its own."""
        return str(self)

    def at(self, column: int) -> Where:
        """The same line, at another column."""
        return Where(self.file, self.line, column)


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong at a place of a file of rules. What stands there is left out, and the other rules hold.

    is_grave   without it the site would show what it is to hide: such a file must not be served without it
    """

    where: Where
    text: str
    is_grave: bool = False

    def __str__(self) -> str:
        return f"{self.where}: {self.text}"


class RuleError(UsageError):
    """A part of a rule cannot be as it is written: the message says why, and what to write. `part` is which one."""

    def __init__(self, message: str, part: Part = "rule") -> None:
        super().__init__(message)
        self.part: Part = part
