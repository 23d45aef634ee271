"""From what a servlet returned to a status, fields and content.

A response cannot be split: every field is checked in one function, `_field`, which lets no CR, LF or other control
character into it, nor a field that frames the message or speaks for the server. It says so when the servlet makes the
mistake, not when the response is sent, so that the traceback shows the line that did it. Behind it nothing is checked
again.

Nothing here sends: `Rendered` tells application.py what the content is (bytes, pieces, a file).
"""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from functools import lru_cache
from typing import Any, NamedTuple, Self, TypeAlias

from zcserve.http import WITHOUT_CONTENT, FieldLines, is_field_value, is_token
from zcserve.site.reply import HTML_FIELDS

Body: TypeAlias = bytes | str | dict[Any, Any] | list[Any] | Iterator[Any] | AsyncIterator[Any]

_FRAMING = "the server frames the content itself: leave it out"
_CONNECTION = "the connection is the server's business: leave it out"
# What a servlet may not send, in lower case, and why (RFC 9110 sections 6.6, 7.6, 8.6, 10.1.4; RFC 9112 sections 6, 7).
RESERVED: Mapping[str, str] = {
    "content-length": "the server counts the content: leave it out",
    "transfer-encoding": _FRAMING,
    "trailer": _FRAMING,
    "te": "it belongs to requests: leave it out",
    "connection": _CONNECTION,
    "keep-alive": _CONNECTION,
    "proxy-connection": _CONNECTION,
    "upgrade": _CONNECTION,
    "date": "the server dates every response: leave it out, or use a field of another name",
    "server": "the server names itself: leave it out, or use a field of another name",
}
# What the head of a file says itself (cache/heads.py).
OF_A_FILE = frozenset(
    (
        "accept-ranges",
        "content-encoding",
        "content-range",
        "content-type",
        "etag",
        "last-modified",
        "x-content-type-options",
    )
)

_NAMES_KEPT = 256  # a site's servlets send some dozens of field names

# What bytes or a str have that were returned as they are is `HTML_FIELDS`; this is the same for JSON.
JSON_FIELDS: FieldLines = ((b"Content-Type", b"application/json"), *HTML_FIELDS[1:])

# NaN and the infinities are no JSON: they raise ValueError.
_encode_json = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode

# --- fields -----------------------------------------------------------------------------------------------


@lru_cache(maxsize=_NAMES_KEPT)
def _name(name: str) -> bytes:
    """A field's name. Raises ValueError for what is no token, and for `RESERVED`."""
    encoded = name.encode("utf-8", "replace")
    if not is_token(encoded):
        raise ValueError(f"{name!r} is no name of a header field: it must be a token (RFC 9110 section 5.1)")
    why = RESERVED.get(name.lower())
    if why is not None:
        raise ValueError(f"{name} is not for a servlet to send: {why}")
    return encoded


def _field(name: str, value: str) -> tuple[bytes, bytes]:
    """A field, checked. Raises ValueError; TypeError for a name or value that is no str."""
    if not isinstance(name, str) or not isinstance(value, str):
        raise TypeError(f"a header field is a pair of str, not of {type(name).__name__} and {type(value).__name__}")
    checked = _name(name)
    try:
        encoded = value.encode("latin-1")
    except UnicodeEncodeError:
        raise ValueError(
            f"the value of {name} is not latin-1: encode it, with urllib.parse.quote or the like"
        ) from None
    if not is_field_value(encoded):
        raise ValueError(f"the value of {name} has a line end or another control character")
    return checked, encoded


def checked_fields(pairs: Iterable[tuple[str, str]]) -> FieldLines:
    """Names and values as fields (RFC 9110 section 5).

    Raises ValueError for a name that is no token or one of `RESERVED`, and for a value that is not latin-1 or holds a
    control character but HTAB.
    """
    return tuple([_field(name, value) for name, value in pairs])


# --- cookies ----------------------------------------------------------------------------------------------

# RFC 6265 section 4.1.1. What a browser would make of anything else is its own affair, so it is refused.
_COOKIE_OCTETS = r"[\x21\x23-\x2b\x2d-\x3a\x3c-\x5b\x5d-\x7e]*"
_COOKIE_VALUE = re.compile(f'{_COOKIE_OCTETS}|"{_COOKIE_OCTETS}"')
_COOKIE_PATH = re.compile(r"/[\x20-\x3a\x3c-\x7e]*")
_COOKIE_DOMAIN = re.compile(r"\.?[0-9A-Za-z](?:[0-9A-Za-z.-]*[0-9A-Za-z])?")
_SAME_SITE = {"strict": "Strict", "lax": "Lax", "none": "None"}
COOKIE_BYTES_MAX = 4096  # name and value: browsers drop a longer one (RFC 6265bis section 5.6)


