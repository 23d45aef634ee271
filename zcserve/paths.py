"""The path of a request: as it was sent, and the one key of all its spellings.

What decides goes by the key (`http.canonical_path`): which file, which mount, which servlet. What is told to an
application is the path as sent, percent-decoded once and otherwise untouched, since doubled slashes, dot segments and
bytes that are no UTF-8 may mean something to it (PEP 3333, "URL Reconstruction"; a URL inside a path is the common
case).

The two meet in `SentPath.behind`: the part of the path as sent that stands behind the first segments of the key.
It leads where the key does, and no dot segment in it leads above its own beginning. So an application below a prefix is
told of nothing that the prefix does not cover.
"""

from __future__ import annotations

from urllib.parse import unquote, unquote_to_bytes

from zcserve.errors import HttpError
from zcserve.http import canonical_of, is_canonical


def decoded(key: bytes) -> str:
    """A key as globs are matched with it."""
    return unquote(key.decode(), errors="surrogateescape") if b"%" in key else key.decode()


class SentPath:
    """The path of a target (without its query).

    sent     as sent
    decoded  percent-decoded once; a percent sign without two hex digits stands for itself, as it does for every server
             of WSGI and ASGI
    key      what `http.canonical_path` makes of it
    is_plain whether `http.canonical_path` takes it: with no NUL and no percent sign that stands for itself
    """

    __slots__ = ("decoded", "is_plain", "key", "sent")

    def __init__(self, sent: bytes) -> None:
        """Raises HttpError 400 for what no path has: it does not begin with a slash, or holds a `#`."""
        self.sent = self.decoded = self.key = sent
        self.is_plain = True
        if is_canonical(sent):
            return  # most requests end here
        if not sent.startswith(b"/") or b"#" in sent:
            raise HttpError(400, "not a path")
        self.decoded = unquote_to_bytes(sent)
        self.key = canonical_of(self.decoded)
        # Each escape that was decoded took two bytes away.
        self.is_plain = b"\0" not in self.decoded and len(sent) - len(self.decoded) == 2 * sent.count(b"%")

    def as_key(self) -> SentPath:
        """The same path spelled as its key."""
        path = SentPath(self.key)
        path.is_plain = self.is_plain
        return path

    def behind(self, depth: int) -> bytes:
        """What stands behind the first `depth` segments of the key, as sent and decoded, with its slash; b"" for
        nothing. It begins where the path reaches the last of these segments for the last time."""
        level = begins = at = 0
        if not depth:
            return self.decoded
        for segment in self.decoded.split(b"/")[1:]:
            at += 1 + len(segment)
            if segment == b"..":
                level -= level > 0
            elif segment not in (b"", b"."):
                level += 1
                if level == depth:
                    begins = at
        return self.decoded[begins:]
