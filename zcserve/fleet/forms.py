"""The JSON of messages, and what a value of them may be. Each error says where it is, and what is there.

A message is one JSON object (RFC 8259) in UTF-8, with a `version`, a whole number. Members that are not known are
passed over: a later version may add some, and nodes of two versions understand each other. What a member means never
changes under the same version, so a higher one is refused: it is not known what else it means.

A reader takes one member and says it is wrong by FormError. The writer of a message is checked by the same functions,
so what is sent can be read.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from zcserve.errors import ZcserveError
from zcserve.fleet import strict_json
from zcserve.fleet.strict_json import JsonError

VERSION = 1
# Of one message, in bytes. NATS takes a megabyte unless told else, and a node may have to keep some hundred of them.
MESSAGE_BYTES_MAX = 256 * 1024
# Of the name of a node or of a site (config/site.py has the same).
NAME_CHARACTERS_MAX = 63
# Of an id. A UUID has 36; a rollout's is made of site, sequence and manifest.
ID_CHARACTERS_MAX = 128
# Of a reason that a node gives: more is cut, since it stands in a table.
REASON_CHARACTERS_MAX = 500
# Of a URL where files come from.
SOURCE_CHARACTERS_MAX = 2000
# JSON's numbers are exact up to here in every language.
NUMBER_MAX = 2**53 - 1

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]*")
_DIGEST = re.compile(r"[0-9a-f]{64}")


class FormError(ZcserveError):
    """A message is not what it must be: what, and where in it ("trial.sequence: ...")."""


class VersionError(FormError):
    """A message of a version that is not known here."""


def dump(form: Mapping[str, Any]) -> bytes:
    """A message's bytes, its version included. Raises FormError where it is too long."""
    data = json.dumps({"version": VERSION, **form}, separators=(",", ":"), ensure_ascii=True).encode()
    if len(data) > MESSAGE_BYTES_MAX:
        raise FormError(f"message: {len(data):,} bytes, and at most {MESSAGE_BYTES_MAX:,}")
    return data


def load(data: bytes) -> dict[str, Any]:
    """A message's members, its version looked at. Raises FormError, VersionError."""
    form = load_any(data)
    version = whole(form, "version", least=1)
    if version != VERSION:
        raise VersionError(f"version: {version}, and known is {VERSION}: this node is older than what sent it")
    return form


def load_any(data: bytes) -> dict[str, Any]:
    """The members of a message of any version. Raises FormError."""
    try:
        form = strict_json.read(data, MESSAGE_BYTES_MAX)
    except JsonError as error:
        raise FormError(f"message: {error}") from None
    return table(form, "message")


def shown(value: object) -> str:
    """A value in an error: on one line, and not long."""
    text = ascii(value)
    return text if len(text) <= 80 else text[:77] + "..."


def member(form: Mapping[str, Any], name: str) -> Any:
    """What must be there. Raises FormError."""
    if name not in form:
        raise FormError(f"{name}: is missing")
    return form[name]


def table(value: object, where: str) -> dict[str, Any]:
    """An object. Raises FormError."""
    if not isinstance(value, dict):
        raise FormError(f"{where}: must be an object, not {shown(value)}")
    return value


def text(value: object, where: str, characters_max: int) -> str:
    """A text of so many characters, none of them a control. Raises FormError."""
    if not isinstance(value, str):
        raise FormError(f"{where}: must be a text, not {shown(value)}")
    if len(value) > characters_max:
        raise FormError(f"{where}: {len(value):,} characters, and at most {characters_max:,}")
    if not value.isprintable():
        raise FormError(f"{where}: holds what is not printable: {shown(value)}")
    return value


def name(value: object, where: str) -> str:
    """Of a node or a site: letters, digits, '.', '-' and '_'. Raises FormError."""
    return _matched(_NAME, value, where, NAME_CHARACTERS_MAX, "letters, digits, '.', '-' and '_'")


def identity(value: object, where: str) -> str:
    """An id: a name that may hold ':', too. Raises FormError."""
    return _matched(_ID, value, where, ID_CHARACTERS_MAX, "letters, digits, '.', ':', '-' and '_'")


def digest(value: object, where: str) -> str:
    """A SHA-256 in 64 hex digits. Raises FormError."""
    return _matched(_DIGEST, value, where, 64, "64 hex digits in lower case")


def _matched(pattern: re.Pattern[str], value: object, where: str, characters_max: int, accepted: str) -> str:
    found = text(value, where, characters_max)
    if not pattern.fullmatch(found):
        raise FormError(f"{where}: {shown(found)}; accepted: {accepted}")
    return found


def number(value: object, where: str, least: int = 0) -> int:
    """A whole number from `least` to NUMBER_MAX. Raises FormError."""
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= NUMBER_MAX:
        raise FormError(f"{where}: must be a whole number from {least} on, not {shown(value)}")
    return value


def whole(form: Mapping[str, Any], name: str, least: int = 0) -> int:
    """The same of a member that must be there. Raises FormError."""
    return number(member(form, name), name, least)


def real(value: object, where: str, most: float) -> float:
    """A number from 0 to `most`. Raises FormError."""
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not 0 <= value <= most:
        raise FormError(f"{where}: must be a number from 0 to {most:g}, not {shown(value)}")
    return float(value)


def switch(value: object, where: str) -> bool:
    """True or false. Raises FormError."""
    if not isinstance(value, bool):
        raise FormError(f"{where}: must be true or false, not {shown(value)}")
    return value


def texts(value: object, where: str, items_max: int, characters_max: int, advice: str = "") -> tuple[str, ...]:
    """A list of texts, none of them empty. Raises FormError, with `advice` where there are too many."""
    if not isinstance(value, (list, tuple)):
        raise FormError(f"{where}: must be a list, not {shown(value)}")
    if len(value) > items_max:
        raise FormError(f"{where}: {len(value):,}, and at most {items_max:,}{advice and '; ' + advice}")
    if "" in value:
        raise FormError(f"{where}: holds an empty text")
    return tuple(text(item, f"{where}[{place}]", characters_max) for place, item in enumerate(value))