def _check_cookie(name: str, value: str, path: str | None, domain: str | None, secure: bool, same: str | None) -> None:
    """Raises ValueError for what could be misread, and for what browsers drop without a word."""
    if not is_token(name.encode("utf-8", "replace")):
        raise ValueError(f"{name!r} is no name of a cookie: it must be a token (RFC 6265 section 4.1.1)")
    if not _COOKIE_VALUE.fullmatch(value):
        raise ValueError(
            f"the value of the cookie {name} has a blank, quote, comma, semicolon, backslash, control or non-ASCII "
            "character: encode it, with urllib.parse.quote or the like"
        )
    if len(name) + len(value) > COOKIE_BYTES_MAX:
        raise ValueError(f"the cookie {name} is longer than {COOKIE_BYTES_MAX} bytes: browsers would drop it")
    if path is not None and not _COOKIE_PATH.fullmatch(path):
        raise ValueError(f"{path!r} is no path of a cookie: a slash first, ASCII without controls and semicolons")
    if domain is not None and not _COOKIE_DOMAIN.fullmatch(domain):
        raise ValueError(f"{domain!r} is no domain of a cookie")
    if same is not None and same.lower() not in _SAME_SITE:
        raise ValueError(f"{same!r} is no value of SameSite: Strict, Lax or None")
    # RFC 6265bis sections 4.1.3 and 5.6.
    lower = name.lower()
    if not secure and (lower.startswith(("__secure-", "__host-")) or (same is not None and same.lower() == "none")):
        raise ValueError(f"browsers drop the cookie {name} without secure=True")
    if lower.startswith("__host-") and (path != "/" or domain is not None):
        raise ValueError(f'browsers drop the cookie {name} unless path is "/" and domain is left out')


# --- responses --------------------------------------------------------------------------------------------


class Response:
    """What a servlet answers, where content alone does not say it.

    body     bytes, str (sent as UTF-8), dict or list (sent as JSON), or an iterator or async iterator of bytes or str,
             sent piece by piece
    status   200 to 599
    headers  names and values; or add them by `add_header`

    Content-Type is text/html; charset=utf-8 or, for a dict or list, application/json, unless it is given. Everything
    that would make a malformed response raises ValueError at once.
    """

    __slots__ = ("_fields", "_file", "_named", "_pairs", "_status", "body")

    def __init__(
        self,
        body: Body = b"",
        status: int = 200,
        headers: Mapping[str, str] | Iterable[tuple[str, str]] = (),
        *,
        content_type: str | None = None,
    ) -> None:
        self.body = body
        self.status = status
        self._file: str | None = None
        self._fields: list[tuple[bytes, bytes]] = []
        self._pairs: list[tuple[str, str]] = []
        self._named: set[str] = set()
        if content_type is not None:
            self.add_header("Content-Type", content_type)
        if headers:
            for name, value in headers.items() if isinstance(headers, Mapping) else headers:
                self.add_header(name, value)

    @property
    def status(self) -> int:
        return self._status

    @status.setter
    def status(self, status: int) -> None:
        if not isinstance(status, int) or not 200 <= status <= 599:
            raise ValueError(f"{status!r} is no status of a response: 200 to 599 (RFC 9110 section 15)")
        self._status = int(status)

    @property
    def file(self) -> str | None:
        """The resource that is sent instead of the body (`send_file`), None for none."""
        return self._file

    @property
    def headers(self) -> tuple[tuple[str, str], ...]:
        """Names and values as they were given, in order."""
        return tuple(self._pairs)

    def add_header(self, name: str, value: str) -> None:
        """Add a field; those that are there stay. Raises ValueError as `checked_fields`, and for two Content-Types."""
        field = _field(name, value)
        lower = name.lower()
        if lower == "content-type" and lower in self._named:
            raise ValueError("Content-Type is there already: a response has one (RFC 9110 section 8.3)")
        if self.file is not None:
            _check_beside_file((lower,))
        self._fields.append(field)
        self._pairs.append((name, value))
        self._named.add(lower)

    def set_cookie(
        self,
        name: str,
        value: str,
        *,
        max_age: int | None = None,
        path: str | None = "/",
        domain: str | None = None,
        secure: bool = False,
        httponly: bool = True,
        samesite: str | None = "Lax",
    ) -> None:
        """Add Set-Cookie (RFC 6265 section 4.1).

        `max_age` in seconds: 0 takes the cookie away, None keeps it until the browser ends. Raises ValueError for a
        value that is not made of cookie octets (nothing is quoted or escaped behind the servlet's back), for a bad
        attribute, and for a cookie that browsers would drop without a word.
        """
        _check_cookie(name, value, path, domain, secure, samesite)
        parts = [f"{name}={value}"]
        if max_age is not None:
            parts.append(f"Max-Age={int(max_age)}")
        if path is not None:
            parts.append(f"Path={path}")
        if domain is not None:
            parts.append(f"Domain={domain}")
        if secure:
            parts.append("Secure")
        if httponly:
            parts.append("HttpOnly")
        if samesite is not None:
            parts.append(f"SameSite={_SAME_SITE[samesite.lower()]}")
        self.add_header("Set-Cookie", "; ".join(parts))

    def send_file(self, path: str) -> Self:
        """Send a resource of the site ("/big.iso") instead of the body, zero-copy; returns the response itself.

        Its type, tag and date are the file's own. Raises ValueError for a path that does not begin with a slash, and
        when a field was added that the file has itself.
        """
        if not path.startswith("/"):
            raise ValueError(f"{path!r} is no resource of the site: it begins with a slash")
        _check_beside_file(self._named)
        self._file = path
        return self

    def render(self) -> Rendered:
        """The response's parts; see `render` below."""
        if self._status in WITHOUT_CONTENT:
            kept = tuple(field for field in self._fields if field[0].lower() != b"content-type")
            return Rendered(self._status, kept, b"", None)
        if self.file is not None:
            return Rendered(self._status, tuple(self._fields), b"", self.file)
        (kind, nosniff), content = _content(self.body)
        first = () if "content-type" in self._named else (kind,)
        last = () if "x-content-type-options" in self._named else (nosniff,)
        return Rendered(self._status, (*first, *self._fields, *last), content, None)


