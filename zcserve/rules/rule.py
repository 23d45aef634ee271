"""A header rule as data, and what a field of one may be.

What a rule may not touch is what the server itself has to say of a response: its framing, its validators, its ranges
and codings. Each of these names is refused with the reason, so that no rule is left without effect in silence.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from zcserve.config.option import toml_type
from zcserve.config.refusal import refusal
from zcserve.http import FieldLines, is_token
from zcserve.rules.cors import Cors
from zcserve.rules.where import Written

# Of one value. A policy (Content-Security-Policy) may be long; nginx and Node read 4 and 16 KiB of a whole head.
VALUE_BYTES_MAX = 4096
# Of one rule's lines together: a head is kept with each file, and proxies refuse long ones (nginx takes 4 or 8 KiB).
LINES_BYTES_MAX = 8192
NAME_BYTES_MAX = 100

_FRAMING = "it says how a message is framed or a connection is kept, which is the protocol's (RFC 9110 section 7.6.1)"
_OF_CONTENT = "it is made of the file itself, so that caches and conditions can rely on it"
_OF_VARIANTS = "it says in which coding a variant is sent: put a .br, .zst or .gz file beside the file, or --compress"

# By lower-case name: why no rule may set, add or remove it.
REFUSED: dict[bytes, str] = {
    b"content-length": _FRAMING,
    b"transfer-encoding": _FRAMING,
    b"connection": _FRAMING,
    b"keep-alive": _FRAMING,
    b"proxy-connection": _FRAMING,
    b"te": _FRAMING,
    b"trailer": _FRAMING,
    b"upgrade": _FRAMING,
    b"date": "it is the time of the response",
    b"server": "it is the server's own",
    b"age": "it is a cache's to send",
    b"etag": _OF_CONTENT,
    b"last-modified": _OF_CONTENT,
    b"accept-ranges": "the server says itself whether it sends ranges",
    b"content-range": "it belongs to a response with a range",
    b"content-encoding": _OF_VARIANTS,
    b"allow": "it says which methods the server takes",
    b"location": "it belongs to a redirect",
    b"www-authenticate": "it belongs to a question for a password",
}
# What only `add` may name, and what only `set` may.
ONLY_ADDED = {b"vary": "negotiation needs its own value: add further ones"}
ONLY_SET = {b"content-type": "a response has one type: set it"}

_VALUE_BYTES = bytes(range(0x20, 0x7F)) + b"\t"


class HeaderRule(NamedTuple):
    """What is done to the fields of the files that one of the globs matches: first what is removed, then what is set
    (instead of all of that name), then what is added.

    globs         of config/globs.py; they match the file's path ("/docs/index.html"), not the target that led to it
    remove        lower-case names
    set, add      names as they are written
    content_type  Content-Type's value; "": by the file's name
    charset       for what a charset applies to; "": as configured
    immutable     whether files with a hash in their names are told to be immutable
    tags          what a purge may call the files by (tagged.py)
    priority      how soon they are loaded, PRIORITY_MIN to PRIORITY_MAX; None: as other rules say
    cors          which other origins may read them; None: it says nothing of that
    listing       whether directories that the globs match answer with their names; None: as other rules say
    written       where it stands; None: it is a preset's
    """

    globs: tuple[str, ...]
    remove: tuple[bytes, ...] = ()
    set: FieldLines = ()
    add: FieldLines = ()
    content_type: str = ""
    charset: str = ""
    immutable: bool = False
    tags: tuple[str, ...] = ()
    priority: int | None = None
    cors: Cors | None = None
    listing: bool | None = None
    written: Written | None = None

    @property
    def meaning(self) -> tuple[object, ...]:
        """All of it but where it stands."""
        return self[:-1]


def check_name(name: str, *, verb: str) -> bytes:
    """The name of a field that a rule may `verb`: set, add or remove. Raises UsageError."""
    raw = name.encode("ascii", "replace").replace(b"?", b"\0")
    if not is_token(raw) or len(raw) > NAME_BYTES_MAX:
        accepted = f"letters, digits and !#$%&'*+-.^_`|~, {NAME_BYTES_MAX} at most (RFC 9110 section 5.1)"
        raise refusal(name, "is not the name of a field", accepted)
    lower = raw.lower()
    why = REFUSED.get(lower) or (verb != "add" and ONLY_ADDED.get(lower)) or (verb != "set" and ONLY_SET.get(lower))
    if why:
        raise refusal(name, f"cannot be {_DONE[verb]} by a rule: {why}", "another field")
    return raw


_DONE = {"set": "set", "add": "added", "remove": "removed"}


def check_value(value: object) -> bytes:
    """A field's value (RFC 9110 section 5.5). A CR or LF would begin a field of its own, a NUL ends the text for some
    readers; what is no ASCII is read in several ways. Raises UsageError."""
    accepted = f"printable ASCII on one line without blanks around it, 1 to {VALUE_BYTES_MAX} bytes"
    if not isinstance(value, str):
        raise refusal(value, f"is {toml_type(value)}", f"{accepted}, in quotes")
    raw = value.encode("ascii", "replace") if value.isascii() else b""
    if not raw or raw.translate(None, _VALUE_BYTES) or raw != raw.strip(b" \t") or len(raw) > VALUE_BYTES_MAX:
        raise refusal(value, "cannot be a field's value", accepted)
    return raw


def check_length(lines: Sequence[tuple[bytes, bytes]]) -> None:
    """Raises UsageError where the fields of one rule are too many."""
    length = sum(len(name) + len(value) + 4 for name, value in lines)
    if length > LINES_BYTES_MAX:
        raise refusal(length, "bytes of fields are too many for one rule", f"{LINES_BYTES_MAX} bytes together")
