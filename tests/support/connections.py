"""A service's connections as what they are: the rest of the server knows less of them (`service.Connected`)."""

from __future__ import annotations

from zcserve.net.connection import Connection
from zcserve.net.service import Service


def connections_of(service: Service) -> list[Connection]:
    """Those that are open now; any thread may ask."""
    return [one for one in list(service.connections) if isinstance(one, Connection)]
