"""What a request says in Authorization: a name and a password (RFC 7617).

Whatever is not one pair that is read in one way is none at all. The answer to both is 401: a client that sends garbage
is told how to ask, as a client that sends nothing is.
"""

from __future__ import annotations

import binascii
import unicodedata
from typing import NamedTuple

from zcserve.http import FieldLines

# In bytes. A name stands in the access log's line; a password is hashed, and people and managers make none so long.
NAME_BYTES_MAX = 255
PASSWORD_BYTES_MAX = 1024
# Of a control character (RFC 7617 section 2): category Cc.
_CONTROL = "Cc"


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
    raw = _normal(text)
    if not 1 <= len(raw) <= NAME_BYTES_MAX or b":" in raw:
        raise ValueError(f"a name has 1 to {NAME_BYTES_MAX} bytes, and no colon")
    return raw


def normal_password(text: str) -> bytes:
    """A password as it is hashed and compared. Raises ValueError for what is none."""
    raw = _normal(text)
    if len(raw) > PASSWORD_BYTES_MAX:
        raise ValueError(f"a password has {PASSWORD_BYTES_MAX} bytes at most")
    return raw


def _normal(text: str) -> bytes:
    """In normal form C: keyboards of two systems write one letter in two ways (RFC 8265 section 4.2)."""
    if any(unicodedata.category(one) == _CONTROL for one in text):
        raise ValueError("a control character")
    return unicodedata.normalize("NFC", text).encode()
