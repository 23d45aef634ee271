"""A link that can be cut: a relay of TCP connections, in a thread of its own.

through   bytes go on
stalled   nothing goes on, and nothing is closed: as where a cable is pulled
cut       all connections are reset, and new ones are reset at once
"""

from __future__ import annotations

import asyncio
import socket
import struct
import threading
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any, TypeVar

T = TypeVar("T")
CHUNK_BYTES = 1 << 16
# An address, and its port.
Address = tuple[str, int]


class Relay:
    """Listens at an address for each of the targets. To be closed."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="relay", daemon=True)
        self._thread.start()
        self._open = asyncio.Event()
        self._open.set()
        self._is_cut = False
        self._writers: set[asyncio.StreamWriter] = set()
        self._servers: list[asyncio.Server] = []
        self.moved = 0  # bytes, in both directions

    def listen(self, host: str, target: Address) -> int:
        """Connections to a free port of `host` lead to the target; that port."""

        async def listen() -> int:
            async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                await self._relay(reader, writer, target)

            server = await asyncio.start_server(relay, host, 0)
            self._servers.append(server)
            port: int = server.sockets[0].getsockname()[1]
            return port

        return self._run(listen())

    def stall(self) -> None:
        """Nothing goes on."""
        self._loop.call_soon_threadsafe(self._open.clear)

    def cut(self) -> None:
        """What is there is reset, and what comes."""
        self._loop.call_soon_threadsafe(self._cut)

    def restore(self) -> None:
        """All goes on. What was stalled is reset first, as a firewall does that has forgotten it."""
        self._loop.call_soon_threadsafe(self._restore)

    def close(self) -> None:
        """End it."""

        async def close() -> None:
            for server in self._servers:
                server.close()
            self._cut()

        self._run(close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(10)

    def _cut(self) -> None:
        self._is_cut = True
        self._open.set()
        for writer in list(self._writers):
            reset(writer)

    def _restore(self) -> None:
        self._cut()
        self._is_cut = False

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, target: Address) -> None:
        self._writers.add(writer)
        other: asyncio.StreamWriter | None = None
        try:
            await self._open.wait()
            if self._is_cut:
                return reset(writer)
            back, other = await asyncio.open_connection(*target)
            self._writers.add(other)
            await asyncio.gather(self._copy(reader, other), self._copy(back, writer))
        except OSError:
            reset(writer)
        finally:
            for one in (writer, other):
                if one is not None:
                    self._writers.discard(one)
                    one.close()

    async def _copy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(CHUNK_BYTES):
            await self._open.wait()
            self.moved += len(data)
            writer.write(data)
            await writer.drain()
        with suppress(OSError):
            writer.write_eof()


def reset(writer: asyncio.StreamWriter) -> None:
    """Close a connection so that the peer sees a reset."""
    sock = writer.get_extra_info("socket")
    if sock is not None:
        with suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
