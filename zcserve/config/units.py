"""Numbers with a unit: bytes and seconds, read from text and written as text again.

`parse_...` reads what a user may write. `show_...` writes a value so that it can be read again, exactly. `size_text` is
for a message: it rounds, and `counted` is one, too.
"""

from __future__ import annotations

import re

from zcserve.config.refusal import refusal
from zcserve.errors import UsageError

KIB, MIB, GIB, TIB, PIB = (1 << shift for shift in (10, 20, 30, 40, 50))
DAY_S = 86400
LANES_MAX = 64  # as in net/lane/lanes.pxd

_SIZE = re.compile(r"([0-9]{1,18}(?:\.[0-9]{1,9})?) ?(?:([KMGT])(?:I?B)?|B)?", re.IGNORECASE)
_SIZE_UNITS = {"": 1, "K": KIB, "M": MIB, "G": GIB, "T": TIB}
SIZE_ACCEPTED = "bytes, or a number with K, M, G or T such as 512M or 1.5G"

_SHARE = re.compile(r"([0-9]{1,3}(?:\.[0-9]{1,9})?) ?%(?: up to (.+))?", re.IGNORECASE)
MEMORY_ACCEPTED = f"{SIZE_ACCEPTED}, or a share of what there is such as 70%"

_DURATION = re.compile(r"([0-9]{1,12}(?:\.[0-9]{1,9})?) ?(ms|s|m|h)?", re.IGNORECASE)
_DURATION_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
DURATION_ACCEPTED = "seconds, or a number with ms, s, m or h such as 20s or 500ms"


def parse_size(text: str) -> int:
    """Bytes from "512M", "16K", "1.5G", "64 KiB" or "4096"; units are powers of 1024. Raises UsageError."""
    match = _SIZE.fullmatch(text.strip())
    if match is None or ("." in match[1] and not match[2]):
        raise refusal(text, "is not a size", SIZE_ACCEPTED)
    unit = _SIZE_UNITS[(match[2] or "").upper()]
    whole, _, fraction = match[1].partition(".")
    return int(whole) * unit + (int(fraction) * unit // 10 ** len(fraction) if fraction else 0)


def show_size(size: int) -> str:
    """Bytes as `parse_size` reads them, in the largest unit that divides them: "16K"."""
    unit = next((unit for unit in "TGMK" if size and size % _SIZE_UNITS[unit] == 0), "")
    return f"{size // _SIZE_UNITS[unit]}{unit}"


def size_text(count: int) -> str:
    """A number of bytes for a message, rounded: "1.5 MiB"."""
    size = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} TiB"


def counted(number: int, one: str, several: str = "") -> str:
    """So many of something, in words: "1 file", "2 files"."""
    return f"{number} {one}" if number == 1 else f"{number} {several or one + 's'}"


class Share(int):
    """A budget that is also bounded by a share of the memory that there is: the most bytes that it can be, and
    `percent` of that memory. `cache/budget.py` knows what it comes to."""

    percent: float

    def __new__(cls, percent: float, at_most: int = PIB) -> Share:
        """Raises UsageError."""
        if not 0 < percent <= 100:
            raise UsageError(f"{percent:g}% is no share; accepted: more than 0% and at most 100%")
        share = super().__new__(cls, at_most)
        share.percent = percent
        return share

    def __getnewargs__(self) -> tuple[float, int]:  # type: ignore[override]  # for copies; int's own names itself only
        return self.percent, int(self)


def parse_memory(text: str) -> int:
    """As `parse_size`; or a `Share` from "70%" or "60% up to 512M". Raises UsageError."""
    match = _SHARE.fullmatch(text.strip())
    if match is None:
        return parse_size(text)
    return Share(float(match[1]), parse_size(match[2]) if match[2] else PIB)


def show_memory(memory: int) -> str:
    """Bytes or a `Share` as `parse_memory` reads them."""
    if not isinstance(memory, Share):
        return show_size(memory)
    return f"{memory.percent:g}%" + (f" up to {show_size(memory)}" if memory < PIB else "")


class Auto(int):
    """As many as there is use for here, and at most this number. `net/lanes.py` knows how many lanes it comes to."""


def parse_duration(text: str) -> float:
    """Seconds from "20", "20s", "1m", "500ms" or "0.5". Raises UsageError."""
    match = _DURATION.fullmatch(text.strip())
    if match is None:
        raise refusal(text, "is not a duration", DURATION_ACCEPTED)
    return float(match[1]) * _DURATION_UNITS[(match[2] or "s").lower()]


def show_duration(seconds: float) -> str:
    """Seconds as `parse_duration` reads them: "20s", "500ms"."""
    return f"{seconds * 1000:g}ms" if 0 < seconds < 1 else f"{seconds:g}s"
