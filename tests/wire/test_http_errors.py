"""`HttpError` with fields and JSON, from servlets of every kind and from applications, on both engines."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.support.site import Serve, Site
from tests.support.stage import ConnectTo, Mounted, asked, write_servlets
from zcserve import HttpError

SERVLETS = """
def refuse():
    raise HttpError(429, headers=[("Retry-After", "30"), ("X-A", "1")], json={"error": "too many"})

@servlet("/loop")
def loop(request):
    refuse()

@servlet("/thread", thread=True)
def thread(request):
    refuse()

@servlet("/task")
async def task(request):
    refuse()

@servlet("/kept", ttl=60)
def kept(request):
    refuse()

@servlet("/bare")
def bare(request):
    raise HttpError(404)
"""


@pytest.mark.parametrize("path", ["/loop", "/thread", "/task", "/kept"])
def test_fields_and_json(live: Serve, site: Site, tmp_path: Path, client_of: ConnectTo, path: str) -> None:
    client = client_of(live(site.root, servlets=str(write_servlets(tmp_path, errors=SERVLETS))))
    for method in ("GET", "GET", "HEAD"):
        answer = asked(client, path, method=method)
        assert (answer.status, answer["Retry-After"], answer["X-A"]) == (429, b"30", b"1")
        assert (answer["Content-Type"], answer["Content-Length"]) == (b"application/json", b"20")
        assert answer.body == (b"" if method == "HEAD" else b'{"error":"too many"}')
    bare = asked(client, "/bare")
    assert (bare.status, b"<h1>404 Not Found</h1>" in bare.body) == (404, True)


def test_an_application_may_raise_it(mounted: Mounted, client_of: ConnectTo) -> None:
    def application(environ: Any, start_response: Any) -> list[bytes]:
        raise HttpError(403, headers={"X-A": "1"}, json=["no"])

    answer = asked(client_of(mounted(application)), "/app/")
    assert (answer.status, answer["X-A"], answer.body) == (403, b"1", b'["no"]')
