"""Which answers of a servlet may be kept and given to every client, and what their entries say."""

from __future__ import annotations

from typing import NamedTuple

from zcserve.http import parse_date
from zcserve.net.exchange import Made, Stored
from zcserve.servlets.response import OF_A_FILE

# A slab has room for a head of 4096 bytes (cache/store.py), and there are fields besides the servlet's.
FIELDS_BYTES_MAX = 3072

# Fields, in lower case, of what is not for everybody, or that an entry's head would contradict.
_NOT_KEPT = (OF_A_FILE | {"set-cookie"}) - {"content-type", "last-modified", "x-content-type-options"}
_NOT_FOR_EVERYBODY = frozenset(("no-store", "private"))


class Judged(NamedTuple):
    """What the entry of a result says; see `ComposedEntry`."""

    content_type: str
    modified: int | None
    fields: bytes


def judge(made: Made, ttl: float) -> Judged | str:
    """What the entry of an answer says, or why there can be none."""
    if isinstance(made, Stored):
        return "it is a file"
    if made.status != 200:
        return f"its status is {made.status}"
    if not isinstance(made.content, bytes):
        return "it is a stream"
    if len(made.fields) > FIELDS_BYTES_MAX:
        return "its header lines are too long"
    content_type, modified = "", None
    fields = b""
    directives: set[str] = set()
    for line in made.fields.split(b"\r\n")[:-1]:
        text = line.decode("latin-1")
        name, _, value = text.partition(": ")
        name = name.lower()
        if name == "content-type":
            content_type = value
        elif name == "last-modified":
            modified = parse_date(value.encode("latin-1"))
        elif name in _NOT_KEPT or (name == "vary" and _tokens(value) != {"accept-encoding"}):
            return f"it has {text}"
        elif name not in ("vary", "x-content-type-options"):  # those the head has where they apply
            fields += line + b"\r\n"
            if name == "cache-control":
                directives |= _tokens(value)
    if directives & _NOT_FOR_EVERYBODY:
        return f"it has Cache-Control: {', '.join(sorted(directives))}"
    if not directives:
        fields += b"Cache-Control: max-age=%d\r\n" % max(1, int(ttl))
    return Judged(content_type, modified, fields)


def _tokens(value: str) -> set[str]:
    """The members of a list, without their arguments, in lower case."""
    return {member.partition("=")[0].strip().lower() for member in value.split(",")}
