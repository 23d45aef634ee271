"""Warm a root, or a server, and say how it went.

Two forms. Without `--url` it loads a root through `zcserve.cache`, as the server would but without a socket, and
reports what became resident, what did not fit and what cannot be served. With `--url` it asks a running server for
everything that a walk of the tree finds, which warms it, and compares each answer with the file: status, length,
codings, ETag, and every byte (by its hash).

It must not know how content is kept: that is the cache's. What is odd: a listed file is *touched* by giving it a tick,
as a hit would, the first line the latest one, so that the evictor gives up the end of the list before its beginning.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import posixpath
import re
import socket
import sys
import threading
import time
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import urlsplit

if not __package__:  # run as a file: the module path begins with tools/, and zcserve lies beside that
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import mmh3

from zcserve.cache.budget import settled
from zcserve.cache.entry import Body, Entry, Redirect, representations
from zcserve.cache.index import Generation, Problem
from zcserve.cache.loader import Loader, call, name_of, path_of
from zcserve.cache.preload import judge_siblings, preload
from zcserve.cache.root import Root
from zcserve.cache.store import Store
from zcserve.cache.tags import PIECE_BYTES, content_tag
from zcserve.cache.walk import walk
from zcserve.config.sources import load
from zcserve.config.table import Config
from zcserve.config.units import DAY_S, parse_duration, size_text
from zcserve.errors import HttpError, UsageError
from zcserve.http import canonical_path, encode_path
from zcserve.media_types import MediaTypes, media_type

EXIT_RIGHT, EXIT_WRONG, EXIT_WRONG_USE, EXIT_INTERRUPTED = 0, 1, 2, 130

CONNECTIONS = 8
CONNECTIONS_MAX = 1000
TIMEOUT_S = 10.0
SHOWN = 20
REFRESH_S = 0.1
BAR_WIDTH = 30
# So many requests without an answer, one after the other, and the rest is not asked for.
UNANSWERED_MAX = 10
# The content of an answer that is not compared is read up to here, so that the connection can be kept.
UNREAD_BYTES_MAX = 64 * 1024

_EPILOG = """\
The list names what to load or ask for first, one a line: a path below the root, with or without its first slash, a
URL's path, or a whole URL; blank lines and lines that begin with # are passed over. What loading uses besides
(--index and the like) comes from --config and ZCSERVE_... as it does for the server.

Exit codes: 0 all is right (what did not fit is no fault); 1 something under the root cannot be served as it lies
there, the list names what does not exist, or an answer differs from the tree or did not come; 2 wrong use, or the
server does not answer at all; 130 interrupted."""


# --- classes of files -------------------------------------------------------------------------------------

_CLASSES = (
    ("html", re.compile(r"text/html|application/xhtml\+xml")),
    ("css", re.compile(r"text/css")),
    ("script", re.compile(r"text/javascript|application/wasm")),
    ("image", re.compile(r"image/.*")),
    ("font", re.compile(r"font/.*|application/vnd\.ms-fontobject")),
    ("video/audio", re.compile(r"(video|audio)/.*|application/(vnd\.apple\.mpegurl|dash\+xml)")),
    ("data", re.compile(r"application/(.*\+)?(json|xml)|application/(x-ndjson|yaml|toml|sql)|text/(xml|csv|tab-.*)")),
    ("text", re.compile(r"text/.*")),
)
_OTHER = "other"
_ORDER = [name for name, _ in _CLASSES] + [_OTHER]


def class_of(name: str) -> str:
    """The class that a file of this name or path is counted in, by its media type's family."""
    essence = media_type(name).partition(";")[0]
    return next((name for name, types in _CLASSES if types.fullmatch(essence)), _OTHER)


# --- the list ---------------------------------------------------------------------------------------------

_URL = re.compile(rb"[A-Za-z][A-Za-z0-9+.-]*://[^/?#]*")


def read_list(file: str) -> list[bytes]:
    """The lines of a list that name something; `-` is standard input. Raises UsageError."""
    try:
        content = sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
    except OSError as error:
        raise UsageError(f"the list {file!r} cannot be read: {error.strerror}") from None
    lines = (line.strip() for line in content.splitlines())
    return [line for line in lines if line and not line.startswith(b"#")]


