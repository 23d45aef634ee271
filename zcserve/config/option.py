"""What a key accepts: the kind of its value, and whatever else is asked of it.

It knows no key: table.py says which option each has. Every value goes through `Option.accept`, from wherever it comes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from dataclasses import Field, field, fields
from pathlib import Path
from typing import Any, NamedTuple

from zcserve.config.refusal import refusal
from zcserve.config.units import (
    DAY_S,
    DURATION_ACCEPTED,
    LANES_MAX,
    MEMORY_ACCEPTED,
    PIB,
    SIZE_ACCEPTED,
    Auto,
    parse_duration,
    parse_memory,
    parse_size,
    show_duration,
    show_memory,
    show_size,
)
from zcserve.errors import UsageError

_SWITCH = dict.fromkeys(("1", "true", "yes", "on"), True) | dict.fromkeys(("0", "false", "no", "off"), False)
_SWITCH_ACCEPTED = "true or false (also 1/0, yes/no, on/off)"
_METADATA = "option"  # the key of a field's metadata


class Kind(NamedTuple):
    """The unit of a value: what it is called, how text becomes one, how it is shown, and its usual bounds."""

    noun: str
    accepted: str
    metavar: str
    native: tuple[type, ...]
    parse: Callable[[str], Any]
    show: Callable[[Any], str]
    bounds: tuple[float, float] | None = None


def _parse_path(text: str) -> Path:
    if not text or "\0" in text:  # Path("") is the working directory: a shell variable may be empty
        raise ValueError(text)
    return Path(text)


def _parse_count(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,18}", text.strip()):  # int() takes "1_000", "+5" and more
        raise ValueError(text)
    return int(text)


def _parse_lanes(text: str) -> int:
    return Auto(LANES_MAX) if text.strip().lower() == "auto" else _parse_count(text)


def _show_lanes(lanes: int) -> str:
    return "auto" if isinstance(lanes, Auto) else str(lanes)


def _parse_part(text: str) -> float:
    if not (match := re.fullmatch(r"([0-9]{1,3}(?:\.[0-9]{1,9})?) ?(%?)", text.strip())):
        raise ValueError(text)
    return float(match[1]) / (100 if match[2] else 1)


def _parse_switch(text: str) -> bool:
    if (value := _SWITCH.get(text.strip().lower())) is None:
        raise ValueError(text)
    return value


PATH = Kind("a path", "a directory", "DIR", (Path,), _parse_path, str)
TEXT = Kind("text", "text", "TEXT", (str,), str, str)
TEXTS = Kind(
    "a list of texts", 'a list of texts, or one: ["a", "b"]', "TEXT", (tuple, list), lambda text: (text,), ",".join
)
COUNT = Kind("a whole number", "a whole number", "N", (int,), _parse_count, str, (1, 2**31 - 1))
LANES = Kind("a number of lanes", "a whole number or auto", "N|auto", (int,), _parse_lanes, _show_lanes, (1, LANES_MAX))
SIZE = Kind("a size", SIZE_ACCEPTED, "SIZE", (int,), parse_size, show_size, (1, PIB))
MEMORY = Kind("a size", MEMORY_ACCEPTED, "SIZE", (int,), parse_memory, show_memory)
DURATION = Kind("a duration", DURATION_ACCEPTED, "TIME", (float, int), parse_duration, show_duration, (0.001, DAY_S))
PART = Kind("a part of one", "a number such as 0.95, or 95%", "PART", (float, int), _parse_part, "{:g}".format, (0, 1))
SWITCH = Kind("a switch", _SWITCH_ACCEPTED, "", (bool,), _parse_switch, lambda on: "on" if on else "off")


class Option(NamedTuple):
    """The metadata of a field. `why` makes it a limit; `status` is what a client gets that passes it."""

    kind: Kind
    help: str
    bounds: tuple[float, float] | None
    choices: tuple[str, ...]
    metavar: str
    check: Callable[[Any], object] | None
    status: int
    why: str

    @property
    def accepted(self) -> str:
        """What may be written, in words."""
        if self.choices:
            return "one of " + ", ".join(self.choices)
        if self.bounds is None:
            return self.kind.accepted
        low, high = map(self.kind.show, self.bounds)
        return f"{self.kind.accepted}, from {low} to {high}"

    def accept(self, value: Any) -> Any:
        """The value in its own type, checked. Raises UsageError that tells the value and what is accepted."""
        kind = self.kind
        if isinstance(value, str) and str not in kind.native:
            try:
                value = kind.parse(value)
            except (UsageError, ValueError):
                raise refusal(value, f"is not {kind.noun}", self.accepted) from None
        fits = isinstance(value, kind.native) and (kind is SWITCH or not isinstance(value, bool))
        if not fits:
            raise refusal(value, f"is {toml_type(value)}, not {kind.noun}", self.accepted)
        if kind is TEXTS:
            value = tuple(value)
            for item in value:
                if not isinstance(item, str):
                    raise refusal(item, f"is {toml_type(item)}, not text", self.accepted)
        if self.bounds is not None and not self.bounds[0] <= value <= self.bounds[1]:  # nor NaN
            raise refusal(value, "is out of range", self.accepted)
        if self.choices and value not in self.choices:
            raise refusal(value, "is unknown", self.accepted)
        if self.check is not None:
            self.check(value)
        return float(value) if float in kind.native else value

    def accept_as(self, label: str, value: Any) -> Any:
        """As `accept`; the error begins with where the value was given."""
        try:
            return self.accept(value)
        except UsageError as error:
            raise UsageError(f"{label}: {error}") from None

    def accept_at(self, where: Callable[[], str], label: str, value: Any) -> Any:
        """The same, in a file: the error begins with where it stands, which is asked then."""
        try:
            return self.accept_as(label, value)
        except UsageError as error:
            raise UsageError(f"{where()}{error}") from None


def toml_type(value: object) -> str:
    """What TOML calls a value of this type."""
    names = {bool: "a boolean", int: "an integer", float: "a float", str: "a string", list: "an array"}
    return names.get(type(value), "a table" if isinstance(value, dict) else f"a {type(value).__name__}")


def about(
    kind: Kind,
    help: str,
    *,
    bounds: tuple[float, float] | None = None,
    choices: tuple[str, ...] = (),
    metavar: str = "",
    check: Callable[[Any], object] | None = None,
    status: int = 0,
    why: str = "",
) -> dict[str, Option]:
    """The metadata of a dataclass field: an option whose bounds and metavar are its kind's where none are given."""
    metavar = metavar or kind.metavar
    return {_METADATA: Option(kind, help, bounds or kind.bounds, choices, metavar, check, status, why)}


def key(default: object, kind: Kind, help: str, **more: Any) -> Any:
    """A dataclass field with a default, and an option as `about` makes it."""
    return field(default=default, metadata=about(kind, help, **more))


def accept_all(config: Any, *, but: Collection[str] = ()) -> None:
    """Have a frozen dataclass hold what its options make of what it was given, `but` for some. Raises UsageError."""
    for one in fields(config):
        value = getattr(config, one.name)
        if one.metadata and one.name not in but and value is not one.default:  # which is accepted as it is
            object.__setattr__(config, one.name, option_of(one).accept_as(one.name, value))


def option_of(field: Field[Any]) -> Option:
    """What `about` made for this field."""
    option: Option = field.metadata[_METADATA]
    return option
