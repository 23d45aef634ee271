"""The admin listener as one thing: what the server opens, fills in as it starts, hands on and closes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from zcserve.admin.application import Admin, refused
from zcserve.admin.dashboard import Dashboard
from zcserve.admin.door import Door, service_of
from zcserve.admin.events import Events
from zcserve.admin.explanations import EXPLAIN
from zcserve.admin.guard import Guard, is_loopback
from zcserve.admin.heat import ShownHeat
from zcserve.admin.node import Node, Reloaded, Upgraded
from zcserve.admin.orders import VERBS
from zcserve.admin.probes import PROBES
from zcserve.admin.stats import STATS
from zcserve.cache.fetcher import Fetcher
from zcserve.cache.index import Generation
from zcserve.cache.loader import Loader
from zcserve.cache.root import Root
from zcserve.config.addresses import TcpAddress, UnixAddress
from zcserve.config.table import Config
from zcserve.errors import UsageError, reason_of
from zcserve.net.inherited import Inherited
from zcserve.net.loop import Loop
from zcserve.net.prefixes import Prefixes
from zcserve.site.site import Site

# A token of fewer characters can be guessed.
TOKEN_BYTES_MIN = 16


class Office:
    """Where the operator is answered. In the loop's thread.

    node  to be filled in by the server
    """

    def __init__(
        self,
        config: Config,
        address: TcpAddress | UnixAddress,
        loop: Loop,
        prefixes: Prefixes,
        loader: Loader,
        *,
        reload: Callable[[Reloaded | None], object],
        upgrade: Callable[[Upgraded | None], str],
    ) -> None:
        """Raises UsageError."""
        self.address = address
        self.node = Node(config, loop, reload, upgrade)
        guard = _guard_of(config, address)
        site = Site(0, Generation(Root("/")))  # no file is its
        routes = (*PROBES, *STATS, EXPLAIN, ShownHeat(), Events(), Dashboard())
        site.application = Admin(self.node, guard, routes, VERBS)
        site.refuse = refused
        self._fetcher = Fetcher(loader, 1, loop.call_soon)  # which nothing is asked for
        self._service = service_of(config, loop, prefixes, self._fetcher, site)
        self._door: Door | None = None

    def open(self, inherited: Inherited | None = None) -> None:
        """Listen. Raises UsageError."""
        self._door = Door(self.address, self._service, inherited)

    @property
    def door(self) -> Door:
        """The socket; once it is open."""
        assert self._door is not None
        return self._door

    def close(self) -> None:
        """Close the socket, and all that has come through it."""
        if self._door is not None:
            self._door.end()
        self._fetcher.close(0)


def _guard_of(config: Config, address: TcpAddress | UnixAddress) -> Guard:
    token = _token_of(config.admin_token_file) if config.admin_token_file else b""
    tcp = address if isinstance(address, TcpAddress) else None
    if tcp is not None and not token and not is_loopback(tcp.host):
        raise UsageError(
            f"admin: {address} can be reached from elsewhere: use 127.0.0.1 or a unix socket, or --admin-token-file"
        )
    return Guard(tcp, token)


def _token_of(path: str) -> bytes:
    try:
        text = Path(path).read_bytes()
    except OSError as error:
        raise UsageError(f"admin_token_file: {path!r} cannot be read: {reason_of(error)}") from None
    token = text.split(b"\n")[0].strip()
    if len(token) < TOKEN_BYTES_MIN or not token.isascii():
        raise UsageError(
            f"admin_token_file: the first line of {path!r} must have {TOKEN_BYTES_MIN} ASCII characters or more"
        )
    return token
