"""What a servlet costs: against the same few bytes from other servers' programs, against files, and to requests for
files meanwhile. Tables only, measured and judged as all promises are (targets.py).

Peers are Python programs for this interpreter, each with one process and no log, and as short as their users would
write them. They say what the servlet says; the answer of each is compared with the file of the same bytes before
anything is measured.

The page is asked for at a steady rate while others ask for the servlet, or for the file that holds the servlet's bytes:
at a steady rate, too, where a servlet is to make no difference to requests for files; and as fast as they are
answered (`full`), which is told without a promise: the core is then busy all the time and the page waits for whatever
is asked in the same turn of the loop, longest where the server is what holds the others back. Nor is anything promised
of the 99th percentile, which of equal loads in a virtual machine differs threefold from run to run.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

from tools.bench.content import HELLO, HELLO_BODY, PAGE
from tools.bench.peers import PEERS as SERVERS
from tools.bench.peers import Peer, zcserve
from tools.bench.rounds import Cell
from tools.bench.targets import P50, P99, Target
from tools.bench.workloads import Workload

CONNECTIONS = 40
PAGE_CONNECTIONS = 16
PAGE_RATE = 2000  # in requests/s
BESIDE_RATE = 9973  # a fifth of a core, about; no multiple of the other, or both would fall due in step for a whole run
KEPT_S = 5

HELLO_SERVLET = f"""\
def get(request):
    return {HELLO_BODY!r}
"""

# What is kept is computed anew every few seconds all through the run.
KEPT_SERVLET = """\
from zcserve import servlet
PAGE = {page!r}
@servlet("/kept", ttl={seconds})
def kept(request):
    return PAGE
"""

ECHO_SERVLET = """\
def post(request):
    return request.body
"""

# It sends neither Date nor Server.
BJOERN_PROGRAM = f"""\
import sys
import bjoern
BODY = {HELLO_BODY!r}
LENGTH = "{len(HELLO_BODY)}"
def hello(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/html; charset=utf-8"), ("Content-Length", LENGTH)])
    return [BODY]
bjoern.run(hello, "127.0.0.1", int(sys.argv[1]))
"""

FASTPYSGI_PROGRAM = f"""\
import sys
import fastpysgi
def hello(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/html; charset=utf-8")])
    return [{HELLO_BODY!r}]
fastpysgi.run(hello, "127.0.0.1", int(sys.argv[1]))
"""

STARLETTE_PROGRAM = f"""\
import sys
import uvicorn
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route
async def hello(request):
    return PlainTextResponse({HELLO_BODY.decode()!r})
uvicorn.run(
    Starlette(routes=[Route("/csp", hello)]), host="127.0.0.1", port=int(sys.argv[1]),
    loop="uvloop", http="httptools", access_log=False, log_level="warning",
)
"""


def with_servlets(engine: str, *options: str) -> Peer:
    """zcserve with the servlets of this benchmark."""
    server = zcserve("--engine", engine, "--servlets", "{own}/servlets", *options)

    def command(root: Path, port: int, own: Path) -> list[str]:
        folder = own / "servlets"
        folder.mkdir(exist_ok=True)
        (folder / "hello.py").write_text(HELLO_SERVLET)
        (folder / "echo.py").write_text(ECHO_SERVLET)
        page = (root / PAGE[1:]).read_bytes()
        (folder / "kept.py").write_text(KEPT_SERVLET.format(page=page, seconds=KEPT_S))
        return server.command(root, port, own)

    return replace(server, command=command)


def program(text: str, modules: tuple[str, ...], install: str) -> Peer:
    """A program for this interpreter, which is given the port and the root."""
    argv = [sys.executable, "-c", text]
    return Peer(argv[0], lambda root, port, own: [*argv, str(port), str(root)], modules=modules, install=install)


def bjoern(text: str) -> Peer:
    """A program for bjoern."""
    return program(text, ("bjoern",), "apt-get install gcc libev-dev; pip install bjoern")


def fastpysgi(text: str) -> Peer:
    """A program for fastpysgi."""
    return program(text, ("fastpysgi",), "pip install fastpysgi")


PEERS = {
    "zcserve": with_servlets("native"),
    "nginx": SERVERS["nginx"],
    "bjoern": bjoern(BJOERN_PROGRAM),
    "fastpysgi": fastpysgi(FASTPYSGI_PROGRAM),
    "starlette": program(
        STARLETTE_PROGRAM,
        ("starlette", "uvicorn", "uvloop", "httptools"),
        "pip install starlette uvicorn uvloop httptools",
    ),
}

_HELLO = Workload("hello, 13 bytes, from a program", path="/csp?hello", file=HELLO, connections=CONNECTIONS)
_HELLO_FILE = Workload("the same bytes from a file", path=HELLO, connections=CONNECTIONS)


def _page(about: str, beside: Workload | None = None) -> Workload:
    return Workload(about, "steady", connections=PAGE_CONNECTIONS, rate=PAGE_RATE, beside=beside)


def _steadily(load: Workload) -> Workload:
    return replace(load, generator="steady", rate=BESIDE_RATE)


WORKLOADS = {
    "hello": _HELLO,
    "hello-file": _HELLO_FILE,
    "page": Workload("1000-byte page", connections=CONNECTIONS),
    "kept": Workload("the page's bytes, a result kept by ttl", path="/kept", file=PAGE, connections=CONNECTIONS),
    "page-alone": _page("1000-byte page at a steady rate"),
    "page-beside-file": _page("the same while a file is asked for", _steadily(_HELLO_FILE)),
    "page-beside-servlet": _page("the same while a servlet is", _steadily(_HELLO)),
    "page-beside-file-full": _page("the same while a file is asked for as fast as it is answered", _HELLO_FILE),
    "page-beside-servlet-full": _page("the same while a servlet is", _HELLO),
}


def _own(workload: str) -> Cell:
    return Cell(workload, "zcserve")


def _beside(about: str, own: str, against: str, other: str, bound: float | None) -> tuple[Target, ...]:
    bounds = {P50: bound, P99: None}
    return tuple(Target(about, against, _own(own), _own(other), most, figure) for figure, most in bounds.items())


_STEADY = f"page, {PAGE_RATE:,}/s, a servlet beside it, {BESIDE_RATE:,}/s"
_FULL = f"page, {PAGE_RATE:,}/s, a servlet beside it, {CONNECTIONS} connections"
TARGETS = (
    Target("hello servlet", "hello of bjoern", _own("hello"), Cell("hello", "bjoern"), 0.80),
    Target("hello servlet", "hello of fastpysgi", _own("hello"), Cell("hello", "fastpysgi"), 0.70),
    Target("hello servlet", "1000-byte page of nginx", _own("hello"), Cell("page", "nginx"), 0.75),
    Target("hello servlet", "hello of Starlette on uvicorn", _own("hello"), Cell("hello", "starlette"), 0.20),
    Target("hello servlet", "itself, a file of these bytes", _own("hello"), _own("hello-file"), None),
    Target(f"result kept by ttl={KEPT_S}", "itself, a file of these bytes", _own("kept"), _own("page"), 1.05),
    *_beside(_STEADY, "page-beside-servlet", "itself, a file beside it", "page-beside-file", 1.10),
    *_beside(_STEADY, "page-beside-servlet", "itself, alone", "page-alone", None),
    *_beside(_FULL, "page-beside-servlet-full", "itself, a file beside it", "page-beside-file-full", None),
)
