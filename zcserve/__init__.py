"""zcserve: a web server that answers from memory.

from zcserve import Config, Server

with Server(Config(root="www", port=0)) as server:
    print(server.url)
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from zcserve.config import Config
    from zcserve.server import Server

__version__ = "0.1.0"
__all__ = ["Config", "Server", "__version__"]


def __getattr__(name: str) -> object:
    """Import on first use, so that `zcserve -V` and usage errors do not wait for the whole server."""
    if name == "Config":
        from zcserve.config import Config

        return Config
    if name == "Server":
        from zcserve.server import Server

        return Server
    raise AttributeError(f"module 'zcserve' has no attribute {name!r}")
