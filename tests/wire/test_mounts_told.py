"""What a mounted application does that cannot be, and what a client asks it for that it cannot have: answered, and told
once, on both engines."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from wsgiref.util import is_hop_by_hop

import pytest

from tests.support.site import Serve, Site
from tests.support.stage import ConnectTo, Mounted, NameApplication, asked, write_servlets

TIMES = 3
HOP_BY_HOP = (
    "Connection", "Keep-Alive", "Proxy-Authenticate", "Proxy-Authorization", "TE", "Trailers", "transfer-encoding",
    "UPGRADE",
)  # fmt: skip
UPGRADE = ("Upgrade: websocket", "Connection: keep-alive, Upgrade", "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==")  # fmt: skip


def hopping_wsgi(environ: Any, start_response: Any) -> list[bytes]:
    values = {"transfer-encoding": "chunked", "Connection": "close, X-Named"}
    fields = [(name, values.get(name, "x")) for name in (*HOP_BY_HOP, "x-named")]
    start_response("200 OK", [("Content-Type", "text/plain"), *fields, ("X-Kept", "kept"), ("Trailer", "X-T")])
    return [b"wsgi"]


async def hopping_asgi(scope: Any, receive: Any, send: Any) -> None:
    fields = [(name.encode(), b"X-NAMED" if name == "Connection" else b"x") for name in (*HOP_BY_HOP, "x-named")]
    await send({"type": "http.response.start", "status": 200, "headers": [*fields, (b"X-Kept", b"kept")]})
    await send({"type": "http.response.body", "body": b"asgi"})


def lines_of(caplog: pytest.LogCaptureFixture, what: str) -> list[str]:
    return [record.getMessage() for record in caplog.records if what in record.getMessage()]


@pytest.mark.parametrize("application", [hopping_wsgi, hopping_asgi])
def test_hop_by_hop_fields_are_left_out_and_told_once(
    application: Any, mounted: Mounted, client_of: ConnectTo, caplog: pytest.LogCaptureFixture
) -> None:
    assert all(map(is_hop_by_hop, HOP_BY_HOP))
    client = client_of(mounted(application))
    for _ in range(TIMES):
        answer = asked(client, "/app/")
        assert (answer.status, answer["X-Kept"], answer["Content-Length"]) == (200, b"kept", b"4")
        sent = {name.decode() for name, _ in answer.fields}
        assert not any(map(is_hop_by_hop, sent))
        assert sent.isdisjoint(("trailer", "x-named"))
    assert answer.body in (b"wsgi", b"asgi")
    for name in (*HOP_BY_HOP, "x-named"):
        (told,) = lines_of(caplog, f"sends the field {name.lower()}, which is left out")
        assert told.startswith("mount /app=")


def test_a_websocket_is_refused_with_a_line_that_says_why(
    mounted: Mounted, client_of: ConnectTo, caplog: pytest.LogCaptureFixture
) -> None:
    called: list[str] = []

    async def application(scope: Any, receive: Any, send: Any) -> None:
        called.append(scope["type"])
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"called"})

    client = client_of(mounted(application))
    for _ in range(TIMES):
        answer = asked(client, "/app/ws", *UPGRADE)
        assert (answer.status, b"WebSockets are not spoken here" in answer.body) == (501, True)
    assert called == ["lifespan"]
    (told,) = lines_of(caplog, "WebSocket")
    assert told.startswith("GET /app/ws asks for a WebSocket, which zcserve does not speak")
    # Any other upgrade is ignored, as the specification allows; so is one that is not asked for on this connection.
    for lines in (("Upgrade: h2c", "Connection: Upgrade, HTTP2-Settings"), UPGRADE[:1], ("Upgrade: h2c", UPGRADE[1])):
        assert asked(client, "/app/ws", *lines).body == b"called"
    assert asked(client, "/nothing", *UPGRADE).status == 404
    assert asked(client, "/app/ws", *UPGRADE, method="POST", body=b"x").body == b"called"


def test_servlets_refuse_websockets_and_files_do_not_care(
    live: Serve, site: Site, tmp_path: Path, client_of: ConnectTo
) -> None:
    site.write("page", b"a page")
    folder = write_servlets(tmp_path, plain='def get(request):\n    return "plain"\n')
    client = client_of(live(site.root, servlets=str(folder)))
    for _ in range(TIMES):
        # The fast lane must not learn from one request that the next, which looks alike, is plain.
        assert asked(client, "/csp?plain", "Upgrade: h2c", UPGRADE[1]).body == b"plain"
        assert asked(client, "/csp?plain", *UPGRADE).status == 501
        assert asked(client, "/csp?plain").body == b"plain"
        assert asked(client, "/page", *UPGRADE).body == b"a page"


class OfItsOwn:
    __slots__ = ("__call__",)

    def __init__(self) -> None:
        self.__call__ = hopping_asgi


@pytest.mark.parametrize("application", [OfItsOwn(), lambda s, r, w: hopping_asgi(s, r, w)])
def test_asgi_is_seen_in_whatever_is_callable(application: Any, mounted: Mounted, client_of: ConnectTo) -> None:
    assert asked(client_of(mounted(application)), "/app/").body == b"asgi"


def test_a_wrong_guess_is_a_line(
    live: Serve, site: Site, module: NameApplication, client_of: ConnectTo, caplog: pytest.LogCaptureFixture
) -> None:
    client = client_of(live(site.root, mount=(f"/app=wsgi:{module(OfItsOwn())}",)))
    assert asked(client, "/app/").status == 500
    (told,) = lines_of(caplog, "write asgi: before its module")
    assert "\n" not in told
    assert "Traceback" not in caplog.text
