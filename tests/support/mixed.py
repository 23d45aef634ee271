"""Servlets that answer in all ways, and targets of them and of files, for two servers that are to answer the same."""

from __future__ import annotations

from tests.support.engines import Engines, compare

MIXED = """
def get(request):
    return b"bytes for " + request.method.encode()

def post(request):
    return {"body": request.body.hex(), "length": len(request.body)}

@servlet("/kind/{kind}", methods=["POST", "PATCH", "DELETE"])
def told(request, kind):
    kinds = {"said": [request.method, request.target, request.headers.pairs, request.client, request.params],
             "text": lambda: request.json(), "empty": lambda: request.form.pairs, "made": lambda: request.body}
    return kinds[kind]() if kind != "said" else kinds[kind]

@servlet("/kind/{kind}")
def kind(request, kind):
    return KINDS[kind](request)

def fail(error):
    raise error

KINDS = {
    "said": lambda request: [request.target, request.headers.pairs, request.client],
    "text": lambda request: "gr\\u00fcn",
    "empty": lambda request: b"",
    "large": lambda request: b"l" * 300_000,
    "made": lambda request: Response("made", 201, {"X-A": "b"}),
    "none": lambda request: Response(status=204),
    "same": lambda request: Response(status=304, headers={"ETag": '"t"'}),
    "moved": lambda request: Response(status=303, headers={"Location": "/"}),
    "pieces": lambda request: iter(["one", "", "two"]),
    "gone": lambda request: fail(HttpError(410, "it is gone")),
    "wrong": lambda request: None,
    "sent": lambda request: Response(headers={"X-A": "b"}).send_file("/small.txt"),
    "unsent": lambda request: Response().send_file("/nothing"),
}

@servlet("/thread/{kind}", thread=True)
def in_thread(request, kind):
    return KINDS[kind](request)

@servlet("/async/{kind}", methods=["GET", "PUT"])
async def in_task(request, kind):
    return KINDS[kind](request)
"""
KINDS = (b"said", b"text", b"empty", b"large", b"made", b"none", b"same", b"moved", b"pieces", b"gone", b"wrong",
         b"sent", b"unsent", b"unknown")  # fmt: skip
TARGETS = (
    b"/", b"/small.txt", b"/large.bin", b"/csp?mixed", b"/csp?mixed", b"/csp?mixed&k=v", b"/csp?nobody", b"/csp",
    *(b"/kind/" + kind for kind in KINDS), *(b"/kind/" + kind + b"?q" for kind in KINDS[:4]),
    *(b"/thread/" + kind for kind in KINDS[::3]), *(b"/async/" + kind for kind in KINDS[1::3]),
)  # fmt: skip

# Ends the connection when all before it is answered. To close one side earlier would be to leave.
CLOSING = b"OPTIONS * HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n"
# After this time a stream that was not understood to its end is given up.
QUIET_S = 0.5


def compare_all(engines: Engines, pieces: list[bytes], pause_s: float = 0.0) -> bool:
    """As `compare`, waiting for what applications answer."""
    return compare(engines, [*pieces, CLOSING], pause_s, QUIET_S)