def find(generation: Generation, line: bytes) -> Entry | None:
    """The entry that a line of the list names: as a name on disk, else as a URL's path."""
    path = b"/" + _URL.sub(b"", line, count=1).lstrip(b"/")
    keys = [encode_path(posixpath.normpath(path))]
    with suppress(HttpError):
        keys.append(canonical_path(re.split(rb"[?#]", path, maxsplit=1)[0]))
    return next((entry for key in keys if (entry := _resource(generation, key)) is not None), None)


def _resource(generation: Generation, key: bytes) -> Entry | None:
    resource = generation.resources.get(key)
    if isinstance(resource, Redirect):
        resource = generation.resources.get(resource.location)
    return resource if isinstance(resource, Entry) else None


def resolve(generation: Generation, lines: Iterable[bytes]) -> tuple[list[Entry], list[str]]:
    """What a list names, each once and in its order, and the lines that name nothing."""
    found: dict[Entry, None] = {}
    unknown = []
    for line in lines:
        entry = find(generation, line)
        if entry is None:
            unknown.append(os.fsdecode(line))
        else:
            found[entry] = None
    return list(found), unknown


# --- loading a root ---------------------------------------------------------------------------------------


@dataclass(slots=True)
class LoadedClass:
    """One class of a loaded root. Files are representations: siblings and made variants count as well. `not_served`
    counts what the walk or the loading gave up; `seconds` is reading, hashing and compressing, summed over threads."""

    name: str
    files: int = 0
    bytes: int = 0
    resident_files: int = 0
    resident_bytes: int = 0
    left_out_files: int = 0
    left_out_bytes: int = 0
    not_served: int = 0
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A representation that did not fit, by its key."""

    path: str
    coding: str
    bytes: int


@dataclass(frozen=True, slots=True)
class Loaded:
    """What loading a root did."""

    root: str
    budget: int
    committed: int
    classes: list[LoadedClass]
    left_out: list[LeftOut]
    not_served: list[Problem]
    unknown: list[str]
    walk_s: float
    load_s: float

    @property
    def right(self) -> bool:
        """Whether all there is can be served, and all that was listed exists."""
        return not self.not_served and not self.unknown


class TimedLoader(Loader):
    """A loader that knows how many seconds it spent on each class: `read_small` sees all small files, `load_open` the
    others."""

    def __init__(self, store: Store, config: Config) -> None:
        super().__init__(store, config)
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self._counting = threading.Lock()

    def read_small(self, fd: int, entry: Entry) -> tuple[bytes, bytes]:
        with self._timed(entry):
            return super().read_small(fd, entry)

    def load_open(self, fd: int, entry: Entry, *, evict: bool = True) -> Body:
        if self.is_small(entry) and not entry.made:
            return super().load_open(fd, entry, evict=evict)
        with self._timed(entry):
            return super().load_open(fd, entry, evict=evict)

    def add_variants(self, root: Root, entry: Entry, attach: Callable[[Callable[[], None]], None] = call) -> None:
        with self._timed(entry):
            super().add_variants(root, entry, attach)

    @contextmanager
    def _timed(self, entry: Entry) -> Iterator[None]:
        began = time.perf_counter()
        try:
            yield
        finally:
            took = time.perf_counter() - began
            with self._counting:
                self.seconds[class_of(name_of(entry))] += took


def _store(config: Config) -> Store:
    return Store(config.memory, slab_bytes=config.slab_bytes, small_body_bytes_max=config.small_body_bytes_max)


def load_root(config: Config, lines: Iterable[bytes], progress: Callable[[int, int], None] | None = None) -> Loaded:
    """Load `config.root` as far as its memory goes, first what `lines` name. Raises UsageError."""
    config = replace(settled(config), compress_wait_s=DAY_S)  # all that there will be
    store = _store(config)
    loader = TimedLoader(store, config)
    began = time.perf_counter()
    generation = walk(Root(config.root), index=config.index)
    listed, unknown = resolve(generation, lines)
    walked = time.perf_counter()
    try:
        preload(generation, loader, first=_touch(listed), progress=progress)
        done = time.perf_counter()
        # Each once: what was given up when it was loaded first is met again in its directory's turn.
        problems = list(dict.fromkeys(generation.problems))
        return Loaded(
            root=str(config.root),
            budget=store.budget,
            committed=store.committed,
            classes=_count_loaded(generation, problems, loader.seconds),
            left_out=[
                LeftOut(entry.key.decode(), one.encoding.decode(), one.size)
                for entry, one in _representations(generation)
                if one.body is None
            ],
            not_served=problems,
            unknown=unknown,
            walk_s=walked - began,
            load_s=done - walked,
        )
    finally:
        store.close()


def _touch(listed: list[Entry]) -> Iterator[Entry]:
    """The listed entries, marked as used, the first most recently."""
    for recency, entry in zip(range(len(listed), 0, -1), listed, strict=True):
        for one in (entry, *entry.variants):
            one.tick = recency
        yield entry


def _representations(generation: Generation) -> Iterator[tuple[Entry, Entry]]:
    """Every entry with each of its representations."""
    for entry in generation.entries():
        for one in representations(entry):
            yield entry, one


def _count_loaded(generation: Generation, problems: Iterable[Problem], seconds: dict[str, float]) -> list[LoadedClass]:
    """One row a class that has anything to say, in the order of `_CLASSES`."""
    rows = {name: LoadedClass(name, seconds=seconds.get(name, 0.0)) for name in _ORDER}
    for entry, one in _representations(generation):
        row = rows[class_of(name_of(entry))]
        row.files += 1
        row.bytes += one.size
        if one.body is not None:
            row.resident_files += 1
            row.resident_bytes += one.size
        else:
            row.left_out_files += 1
            row.left_out_bytes += one.size
    for problem in problems:
        rows[class_of(problem.path)].not_served += 1
    return [row for row in rows.values() if row.files or row.not_served]


# --- asking a server --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Ask:
    """One request, and what must come back: a representation, or a redirect to `location`."""

    key: bytes
    entry: Entry | None = None
    location: bytes = b""

    @property
    def coding(self) -> str:
        """The content coding that is asked for; "" is identity."""
        return self.entry.encoding.decode() if self.entry is not None else ""

    @property
    def accept(self) -> str:
        """Accept-Encoding that leaves no choice (RFC 9110 section 12.5.3): a sibling may be larger than its base."""
        return f"{self.coding}, identity;q=0" if self.coding else "identity"


@dataclass(frozen=True, slots=True)
class Content:
    """A representation's size in bytes and the hash of its bytes."""

    size: int
    digest: bytes


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of one request; `fault` is empty when all is right."""

    ask: Ask
    bytes: int
    seconds: float
    fault: str


@dataclass(slots=True)
class AskedClass:
    """One class of a compared tree. `seconds` is summed over connections."""

    name: str
    requests: int = 0
    bytes: int = 0
    faults: int = 0
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Fault:
    """An answer that differs from the tree."""

    path: str
    coding: str
    why: str


@dataclass(frozen=True, slots=True)
class Compared:
    """What comparing a server with a tree found."""

    root: str
    url: str
    classes: list[AskedClass]
    faults: list[Fault]
    not_asked: int
    not_served: list[Problem]
    unknown: list[str]
    seconds: float

    @property
    def right(self) -> bool:
        """Whether every answer is what the tree says, and the tree could be read."""
        return not (self.faults or self.not_asked or self.not_served or self.unknown)


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str, timeout_s: float) -> None:
        super().__init__("localhost", timeout=timeout_s)
        self._path = path

    def connect(self) -> None:
        sock = socket.socket(socket.AF_UNIX)
        try:
            sock.settimeout(self.timeout)
            sock.connect(self._path)
        except BaseException:
            sock.close()
            raise
        self.sock = sock


def connector(url: str, timeout_s: float) -> Callable[[], http.client.HTTPConnection]:
    """Makes connections to `url`, http://HOST[:PORT] or unix:PATH, each not yet open. Raises UsageError."""
    refused = UsageError(f"--url: {url!r} is not understood; accepted: http://HOST[:PORT] or unix:PATH")
    if url.startswith("unix:") and len(url) > len("unix:"):
        return lambda: _UnixConnection(url.removeprefix("unix:"), timeout_s)
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        raise refused from None
    if parts.scheme != "http" or not host or parts.path not in ("", "/") or parts.query or parts.username:
        raise refused
    return lambda: http.client.HTTPConnection(host, port or http.client.HTTP_PORT, timeout=timeout_s)


