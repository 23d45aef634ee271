"""What a request says in Authorization: a name and a password (RFC 7617).

Whatever is not one pair that is read in one way is none at all. The answer to both is 401: a client that sends garbage
is told how to ask, as a client that sends nothing is.
"""

from __future__ import annotations

import binascii
import re
import unicodedata
from typing import NamedTuple

from zcserve.http import FieldLines

# In bytes, as they are told and as they are kept. A name stands in the access log's line; a password is hashed, and
# people and managers make none so long. What is longer is not brought into a normal form: to sort six thousand marks
# takes 56 ms.
NAME_BYTES_MAX = 255
PASSWORD_BYTES_MAX = 1024
# Control characters (RFC 7617 section 2): category Cc.
_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f]")


class Credentials(NamedTuple):
    """A name and a password, as bytes of UTF-8 in normal form C."""

    name: bytes
    password: bytes


def credentials_of(lines: FieldLines) -> Credentials | None:
    """What the fields of a request say; None where they name nobody, or several."""
    values = [value for name, value in lines if name.lower() == b"authorization"]
    return parse_basic(values[0]) if len(values) == 1 else None


def parse_basic(value: bytes) -> Credentials | None:
    """What a value of Authorization says; None for another scheme, and for what cannot be read."""
    scheme, blank, token = value.partition(b" ")
    if scheme.lower() != b"basic" or not blank:
        return None
    try:
        told = binascii.a2b_base64(token.strip(b" "), strict_mode=True)
    except binascii.Error:
        return None
    name, colon, password = told.partition(b":")
    if not colon:
        return None
    try:
        return Credentials(normal_name(name.decode()), normal_password(password.decode()))
    except ValueError:  # of UTF-8, too
        return None


def normal_name(text: str) -> bytes:
    """A name as it is kept and compared. Raises ValueError for what is none: without a colon, 1 to NAME_BYTES_MAX."""
    if not text or ":" in text:
        raise ValueError(f"a name has 1 to {NAME_BYTES_MAX} bytes, and no colon")
    return _normal(text, NAME_BYTES_MAX)


def normal_password(text: str) -> bytes:
    """A password as it is hashed and compared. Raises ValueError for what is none."""
    return _normal(text, PASSWORD_BYTES_MAX)


def _normal(text: str, bytes_max: int) -> bytes:
    """In normal form C: keyboards of two systems write one letter in two ways (RFC 8265 section 4.2)."""
    if _CONTROLS.search(text):
        raise ValueError("a control character")
    raw = text.encode()
    if len(raw) <= bytes_max:
        raw = unicodedata.normalize("NFC", text).encode()
    if len(raw) > bytes_max:
        raise ValueError(f"it has {bytes_max} bytes at most")
    return raw
