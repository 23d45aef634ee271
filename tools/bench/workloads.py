"""What is asked of the servers: a table. A new workload is a new row, and nothing else.

It must not know how a row is turned into a generator's command line (load.py) or who answers it (peers.py).
"""

from __future__ import annotations

from dataclasses import dataclass

from tools.bench.content import PAGE, Tree

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

    `generator` is wrk or ab; `path` is the one target asked for or, ending in a slash, the prefix of those
    taken at random; `pipeline` requests are sent at once; `new_cookie`: each has a Cookie never seen before.
    """

    about: str
    generator: str = "wrk"
    path: str = PAGE
    headers: tuple[tuple[str, str], ...] = ()
    new_cookie: bool = False
    keep_alive: bool = True
    pipeline: int = 1
    connections: int = 120

    @property
    def sent_headers(self) -> tuple[tuple[str, str], ...]:
        """The header lines of each request, but for Host and Cookie."""
        return self.headers if self.keep_alive else (*self.headers, ("Connection", "close"))

    def targets(self, tree: Tree) -> tuple[str, ...]:
        """The request targets of `tree` that this load asks for."""
        if not self.path.endswith("/"):
            return (self.path,)
        return tuple(path for path in tree.paths if path.startswith(self.path))


_BROWSER = tuple(BROWSER_HEADERS.items())

WORKLOADS = {
    "page": Workload("1000-byte page, keep-alive"),
    "browser": Workload(
        "the same with a browser's headers and a cookie never seen before", headers=_BROWSER, new_cookie=True
    ),
    "ab": Workload("the same by ab -k (HTTP/1.0)", generator="ab"),
    "files": Workload(
        f"{FILES:,} files at random, a browser's headers, a cookie never seen before",
        path=FILES_PREFIX + "/",
        headers=_BROWSER,
        new_cookie=True,
    ),
    "pipelined": Workload("1000-byte page, 16 requests at once", pipeline=16),
    "connections": Workload("1000-byte page, a new connection for each request", keep_alive=False),
}
