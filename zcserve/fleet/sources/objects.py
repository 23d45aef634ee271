"""An object store of NATS as a source: JetStream keeps an object as messages of some 128 KiB.

The name of an object is the path as a URL has it, without its first slash. Each chunk is asked for by itself ("direct
get", where the stream allows it): so what is not read yet stays at the server, whatever the rate, and nothing has to be
undone when a fetch ends in the middle. That is a round trip a chunk, and several objects come at the same time.
An object begins anew after a failure: chunks can be found in order alone.

nats-py is asyncio, and sources block: so it has a loop in a thread of its own.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
from collections.abc import Coroutine, Iterator
from typing import Any, TypeVar
from urllib.parse import unquote, urlsplit

from zcserve import threads
from zcserve.errors import UsageError, words_of
from zcserve.fleet.extra import require
from zcserve.fleet.sources.source import CONNECT_S, READ_S, Opened, SourceError

T = TypeVar("T")


class ObjectsSource:
    def __init__(self, address: str) -> None:
        """`address` is nats://[USER:PASSWORD@]HOST[:PORT]/BUCKET, or tls://. It connects when the first object is
        asked for. Raises UsageError."""
        self._nats: Any = require("nats", "object stores of NATS")
        self._wrong: Any = require("nats.errors", "object stores of NATS")
        self._wrong_js: Any = require("nats.js.errors", "object stores of NATS")
        parts = urlsplit(address)
        self._bucket = unquote(parts.path.strip("/"))
        if not parts.hostname or not self._bucket or "/" in self._bucket or parts.query or parts.fragment:
            raise UsageError(f"source {address!r} is not understood; accepted: nats://HOST:PORT/BUCKET")
        self._server = f"{parts.scheme}://{parts.netloc}"
        self.name = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}/{self._bucket}"
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._connection: Any = None
        self._store: Any = None
        self._is_direct = False

    def open(self, path: str, start: int, version: str) -> Opened:
        self._connect()
        info = self._call(self._store.get_info(path.removeprefix("/")))
        if info.is_link():
            raise SourceError("is a link to another object, which is not followed", retry=False)
        return Opened(self._pieces(info), lambda: None, 0, info.size, info.nuid or "")

    def close(self) -> None:
        with self._lock:
            loop, self._loop = self._loop, None
            if loop is not None:
                if self._connection is not None:
                    concurrent.futures.wait(
                        [asyncio.run_coroutine_threadsafe(self._connection.close(), loop)], CONNECT_S
                    )
                    self._connection = self._store = None
                loop.call_soon_threadsafe(loop.stop)
        if self._thread is not None:
            self._thread.join(CONNECT_S)

    def _pieces(self, info: Any) -> Iterator[bytes]:
        manager = self._connection.jetstream()
        subject, at = f"$O.{self._bucket}.C.{info.nuid}", 1
        for _ in range(info.chunks):
            message = self._call(
                manager.get_msg(f"OBJ_{self._bucket}", seq=at, subject=subject, next=True, direct=self._is_direct)
            )
            at = message.seq + 1
            yield message.data or b""

    def _connect(self) -> None:
        """Raises SourceError."""
        with self._lock:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                self._thread = threads.start(self._run, "nats")
            if self._connection is not None and not self._connection.is_closed:
                return
            self._connection = self._store = None
            connection = self._call(self._opened())
            manager = connection.jetstream()
            about = self._call(manager.stream_info(f"OBJ_{self._bucket}"))
            self._is_direct = bool(about.config.allow_direct)
            self._store = self._call(manager.object_store(self._bucket))
            self._connection = connection

    def _run(self) -> None:
        loop = self._loop
        assert loop is not None
        try:
            loop.run_forever()
            loop.run_until_complete(_end_all())
        finally:
            loop.close()

    async def _opened(self) -> Any:
        async def pass_over(_: Exception) -> None:
            """What is lost is asked for again; the library would log each."""

        # A connection that is lost is made anew with the next object: `zcserve.fleet.receiving` says when.
        return await self._nats.connect(
            self._server,
            connect_timeout=CONNECT_S,
            allow_reconnect=False,
            max_reconnect_attempts=1,  # else the first connection is tried without end
            reconnect_time_wait=0.1,
            error_cb=pass_over,
        )

    def _call(self, what: Coroutine[Any, Any, T]) -> T:
        """What a coroutine returns that the loop runs. Raises SourceError."""
        loop = self._loop
        if loop is None:
            what.close()
            raise SourceError("the source is closed", retry=False)
        future = asyncio.run_coroutine_threadsafe(what, loop)
        try:
            return future.result(READ_S + CONNECT_S)
        except (self._wrong_js.NotFoundError, self._wrong_js.ObjectNotFoundError, self._wrong_js.BucketNotFoundError):
            raise SourceError("is not there", retry=False) from None
        except (TimeoutError, concurrent.futures.TimeoutError):
            future.cancel()
            raise SourceError("no answer in time", retry=True) from None
        except (self._wrong.Error, OSError, concurrent.futures.CancelledError) as error:
            raise SourceError(f"NATS: {words_of(error) or type(error).__name__}", retry=True) from None


async def _end_all() -> None:
    """End what the library left running in this loop."""
    left = asyncio.all_tasks() - {asyncio.current_task()}
    for task in left:
        task.cancel()
    await asyncio.gather(*left, return_exceptions=True)