def _reason(error: Exception) -> str:
    """An error in a few words."""
    if isinstance(error, TimeoutError):
        return "no answer in time"
    text = error.strerror if isinstance(error, OSError) else None
    return text or str(error) or type(error).__name__


class Comparison:
    """A server's answers held against a generation, over a few connections at a time."""

    def __init__(
        self, generation: Generation, connect: Callable[[], http.client.HTTPConnection], config: Config
    ) -> None:
        self._generation = generation
        self._connect = connect
        self._hash_bytes_max = config.hash_bytes_max
        self._types = MediaTypes(config.charset, config.type)
        self._todo: deque[Ask] = deque()
        self._unanswered = 0

    def probe(self) -> str:
        """Why the server does not answer; empty when it does, whatever it says."""
        connection = self._connect()
        try:
            connection.request("HEAD", "/")
            connection.getresponse().read()
        except (OSError, http.client.HTTPException) as error:
            return _reason(error)
        finally:
            connection.close()
        return ""

    def run(self, asks: list[Ask], connections: int, progress: Callable[[int, int], None]) -> list[Outcome]:
        """What came of the asks; fewer than there were when the server stopped answering."""
        self._todo = deque(asks)
        with ThreadPoolExecutor(connections, "warm-cache") as pool:
            try:
                workers = [pool.submit(self._work) for _ in range(min(connections, len(asks)))]
                while wait(workers, timeout=REFRESH_S).not_done:
                    progress(len(asks) - len(self._todo), len(asks))
            finally:
                self._todo.clear()  # interrupted: what is in flight is the last
        return [outcome for worker in workers for outcome in worker.result()]

    def _work(self) -> list[Outcome]:
        connection = self._connect()
        outcomes: list[Outcome] = []
        try:
            while True:
                try:
                    ask = self._todo.popleft()
                except IndexError:
                    return outcomes
                outcomes.append(self._outcome(connection, ask))
        finally:
            connection.close()

    def _outcome(self, connection: http.client.HTTPConnection, ask: Ask) -> Outcome:
        began = time.perf_counter()
        try:
            fault, count = self._compare(connection, ask)
            self._unanswered = 0
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            fault, count = f"no whole answer: {_reason(error)}", 0
            self._unanswered += 1
            if self._unanswered >= UNANSWERED_MAX:
                self._todo.clear()
        return Outcome(ask, count, time.perf_counter() - began, fault)

    def _compare(self, connection: http.client.HTTPConnection, ask: Ask) -> tuple[str, int]:
        """What is wrong with an answer, and how many bytes of content came. Raises OSError or HTTPException."""
        response = self._get(connection, ask)
        fault, count = "", 0
        if ask.entry is None:
            fault = _redirect_fault(response, ask.location.decode())
            response.read(UNREAD_BYTES_MAX)
        elif response.status != 200:
            fault = f"status {response.status}, expected 200"
            response.read(UNREAD_BYTES_MAX)
        else:
            try:
                own = self._content(ask.entry)
            except OSError as error:
                fault = f"cannot be read here: {_reason(error)}"
            else:
                came = _receive(response, own.size)
                fault, count = self._content_fault(response, ask, own, came), came.size
        if not response.isclosed():  # there is more, which nobody wants
            connection.close()
        return fault, count

    def _get(self, connection: http.client.HTTPConnection, ask: Ask) -> http.client.HTTPResponse:
        """The head of the answer; asked again on a fresh connection when a kept one was closed meanwhile."""
        kept = connection.sock is not None
        try:
            connection.request("GET", ask.key.decode(), headers={"Accept-Encoding": ask.accept})
            return connection.getresponse()
        except ConnectionError:
            connection.close()
            if not kept:
                raise
        return self._get(connection, ask)

    def _content(self, entry: Entry) -> Content:
        """What lies on disk now. Raises OSError."""
        fd, _ = self._generation.root.open_file(path_of(entry))
        hasher = mmh3.mmh3_x64_128()
        size = 0
        try:
            while piece := os.read(fd, PIECE_BYTES):
                hasher.update(piece)
                size += len(piece)
        finally:
            os.close(fd)
        return Content(size, hasher.digest())

    def _content_fault(self, response: http.client.HTTPResponse, ask: Ask, own: Content, came: Content) -> str:
        """How a 200 differs from the file; the first that differs explains the rest."""
        length, coding = response.getheader("Content-Length"), response.getheader("Content-Encoding", "")
        own_coding = self._types.coding(name_of(ask.entry)).decode() if ask.entry is not None else ""
        right = ", ".join(filter(None, (own_coding, ask.coding)))
        if coding != right:
            return f"Content-Encoding is {coding or 'missing'}, expected {right or 'none'}"
        if length != str(own.size):
            return f"Content-Length is {length or 'missing'}, the file has {own.size}"
        tag, right_tag = response.getheader("ETag", ""), content_tag(own.digest).decode()
        by_identity = tag.startswith('"id-') and own.size > self._hash_bytes_max  # another node's: not for us to judge
        if tag != right_tag and not by_identity:
            return f"ETag is {tag or 'missing'}, the content's is {right_tag}"
        if came.size != own.size:
            return f"{came.size} bytes of content came of {own.size}"
        return "" if came.digest == own.digest else "the content is not the file's, though its length and ETag are"


