"""A request as a servlet sees it: made of bytes, and read when asked.

`Request` keeps what it is given, and nothing else happens when it is made: a servlet that asks nothing pays for
nothing, and one that asks pays once. What the client sent was judged by the connection as a head (net/request.py), not
as a query, a cookie or a form: those are read here, leniently where nothing can be lost by it, and refused with
HttpError where the servlet could only guess. Nothing here knows the server, its configuration or a route.

Odd: `lazy` instead of functools.cached_property, whose one lock for all instances (CPython before 3.12) would let the
loop wait for a form that a thread is reading.

Text: fields are latin-1 as everywhere in HTTP (RFC 9110 section 5.5); paths, queries, forms and cookies, whose text
browsers send as UTF-8, are UTF-8 with U+FFFD for what is not.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import MappingProxyType, ModuleType
from typing import Any, Generic, NamedTuple, NoReturn, Self, TypeVar, overload
from urllib.parse import unquote, unquote_to_bytes

from zcserve.errors import HttpError
from zcserve.forwarded import Origin
from zcserve.net.head import SentHead
from zcserve.net.request import authority, split_target
from zcserve.paths import SentPath
from zcserve.site.exchange import Exchange, Head

# Where servlets are found by name: /csp?NAME&key=value (the path is the ancestor's).
SERVLET_PATH = b"/csp"

# Fields of an urlencoded form, and parts of a multipart one: each costs some hundred bytes and a microsecond or more,
# and a body of 1 MiB could hold half a million. Django takes 1000 and Werkzeug 1000 parts.
FORM_FIELDS_MAX = 1000
# Header lines of a part (RFC 7578 section 4.8 knows three), and the bytes of each: a file's name is in one of them.
PART_LINES_MAX = 8
PART_LINE_BYTES_MAX = 4096
BOUNDARY_BYTES_MAX = 70  # RFC 2046 section 5.1.1

# What a `Request` is given, in its constructor's order. The fast lane puts them in by itself (net/lane/requests.pxd).
SLOTS = ("_method", "_target", "_head", "client", "body", "params", "_origin")

_BLANKS = " \t"
_NONE: Mapping[str, str] = MappingProxyType({})

T = TypeVar("T")


class lazy(Generic[T]):
    """A method's result as an attribute, computed when first asked for; by two threads at once perhaps twice."""

    def __init__(self, compute: Callable[[Any], T]) -> None:
        self._compute = compute
        self._name = compute.__name__
        self.__doc__ = compute.__doc__

    @overload
    def __get__(self, instance: None, owner: type) -> Self: ...
    @overload
    def __get__(self, instance: object, owner: type) -> T: ...
    def __get__(self, instance: object | None, owner: type) -> Self | T:
        if instance is None:
            return self
        value = self._compute(instance)
        setattr(instance, self._name, value)  # from now on found before this
        return value


class Repeated(Mapping[str, T]):
    """A mapping whose names may occur more than once: `[name]` is the first value, `all(name)` are all.

    It iterates over each name once, in the order of their first occurrences; `pairs` has everything in order.
    """

    pairs: tuple[tuple[str, T], ...]

    def __init__(self, pairs: Iterable[tuple[str, T]] = ()) -> None:
        self.pairs = tuple(pairs)
        self._all: dict[str, list[T]] = {}
        for name, value in self.pairs:
            self._all.setdefault(name, []).append(value)

    def __getitem__(self, name: str) -> T:
        return self._all[name][0]

    def __iter__(self) -> Iterator[str]:
        return iter(self._all)

    def __len__(self) -> int:
        return len(self._all)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({list(self.pairs)!r})"

    def all(self, name: str) -> list[T]:
        """All values of a name in their order, [] for none."""
        return list(self._all.get(name, ()))


class Values(Repeated[str]):
    """The fields of a query or a form."""


class Headers(Repeated[str]):
    """Header fields. Names are compared without case; iteration gives them in lower case, `pairs` as they were sent.

    `[name]` of a field that was sent more than once is its values joined by ", " (RFC 9110 section 5.3), a cookie's by
    "; " (RFC 9113 section 8.2.3).
    """

    def __init__(self, pairs: Iterable[tuple[str, str]] = ()) -> None:
        self.pairs = tuple(pairs)
        self._all = {}
        for name, value in self.pairs:
            self._all.setdefault(name.lower(), []).append(value)

    def __getitem__(self, name: str) -> str:
        lower = name.lower()
        values = self._all[lower]
        return values[0] if len(values) == 1 else ("; " if lower == "cookie" else ", ").join(values)

    def all(self, name: str) -> list[str]:
        """The values of all lines of a field in their order, [] for none."""
        return super().all(name.lower())


class Upload(NamedTuple):
    """A file in a form.

    filename      as the client names it, "" when nothing was chosen; never to be used as a path
    content_type  the media type that the client claims, in lower case without parameters
    content       complete
    """

    filename: str
    content_type: str
    content: bytes


class Files(Repeated[Upload]):
    """The files of a form, by the names of their fields."""


