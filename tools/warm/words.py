"""What the subcommands of a fleet share: texts that are safe on a terminal, and times and shares as arguments."""

from __future__ import annotations

import argparse

from zcserve.config.units import DAY_S, parse_duration
from zcserve.errors import UsageError


def printable(text: str) -> str:
    """A text as it is, or escaped where it would play with a terminal."""
    return text if text.isprintable() else ascii(text)[1:-1]


def duration(text: str) -> float:
    """The type of an argument that is a time, in seconds: 1 ms to a day."""
    try:
        seconds = parse_duration(text)
    except UsageError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    if not 0.001 <= seconds <= DAY_S:
        raise argparse.ArgumentTypeError(f"{text!r} is out of range; accepted: 1ms to 24h")
    return seconds


def share(text: str) -> float:
    """The type of an argument that is a part of all: 0.9 or 90%."""
    try:
        found = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        found = -1.0
    if not 0 < found <= 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not understood; accepted: 0.9 or 90%, more than 0, up to 1")
    return found