def _redirect_fault(response: http.client.HTTPResponse, location: str) -> str:
    where = response.getheader("Location", "nowhere")
    if response.status == 301 and where == location:
        return ""
    return f"status {response.status} to {where}, expected 301 to {location}"


def _receive(response: http.client.HTTPResponse, expected: int) -> Content:
    """An answer's content; of one longer than `expected` bytes no more than proves it."""
    hasher = mmh3.mmh3_x64_128()
    size = 0
    while size <= expected and (piece := response.read(min(PIECE_BYTES, expected + 1 - size))):
        hasher.update(piece)
        size += len(piece)
    return Content(size, hasher.digest())


def asks_of(generation: Generation, listed: Iterable[Entry]) -> list[Ask]:
    """A request for every resource and each of its files, the listed first."""
    asks = {}
    for key, resource in [*((entry.key, entry) for entry in listed), *generation.resources.items()]:
        if isinstance(resource, Redirect):
            asks[key, b""] = Ask(key, location=resource.location)
        else:
            for one in (resource, *resource.variants):
                asks[key, one.encoding] = Ask(key, one)
    return list(asks.values())


def compare(
    config: Config,
    url: str,
    lines: Iterable[bytes],
    *,
    connections: int = CONNECTIONS,
    timeout_s: float = TIMEOUT_S,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Compared:
    """Ask the server at `url` for all that `config.root` holds. Raises UsageError, also when nobody answers there."""
    began = time.perf_counter()
    connect = connector(url, timeout_s)
    generation = walk(Root(config.root), index=config.index)
    judge_siblings(generation, Loader(_store(config), config), generation.entries())
    listed, unknown = resolve(generation, lines)
    comparison = Comparison(generation, connect, config)
    if trouble := comparison.probe():
        raise UsageError(f"{url} does not answer: {trouble}")
    asks = asks_of(generation, listed)
    outcomes = comparison.run(asks, connections, progress)
    return Compared(
        root=str(config.root),
        url=url,
        classes=_count_asked(outcomes),
        faults=sorted(
            (Fault(one.ask.key.decode(), one.ask.coding, one.fault) for one in outcomes if one.fault),
            key=lambda fault: (fault.path, fault.coding),
        ),
        not_asked=len(asks) - len(outcomes),
        not_served=generation.problems,
        unknown=unknown,
        seconds=time.perf_counter() - began,
    )


def _count_asked(outcomes: Iterable[Outcome]) -> list[AskedClass]:
    rows = {name: AskedClass(name) for name in _ORDER}
    for outcome in outcomes:
        entry = outcome.ask.entry
        row = rows[class_of(name_of(entry)) if entry is not None else _OTHER]
        row.requests += 1
        row.bytes += outcome.bytes
        row.faults += bool(outcome.fault)
        row.seconds += outcome.seconds
    return [row for row in rows.values() if row.requests]


# --- words ------------------------------------------------------------------------------------------------


def _printable(text: str) -> str:
    """A name as it is, or escaped where it would play with the terminal."""
    return text if text.isprintable() else ascii(text)


def _cell(name: str, value: Any) -> str:
    if name == "seconds":
        return f"{value:.3f}"
    if name.endswith("bytes"):
        return size_text(value)
    return str(value) if isinstance(value, str) else f"{value:,}"


def table(rows: Iterable[LoadedClass] | Iterable[AskedClass]) -> str:
    """The rows under their fields' names, with their sum below."""
    dicts = [asdict(row) for row in rows]
    if not dicts:
        return "nothing to serve"
    sums: Counter[str] = Counter()
    for row in dicts:
        sums.update({name: value for name, value in row.items() if name != "name"})
    names = list(dicts[0])
    heads = ["class", *(name.replace("_", " ") for name in names[1:])]
    lines = [heads, *([_cell(name, row[name]) for name in names] for row in [*dicts, {"name": "all", **sums}])]
    widths = [max(len(line[at]) for line in lines) for at in range(len(names))]
    return "\n".join("  ".join([line[0].ljust(widths[0]), *map(str.rjust, line[1:], widths[1:])]) for line in lines)


def _listing(title: str, lines: list[str], shown: int) -> list[str]:
    """A title with its number and at most `shown` lines; nothing where there are none."""
    if not lines:
        return []
    more = [f"  and {len(lines) - shown} more"] if len(lines) > shown else []
    return [f"{title}: {len(lines)}", *(f"  {line}" for line in lines[:shown]), *more]


def _shared_listings(report: Loaded | Compared, shown: int) -> list[str]:
    served = [f"{_printable(problem.path)}: {problem.why}" for problem in report.not_served]
    return [
        *_listing("not served as it lies there", served, shown),
        *_listing("listed, but not there", [_printable(line) for line in report.unknown], shown),
    ]


def _name(path: str, coding: str) -> str:
    return f"{path} ({coding})" if coding else path


def text_of(report: Loaded | Compared, shown: int) -> str:
    """The report for people; of each kind of trouble at most `shown` are named."""
    if isinstance(report, Loaded):
        left_out = [f"{_name(one.path, one.coding)}: {size_text(one.bytes)}" for one in report.left_out]
        lines = [
            f"root {_printable(report.root)}: walked in {report.walk_s:.2f} s, loaded in {report.load_s:.2f} s",
            f"memory {size_text(report.committed)} of {size_text(report.budget)}",
            table(report.classes),
            *_listing("would not fit", left_out, shown),
        ]
        return "\n".join([*lines, *_shared_listings(report, shown)])
    faults = [f"{_name(one.path, one.coding)}: {one.why}" for one in report.faults]
    asked = sum(row.requests for row in report.classes)
    lines = [
        f"{report.url} against {_printable(report.root)}: {asked} requests in {report.seconds:.2f} s",
        table(report.classes),
        *_listing("different", faults, shown),
        *([f"not asked, since the server stopped answering: {report.not_asked}"] if report.not_asked else []),
        *_shared_listings(report, shown),
        "all right" if report.right else f"{len(faults)} of {asked} answers differ from the tree",
    ]
    return "\n".join(lines)


def json_of(report: Loaded | Compared) -> str:
    """The report for programs: its fields by name, all that is named in it, and `right`."""
    return json.dumps({"right": report.right, **asdict(report)}, indent=2)


class Bar:
    """A progress bar on standard error, if that is a terminal."""

    def __init__(self) -> None:
        self._on = sys.stderr.isatty()
        self._shown_at = 0.0

    def __call__(self, done: int, total: int) -> None:
        now = time.monotonic()
        if self._on and total and now - self._shown_at >= REFRESH_S:
            self._shown_at = now
            full = "#" * (BAR_WIDTH * done // total)
            print(f"\r[{full:.<{BAR_WIDTH}}] {100 * done // total:3}%  {done} of {total}", end="", file=sys.stderr)
            sys.stderr.flush()

    def clear(self) -> None:
        """Take the bar off the terminal."""
        if self._shown_at:
            print("\r\033[K", end="", file=sys.stderr, flush=True)


# --- command line -----------------------------------------------------------------------------------------


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageError(message.removeprefix("argument "))


def _number(low: int, high: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        if not re.fullmatch(r"[0-9]{1,9}", text) or not low <= int(text) <= high:
            raise argparse.ArgumentTypeError(f"{text!r} is not understood; accepted: {low} to {high}")
        return int(text)

    return parse


def _timeout(text: str) -> float:
    try:
        seconds = parse_duration(text)
    except UsageError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    if not 0.001 <= seconds <= DAY_S:
        raise argparse.ArgumentTypeError(f"{text!r} is out of range; accepted: 1ms to 24h")
    return seconds


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="warm_cache",
        description="Load a root into memory, or with --url have a server load it, and report how that went.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        argument_default=argparse.SUPPRESS,
        allow_abbrev=False,
    )
    parser.add_argument("--root", metavar="DIR", required=True, help="the tree to load or to compare with")
    parser.add_argument("--list", metavar="FILE", help="what comes first; - is standard input")
    parser.add_argument("--index", metavar="NAME", action="append", help="as for the server (repeatable)")
    parser.add_argument("--config", metavar="FILE", help="the server's TOML file")
    parser.add_argument("--json", action="store_true", default=False, help="report as JSON, everything named")
    parser.add_argument(
        "--show", metavar="N", type=_number(0, 10**9 - 1), default=SHOWN, help=f"name at most N (default {SHOWN})"
    )
    local = parser.add_argument_group("without --url")
    local.add_argument("--memory", metavar="SIZE", help="the budget, as for the server")
    local.add_argument("--compress", action=argparse.BooleanOptionalAction, help="make variants, as the server does")
    remote = parser.add_argument_group("asking a server")
    remote.add_argument("--url", help="http://HOST[:PORT] or unix:PATH")
    remote.add_argument(
        "--connections",
        metavar="N",
        type=_number(1, CONNECTIONS_MAX),
        help=f"how many at a time, up to {CONNECTIONS_MAX} (default {CONNECTIONS})",
    )
    remote.add_argument(
        "--timeout", metavar="TIME", type=_timeout, help=f"for each step of an answer (default {TIMEOUT_S:g}s)"
    )
    return parser


def _refuse_idle(given: dict[str, Any]) -> None:
    """Refuse flags that would have no effect."""
    remote = "url" in given
    for flag in ("memory", "compress") if remote else ("connections", "timeout"):
        if flag in given:
            raise UsageError(f"--{flag} has no effect {'with' if remote else 'without'} --url")


def _run(arguments: list[str]) -> int:
    given = vars(_parser().parse_args(arguments))
    _refuse_idle(given)
    flags: dict[str, object] = {name: given[name] for name in ("root", "memory", "index", "compress") if name in given}
    config = load(flags, os.environ, given.get("config"))
    lines = read_list(given["list"]) if "list" in given else []
    bar = Bar()
    report: Loaded | Compared
    try:
        if "url" in given:
            report = compare(
                config,
                given["url"],
                lines,
                connections=given.get("connections", CONNECTIONS),
                timeout_s=given.get("timeout", TIMEOUT_S),
                progress=bar,
            )
        else:
            report = load_root(config, lines, bar)
    finally:
        bar.clear()
    print(json_of(report) if given["json"] else text_of(report, given["show"]))
    return EXIT_RIGHT if report.right else EXIT_WRONG


def main(arguments: list[str] | None = None) -> int:
    """Run with these arguments (without the program's name); the exit code, see `--help`."""
    try:
        return _run(sys.argv[1:] if arguments is None else arguments)
    except UsageError as error:
        print("warm_cache:", " ".join(str(error).splitlines()), file=sys.stderr)
        return EXIT_WRONG_USE
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED


if __name__ == "__main__":
    sys.exit(main())
