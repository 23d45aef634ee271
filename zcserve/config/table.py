"""The table: every key that can be set, its default, what it means and what it accepts.

The order of the fields is the order of `--help` and of README's tables. Limits stand in limits.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

from zcserve.config.addresses import Address, TcpAddress, parse_host, parse_listen
from zcserve.config.checks import check_admin, check_field_value, check_log_path, check_name, check_trusted, each
from zcserve.config.globs import parse_glob
from zcserve.config.hosts import parse_site_host
from zcserve.config.limits import Limits
from zcserve.config.log_fields import read_names
from zcserve.config.option import COUNT, DURATION, MEMORY, PART, PATH, SWITCH, TEXT, TEXTS, accept_all
from zcserve.config.option import key as _key
from zcserve.config.site import ROOT_ACCEPTED, SiteTable, check_together
from zcserve.config.tables import table_of, tables_of
from zcserve.config.units import DAY_S, KIB, MIB, PIB, Share
from zcserve.errors import UsageError
from zcserve.media_types import DEFAULT_CHARSET, check_charset, parse_type

AccessLogFormat: TypeAlias = Literal["combined", "json"]
ListenWhen: TypeAlias = Literal["ready", "start"]
LogLevel: TypeAlias = Literal["debug", "info", "warning", "error"]
Engine: TypeAlias = Literal["auto", "python", "native"]
TagHeader: TypeAlias = Literal["none", "Surrogate-Key", "Cache-Tag"]
UnknownHost: TypeAlias = Literal["default", "421"]
RulesDialect: TypeAlias = Literal["netlify", "cloudflare"]  # the names in rules/lines.py's DIALECTS
Evict: TypeAlias = Literal["lru", "sieve", "s3-fifo"]  # the names in cache/store.py's POLICIES


# Fields that are no keys: tables, which only a file can hold, and what reads them.
TABLES = {"rules": tables_of, "redirects": tables_of, "auth": tables_of, "error_pages": table_of}


# ruff: noqa: RUF009 (what `_key` returns is a field, made once)
@dataclass(frozen=True, slots=True, kw_only=True)
class Config(Limits):
    """Everything that can be set, validated; sizes are bytes, times are seconds.

    `root` may be given as str, and is a Path then, too (a dataclass cannot tell type checkers so); other values may be
    given as text. Raises UsageError that names the key, the value and what is accepted.
    """

    root: Path | str | None = _key(None, PATH, "the directory to serve; none where a file has sites alone")
    hosts: tuple[str, ...] = _key(
        (),
        TEXTS,
        "host names of this directory: example.org, *.example.org; all that no other site has, unless --unknown-host",
        metavar="NAME",
        check=each(parse_site_host),
    )
    unknown_host: UnknownHost = _key(
        "default",
        TEXT,
        "what a request for another host name gets: the default site, or 421 (Misdirected Request)",
        choices=get_args(UnknownHost),
    )
    listen: tuple[str, ...] = _key(
        (),
        TEXTS,
        "listen at HOST:PORT, [IPV6]:PORT, :PORT or unix:PATH, instead of --host and --port; fd:NAME is a socket that "
        "systemd passes, fd all of them",
        metavar="ADDRESS",
        check=each(parse_listen),
    )
    host: str = _key(
        "127.0.0.1", TEXT, "listen at this name or address; * for all interfaces", metavar="HOST", check=parse_host
    )
    port: int = _key(8080, COUNT, "listen at this port; 0 for any free one", metavar="PORT", bounds=(0, 65535))
    listen_when: ListenWhen = _key(
        "ready",
        TEXT,
        "accept clients when all that fits is in memory, or at the start, once it is known what there is: then files "
        "are read when they are asked for, and all others meanwhile",
        choices=get_args(ListenWhen),
    )
    memory: int = _key(
        Share(60, 512 * MIB),
        MEMORY,
        "the budget for what is kept in memory; 70% is a share of what the control group and the machine allow",
        bounds=(4 * KIB, PIB),
    )
    heat_file: str = _key(
        "",
        TEXT,
        "keep here how hot files are: it is read at start, so that the hottest are loaded first, and written every few "
        "minutes and at the end",
        metavar="FILE",
    )
    evict: Evict = _key("lru", TEXT, "how it is chosen what leaves a full memory", choices=get_args(Evict))
    pin: tuple[str, ...] = _key(
        (),
        TEXTS,
        "load files whose path matches first, and never evict them: /assets/*.css, *.woff2, /fonts/",
        metavar="GLOB",
        check=each(parse_glob),
    )
    index: tuple[str, ...] = _key(
        ("index.html",),
        TEXTS,
        "the file that answers for its directory; the first that exists",
        metavar="NAME",
        check=each(check_name),
    )
    trust_siblings: bool = _key(
        False, SWITCH, "use .br, .zst and .gz siblings without a look at whether they decode to their file's bytes"
    )
    compress: bool = _key(False, SWITCH, "make missing gzip, brotli and zstd variants")
    compress_dir: str = _key(
        "", TEXT, "keep the variants that --compress makes in this directory, for the next start", metavar="DIR"
    )
    cache_control: str = _key(
        "", TEXT, "send this Cache-Control with every file", metavar="VALUE", check=check_field_value
    )
    clean_urls: bool = _key(False, SWITCH, "answer /about with about.html, where nothing else is at that path")
    spa: bool = _key(False, SWITCH, "answer what leads nowhere, and has no dot in its last segment, with /index.html")
    immutable: bool = _key(False, SWITCH, "have files with a hash in their names kept for a year: app-BVqDs1Xt.js")
    listing: bool = _key(False, SWITCH, "answer for a directory without an index with a page of the names in it")
    secure_headers: bool = _key(False, SWITCH, "send fields that have browsers be careful: docs/rules.md has them")
    tag_header: TagHeader = _key(
        "none", TEXT, "the field that tells a CDN in front the tags of rules", choices=get_args(TagHeader)
    )
    rules_dialect: RulesDialect = _key(
        "netlify",
        TEXT,
        "how _redirects and _headers of the root are meant, where the two hosts differ: docs/rules.md has the rows",
        choices=get_args(RulesDialect),
    )
    charset: str = _key(
        DEFAULT_CHARSET, TEXT, "the charset that text is sent with; none for none", metavar="NAME", check=check_charset
    )
    type: tuple[str, ...] = _key(
        (),
        TEXTS,
        "send files with this extension as this media type: ts=text/plain",
        metavar="EXT=TYPE",
        check=each(parse_type),
    )
    access_log: str = _key(
        "", TEXT, "log requests to a file, or - for standard output", metavar="PATH", check=check_log_path
    )
    access_log_format: AccessLogFormat = _key(
        "combined", TEXT, "how a request is logged", choices=get_args(AccessLogFormat)
    )
    access_log_fields: tuple[str, ...] = _key(
        (),
        TEXTS,
        "what else a line says, behind the rest: host (as sent), request_id (X-Request-Id, or one of our own, which "
        "applications see), duration (seconds until the answer was with the kernel)",
        metavar="NAMES",
        check=read_names,
    )
    access_log_sample: int = _key(
        1, COUNT, "log one of so many requests; those that are answered with 400 or more are all logged", metavar="N"
    )
    slow_log_s: float = _key(
        0.0,
        DURATION,
        "tell of requests that take as long on standard error, and what they waited for; 0 for never",
        metavar="TIME",
        bounds=(0, DAY_S),
    )
    admin: str = _key(
        "",
        TEXT,
        "answer the operator here, and nobody else: probes, figures, what the node is told; on TCP only on loopback, "
        "unless there is a token",
        metavar="ADDRESS",
        check=check_admin,
    )
    admin_token_file: str = _key(
        "", TEXT, "a file whose first line is the token that the operator's requests must bring on TCP", metavar="FILE"
    )
    ready_share: float = _key(
        1.0, PART, "the node is ready when so much is resident of what is pinned, and what was preloaded"
    )
    proxy_headers: tuple[str, ...] = _key(
        (),
        TEXTS,
        "believe X-Forwarded-For, -Proto, -Host and Forwarded of peers at these addresses and networks, and unix:",
        metavar="ADDRESSES",
        check=check_trusted,
    )
    log_level: LogLevel = _key("info", TEXT, "the least reported on stderr", choices=get_args(LogLevel))
    engine: Engine = _key(
        "auto", TEXT, "what answers plain requests; auto is native where built", choices=get_args(Engine)
    )
    pin_cpus: bool = _key(
        False,
        SWITCH,
        "bind each lane to a core of its own; what an application starts in the loop, threads and programs, is bound "
        "to the first lane's",
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

    # Of a file alone (rules/): what files are sent with, where paths lead that no file has, what asks for a password.
    rules: tuple[Mapping[str, Any], ...] = ()
    redirects: tuple[Mapping[str, Any], ...] = ()
    auth: tuple[Mapping[str, Any], ...] = ()
    error_pages: tuple[Mapping[str, Any], ...] = ()  # the site's own, and behind it what it has from the server
    sites: tuple[SiteTable, ...] = ()  # `[sites.NAME]`
    # Of keys that a file has, what begins a line about one: "site.toml:3:1: ".
    places: Mapping[str, str] = field(default_factory=dict, compare=False, repr=False)

    def __post_init__(self) -> None:
        for name, read in TABLES.items():
            object.__setattr__(self, name, read(getattr(self, name), (name,)))
        accept_all(self, but=("root",) if self.root is None else ())
        if self.slab_bytes < 2 * self.small_body_bytes_max:
            raise UsageError(
                f"slab_bytes: {self.slab_bytes} is too small; accepted: at least twice small_body_bytes_max, "
                f"which is {self.small_body_bytes_max}"
            )
        if self.root is None and not self.sites:
            raise UsageError("no root given; say which directory to serve: zcserve --root DIR")
        check_together(self.sites, map(parse_site_host, self.hosts))

    def refuse_root(self, error: UsageError) -> UsageError:
        """The error about the root, with its place and what to do, where a file has it."""
        where = self.places.get("root")
        return UsageError(f"{where}{error}; {ROOT_ACCEPTED}") if where else error

    def placed(self, error: UsageError) -> UsageError:
        """The error, with the key's place where it begins with the name of one that the file has."""
        word = str(error).partition(":")[0].removeprefix("--")
        where = self.places.get(word.replace("-", "_"))
        return type(error)(f"{where}{str(error).removeprefix('--')}") if where else error

    def named(self, key: str) -> str:
        """A key as a line about its value calls it: with its place in the file, or as the flag."""
        where = self.places.get(key)
        return f"{where}{key}:" if where else f"--{key.replace('_', '-')}"

    @property
    def directory(self) -> Path | str:
        """The root of a site's own configuration: the server's has none where there are sites alone."""
        assert self.root is not None
        return self.root

    def servlet_bodies_bytes(self) -> int:
        """What bodies that are held may take together."""
        return self.servlet_bodies_max or self.memory // 4

    @property
    def counts_heat(self) -> bool:
        """Whether it is looked at how hot files are: an operator may ask, or the next process is to know."""
        return bool(self.heat_file or self.admin)

    def admin_address(self) -> Address | None:
        """Where to answer the operator."""
        return parse_listen(self.admin) if self.admin else None

    def addresses(self) -> tuple[Address, ...]:
        """Where to listen: every `listen`, or `host` and `port` where there is none."""
        if self.listen:
            return tuple(parse_listen(text) for text in self.listen)
        return (TcpAddress(parse_host(self.host), self.port),)
