"""What can be set, declared once.

`Config` is a table: one field a key, and beside its default what it means, what it accepts and, for a limit,
why it is what it is. The command-line flags, the keys of a TOML file, the environment names and the reference
for README are all read from that table (`KEYS`), so that a new key is one new field and nothing else.

    key          head_timeout_s                       unit last: _s seconds, bytes
    flag         --head-timeout 20s                   the key with dashes, its `_s` dropped
    environment  ZCSERVE_HEAD_TIMEOUT=20s             lists by commas; an empty value counts as unset
    file         head_timeout = "20s"                 or 20

In the environment and in a file the name of the key does as well: ZCSERVE_HEAD_TIMEOUT_S, head_timeout_s.

This module must not touch the file system (but for the TOML file it is told to read) nor any socket: whether
the root exists or a port is free is found out by those who use them. What is odd: a value given as text is
understood in every place, `Config(memory="512M")` included, because a TOML file may hold either form.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeAlias, get_args

from zcserve.errors import UsageError, reason_of
from zcserve.media_types import DEFAULT_CHARSET, check_charset, parse_type

AccessLogFormat: TypeAlias = Literal["combined", "json"]
LogLevel: TypeAlias = Literal["debug", "info", "warning", "error"]
Engine: TypeAlias = Literal["auto", "python", "native"]
Evict: TypeAlias = Literal["lru", "sieve", "s3-fifo"]  # the names in cache/store.py's POLICIES

KIB, MIB, GIB, TIB, PIB = (1 << shift for shift in (10, 20, 30, 40, 50))
DAY_S = 86400
ENV_PREFIX = "ZCSERVE_"
ENV_CONFIG_FILE = "ZCSERVE_CONFIG"  # names the TOML file, as --config does; not a key itself

# Between the texts of a list in the environment; one in parentheses stands between the arguments of a factory.
_COMMA = re.compile(r",(?![^()]*\))")

# Names with our prefix that are not meant for us: Kubernetes puts SERVICE_HOST, PORT_80_TCP and the like
# into the environment beside a service called "zcserve"; builds and tests have theirs.
_ENV_FOREIGN = re.compile(
    r"ZCSERVE_(SERVICE_(HOST|PORT)(_\w+)?|PORT_\d+_(TCP|UDP)(_\w+)?|NAME|ENV_\w+|BUILD_\w+|TEST_\w+)"
)


# --- text to values ---------------------------------------------------------------------------------------

_SIZE = re.compile(r"([0-9]{1,18}(?:\.[0-9]{1,9})?) ?(?:([KMGT])(?:I?B)?|B)?", re.IGNORECASE)
_SIZE_UNITS = {"": 1, "K": KIB, "M": MIB, "G": GIB, "T": TIB}
_SIZE_ACCEPTED = "bytes, or a number with K, M, G or T such as 512M or 1.5G"

_DURATION = re.compile(r"([0-9]{1,12}(?:\.[0-9]{1,9})?) ?(ms|s|m|h)?", re.IGNORECASE)
_DURATION_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_DURATION_ACCEPTED = "seconds, or a number with ms, s, m or h such as 20s or 500ms"

_SWITCH = dict.fromkeys(("1", "true", "yes", "on"), True) | dict.fromkeys(("0", "false", "no", "off"), False)
_SWITCH_ACCEPTED = "true or false (also 1/0, yes/no, on/off)"


def parse_size(text: str) -> int:
    """Bytes from "512M", "16K", "1.5G", "64 KiB" or "4096"; units are powers of 1024. Raises UsageError."""
    match = _SIZE.fullmatch(text.strip())
    if match is None or ("." in match[1] and not match[2]):
        raise UsageError(f"{_shown(text)} is not a size; accepted: {_SIZE_ACCEPTED}")
    unit = _SIZE_UNITS[(match[2] or "").upper()]
    whole, _, fraction = match[1].partition(".")
    return int(whole) * unit + (int(fraction) * unit // 10 ** len(fraction) if fraction else 0)


class Share(int):
    """A budget that is also bounded by a share of the memory that there is: the most bytes that it can be, and
    `percent` of that memory. `cache/budget.py` knows what it comes to."""

    percent: float

    def __new__(cls, percent: float, at_most: int = PIB) -> Share:
        """Raises UsageError."""
        if not 0 < percent <= 100:
            raise UsageError(f"{percent:g}% is no share; accepted: more than 0% and at most 100%")
        share = super().__new__(cls, at_most)
        share.percent = percent
        return share

    def __getnewargs__(self) -> tuple[float, int]:  # type: ignore[override]  # for copies; int's own names itself only
        return self.percent, int(self)


_SHARE = re.compile(r"([0-9]{1,3}(?:\.[0-9]{1,9})?) ?%(?: up to (.+))?", re.IGNORECASE)
_MEMORY_ACCEPTED = f"{_SIZE_ACCEPTED}, or a share of what there is such as 70%"


def parse_memory(text: str) -> int:
    """As `parse_size`; or a `Share` from "70%" or "60% up to 512M". Raises UsageError."""
    match = _SHARE.fullmatch(text.strip())
    if match is None:
        return parse_size(text)
    return Share(float(match[1]), parse_size(match[2]) if match[2] else PIB)


def parse_duration(text: str) -> float:
    """Seconds from "20", "20s", "1m", "500ms" or "0.5". Raises UsageError."""
    match = _DURATION.fullmatch(text.strip())
    if match is None:
        raise UsageError(f"{_shown(text)} is not a duration; accepted: {_DURATION_ACCEPTED}")
    return float(match[1]) * _DURATION_UNITS[(match[2] or "s").lower()]


def _parse_count(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,18}", text.strip()):  # int() takes "1_000", "+5" and more
        raise ValueError(text)
    return int(text)


def _parse_switch(text: str) -> bool:
    if (value := _SWITCH.get(text.strip().lower())) is None:
        raise ValueError(text)
    return value


def _shown(value: object) -> str:
    """The value as it appears in a message: quoted, on one line, cut short."""
    text = repr(str(value) if isinstance(value, os.PathLike) else value)
    return text if len(text) <= 80 else text[:76] + " ..."


def size_text(count: int) -> str:
    """A number of bytes, for people."""
    size = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} TiB"


def _show_size(size: int) -> str:
    unit = next((unit for unit in "TGMK" if size and size % _SIZE_UNITS[unit] == 0), "")
    return f"{size // _SIZE_UNITS[unit]}{unit}"


def _show_memory(memory: int) -> str:
    if not isinstance(memory, Share):
        return _show_size(memory)
    return f"{memory.percent:g}%" + (f" up to {_show_size(memory)}" if memory < PIB else "")


def _show_duration(seconds: float) -> str:
    return f"{seconds * 1000:g}ms" if 0 < seconds < 1 else f"{seconds:g}s"


# --- addresses --------------------------------------------------------------------------------------------

_LISTEN_ACCEPTED = "HOST:PORT, [IPV6]:PORT, :PORT (all interfaces) or unix:PATH, PORT from 0 to 65535"
_HOST_ACCEPTED = "a name, an IPv4 or IPv6 address, or * for all interfaces"
_HOST_NAME = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_-]*[A-Za-z0-9_])?(?:\.[A-Za-z0-9_-]+)*\.?")
_SUN_PATH_BYTES_MAX = 107  # unix(7): sun_path holds 108 with the closing NUL


class TcpAddress(NamedTuple):
    """Where to listen: `host` without brackets, "" for every interface; `port` 0 for any free one."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host or '*'}:{self.port}"


