"""JSON that every reader takes for the same (RFC 8259, I-JSON of RFC 7493): what comes from other machines.

Python's reader takes more: names that come twice, NaN, any size. What two readers take for two things is refused here,
and what is too large before it is looked at.
"""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any, NoReturn

# So much of a name that comes twice is told.
_SHOWN_MAX = 60


class JsonError(ValueError):
    """No JSON that one can rely on: says why."""


def read(data: bytes, bytes_max: int) -> Any:
    """The value that these bytes say, in UTF-8. Raises JsonError, also for more than `bytes_max`."""
    if len(data) > bytes_max:
        raise JsonError(f"{len(data):,} bytes, and at most {bytes_max:,}")
    try:
        return json.loads(data.decode(), object_pairs_hook=_once, parse_constant=_no_constant)
    except JsonError:
        raise
    except json.JSONDecodeError as error:
        raise JsonError(f"is no JSON: line {error.lineno}, column {error.colno}: {error.msg}") from None
    except UnicodeDecodeError as error:
        raise JsonError(f"is no JSON: byte {error.start} is no UTF-8") from None
    except RecursionError:
        raise JsonError("is no JSON: it is nested too deeply") from None
    except ValueError:  # more digits than Python takes
        raise JsonError("is no JSON: a number in it is too long") from None


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object; a name that comes twice means two things."""
    made = dict(pairs)
    if len(made) != len(pairs):
        names = sorted(name for name, _ in pairs)
        twice = next(one for one, other in pairwise(names) if one == other)
        raise JsonError(f"is no JSON: {twice[:_SHOWN_MAX]!a} comes twice")
    return made


def _no_constant(text: str) -> NoReturn:
    """NaN and Infinity, which Python takes and RFC 8259 does not."""
    raise JsonError(f"is no JSON: {text} is no number")
