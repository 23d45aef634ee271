"""What is asked of the servers: a table. A new workload is a new row, and nothing else.

It must not know how a row is turned into a generator's command line (load.py) or what answers it (peers.py). What is
asked of programs instead of files stands in servlets.py, requests that are not for whole files in ordinary.py.
"""

from __future__ import annotations

from dataclasses import dataclass

from tools.bench.asking import Request
from tools.bench.content import PAGE, SITE, Tree, body_path
from tools.bench.steady import Record

FILES_PREFIX = "/files"
FILES = 5000

# Chrome's headers on a click to the next page of a site; Host and a new Cookie come with each request.
BROWSER_HEADERS = {
    "Connection": "keep-alive",
    "sec-ch-ua": '"Chromium";v="128", "Not;A=Brand";v="24", "Google Chrome";v="128"',
    "sec-ch-ua-mobile": "?0",
    "sec-ch-ua-platform": '"Linux"',
    "Upgrade-Insecure-Requests": "1",
    "User-Agent": "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) "
    "Chrome/128.0.0.0 Safari/537.36",
    "Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,image/apng,*/*;q=0.8",
    "Sec-Fetch-Site": "same-origin",
    "Sec-Fetch-Mode": "navigate",
    "Sec-Fetch-User": "?1",
    "Sec-Fetch-Dest": "document",
    "Accept-Encoding": "gzip, deflate, br, zstd",
    "Accept-Language": "en-US,en;q=0.9",
}


@dataclass(frozen=True)
class Workload:
    """One kind of load.

    `generator` is wrk, ab or steady; `path` is the one target asked for or, ending in a slash, the prefix of
    those taken at random; `pipeline` requests are sent at once; `new_cookie`: each has a Cookie never seen before.
    `status` is that of the right answers; headers have words that are replaced as in `asking`.
    `idle` further connections have been used once and stay open and silent all the while.
    `file`: the answer is the bytes of this one, where `path` names none. `rate`: steady asks so often in a second (0:
    as soon as it is answered), or `pace`: at this share of what the slowest server of its group answers in a closed
    loop. `beside`: what else is asked of the server meanwhile, by a generator that gives way.
    `requests`: what steady sends instead, in this order, again and again; `records`: the same, once one server has
    answered them rightly.
    """

    about: str
    generator: str = "wrk"
    method: str = "GET"
    path: str = PAGE
    headers: tuple[tuple[str, str], ...] = ()
    new_cookie: bool = False
    status: int = 200
    keep_alive: bool = True
    pipeline: int = 1
    connections: int = 120
    idle: int = 0
    file: str = ""
    rate: int = 0
    pace: float = 0.0
    beside: Workload | None = None
    requests: tuple[Request, ...] = ()
    records: tuple[Record, ...] = ()

    @property
    def sent_headers(self) -> tuple[tuple[str, str], ...]:
        """The header lines of each request, but for Host and Cookie.

        ab speaks HTTP/1.0: without keep-alive it need not ask for a close.
        """
        closes = not self.keep_alive and self.generator != "ab"
        return (*self.headers, ("Connection", "close")) if closes else self.headers

    @property
    def loads(self) -> tuple[Workload, ...]:
        """Itself, and what goes on beside it."""
        return (self,) if self.beside is None else (self, *self.beside.loads)

    @property
    def site(self) -> bool:
        """Whether it asks for files of the site."""
        return any(one.file.startswith(SITE) for one in self.requests)

    @property
    def plain(self) -> bool:
        """Whether one fixed response of HTTP/1.1, one at a time, is right for all its requests."""
        return (self.method, self.path, self.pipeline, self.status) == ("GET", PAGE, 1, 200) and (
            self.keep_alive and not self.requests and self.generator != "ab"
        )

    def targets(self, tree: Tree) -> tuple[str, ...]:
        """The request targets of `tree` that this load asks for."""
        if not self.path.endswith("/"):
            return (self.path,)
        return tuple(path for path in tree.paths if path.startswith(self.path))

    def asked(self, tree: Tree) -> tuple[Request, ...]:
        """The requests with which a server shows that it answers this load rightly."""
        if self.requests:
            return self.requests
        return tuple(
            Request(path, self.sent_headers, self.method, status=self.status, file=self.file or path)
            for path in self.targets(tree)
        )


_BROWSER = tuple(BROWSER_HEADERS.items())
IDLE_CONNECTIONS = 10_000


def _body(size: int, connections: int, about: str, generator: str = "wrk") -> Workload:
    return Workload(f"{about} body", generator, path=body_path(size), connections=connections)


WORKLOADS = {
    "page": Workload("1000-byte page, keep-alive"),
    "browser": Workload(
        "1000-byte page, a browser's headers, a cookie never seen before", headers=_BROWSER, new_cookie=True
    ),
    "ab": Workload("1000-byte page by ab -k (HTTP/1.0)", generator="ab"),
    "files": Workload(
        f"{FILES:,} files at random, a browser's headers, a cookie never seen before",
        path=FILES_PREFIX + "/",
        headers=_BROWSER,
        new_cookie=True,
    ),
    "pipelined": Workload("1000-byte page, 16 requests at once", pipeline=16),
    "connections": Workload("1000-byte page, a new connection for each request", keep_alive=False),
    "ab-close": Workload(
        "1000-byte page by ab without -k (HTTP/1.0): a new connection for each request",
        generator="ab",
        keep_alive=False,
    ),
    "304": Workload("1000-byte page, not modified", headers=(("If-None-Match", "{etag}"),), status=304),
    "head": Workload("HEAD of the 1000-byte page by ab -k -i (HTTP/1.0)", generator="ab", method="HEAD"),
    # Few connections for the long ones: what is under way when the run ends was paid for and is not counted.
    "64KB": _body(65_536, 120, "64 KB"),
    "1MB": _body(1_000_000, 32, "1 MB"),
    "10MB": _body(10_000_000, 8, "10 MB", "steady"),
    "idle": Workload(f"1000-byte page while {IDLE_CONNECTIONS:,} more connections are idle", idle=IDLE_CONNECTIONS),
}

# For the charts: x -> the load at x.
CONCURRENCY = {
    number: Workload(f"1000-byte page, {number:,} connections", connections=number)
    for number in (1, 4, 16, 64, 256, 1000)
}
SIZES = {
    size: _body(size, 64 if size <= 100_000 else 8, f"{size:,}-byte", "steady")
    for size in (100, 1000, 10_000, 100_000, 1_000_000, 10_000_000)
}