class Request:
    """What a client asked. All but what the constructor is given is computed when first used.

    method, target   as sent (the connection has judged them: printable ASCII); the target also as a rule rewrites it
    head             what else the request says; bytes are an HTTP/1 head as sent, as the fast lane gives it
    client           the client's address without a port, "unix:" for a unix socket; behind a trusted proxy
                     (`--proxy-headers`) what that says, as `scheme` and `host`
    body             complete, without its transfer coding
    params           what the servlet's path pattern matched, decoded
    origin           what a trusted proxy says of the request; None: nothing
    """

    __slots__ = (*SLOTS, "__dict__", "__weakref__")

    # The target's path and query, where they were read already (`of`), the target that a rule has rewritten, and the
    # user; the fast lane gives none of them, and has no request with a user.
    _place: tuple[SentPath, bytes | None] | None = None
    _original: bytes | None = None
    _user = b""

    def __init__(
        self,
        method: bytes,
        target: bytes,
        head: Head | bytes,
        client: str,
        body: bytes = b"",
        params: Mapping[str, str] = _NONE,
        origin: Origin | None = None,
    ) -> None:
        self._method = method
        self._target = target
        self._head = head
        self.client = client
        self.body = body
        self.params = params
        self._origin = origin

    @classmethod
    def of(cls, exchange: Exchange, params: Mapping[str, str]) -> Request:
        """The request of an exchange, for a servlet whose pattern matched so."""
        request = cls(
            exchange.method, exchange.target, exchange.head, exchange.client, exchange.body, params, exchange.origin
        )
        request._place = exchange.path, exchange.query
        request._original = exchange.original
        request._user = exchange.user
        return request

    def __repr__(self) -> str:
        return f"<Request {self.method} {self.target}>"

    @lazy
    def method(self) -> str:
        """The method, case-sensitive: "GET"."""
        return self._method.decode("latin-1")

    @lazy
    def target(self) -> str:
        """The request target as sent, with its query; or what a rule of the site makes of it."""
        return self._target.decode("latin-1")

    @property
    def original_target(self) -> str:
        """The request target as sent, also where a rule has led the request elsewhere (a rewrite)."""
        return (self._original or self._target).decode("latin-1")

    @property
    def user(self) -> str:
        """The user of whom the server has checked the password (`[[auth]]`); "" where the path asks for none. No field
        of the request changes it."""
        return self._user.decode()

    @lazy
    def version(self) -> str:
        """The protocol as the client named it: "HTTP/1.1"."""
        return self._read_head.version.decode("latin-1")

    @property
    def scheme(self) -> str:
        """ "https" where a trusted proxy says so, else "http": what the client used."""
        return (self._origin.scheme if self._origin is not None else None) or "http"

    @lazy
    def host(self) -> str:
        """The host, and perhaps a port, that the client meant: "example.com:8080"; "" where it named none."""
        if self._origin is not None and self._origin.host:
            return self._origin.host.decode("ascii")
        return self.headers.get("host", "")

    @lazy
    def path(self) -> str:
        """The canonical path (`zcserve.http.canonical_path`), decoded: "/a b", with U+FFFD for what is not UTF-8.

        Raises HttpError 400 for none.
        """
        return unquote(self._parts[0].decode("ascii"))

    @lazy
    def query_string(self) -> str:
        """What stands behind the first "?", as sent; of "/csp?NAME&k=v" what stands behind "NAME&"."""
        return self._parts[1].decode("latin-1")

    @lazy
    def query(self) -> Values:
        """The fields of the query string, "+" and percent signs decoded, empty values kept."""
        return Values(_urlencoded(self._parts[1]))

    @lazy
    def headers(self) -> Headers:
        """The header fields, their values without blanks around them. The authority of a target in absolute-form
        stands for Host (RFC 9112 section 3.2.2)."""
        pairs = [(name.decode(), value.decode("latin-1")) for name, value in self._read_head.lines]
        meant = authority(self._target)
        if meant is not None:
            pairs = [("Host", meant.decode("ascii")), *(pair for pair in pairs if pair[0].lower() != "host")]
        return Headers(pairs)

    @lazy
    def cookies(self) -> dict[str, str]:
        """The cookies: of those with one name the first, whose path is the most specific (RFC 6265 section 5.4).

        A value is what stands between "=" and ";", without blanks around it: quotes belong to it, as they do for the
        browser (section 5.2), so that none can hide a cookie that follows. What has no "=" or no name is left out.
        """
        cookies: dict[str, str] = {}
        for pair in _utf8(self.headers.get("cookie", "").encode("latin-1")).split(";"):
            name, equals, value = pair.partition("=")
            # No other blanks: to a browser U+00A0 before __Host- is a part of the name, which it does not guard then.
            name = name.strip(_BLANKS)
            if equals and name:
                cookies.setdefault(name, value.strip(_BLANKS))
        return cookies

    @lazy
    def content_type(self) -> str:
        """The body's media type in lower case, without parameters: "text/html"; "" for none."""
        return self.headers.get("content-type", "").partition(";")[0].strip(_BLANKS).lower()

    @property
    def form(self) -> Values:
        """The fields of a form, urlencoded or multipart/form-data (RFC 7578); none for a body of another type.

        Raises HttpError: 400 for a malformed one, 413 for one with more fields or longer lines than the limits of this
        module, 501 for multipart where the package `multipart` is not installed.
        """
        return self._form[0]

    @property
    def files(self) -> Files:
        """The files of a form: the parts of multipart/form-data that have a filename. Raises as `form` does."""
        return self._form[1]

    def json(self) -> Any:
        """The body as JSON (RFC 8259), whatever its type is said to be; a new object at each call.

        Raises HttpError 400 for what is not JSON in UTF-8, or nested deeper than Python can follow.
        """
        try:
            return json.loads(self.body.decode("utf-8"), parse_constant=_refuse_constant)
        except (ValueError, RecursionError):
            raise HttpError(400, "the body is not JSON in UTF-8") from None

    @property
    def _read_head(self) -> Head:
        return SentHead(self._head) if isinstance(self._head, bytes) else self._head

    @lazy
    def _parts(self) -> tuple[bytes, bytes]:
        """The canonical path, and the query without the name of a servlet."""
        if self._place is None:
            sent, query = split_target(self._target)
            sent_path = SentPath(sent)
        else:
            sent_path, query = self._place
        if not sent_path.is_plain:
            raise HttpError(400, "NUL or bad percent-encoding in the path")
        path = sent_path.key
        if path == SERVLET_PATH and query:
            query = query.partition(b"&")[2]
        return path, query or b""

    @lazy
    def _form(self) -> tuple[Values, Files]:
        if self.content_type == "application/x-www-form-urlencoded":
            if self.body.count(b"&") >= FORM_FIELDS_MAX:
                raise HttpError(413, f"a form of more than {FORM_FIELDS_MAX} fields")
            return Values(_urlencoded(self.body)), Files()
        if self.content_type == "multipart/form-data":
            return _multipart(self.headers["content-type"], self.body)
        return Values(), Files()


