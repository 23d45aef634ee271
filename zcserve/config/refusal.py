"""How a wrong value is told: the value, what is wrong with it, and what is accepted."""

from __future__ import annotations

import os

from zcserve.errors import UsageError

_CHARACTERS_MAX = 80


def refusal(value: object, problem: str, accepted: str) -> UsageError:
    """The error to raise: "'5X' is not a size; accepted: bytes, or ..."."""
    return UsageError(f"{shown(value)} {problem}; accepted: {accepted}")


def shown(value: object) -> str:
    """The value as it appears in a message: quoted, on one line, cut short."""
    if isinstance(value, bool):
        return str(value).lower()  # as TOML writes it
    text = repr(str(value) if isinstance(value, os.PathLike) else value)
    return text if len(text) <= _CHARACTERS_MAX else text[: _CHARACTERS_MAX - 4] + " ..."