class UnixAddress(NamedTuple):
    """A unix stream socket at `path`."""

    path: str

    def __str__(self) -> str:
        return f"unix:{self.path}"


Address: TypeAlias = TcpAddress | UnixAddress


def parse_listen(text: str) -> Address:
    """An address from "127.0.0.1:8080", "localhost:0", "[::1]:80", ":80", "*:80" or "unix:/run/web.sock".

    Nothing is resolved or opened. Raises UsageError.
    """
    if text.startswith("unix:"):
        path = text.removeprefix("unix:")
        if not path or "\0" in path:
            raise UsageError(f"{_shown(text)} names no path; accepted: {_LISTEN_ACCEPTED}")
        if len(os.fsencode(path)) > _SUN_PATH_BYTES_MAX:
            raise UsageError(f"{_shown(text)} is too long; accepted: {_SUN_PATH_BYTES_MAX} bytes of path")
        return UnixAddress(path)
    match = re.fullmatch(r"(\[[^\]]*\]|[^:]*):([0-9]{1,5})", text)
    if match is None or int(match[2]) > 65535 or match[1] == "[]":
        raise UsageError(f"{_shown(text)} is not an address; accepted: {_LISTEN_ACCEPTED}")
    return TcpAddress(_parse_host(match[1]), int(match[2]))


