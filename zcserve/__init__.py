"""zcserve: a web server that answers from memory.

from zcserve import Config, Server

with Server(Config(root="www", port=0)) as server:
    print(server.url)
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from zcserve.config.table import Config
    from zcserve.errors import HttpError
    from zcserve.server import Server
    from zcserve.servlets.request import Request
    from zcserve.servlets.response import Response
    from zcserve.servlets.routes import servlet

__version__ = "0.1.0"
__all__ = ["Config", "HttpError", "Request", "Response", "Server", "__version__", "servlet"]

_HOMES = {
    "Config": "config.table",
    "HttpError": "errors",
    "Request": "servlets.request",
    "Response": "servlets.response",
    "Server": "server",
    "servlet": "servlets.routes",
}


def __getattr__(name: str) -> object:
    """Import on first use, so that `zcserve -V` and usage errors do not wait for the whole server."""
    if (home := _HOMES.get(name)) is not None:
        return getattr(import_module(f"zcserve.{home}"), name)
    raise AttributeError(f"module 'zcserve' has no attribute {name!r}")
