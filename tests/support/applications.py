"""A WSGI and an ASGI application that tell what they were asked: a server's process can mount them by name."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any


def wsgi(environ: Any, start_response: Any) -> Iterator[bytes]:
    start_response("200 OK", [("Content-Type", "application/json")])
    n = environ["PATH_INFO"].removeprefix("/")
    cookies = dict([environ["HTTP_COOKIE"].split("=")])
    body = environ["wsgi.input"].read().decode()
    content = json.dumps([environ["QUERY_STRING"], {"n": n}, environ["HTTP_X_N"], cookies, body]).encode()
    for at in range(0, len(content), 20):
        yield content[at : at + 20]


async def asgi(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] != "http":
        raise RuntimeError("http alone")
    body = (await receive())["body"].decode()
    fields = {name.decode(): value.decode() for name, value in scope["headers"]}
    n = scope["path"].removeprefix(scope["root_path"] + "/")
    cookies = dict([fields["cookie"].split("=")])
    content = json.dumps([scope["query_string"].decode(), {"n": n}, fields["x-n"], cookies, body]).encode()
    await send({"type": "http.response.start", "status": 200})
    for at in range(0, len(content), 20):
        await send({"type": "http.response.body", "body": content[at : at + 20], "more_body": True})
    await send({"type": "http.response.body"})
