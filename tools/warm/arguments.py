"""Command lines of `warm_cache`: how they are read, and the exit codes of all its forms."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable
from typing import NoReturn

from zcserve.errors import UsageError

EXIT_RIGHT, EXIT_WRONG, EXIT_WRONG_USE, EXIT_INTERRUPTED = 0, 1, 2, 130
# Of a fleet: nodes are late, and another one has the site.
EXIT_LATE, EXIT_HELD = 3, 4


class Parser(argparse.ArgumentParser):
    """Raises UsageError where argparse would print and exit."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(message.removeprefix("argument "))


def number(low: int, high: int) -> Callable[[str], int]:
    """The type of an argument that is a whole number from `low` to `high`."""

    def parse(text: str) -> int:
        if not re.fullmatch(r"[0-9]{1,16}", text) or not low <= int(text) <= high:
            raise argparse.ArgumentTypeError(f"{text!r} is not understood; accepted: {low} to {high}")
        return int(text)

    return parse