def _utf8(data: bytes) -> str:
    return data.decode("utf-8", "replace")


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")  # NaN, Infinity and -Infinity are JavaScript's, and Python's by default


def _urlencoded(data: bytes) -> Iterator[tuple[str, str]]:
    """Names and values of application/x-www-form-urlencoded, as browsers read it (URL standard, section 5.1).

    urllib's parse_qsl gives the same for a query, but reads text, and a form may hold any bytes.
    """
    for field in data.split(b"&"):
        if field:
            name, _, value = field.replace(b"+", b" ").partition(b"=")
            yield _utf8(unquote_to_bytes(name)), _utf8(unquote_to_bytes(value))


def _multipart(content_type: str, body: bytes) -> tuple[Values, Files]:
    """The fields and files of multipart/form-data (RFC 7578). Raises HttpError 400, 413, 501."""
    package = _multipart_package()
    boundary = package.parse_options_header(content_type)[1].get("boundary", "")
    if not 0 < len(boundary) <= BOUNDARY_BYTES_MAX:
        raise HttpError(400, "a multipart form without a proper boundary")
    try:
        return _parts_of(body, boundary.encode("latin-1"), package.PushMultipartParser)
    except package.ParserLimitReached:
        raise HttpError(413, f"a form of more than {FORM_FIELDS_MAX} parts, or with too long headers in one") from None
    except package.MultipartError:
        raise HttpError(400, "a malformed multipart form") from None


def _multipart_package() -> ModuleType:
    try:
        import multipart
    except ImportError:
        multipart = None
    # Another package, python-multipart, had a module of this name.
    if not hasattr(multipart, "PushMultipartParser"):
        raise HttpError(501, "multipart forms need a package: pip install 'zcserve[forms]'")
    found: ModuleType = multipart
    return found


def _parts_of(body: bytes, boundary: bytes, parser_type: Callable[..., Any]) -> tuple[Values, Files]:
    """Strict: what is cut short, has no name or begins with anything but the boundary is an error of the parser's."""
    fields: list[tuple[str, str]] = []
    files: list[tuple[str, Upload]] = []
    part: Any = None
    pieces: list[bytes | bytearray] = []
    parser = parser_type(
        boundary,
        max_header_count=PART_LINES_MAX,
        max_header_size=PART_LINE_BYTES_MAX,
        max_segment_count=FORM_FIELDS_MAX,
        strict=True,
    )
    with parser:
        for event in parser.parse(body):
            if event is None:  # the part's end
                content = b"".join(pieces)
                if part.filename is None:
                    fields.append((part.name, _utf8(content)))
                else:
                    kind = part.content_type or "application/octet-stream"
                    files.append((part.name, Upload(part.filename, kind, content)))
                pieces = []
            elif isinstance(event, bytes | bytearray):  # which of them depends on the package's version
                pieces.append(event)
            else:
                part = event
    return Values(fields), Files(files)