def _parse_host(text: str) -> str:
    """The host as `socket.getaddrinfo` wants it: no brackets, "" for all interfaces."""
    from ipaddress import AddressValueError, IPv4Address, IPv6Address  # late: a server alone needs it

    if text in ("", "*"):
        return ""
    bare = text[1:-1] if text.startswith("[") and text.endswith("]") else text
    try:
        if re.fullmatch(r"[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*(%[A-Za-z0-9._-]+)?", bare):
            return str(IPv6Address(bare))
        if bare == text and re.fullmatch(r"[0-9.]+", bare):
            return str(IPv4Address(bare))
    except AddressValueError:
        raise UsageError(f"{_shown(text)} is not an IP address; accepted: {_HOST_ACCEPTED}") from None
    if bare != text or len(bare) > 253 or not _HOST_NAME.fullmatch(bare):
        raise UsageError(f"{_shown(text)} is not a host; accepted: {_HOST_ACCEPTED}")
    return bare


# --- globs ------------------------------------------------------------------------------------------------

_GLOB_ACCEPTED = "a pattern such as /assets/*.css, *.woff2 or /fonts/"
_GLOB_PIECE = re.compile(r"\*\*/|\*\*|\[!?\]?[^]/]*\]|.", re.DOTALL)
_GLOB_WILD = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}


def parse_glob(text: str) -> re.Pattern[str]:
    """What a path ("/assets/site.css", decoded) must match in full, from a pattern such as shells and .gitignore have.

    `*`, `?` and `[a-z]` stay within one segment, `**` does not. A pattern without a slash is for the file's name, in
    any directory; one that ends in a slash is for all that lies below. Raises UsageError.
    """
    if not text or "\0" in text:
        raise UsageError(f"{_shown(text)} is not a pattern; accepted: {_GLOB_ACCEPTED}")
    glob = text if "/" in text else f"**/{text}"
    glob = "/" + glob.removeprefix("/") + ("**" if glob.endswith("/") else "")
    try:
        return re.compile(_GLOB_PIECE.sub(_regex_of_piece, glob), re.DOTALL)
    except re.error as error:
        raise UsageError(f"{_shown(text)} is not a pattern ({error.msg}); accepted: {_GLOB_ACCEPTED}") from None


def _regex_of_piece(found: re.Match[str]) -> str:
    piece = found[0]
    if len(piece) > 2 and piece[0] == "[":
        negated = piece[1] == "!"
        inside = re.sub(r"([]\[\\^&~|])", r"\\\1", piece[1 + negated : -1])
        return f"(?!/)[{'^' * negated}{inside}]"
    return _GLOB_WILD.get(piece) or re.escape(piece)


# --- what a key accepts -----------------------------------------------------------------------------------


class Kind(NamedTuple):
    """The unit of a value: what it is called, how text becomes one, how it is shown, and its usual bounds."""

    noun: str
    accepted: str
    metavar: str
    native: tuple[type, ...]
    parse: Callable[[str], Any]
    show: Callable[[Any], str]
    bounds: tuple[float, float] | None = None


def _parse_path(text: str) -> Path:
    if not text or "\0" in text:  # Path("") is the working directory: a shell variable may be empty
        raise ValueError(text)
    return Path(text)


PATH = Kind("a path", "a directory", "DIR", (Path,), _parse_path, str)
TEXT = Kind("text", "text", "TEXT", (str,), str, str)
TEXTS = Kind("a list of texts", "a list of texts", "TEXT", (tuple, list), lambda text: (text,), ",".join)
COUNT = Kind("a whole number", "a whole number", "N", (int,), _parse_count, str, (1, 2**31 - 1))
SIZE = Kind("a size", _SIZE_ACCEPTED, "SIZE", (int,), parse_size, _show_size, (1, PIB))
MEMORY = Kind("a size", _MEMORY_ACCEPTED, "SIZE", (int,), parse_memory, _show_memory)
DURATION = Kind("a duration", _DURATION_ACCEPTED, "TIME", (float, int), parse_duration, _show_duration, (0.001, DAY_S))
SWITCH = Kind("a switch", _SWITCH_ACCEPTED, "", (bool,), _parse_switch, lambda on: "on" if on else "off")


class Option(NamedTuple):
    """The metadata of a field. `why` makes it a limit; `status` is what a client gets that passes it."""

    kind: Kind
    help: str
    bounds: tuple[float, float] | None
    choices: tuple[str, ...]
    metavar: str
    check: Callable[[Any], object] | None
    status: int
    why: str

    @property
    def accepted(self) -> str:
        """What may be written, for people."""
        if self.choices:
            return "one of " + ", ".join(self.choices)
        if self.bounds is None:
            return self.kind.accepted
        low, high = map(self.kind.show, self.bounds)
        return f"{self.kind.accepted}, from {low} to {high}"

    def accept(self, value: Any) -> Any:
        """The value in its own type, checked. Raises UsageError that tells the value and what is accepted."""
        kind = self.kind
        if isinstance(value, str) and str not in kind.native:
            try:
                value = kind.parse(value)
            except (UsageError, ValueError):
                raise UsageError(f"{_shown(value)} is not {kind.noun}; accepted: {self.accepted}") from None
        fits = isinstance(value, kind.native) and (kind is SWITCH or not isinstance(value, bool))
        if not fits:
            found = _toml_type(value)
            raise UsageError(f"{_shown(value)} is {found}, not {kind.noun}; accepted: {self.accepted}")
        if kind is TEXTS:
            value = tuple(value)
            if not all(isinstance(item, str) for item in value):
                raise UsageError(f"{_shown(value)} holds more than texts; accepted: {self.accepted}")
        if self.bounds is not None and not self.bounds[0] <= value <= self.bounds[1]:  # nor NaN
            raise UsageError(f"{_shown(value)} is out of range; accepted: {self.accepted}")
        if self.choices and value not in self.choices:
            raise UsageError(f"{_shown(value)} is unknown; accepted: {self.accepted}")
        if self.check is not None:
            self.check(value)
        return float(value) if kind is DURATION else value


