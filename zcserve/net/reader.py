"""Heads of one connection as they are read, where the log or an application is to know more of them than their request:
who asks, by what a trusted proxy says, and what the service's notes keep (notes.py).

A server with neither needs no such object, and calls the parser itself. What is found here the log's line says later:
so the `Writer` is told of it.
"""

from __future__ import annotations

from zcserve.forwarded import Origin
from zcserve.net.output import Output
from zcserve.net.request import Parsed
from zcserve.net.service import Service
from zcserve.net.writer import Writer


class Reader:
    """Of one connection.

    origin  what a trusted proxy says of the last request that was read; None: nothing, so the peer asks
    """

    __slots__ = ("_output", "_peer", "_proxies", "_service", "_writer", "origin")

    def __init__(self, service: Service, output: Output, writer: Writer, peer: str) -> None:
        """`peer` as of `Transport`."""
        self._service = service
        self._output = output
        self._writer = writer
        self._peer = peer
        self._proxies = service.proxies if service.proxies is not None and service.proxies.trusts(peer) else None
        self.origin: Origin | None = None

    @property
    def is_needed(self) -> bool:
        """Whether there is more to know than the parser tells."""
        return self._proxies is not None or self._service.notes is not None

    def read(self, data: bytes, start: int, request_id: bytes = b"") -> Parsed | None:
        """As `Parser.parse`; an application knows the request by `request_id`."""
        writer, notes = self._writer, self._service.notes
        writer.client, self.origin = self._peer, None
        if notes is not None:
            writer.note = note = notes.begin(self._output.began)
        parsed = self._service.parser.parse(data, start)
        if parsed is None:
            return None
        if notes is not None:
            notes.read(note, data[start : parsed[3]], request_id)
        if self._proxies is not None:
            self.origin = self._proxies.origin(self._peer, data[start : parsed[3]])
            if self.origin is not None:
                writer.client = self.origin.client.name
        return parsed
