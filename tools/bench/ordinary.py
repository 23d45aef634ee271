"""What every site is asked for besides its pages: ranges, conditions, queries, what is not there. Tables only, measured
and judged as all promises are (targets.py).

Each kind of request is compared with our own page in the same rounds, and with the same requests to other servers. So
each kind has a workload of its own for our page, next to it in time. Answers are compared with the file beforehand;
those in a server's own words (404, 301, 416) only keep their status and their length from request to request.

What the kernel alone charges for the same answers (floor.py) is measured in the same rounds: no server can reach an aim
below that.

Where peers answer otherwise: Debian's nginx sends the site's siblings in gzip, the others send them in Brotli, which is
6% shorter. h2o 2.2 knows one strong tag in If-None-Match and nothing else, and no absolute-form target; it has no row
there. The programs for fastpysgi and bjoern hold their answers in a dict.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Sequence
from dataclasses import dataclass

from tools.bench.asking import Request
from tools.bench.content import FOLDER, PAGE, PAGE_BYTES, SITE, SITE_BYTES, SPACED, body_path
from tools.bench.floor import answer, numbered
from tools.bench.peers import PEERS as SERVERS
from tools.bench.peers import Peer, floor, zcserve_with_room
from tools.bench.rounds import Cell
from tools.bench.servlets import bjoern, fastpysgi, with_servlets
from tools.bench.steady import NUMBER
from tools.bench.targets import P99, Target
from tools.bench.workloads import BROWSER_HEADERS, Workload

CONNECTIONS = 64
PACE = 0.6
STREAM_REQUESTS = 1000  # of the mixture, before it begins again
PIPELINE = 16

BJOERN_PROGRAM = """\
import sys
import bjoern
def echo(environ, start_response):
    body = environ["wsgi.input"].read()
    start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(body)))])
    return [body]
bjoern.run(echo, "127.0.0.1", int(sys.argv[1]))
"""

# The files and their fields are made before the first request.
FASTPYSGI_PROGRAM = f"""\
import mimetypes
import pathlib
import sys
import fastpysgi
FILES = {{}}
for path in (pathlib.Path(sys.argv[2]) / {SITE[1:]!r}).glob("*"):  # none where other kinds are asked for
    if path.suffix not in (".br", ".gz"):
        kind = ("Content-Type", mimetypes.guess_type(path.name)[0] or "application/octet-stream")
        found = [("", [kind], path.read_bytes())]
        for coding, suffix in (("gzip", ".gz"), ("br", ".br")):
            sibling = path.with_name(path.name + suffix)
            if sibling.exists():
                fields = [kind, ("Content-Encoding", coding), ("Vary", "Accept-Encoding")]
                found.insert(0, (coding, fields, sibling.read_bytes()))
        FILES[{SITE + "/"!r} + path.name] = found
def site(environ, start_response):
    if environ["REQUEST_METHOD"] == "POST":
        start_response("200 OK", [("Content-Type", "application/json")])
        return [environ["wsgi.input"].read()]
    accepted = environ.get("HTTP_ACCEPT_ENCODING", "")
    for coding, fields, body in FILES.get(environ["PATH_INFO"], ()):
        if coding in accepted:
            start_response("200 OK", fields)
            return [body]
    start_response("404 Not Found", [])
    return [b"Not Found"]