def _toml_type(value: object) -> str:
    names = {bool: "a boolean", int: "an integer", float: "a float", str: "a string", list: "an array"}
    return names.get(type(value), "a table" if isinstance(value, dict) else f"a {type(value).__name__}")


def _check_field_value(value: str) -> None:
    """RFC 9110 section 5.5: visible ASCII and inner blanks; a CR or LF would start a header of its own."""
    if len(value) > 1000 or not re.fullmatch(r"(?:[!-~](?:[ -~]*[!-~])?)?", value):
        raise UsageError(f"{_shown(value)} cannot be a header's value; accepted: visible ASCII on one line, 1000 bytes")


def _check_names(names: tuple[str, ...]) -> None:
    for name in names:
        if name in ("", ".", "..") or "/" in name or "\0" in name:
            raise UsageError(f"{_shown(name)} is not a file name; accepted: names without a slash")


def _check_log_path(path: str) -> None:
    if "\0" in path:
        raise UsageError(f"{_shown(path)} is not a path; accepted: a file, or - for standard output")


def _check_globs(globs: tuple[str, ...]) -> None:
    for text in globs:
        parse_glob(text)


def _check_types(types: tuple[str, ...]) -> None:
    for text in types:
        parse_type(text)


def _check_trusted(texts: tuple[str, ...]) -> None:
    from zcserve.forwarded import Trusted  # only who serves pays for it

    Trusted(texts)


def _check_listen(listen: tuple[str, ...]) -> None:
    for text in listen:
        parse_listen(text)


# --- the table --------------------------------------------------------------------------------------------


def _about(
    kind: Kind,
    help: str,
    *,
    bounds: tuple[float, float] | None = None,
    choices: tuple[str, ...] = (),
    metavar: str = "",
    check: Callable[[Any], object] | None = None,
    status: int = 0,
    why: str = "",
) -> dict[str, Option]:
    metavar = metavar or kind.metavar
    return {"option": Option(kind, help, bounds or kind.bounds, choices, metavar, check, status, why)}


def _key(default: object, kind: Kind, help: str, **more: Any) -> Any:
    return field(default=default, metadata=_about(kind, help, **more))