def _check_beside_file(names: Iterable[str]) -> None:
    """Raises ValueError for lower-case names of fields that a file sends itself."""
    own = OF_A_FILE.intersection(names)
    if own:
        raise ValueError(f"a file that is sent has its own {', '.join(sorted(own))}: leave it out")


# --- rendering --------------------------------------------------------------------------------------------


class Rendered(NamedTuple):
    """A response as the application sends it.

    fields   names and values, checked
    content  complete, or an iterator of pieces; b"" when a file is sent
    file     the resource whose content is sent, None for none
    """

    status: int
    fields: FieldLines
    content: bytes | Iterator[object] | AsyncIterator[object]
    file: str | None


def render(value: object) -> Rendered:
    """What a servlet returned as a response.

    Statuses that have no content (204, 205, 304) lose it, and its type. Raises TypeError for what is no content, and
    what json raises for a dict or list that is no JSON.
    """
    if type(value) is bytes:
        return Rendered(200, HTML_FIELDS, value, None)
    if isinstance(value, Response):
        return value.render()
    fields, content = _content(value)
    return Rendered(200, fields, content, None)


def _content(value: object) -> tuple[FieldLines, bytes | Iterator[object] | AsyncIterator[object]]:
    """The fields of such content (its type, and that it is to be believed), and the content."""
    if isinstance(value, bytes):
        return HTML_FIELDS, value
    if isinstance(value, str):
        return HTML_FIELDS, value.encode("utf-8")
    if isinstance(value, dict | list):
        return JSON_FIELDS, encode_json(value)
    if hasattr(value, "__next__") or hasattr(value, "__anext__"):
        pieces: Any = value
        return HTML_FIELDS, pieces
    raise TypeError(
        f"a servlet returned {type(value).__name__}; it may return bytes, str, dict, list, "
        "Response, an iterator or an async iterator"
    )


def encode_json(value: Any) -> bytes:
    """JSON in UTF-8 (RFC 8259). Raises TypeError and ValueError for what is none."""
    text = _encode_json(value)
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError:
        # A lone surrogate, which JSON can only write as an escape (RFC 8259 section 8.2); a client can send one so.
        return json.dumps(value, allow_nan=False, separators=(",", ":")).encode("ascii")