fastpysgi.run(site, "127.0.0.1", int(sys.argv[1]))
"""


def peers(engine: str) -> dict[str, Peer]:
    """Our own server with this engine, and the others."""
    return {
        "zcserve": zcserve_with_room(engine),
        "zcserve-python": SERVERS["zcserve-python"],
        "zcserve-servlets": with_servlets(engine),
        "nginx": SERVERS["nginx"],
        "h2o": SERVERS["h2o"],
        "caddy": SERVERS["caddy"],
        "fastpysgi": fastpysgi(FASTPYSGI_PROGRAM),
        "bjoern": bjoern(BJOERN_PROGRAM),
        "floor": floor(lambda root: (answer(request, root) for name in FLOORED for request in KINDS[name].requests)),
    }


_PLAIN = Request()
_NEW = f"{{run}}{NUMBER}"
_LARGE, _LARGE_BYTES = body_path(1_000_000), 1_000_000
_HUGE, _HUGE_BYTES, _PIECE_BYTES = body_path(10_000_000), 10_000_000, 65_536
_PART = (500_000, 501_000)


def _if(name: str, value: str, status: int = 200) -> Request:
    return Request(headers=((name, value),), status=status)


def _ranged(value: str, *parts: tuple[int, int], file: str = _LARGE, **conditions: str) -> Request:
    fields = tuple((name.replace("_", "-"), told) for name, told in conditions.items())
    return Request(file, (("Range", f"bytes={value}"), *fields), status=206, file=file, parts=parts)


def _span(first: int, end: int, file: str = _LARGE, **conditions: str) -> Request:
    return _ranged(f"{first}-{end - 1}", (first, end), file=file, **conditions)


def _absent(target: str) -> Request:
    return Request(target, status=404, file="")


def _pieces() -> tuple[Request, ...]:
    places = range(0, _HUGE_BYTES - _PIECE_BYTES, _PIECE_BYTES)
    return tuple(_span(at, at + _PIECE_BYTES, _HUGE) for at in random.Random(1).sample(places, len(places)))


def _site() -> tuple[Request, ...]:
    accepted = (("Accept-Encoding", "gzip, deflate, br"),)
    return tuple(Request(f"{SITE}/{name}", accepted, file=f"{SITE}/{name}") for name in SITE_BYTES)


_TAG = _if("If-None-Match", "{etag}", 304)
_SINCE = _if("If-Modified-Since", "{modified}", 304)
_TAGS = _if("If-None-Match", '"0123456789abcdef", W/"fedcba9876543210", {etag}', 304)
_QUERY = Request(f"{PAGE}?v={_NEW}")


def _mixture(seed: int = 1) -> tuple[Request, ...]:
    """70% plain, 10% ranges, 10% conditional (a date, or one tag: all servers know these), 5% absent, 5% queries."""
    rng = random.Random(seed)
    starts = [rng.randrange(_LARGE_BYTES - PAGE_BYTES) for _ in range(STREAM_REQUESTS // 10)]
    twentieth = STREAM_REQUESTS // 20
    stream = [
        *(_span(at, at + PAGE_BYTES) for at in starts),
        *[_SINCE, _TAG] * twentieth,
        *[_absent(f"/absent/{_NEW}.html"), _QUERY] * twentieth,
        *[_PLAIN] * (14 * twentieth),
    ]
    rng.shuffle(stream)
    return tuple(stream)


_JSON = '{"name": "a hundred bytes", "id": 1234567890, "tags": ["one", "two", "three"], "text": "%s"}'
_ECHO = Request(
    "/csp?echo", (("Content-Type", "application/json"),), "POST", body=_JSON % ("." * (102 - len(_JSON))), file=""
)


@dataclass(frozen=True)
class Kind:
    """One kind of request, and how many times our own page (or `copy`, where there is one) it costs at most, and how
    many times what it costs each of `others`. None: that is told, and nothing is promised."""

    about: str
    requests: Sequence[Request]
    page: float | None = 1.10
    others: tuple[tuple[str, float | None], ...] = (("nginx", 1.0), ("h2o", 1.0))
    copy: Sequence[Request] = ()
    peer: str = "zcserve"
    pipeline: int = 1


def _below(nginx: float, **others: float | None) -> tuple[tuple[str, float | None], ...]:
    return (("nginx", nginx), *others.items())


_RANGE = 1.25
_HANDED = (("zcserve-python", 1.10),)
_TOLD, _TOLD_NGINX = (("nginx", None), ("h2o", None)), (("nginx", None),)
KINDS = {
    "plain": Kind("1000-byte page", [_PLAIN], None, (("nginx", 0.60), ("h2o", 0.75), ("caddy", None))),
    "range": Kind(
        "1 KB range of 1 MB", [_span(*_PART)], _RANGE, (("nginx", 0.65), ("h2o", 1.0), ("caddy", None))
    ),
    "range-open": Kind(
        "open range of 1 MB", [_ranged("999000-", (_LARGE_BYTES - 1000, _LARGE_BYTES))], _RANGE, _below(0.65, h2o=1.0)
    ),
    "range-suffix": Kind(
        "suffix range of 1 MB", [_ranged("-1000", (_LARGE_BYTES - 1000, _LARGE_BYTES))], _RANGE, _below(0.65, h2o=1.0)
    ),
    "range-64KB": Kind(
        "random aligned 64 KB range of 10 MB", _pieces(), 1.10, _below(0.90, h2o=1.0),
        copy=[Request(body_path(_PIECE_BYTES), file=body_path(_PIECE_BYTES))],
    ),
    "if-range-tag": Kind("If-Range, the tag", [_span(*_PART, If_Range="{etag}")], _RANGE, _below(0.65, h2o=1.0)),
    "if-range-date": Kind("If-Range, the date", [_span(*_PART, If_Range="{modified}")], _RANGE, _below(0.65, h2o=1.0)),
    "since": Kind("If-Modified-Since alone", [_SINCE], 1.10, _below(0.65, h2o=1.0)),
    "tags": Kind("If-None-Match, three tags", [_TAGS], 1.10, _below(0.75)),
    "query": Kind("?v=42", [Request(f"{PAGE}?v=42")], 1.10, _below(0.65, h2o=1.0)),
    "query-new": Kind("a new query each", [_QUERY], 1.10, _below(0.65, h2o=1.0)),
    "absent": Kind("404, the same path", [_absent("/absent.html")], 1.10, _below(0.85, h2o=1.0)),
    "absent-new": Kind("404, a new path each", [_absent(f"/absent/{_NEW}.html")], 1.10, _below(0.85, h2o=1.0)),
    "host-new": Kind("a new Host each", [Request(host=f"h{_NEW}.example")], 1.10, _below(0.70, h2o=1.0)),
    "slash": Kind("a directory's 301", [Request(FOLDER, status=301, file="")], 1.10, _below(0.70, h2o=1.0)),
    "space": Kind("a path with %20", [Request(SPACED.replace(" ", "%20"), file=SPACED)], 1.10, _below(0.70, h2o=1.0)),
    "head": Kind("HEAD of the page", [Request(method="HEAD")], 1.10, _below(0.70, h2o=1.0)),
    "site": Kind(
        "twenty files, coded, in rotation", _site(), None, _below(0.60, h2o=1.0, fastpysgi=0.55, caddy=None)
    ),
    "echo": Kind(
        "POST of 100 bytes of JSON, echoed", [_ECHO], None, (("bjoern", 0.85), ("fastpysgi", None)),
        peer="zcserve-servlets",
    ),
    "mixture": Kind("the mixture", _mixture(), 1.15, _below(1.0, h2o=1.0, caddy=None)),
    "cookie-new": Kind("a new Cookie each", [_if("Cookie", f"session={_NEW}")], None, _TOLD),
    "tag": Kind("If-None-Match, the tag", [_TAG], None, _TOLD),
    "tag-weak": Kind("If-None-Match, the tag made weak", [_if("If-None-Match", "W/{etag}", 304)], None, _TOLD_NGINX),
    "tag-any": Kind("If-None-Match: *", [_if("If-None-Match", "*", 304)], None, _TOLD_NGINX),
    "match": Kind("If-Match, the tag", [_if("If-Match", "{etag}")], None, _TOLD),
    "unmodified": Kind("If-Unmodified-Since", [_if("If-Unmodified-Since", "{modified}")], None, _TOLD),
    # The lane hands these over: that costs little more than the Python engine alone.
    "ranges": Kind(
        "two ranges", [_ranged("0-99,1000-1099", (0, 100), (1000, 1100))], None, (*_HANDED, *_TOLD)
    ),
    "options": Kind("OPTIONS", [Request(method="OPTIONS", file="")], None, _HANDED),
    "not-allowed": Kind("DELETE, 405", [Request(method="DELETE", status=405, file="")], None, _HANDED),
    "unread": Kind(
        "POST to a file, 405", [Request(method="POST", body="hello", status=405, file="")], None, _HANDED
    ),
    "chunked": Kind(
        "chunked POST to a file, 405", [Request(method="POST", body="hello", status=405, file="", chunked=True)], None,
        _HANDED,
    ),
    "range-beyond": Kind(
        "416, a range beyond the end",
        [Request(_LARGE, (("Range", f"bytes={_LARGE_BYTES}-"),), status=416, file="")], None, _TOLD,
    ),
    "absolute": Kind("absolute-form target", [Request(f"http://127.0.0.1:{{port}}{PAGE}")], 1.10, _below(0.70)),
    "browser": Kind(
        "Chrome's head", [Request(headers=(*BROWSER_HEADERS.items(), ("Cookie", f"session={_NEW}")))], 1.15,
        _below(0.60, h2o=0.90),
    ),
    "mixture-pipelined": Kind(f"the mixture, {PIPELINE} at once", _mixture(), None, _TOLD, pipeline=PIPELINE),
}  # fmt: skip
PACED = ("plain", "mixture")
# What the kernel alone charges is measured beside these: no request of theirs is new, so their answers are known.
FLOORED = (
    "plain", "range", "range-open", "range-suffix", "range-64KB", "if-range-tag", "if-range-date", "since", "tags",
    "absent", "slash", "space", "head", "site",
)  # fmt: skip
COMPARED = {name: kind.copy or [_PLAIN] for name, kind in KINDS.items() if name != "plain"}


def _beside(name: str) -> str:
    return f"{name} beside: {'copy' if KINDS[name].copy else 'page'}"


def _bare(name: str) -> str:
    return f"{name} by the floor"


def _bare_loads() -> dict[str, Workload]:
    numbers = itertools.count()
    asked = {name: [numbered(one, next(numbers)) for one in KINDS[name].requests] for name in FLOORED}
    return {_bare(name): _load("what the kernel charges for it", requests) for name, requests in asked.items()}


def _paced(name: str) -> str:
    return f"{name} at {PACE:.0%}"


def _load(about: str, requests: Sequence[Request], pipeline: int = 1, pace: float = 0.0) -> Workload:
    return Workload(about, "steady", connections=CONNECTIONS, pipeline=pipeline, pace=pace, requests=tuple(requests))


WORKLOADS = {
    **{name: _load(kind.about, kind.requests, kind.pipeline) for name, kind in KINDS.items()},
    **{_beside(name): _load("what it is compared with", requests) for name, requests in COMPARED.items()},
    **{_paced(name): _load(KINDS[name].about, KINDS[name].requests, pace=PACE) for name in PACED},
    **_bare_loads(),
}


def _targets(name: str, kind: Kind) -> list[Target]:
    own = Cell(name, kind.peer)
    against = "itself, a copy of 64 KB" if kind.copy else "itself, the page"
    others = [Target(kind.about, peer, own, Cell(name, peer), bound) for peer, bound in kind.others]
    if name in FLOORED:
        others += _bare_targets(kind, own, Cell(_bare(name), "floor"))
    if name not in COMPARED:
        return others
    return [Target(kind.about, against, own, Cell(_beside(name), "zcserve"), kind.page), *others]


def _bare_targets(kind: Kind, own: Cell, bare: Cell) -> list[Target]:
    """How near to the floor that is; and the floor in its place, for each promise."""
    promised = [peer for peer, bound in kind.others if bound is not None]
    return [
        Target(kind.about, "the floor", own, bare, None),
        *(Target(f"the floor: {kind.about}", peer, bare, Cell(own.workload, peer), None) for peer in promised),
    ]


def _late(name: str) -> list[Target]:
    about, at = f"{KINDS[name].about} at {PACE:.0%} of capacity", _paced(name)
    bounds: dict[str, float | None] = {"nginx": 1.0, "h2o": None}
    return [Target(about, peer, Cell(at, "zcserve"), Cell(at, peer), bound, P99) for peer, bound in bounds.items()]


TARGETS = {name: (*_targets(name, kind), *(_late(name) if name in PACED else ())) for name, kind in KINDS.items()}
