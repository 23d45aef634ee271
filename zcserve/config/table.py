"""The table: every key that can be set, its default, what it means and what it accepts.

The order of the fields is the order of `--help` and of README's tables. A field with `why` is a limit.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

from zcserve.config.addresses import Address, TcpAddress, parse_host, parse_listen
from zcserve.config.checks import check_admin, check_field_value, check_log_path, check_name, check_trusted, each
from zcserve.config.globs import parse_glob
from zcserve.config.hosts import parse_site_host
from zcserve.config.log_fields import read_names
from zcserve.config.option import COUNT, DURATION, LANES, MEMORY, PART, PATH, SIZE, SWITCH, TEXT, TEXTS, accept_all
from zcserve.config.option import key as _key
from zcserve.config.site import SiteTable, check_together
from zcserve.config.tables import tables_of
from zcserve.config.units import DAY_S, GIB, KIB, MIB, PIB, Share
from zcserve.errors import UsageError
from zcserve.media_types import DEFAULT_CHARSET, check_charset, parse_type

AccessLogFormat: TypeAlias = Literal["combined", "json"]
ListenWhen: TypeAlias = Literal["ready", "start"]
LogLevel: TypeAlias = Literal["debug", "info", "warning", "error"]
Engine: TypeAlias = Literal["auto", "python", "native"]
TagHeader: TypeAlias = Literal["none", "Surrogate-Key", "Cache-Tag"]
UnknownHost: TypeAlias = Literal["default", "421"]
Evict: TypeAlias = Literal["lru", "sieve", "s3-fifo"]  # the names in cache/store.py's POLICIES


TABLES = ("rules", "redirects")  # fields that are no keys: lists of tables, which only a file can hold


# ruff: noqa: RUF009 (what `_key` returns is a field, made once)
@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
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
    secure_headers: bool = _key(False, SWITCH, "send fields that have browsers be careful: docs/rules.md has them")
    tag_header: TagHeader = _key(
        "none", TEXT, "the field that tells a CDN in front the tags of rules", choices=get_args(TagHeader)
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
        "connections the kernel queues before they are accepted: one that has sent nothing waits there for a second",
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

    # Threads that answer what is in memory.
    lanes: int = _key(
        1,
        LANES,
        "loops that answer what is in memory, each a thread; auto for one for each core that the process may use",
        why="one answers more than most networks carry, and each that is busy takes a core; nginx has one worker "
        "unless told, h2o a thread for each core",
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
        why="no client starves behind a fast reader; nginx's sendfile_max_chunk is 2 MiB",
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
        why="a client that would give up before its turn is told at once; uvicorn's backlog is 2048",
    )
    servlet_slow_s: float = _key(
        0.1,
        DURATION,
        "time a servlet may hold the loop before the log names it, with its stack",
        why="no client is served meanwhile; asyncio's slow_callback_duration is 0.1 s",
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

    # Of a file alone (rules/): what files are sent with, and where paths lead that no file has.
    rules: tuple[Mapping[str, Any], ...] = ()
    redirects: tuple[Mapping[str, Any], ...] = ()
    sites: tuple[SiteTable, ...] = ()  # `[sites.NAME]`

    def __post_init__(self) -> None:
        for name in TABLES:
            object.__setattr__(self, name, tables_of(getattr(self, name), (name,)))
        accept_all(self, but=("root",) if self.root is None else ())
        if self.slab_bytes < 2 * self.small_body_bytes_max:
            raise UsageError(
                f"slab_bytes: {self.slab_bytes} is too small; accepted: at least twice small_body_bytes_max, "
                f"which is {self.small_body_bytes_max}"
            )
        if self.root is None and not self.sites:
            raise UsageError("no root given; say which directory to serve: zcserve --root DIR")
        check_together(self.sites, map(parse_site_host, self.hosts))

    @property
    def directory(self) -> Path | str:
        """The root of a site's own configuration: the server's has none where there are sites alone."""
        assert self.root is not None
        return self.root

    def servlet_bodies_bytes(self) -> int:
        """What bodies that are held may take together."""
        return self.servlet_bodies_max or self.memory // 4

    def admin_address(self) -> Address | None:
        """Where to answer the operator."""
        return parse_listen(self.admin) if self.admin else None

    def addresses(self) -> tuple[Address, ...]:
        """Where to listen: every `listen`, or `host` and `port` where there is none."""
        if self.listen:
            return tuple(parse_listen(text) for text in self.listen)
        return (TcpAddress(parse_host(self.host), self.port),)
