"""Connections to a server: by TCP or by a socket of the file system, and one request over them.

The client is Python's own `http.client`, which shares nothing with the server that is judged. What an answer should
be is not known here.
"""

from __future__ import annotations

import http.client
import socket
from collections.abc import Callable
from urllib.parse import urlsplit

from tools.warm.expected import Ask
from zcserve.errors import UsageError, reason_of


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


def trouble_of(error: Exception) -> str:
    """Why there is no answer, in a few words."""
    return "no answer in time" if isinstance(error, TimeoutError) else reason_of(error)


def probe(connection: http.client.HTTPConnection) -> str:
    """Why the server does not answer; empty when it does, whatever its answer is. The connection is closed."""
    try:
        connection.request("HEAD", "/")
        connection.getresponse().read()
    except (OSError, http.client.HTTPException) as error:
        return trouble_of(error)
    finally:
        connection.close()
    return ""


def get(connection: http.client.HTTPConnection, ask: Ask) -> http.client.HTTPResponse:
    """The head of the answer; asked again on a fresh connection when a kept one was closed meanwhile.

    Raises OSError and HTTPException.
    """
    kept = connection.sock is not None
    try:
        connection.request("GET", ask.key.decode(), headers={"Accept-Encoding": ask.accept})
        return connection.getresponse()
    except ConnectionError:
        connection.close()
        if not kept:
            raise
    return get(connection, ask)
