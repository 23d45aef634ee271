"""Which answers of a servlet may be kept and given to every client, and what their entries say."""

from __future__ import annotations

from typing import NamedTuple

from zcserve.http import FieldLines, parse_date
from zcserve.servlets.response import OF_A_FILE
from zcserve.site.exchange import Answer, Stored

# A slab has room for a head of 4096 bytes (cache/store.py), and there are fields besides the servlet's.
FIELDS_BYTES_MAX = 3072
_LINE_BYTES = len(b": \r\n")  # of each, beside its name and value

# Fields, in lower case, of what is not for every client, or that an entry's head would contradict.
_NOT_KEPT = (OF_A_FILE | {"set-cookie"}) - {"content-type", "last-modified", "x-content-type-options"}
_NOT_FOR_ALL = frozenset(("no-store", "private"))


class Judged(NamedTuple):
    """What the entry of a result says; see `ComposedEntry`."""

    content_type: str
    modified: int | None
    fields: FieldLines


def judge(answer: Answer, ttl: float) -> Judged | str:
    """What the entry of an answer says, or why there can be none."""
    if isinstance(answer, Stored):
        return "it is a file"
    if answer.status != 200:
        return f"its status is {answer.status}"
    if not isinstance(answer.content, bytes):
        return "it is a stream"
    if sum(len(name) + len(value) + _LINE_BYTES for name, value in answer.fields) > FIELDS_BYTES_MAX:
        return "its fields are too long"
    content_type, modified = "", None
    kept: list[tuple[bytes, bytes]] = []
    directives: set[str] = set()
    for field in answer.fields:
        name, value = field[0].decode().lower(), field[1].decode("latin-1")
        if name == "content-type":
            content_type = value
        elif name == "last-modified":
            modified = parse_date(field[1])
        elif name in _NOT_KEPT or (name == "vary" and _tokens(value) != {"accept-encoding"}):
            return f"it has {field[0].decode()}: {value}"
        elif name not in ("vary", "x-content-type-options"):  # those the head has where they apply
            kept.append(field)
            if name == "cache-control":
                directives |= _tokens(value)
    if directives & _NOT_FOR_ALL:
        return f"it has Cache-Control: {', '.join(sorted(directives))}"
    if not directives:
        kept.append((b"Cache-Control", b"max-age=%d" % max(1, int(ttl))))
    return Judged(content_type, modified, tuple(kept))


def _tokens(value: str) -> set[str]:
    """The members of a list, without their arguments, in lower case."""
    return {member.partition("=")[0].strip().lower() for member in value.split(",")}