# ruff: noqa: RUF009 (what `_key` returns is a field, made once)
@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Everything that can be set, validated; sizes are bytes, times are seconds.

    `root` may be given as str, and is a Path then, too (a dataclass cannot tell type checkers so); other values may be
    given as text. Raises UsageError that names the key, the value and what is accepted.
    """

    root: Path | str = field(metadata=_about(PATH, "the directory to serve"))
    listen: tuple[str, ...] = _key(
        (),
        TEXTS,
        "listen at HOST:PORT, [IPV6]:PORT, :PORT or unix:PATH, instead of --host and --port",
        metavar="ADDRESS",
        check=_check_listen,
    )
    host: str = _key(
        "127.0.0.1",
        TEXT,
        "listen at this name or address; * for all interfaces",
        metavar="HOST",
        check=_parse_host,
    )
    port: int = _key(8080, COUNT, "listen at this port; 0 for any free one", metavar="PORT", bounds=(0, 65535))
    memory: int = _key(
        Share(60, 512 * MIB),
        MEMORY,
        "the budget for what is kept in memory; 70% is a share of what the control group and the machine allow",
        bounds=(4 * KIB, PIB),
    )
    evict: Evict = _key("lru", TEXT, "how it is chosen what leaves a full memory", choices=get_args(Evict))
    pin: tuple[str, ...] = _key(
        (),
        TEXTS,
        "load files whose path matches first, and never evict them: /assets/*.css, *.woff2, /fonts/",
        metavar="GLOB",
        check=_check_globs,
    )
    index: tuple[str, ...] = _key(
        ("index.html",),
        TEXTS,
        "the file that answers for its directory; the first that exists",
        metavar="NAME",
        check=_check_names,
    )
    trust_siblings: bool = _key(
        False, SWITCH, "use .br, .zst and .gz siblings without a look at whether they decode to their file's bytes"
    )
    compress: bool = _key(False, SWITCH, "make missing gzip, brotli and zstd variants")
    compress_dir: str = _key(
        "", TEXT, "keep the variants that --compress makes in this directory, for the next start", metavar="DIR"
    )
    cache_control: str = _key(
        "", TEXT, "send this Cache-Control with every file", metavar="VALUE", check=_check_field_value
    )
    charset: str = _key(
        DEFAULT_CHARSET,
        TEXT,
        "the charset that text is sent with; none for none",
        metavar="NAME",
        check=check_charset,
    )
    type: tuple[str, ...] = _key(
        (),
        TEXTS,
        "send files with this extension as this media type: ts=text/plain",
        metavar="EXT=TYPE",
        check=_check_types,
    )
    access_log: str = _key(
        "", TEXT, "log requests to a file, or - for standard output", metavar="PATH", check=_check_log_path
    )
    access_log_format: AccessLogFormat = _key(
        "combined", TEXT, "how a request is logged", choices=get_args(AccessLogFormat)
    )
    proxy_headers: tuple[str, ...] = _key(
        (),
        TEXTS,
        "believe X-Forwarded-For, -Proto, -Host and Forwarded of peers at these addresses and networks, and unix:",
        metavar="ADDRESSES",
        check=_check_trusted,
    )
    log_level: LogLevel = _key("info", TEXT, "the least reported on stderr", choices=get_args(LogLevel))
    engine: Engine = _key(
        "auto", TEXT, "who answers plain requests; auto is native where built", choices=get_args(Engine)
    )
    watch: bool = _key(True, SWITCH, "follow changes below the root, and the root's own symlink, as they happen")
    recheck_s: float = _key(
        600.0,
        DURATION,
        "compare what is known of all files with what they are, once in this time, for changes that no event tells of: "
        "through another hard link, a mapping, a mount; 0 for never, as with --no-watch",
        bounds=(0, DAY_S),
    )
    keep_generations: int = _key(
        0,
        COUNT,
        "releases before the present one whose files stay reachable, for pages that still ask for their old assets",
        metavar="N",
        bounds=(0, 16),
    )
    keep_for_s: float = _key(600.0, DURATION, "for how long they stay reachable", metavar="TIME")
    drop_cache: bool = _key(
        False, SWITCH, "give back the files' own page cache after loading, so that nothing is held twice"
    )
    in_place: bool = _key(
        False,
        SWITCH,
        "send larger files from the files themselves, not from copies; only for roots "
        "published by rename: a file rewritten or cut in place is delivered torn",
    )

    servlets: str = _key(
        "", TEXT, "Python functions as resources: every NAME.py in this directory answers /csp?NAME", metavar="DIR"
    )
    mount: tuple[str, ...] = _key(
        (),
        TEXTS,
        "let a WSGI or ASGI application answer what lies below a path: /app=package.module:application, with wsgi: or "
        "asgi: before the module to tell which; /app=package.module:create_app() calls a factory",
        metavar="PATH=APP",
    )
    mount_reload: bool = _key(
        True,
        SWITCH,
        "load applications anew when a module of theirs below the working directory changes; SIGHUP always does",
    )
    dev: bool = _key(False, SWITCH, "show the traceback of a servlet that failed to the client, not only in the log")

    # Limits on clients.
    connections_max: int = _key(
        10_000,
        COUNT,
        "connections held open at once",
        why="bounds descriptors and kernel buffers; nginx ships 512 a worker, h2o 1024, Apache 400",
    )
    backlog: int = _key(
        1024,
        COUNT,
        "connections the kernel queues before they are accepted",
        why="it must hold the burst of one turn; nginx, Apache and node ask for 511, uvicorn 2048; "
        "net.core.somaxconn cuts it",
    )
    head_bytes_max: int = _key(
        16 * KIB,
        SIZE,
        "a request's line and header fields together",
        status=431,
        why="node and h11 take 16 KiB, nginx four buffers of 8; RFC 6585 section 5",
    )
    head_fields_max: int = _key(
        100,
        COUNT,
        "header fields in a request",
        status=431,
        why="Apache's LimitRequestFields is 100, so is http.client's limit; RFC 6585 section 5",
    )
    target_bytes_max: int = _key(
        8 * KIB,
        SIZE,
        "a request's target",
        status=414,
        why="RFC 9112 section 3 asks for at least 8000; Apache takes a line of 8190, nginx one of 8 KiB",
    )
    body_bytes_max: int = _key(
        MIB,
        SIZE,
        "a request's body, read only to be thrown away",
        status=413,
        bounds=(0, PIB),
        why="keeps the connection in step, but not at any price; nginx's client_max_body_size is 1 MiB",
    )
    head_timeout_s: float = _key(
        20.0,
        DURATION,
        "time for a request's head to arrive, from its first byte",
        status=408,
        why="ends slow senders; Apache's mod_reqtimeout gives 20 s at first, nginx and node 60; "
        "RFC 9110 section 15.5.9",
    )
    body_timeout_s: float = _key(
        20.0,
        DURATION,
        "time for a request's body to arrive; one that is longer on its way keeps to --body-rate-min",
        status=408,
        why="ends slow senders; Apache's mod_reqtimeout gives 20 s at first, nginx 60 between two reads",
    )
    body_rate_min: int = _key(
        500,
        SIZE,
        "bytes of a body for each second, counted over every --body-timeout",
        status=408,
        bounds=(0, GIB),
        why="a byte now and then holds memory and a connection; Apache's MinRate is 500, Kestrel's 240",
    )
    idle_timeout_s: float = _key(
        75.0,
        DURATION,
        "time a connection may wait for its next request",
        why="an idle connection is cheap, a new one costs round trips; nginx 75 s, Apache and node 5",
    )
    write_timeout_s: float = _key(
        60.0,
        DURATION,
        "time a response may go without any progress",
        why="ends slow readers, not long downloads; nginx's send_timeout and Apache's TimeOut are 60 s",
    )
    linger_timeout_s: float = _key(
        2.0,
        DURATION,
        "time to read on after a connection's last answer has arrived, so that the client can read it",
        bounds=(0, DAY_S),
        why="RFC 9112 section 9.6; Apache's short linger is 2 s, nginx's timeout 5",
    )
    grace_s: float = _key(
        30.0,
        DURATION,
        "time that requests in flight are given at SIGTERM",
        bounds=(0, DAY_S),
        why="Kubernetes kills after 30 s; a graceful stop of nginx or Apache waits for ever unless told",
    )
    ranges_max: int = _key(
        16,
        COUNT,
        "ranges answered in one response; more get the whole file",
        bounds=(0, 1000),
        why="RFC 9110 section 14.2 lets a server ignore abuse (CVE-2011-3192); Apache's MaxRanges is 200",
    )

    # Limits on one turn of the loop, so that no client starves another.
    pipeline_max: int = _key(
        64,
        COUNT,
        "requests, and chunks of their bodies, of one connection taken in one turn",
        why="no client starves behind a pipeliner; libuv leaves a stream after 32 reads",
    )
    turn_bytes_max: int = _key(
        MIB,
        SIZE,
        "bytes sent to one connection in one turn",
        bounds=(4 * KIB, GIB),
        why="nobody starves behind a fast reader; nginx's sendfile_max_chunk is 2 MiB",
    )

    # Limits on content.
    loader_threads: int = _key(
        4,
        COUNT,
        "threads that read files for the loop",
        bounds=(1, 256),
        why="enough to keep a disk's queue filled; libuv's pool has 4, nginx's 32",
    )
    load_timeout_s: float = _key(
        20.0,
        DURATION,
        "time a file that is not in memory may be read without any progress",
        status=503,
        why="ends waiting for file systems that hang; a disk that sleeps is up in 10 s, a proxy in front waits for 60",
    )
    small_body_bytes_max: int = _key(
        16 * KIB,
        SIZE,
        "a body packed into a slab and sent by copy; larger ones go by sendfile",
        bounds=(0, 16 * MIB),
        why="measured: a copy costs no more up to about 16 KiB, far more at 64",
    )
    slab_bytes: int = _key(
        32 * MIB,
        SIZE,
        "one slab of small bodies",
        bounds=(64 * KIB, GIB),
        why="one mapping for thousands of files (vm.max_map_count is 65530); memcached's page is 1 MiB",
    )
    hash_bytes_max: int = _key(
        256 * MIB,
        SIZE,
        "a file tagged by its content; a larger one by its identity",
        bounds=(0, PIB),
        why="about 50 ms at 5 GB/s; nginx and Apache tag every file by its time and size",
    )
    compress_bytes_min: int = _key(
        KIB,
        SIZE,
        "the smallest file that --compress makes variants of",
        bounds=(0, PIB),
        why="less is one packet either way; express begins at 1 KiB, nginx's gzip_min_length is 20 bytes",
    )

    compress_wait_s: float = _key(
        5.0,
        DURATION,
        "time that a start or a reload waits for --compress; variants that are not made by then follow while it serves",
        bounds=(0, DAY_S),
        why="a small site has all its variants at its first answer, and no site is away for longer; "
        "brotli makes 1 MB a second, systemd waits for 90 s",
    )

    # Limits on servlets and mounted applications.
    servlet_body_bytes_max: int = _key(
        8 * MIB,
        SIZE,
        "a request's body that is read for a servlet or an application",
        status=413,
        bounds=(0, GIB),
        why="it is held in memory, whole; nginx takes 1 MiB, Django 2.5 besides files, IIS 28.6",
    )
    servlet_bodies_max: int = _key(
        0,
        SIZE,
        "all bodies together that are held for servlets and applications; 0 for a quarter of --memory",
        status=503,
        bounds=(0, PIB),
        why="many clients at once must not take more memory than the content; nginx and Apache spool to disk",
    )
    servlet_threads: int = _key(
        16,
        COUNT,
        "threads for servlets with thread=True and for WSGI applications",
        bounds=(1, 1024),
        why="they wait more than they work; Python's own pool takes 4 more than there are cores, anyio 40",
    )
    servlet_queue_max: int = _key(
        1024,
        COUNT,
        "requests that wait for such a thread, and for one result of a servlet with a ttl",
        status=503,
        why="who would wait for longer than a client does had better know at once; uvicorn's backlog is 2048",
    )
    servlet_slow_s: float = _key(
        0.1,
        DURATION,
        "time a servlet may hold the loop before the log names it, with its stack",
        why="nobody is served meanwhile; asyncio's slow_callback_duration is 0.1 s",
    )
    app_timeout_s: float = _key(
        0.0,
        DURATION,
        "time an application or a servlet may take for its answer, and for each piece of a stream; 0 for any",
        status=504,
        bounds=(0, DAY_S),
        why="a long poll or a stream of events is silent for as long as it likes; gunicorn's timeout is 30 s",
    )
    servlet_result_timeout_s: float = _key(
        30.0,
        DURATION,
        "time that the call of a servlet with a ttl may take",
        status=504,
        why="a call that hangs must not gather requests; gunicorn gives a worker 30 s, nginx's proxy_read_timeout 60",
    )
    servlet_results_max: int = _key(
        10_000,
        COUNT,
        "results of servlets with a ttl kept at once; more are answered and not kept",
        why="a query makes a result of its own, and clients choose queries",
    )

    def __post_init__(self) -> None:
        for key in KEYS.values():
            object.__setattr__(self, key.name, _labelled(key.name, key.option, getattr(self, key.name)))
        if self.slab_bytes < 2 * self.small_body_bytes_max:
            raise UsageError(
                f"slab_bytes: {self.slab_bytes} is too small; accepted: at least twice small_body_bytes_max, "
                f"which is {self.small_body_bytes_max}"
            )

    def servlet_bodies_bytes(self) -> int:
        """What bodies that are held may take together."""
        return self.servlet_bodies_max or self.memory // 4

    def addresses(self) -> tuple[Address, ...]:
        """Where to listen: every `listen`, or `host` and `port` where there is none."""
        if self.listen:
            return tuple(parse_listen(text) for text in self.listen)
        return (TcpAddress(_parse_host(self.host), self.port),)


class Key(NamedTuple):
    """One field under its four names. `default` is None for the one key that has none, `root`."""

    name: str
    flag: str
    env: str
    default: Any
    option: Option


def _word(name: str) -> str:
    """The flag's own word, as it is written elsewhere."""
    return name.removesuffix("_s")


