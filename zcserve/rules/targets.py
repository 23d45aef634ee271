"""What a redirect leads to: a path of the site or an absolute URL, with places that are filled from the request.

    /blog/:splat                        a path; the request's query goes with it
    /search?q=:word&from=old#results    a query of its own: the request's is dropped, as it is by a `?` at the end
    https://new.example/:year/:slug     another site; its host is written out, a request never names one

What is filled in is encoded for the part where it stands, so that a request forges nothing: in a path there is no `?`
and no `#` from it, in a query no `&`, `=` and `+`, nowhere a line's end. A path of the site is made canonical
(`http.canonical_path`): it has no doubled slash, so it never begins a host, and no dot segments, since what is filled
in has none, and a segment that would need only a dot more is refused when it is read.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import unquote_to_bytes

from zcserve import http
from zcserve.errors import nearest
from zcserve.http import percent_encoded
from zcserve.rules.patterns import NAME, PLACEHOLDER, SPLAT
from zcserve.rules.where import RuleError

TARGET_CHARACTERS_MAX = 2000

# A piece is text, or the name of what is filled in.
Pieces = tuple[bytes | str, ...]

_ABSOLUTE = re.compile(r"(https?)://([^/?#]*)([^?#]*)(\?[^#]*)?(#.*)?", re.DOTALL | re.IGNORECASE)
_PATH = re.compile(r"()()([^?#]*)(\?[^#]*)?(#.*)?", re.DOTALL)
_BAD_PERCENT = re.compile(r"%(?![0-9A-Fa-f]{2})")
_DOUBLED = re.compile(rb"/{2,}")
# A segment that has nothing but dots and what is filled in, and one dot at least.
_DOTTED = re.compile(rf"(?:\.|%2[eE]|:{NAME})+")

_UNRESERVED = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~"
# What stands for itself in a value of a query, and in a query or a fragment that is written out (RFC 3986 section 3.4).
_VALUE_BYTES = _UNRESERVED + b"/:@!$'()*,"
_QUERY_BYTES = _UNRESERVED + b"/?:@!$&'()*+,;=%"


@dataclass(frozen=True, slots=True)
class Target:
    """One target.

    text      as written
    origin    scheme, host and port of an absolute URL; b"" for a path of the site
    host      its host alone
    path      begins with a slash, canonical where it is of the site
    query     None: the request's own goes with it
    fragment  without its `#`; () for none
    """

    text: str
    origin: bytes
    host: bytes
    path: Pieces
    query: Pieces | None
    fragment: Pieces

    @property
    def names(self) -> frozenset[str]:
        """What is filled in."""
        return frozenset(piece for piece in (*self.path, *(self.query or ()), *self.fragment) if isinstance(piece, str))

    @property
    def head(self) -> bytes:
        """What every path begins with."""
        first = self.path[0]
        return first if isinstance(first, bytes) else b""

    def path_of(self, taken: dict[str, bytes]) -> bytes:
        """The path for what a pattern took, percent-decoded, from a request."""
        filled = b"".join(
            piece if isinstance(piece, bytes) else http.encode_path(taken[piece]) for piece in self.path
        )  # fmt: skip
        return filled if self.origin or b"//" not in filled else _DOUBLED.sub(b"/", filled)

    def query_of(self, taken: dict[str, bytes], sent: bytes) -> bytes:
        """The query without its question mark, b"" for none; `sent` is the request's."""
        if self.query is None:
            return escape_query(sent)
        return b"".join(
            piece if isinstance(piece, bytes) else percent_encoded(taken[piece], _VALUE_BYTES) for piece in self.query
        )

    def location(self, taken: dict[str, bytes], sent: bytes) -> bytes:
        """The value of Location (RFC 9110 section 10.2.2)."""
        parts = [self.origin, self.path_of(taken)]
        if query := self.query_of(taken, sent):
            parts += (b"?", query)
        if self.fragment:
            filled = (piece if isinstance(piece, bytes) else http.encode_path(taken[piece]) for piece in self.fragment)
            parts += (b"#", *filled)
        return b"".join(parts)


def escape_query(sent: bytes) -> bytes:
    """A request's query, in which what may not stand in a URL is encoded."""
    return percent_encoded(sent, _QUERY_BYTES)


