"""What `--access-log-fields` has stand behind a line of the access log, and where it is in a request's head.

The twin of lane/log_fields.pxd. A request has the id that its client or a proxy gave it in X-Request-Id, where that is
of a grammar that cannot be mistaken for anything else in a log; else one of ours, which applications see as if it had
been sent. An id of ours is random digits, one set for each lane and for what Python answers, and a count.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from itertools import count

_ID_FIELD = b"X-Request-Id"
# A UUID, a ULID, what nginx, HAProxy, Envoy and clouds write; no blank, quote or backslash, and ASCII alone.
_ID = re.compile(rb"[0-9A-Za-z._~+/=:@-]{1,128}")
_FIELDS = re.compile(rb"\r\n(host|x-request-id):[ \t]*([^\r]*?)[ \t]*(?=\r\n)", re.IGNORECASE)


def read_fields(head: bytes) -> tuple[bytes, bytes]:
    """Host, as it was sent, and the request's id, b"" where there is none that is of use, of a well-formed head."""
    host, ids = b"", []
    for name, value in _FIELDS.findall(head):
        if len(name) == len(b"host"):
            host = value
        else:
            ids.append(value)
    return host, ids[0] if len(ids) == 1 and _ID.fullmatch(ids[0]) else b""


def with_id(head: bytes, request_id: bytes) -> bytes:
    """The same head, with this id and no other."""
    own = _FIELDS.sub(lambda match: match[0] if len(match[1]) == len(b"host") else b"", head)
    return b"%b%b: %b\r\n\r\n" % (own[:-2], _ID_FIELD, request_id)


def own_ids() -> Iterator[bytes]:
    """Ids that no other request has."""
    begin = os.urandom(6).hex()
    return (b"%b-%x" % (begin.encode(), number) for number in count())