def _flag(name: str) -> str:
    return "--" + _word(name).replace("_", "-")


KEYS: dict[str, Key] = {
    f.name: Key(
        f.name,
        _flag(f.name),
        ENV_PREFIX + _word(f.name).upper(),
        None if f.default is MISSING else f.default,
        f.metadata["option"],
    )
    for f in fields(Config)
}

# By every word that means it in a file or, with the prefix and in upper case, in the environment.
BY_WORD = {word: key for key in KEYS.values() for word in (key.name, _word(key.name))}


# --- where values come from -------------------------------------------------------------------------------


def load(flags: Mapping[str, object], environ: Mapping[str, str], toml_path: str | Path | None = None) -> Config:
    """One Config from three places: `flags` (by key) win over `environ`, which wins over the file.

    A host or port set higher up replaces a `listen` from further down. A relative path starts at the working
    directory, also in the file. Raises UsageError that names the flag, the variable, or the file and key.
    """
    layers = [_from_file(toml_path)] if toml_path is not None else []
    layers += [_from_environ(environ), _from_flags(flags)]
    merged: dict[str, Any] = {}
    for layer in layers:
        if "listen" not in layer and ("host" in layer or "port" in layer):
            merged.pop("listen", None)
        merged |= layer
    if "root" not in merged:
        raise UsageError("no root given; say which directory to serve: zcserve --root DIR")
    return Config(**merged)