def parse_target(text: str, names: frozenset[str]) -> Target:
    """The target that `text` writes, in which `names` may be filled in. Raises RuleError."""
    if len(text) > TARGET_CHARACTERS_MAX:
        raise _error(f"{text[:40]!r}... has more than {TARGET_CHARACTERS_MAX} characters")
    if _BAD_PERCENT.search(text):
        raise _error(f"{text!r}: a percent sign is written %25")
    if "%00" in text or "\0" in text:
        raise _error(f"{text!r}: no URL has a NUL")
    if text.startswith("//"):
        raise _error(f"{text!r} begins with two slashes, which browsers take for a host; write https://...")
    parts = _ABSOLUTE.fullmatch(text) or (_PATH.fullmatch(text) if text.startswith("/") else None)
    if parts is None:
        raise _error(f"{text!r} leads nowhere: it begins with a slash, with http:// or https://")
    scheme, host, path, query, fragment = parts.groups()
    origin = _origin(text, scheme, host) if scheme else b""
    if not (scheme or path.startswith("/")):
        raise _error(f"{text!r}: a path begins with a slash")
    _refuse_dots(text, path)
    return Target(
        text,
        origin,
        http.host_name(origin.partition(b"://")[2]),
        _path_pieces(text, path, names, is_own=not scheme),
        None if query is None else _pieces(text, query[1:], names, _QUERY_BYTES),
        () if fragment is None else _pieces(text, fragment[1:], names, _QUERY_BYTES),
    )


def _origin(text: str, scheme: str, host: str) -> bytes:
    found = None if host.startswith("[") else PLACEHOLDER.search(host)
    if found is not None:
        raise _error(f"{text!r}: {found[0]} in the host; a request must not name the host that it leads to")
    encoded = host.lower().encode("ascii", "replace")
    if not host or not host.isascii() or not http.is_host(encoded):
        raise _error(f"{text!r}: {host!r} is no host; names in other letters are written xn--...")
    return scheme.lower().encode() + b"://" + encoded


def _refuse_dots(text: str, path: str) -> None:
    for segment in re.split("/|%2[fF]", path):
        if _DOTTED.fullmatch(segment) and re.search(r"\.|%2[eE]", segment):
            raise _error(
                f"{text!r}: {segment!r} could be a dot segment, which leads elsewhere; write the path without it"
            )


def _path_pieces(text: str, path: str, names: frozenset[str], *, is_own: bool) -> Pieces:
    """The pieces of a path: of the site's own as its keys are, of another site's as it is written."""
    if not is_own:
        return _pieces(text, path, names, _QUERY_BYTES.replace(b"?", b"")) or (b"/",) if path else (b"/",)
    pieces = _split(text, path, names)
    decoded = (piece if at % 2 else http.encode_path(_decoded(text, piece)) for at, piece in enumerate(pieces))
    return tuple(_DOUBLED.sub(b"/", piece) if isinstance(piece, bytes) else piece for piece in decoded if piece)


def _pieces(text: str, part: str, names: frozenset[str], allowed: bytes) -> Pieces:
    """Text with its escapes, in which what does not stand for itself is encoded, and names."""
    pieces = _split(text, part, names)
    written = (piece if at % 2 else percent_encoded(_encoded(text, piece), allowed) for at, piece in enumerate(pieces))
    return tuple(piece for piece in written if piece)


def _split(text: str, part: str, names: frozenset[str]) -> list[str]:
    """Text and names by turns. A name that the pattern does not have is an error: a request would see it."""
    pieces = re.split(rf"(?<![A-Za-z0-9]):({NAME})|:({'|'.join(sorted(names)) or '(?!)'})(?![A-Za-z0-9_])", part)
    found: list[str] = [pieces[0]]
    for name, known, behind in zip(pieces[1::3], pieces[2::3], pieces[3::3], strict=True):
        name = name or known
        if name not in names:
            raise _error(f"{text!r}: {_unknown(name, names)}; a colon is written %3A")
        found += (name, behind)
    return found


def _unknown(name: str, names: frozenset[str]) -> str:
    if name == SPLAT:
        return "there is no star that :splat could be"
    told = f"; did you mean :{nearest(name, sorted(names))}?" if names else ""
    return f"there is no placeholder :{name}{told}"


def _encoded(text: str, piece: str) -> bytes:
    try:
        return piece.encode()
    except UnicodeEncodeError:  # a lone surrogate, from TOML's escapes
        raise _error(f"{text!r} holds what is no character") from None


def _decoded(text: str, piece: str) -> bytes:
    return unquote_to_bytes(_encoded(text, piece))


def _error(message: str) -> RuleError:
    return RuleError(message, "to")