def _labelled(label: str, option: Option, value: object) -> Any:
    try:
        return option.accept(value)
    except UsageError as error:
        raise UsageError(f"{label}: {error}") from None


def _from_flags(flags: Mapping[str, object]) -> dict[str, Any]:
    return {name: _labelled(KEYS[name].flag, KEYS[name].option, value) for name, value in flags.items()}


def _from_environ(environ: Mapping[str, str]) -> dict[str, Any]:
    by_env = {ENV_PREFIX + word.upper(): key for word, key in BY_WORD.items()}
    given: dict[str, str] = {}
    values: dict[str, Any] = {}
    for env, text in environ.items():
        if not env.startswith(ENV_PREFIX) or env == ENV_CONFIG_FILE or not text or _is_foreign(env, text):
            continue
        if env not in by_env:
            known = nearest(env, [*by_env, ENV_CONFIG_FILE])
            raise UsageError(f"unknown environment variable {env}; the nearest known is {known}")
        key = by_env[env]
        value = [item.strip() for item in _COMMA.split(text)] if key.option.kind is TEXTS else text
        _note(given, key, env)
        values[key.name] = _labelled(env, key.option, value)
    return values


def _note(given: dict[str, str], key: Key, word: str) -> None:
    """Note that a key was given by this word. Raises UsageError where it was given by the other, too."""
    if (other := given.setdefault(key.name, word)) != word:
        raise UsageError(f"{other} and {word} are the same key; accepted: one of them")


def _is_foreign(env: str, text: str) -> bool:
    return bool(_ENV_FOREIGN.fullmatch(env)) or (env == "ZCSERVE_PORT" and text.startswith(("tcp:", "udp:")))


def _from_file(path: str | Path) -> dict[str, Any]:
    given: dict[str, str] = {}
    values: dict[str, Any] = {}
    for name, value in _read_toml(path).items():
        if name not in BY_WORD:
            known = nearest(name.replace("-", "_"), BY_WORD)
            raise UsageError(f"{path}: unknown key {_shown(name)}; the nearest known is {known}")
        key = BY_WORD[name]
        try:
            _note(given, key, name)
        except UsageError as error:
            raise UsageError(f"{path}: {error}") from None
        values[key.name] = _labelled(f"{path}: {name}", key.option, value)
    return values


def _read_toml(path: str | Path) -> dict[str, Any]:
    import tomllib

    try:
        text = Path(path).read_bytes().decode()
        return tomllib.loads(text)
    except OSError as error:
        raise UsageError(f"cannot read the configuration file {path}: {reason_of(error)}") from None
    except UnicodeDecodeError as error:
        raise UsageError(f"{path}: byte {error.start} is not UTF-8; accepted: a TOML file") from None
    except tomllib.TOMLDecodeError as error:
        # The position stands only in the message, and there "at end of document" where something is cut off.
        message, _, place = str(error).partition(" (at ")
        found = re.match(r"line (\d+)", place)
        line = int(found[1]) if found else len(text.splitlines())
        raise UsageError(f"{path}: line {line}: {message}; accepted: a TOML file") from None


def nearest(word: str, known: Iterable[str]) -> str:
    """The known word most like `word`; of equals the one that begins alike (--prot: --port, not --root)."""
    from difflib import SequenceMatcher  # only a mistake pays for it

    def likeness(candidate: str) -> tuple[float, int]:
        alike = next((i for i, (a, b) in enumerate(zip(candidate, word, strict=False)) if a != b), len(word))
        return SequenceMatcher(None, candidate, word).ratio(), alike

    return max(known, key=likeness)


# --- reference --------------------------------------------------------------------------------------------


def shown_default(key: Key) -> str:
    """The default as a person would write it; "" where there is none."""
    return "" if key.default is None else key.option.kind.show(key.default)


def reference() -> str:
    """Two Markdown tables, the options and the limits, for README."""
    options = ["| flag | default | |", "|---|---|---|"]
    limits = ["| limit | default | bounds | passed | why this much |", "|---|---|---|---|---|"]
    for key in KEYS.values():
        option = key.option
        default = f"`{text}`" if (text := shown_default(key)) else ""
        if option.why:
            status = str(option.status or "")
            limits.append(f"| `{key.flag}` | {default} | {option.help} | {status} | {option.why} |")
        else:
            choices = f" ({', '.join(option.choices)})" if option.choices else ""
            options.append(f"| `{key.flag}` | {default} | {option.help}{choices} |")
    return "\n".join([*options, "", *limits, ""])
