"""An object store of NATS as a source (ADR-20): JetStream keeps an object as messages of some 128 KiB, its chunks, and
a record that says which chunks these are.

The name of an object is the path as a URL has it, without its first slash. Each chunk is asked for by itself ("direct
get", where the stream allows it): so what is not read yet stays at the server, whatever the rate, and nothing has to be
undone when a fetch ends in the middle. That is a round trip a chunk, and several objects come at the same time.

**After a failure an object goes on** with the chunk in which what is there ends. Its chunks lie in the stream between
those of others, and only they say how long they are: so the heads of those that are there are read, without what they
hold (a thousandth of it). A user that may make no consumer has the object from its beginning.

**The record is looked for from the beginning of the stream**, and not as a subject's last one, in which nats-server
2.9.10 has been seen to panic (jetstream.py). A new record takes the old one away; where it has not (a mirror of the
stream), the last of them counts.

Links are asyncio, and sources block: so it has a loop in a thread of its own.
"""

from __future__ import annotations

import asyncio
import base64
import concurrent.futures
import threading
from collections.abc import Coroutine, Iterator
from contextlib import suppress
from typing import Any, NamedTuple, TypeVar
from urllib.parse import unquote, urlsplit

from zcserve import threads
from zcserve.errors import UsageError
from zcserve.fleet import strict_json
from zcserve.fleet.bus import BusError
from zcserve.fleet.extra import require
from zcserve.fleet.jetstream import ALL, NO_STREAM, JetStream, JetStreamError, Stream
from zcserve.fleet.nats_link import Link, NotPermittedError
from zcserve.fleet.nats_place import NatsPlace
from zcserve.fleet.sources.source import CONNECT_S, READ_S, Opened, SourceError

T = TypeVar("T")

# Heads of chunks that are asked for at once: some 100 KB, which stand for 128 MB.
HEADS_AT_ONCE = 1024


class _Object(NamedTuple):
    """What its record says: the subject of its chunks, and how many bytes they have."""

    chunks: str
    size: int
    version: str


class _Place(NamedTuple):
    """Where a chunk begins: it is the first one of its subject from number `seq` on, and has byte `start`."""

    seq: int = 1
    start: int = 0


class ObjectsSource:
    def __init__(self, address: str) -> None:
        """`address` is nats://[USER:PASSWORD@]HOST[:PORT]/BUCKET, or tls://. It connects when the first object is
        asked for. Raises UsageError."""
        require("nats", "object stores of NATS")
        parts = urlsplit(address)
        bucket = unquote(parts.path.strip("/"))
        if not parts.hostname or not bucket or "/" in bucket or parts.query or parts.fragment:
            raise UsageError(f"source {address!r} is not understood; accepted: nats://HOST:PORT/BUCKET")
        self._place = NatsPlace.of(f"{parts.scheme}://{parts.netloc}")
        self._stream = Stream(f"OBJ_{bucket}", f"$O.{bucket}.>")
        self.name = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}/{bucket}"
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._is_closed = False
        self._is_direct: bool | None = None  # until it is known
        self._jetstream: JetStream  # of the loop

    def open(self, path: str, start: int, version: str) -> Opened:
        found = self._call(self._object(path.removeprefix("/")))
        if start > found.size or version not in ("", found.version):
            start = 0
        place = self._call(self._place_of(found, start)) if start else _Place()
        if place is None:
            place, start = _Place(), 0
        return Opened(self._pieces(found, place, start), lambda: None, start, found.size, found.version)

    def close(self) -> None:
        with self._lock:
            self._is_closed, loop, self._loop = True, self._loop, None
            if loop is not None:
                concurrent.futures.wait(
                    [asyncio.run_coroutine_threadsafe(self._jetstream.link.close(), loop)], CONNECT_S
                )
                loop.call_soon_threadsafe(loop.stop)
        if self._thread is not None:
            self._thread.join(CONNECT_S)

    def _pieces(self, found: _Object, place: _Place, start: int) -> Iterator[bytes]:
        seq, left = place.seq, found.size - place.start
        while left > 0:
            record = self._call(self._next(found.chunks, seq, READ_S))
            if record is None:
                raise SourceError("a chunk of it is not there any more", retry=True)
            data, seq, left = record.data, record.seq + 1, left - len(record.data)
            yield data[max(0, start - place.start) :]
            start = place.start

    # --- in the loop ------------------------------------------------------------------------------------------------

    async def _next(self, subject: str, seq: int, within_s: float) -> Any:
        return await self._jetstream.next(
            self._stream, subject, seq, is_direct=bool(self._is_direct), within_s=within_s
        )

    async def _object(self, name: str) -> _Object:
        """Raises SourceError, BusError."""
        if self._is_direct is None:
            about = await self._jetstream.api(f"STREAM.INFO.{self._stream.name}")
            self._is_direct = bool(about["config"].get("allow_direct"))
        subject = f"{self._prefix}.M.{base64.urlsafe_b64encode(name.encode()).decode()}"
        last = None
        while record := await self._next(subject, last.seq + 1 if last else 1, READ_S):
            last = record
        if last is None:
            raise SourceError("is not there", retry=False)
        try:
            told = strict_json.read(last.data, len(last.data))
            found = _Object(f"{self._prefix}.C.{told['nuid']}", int(told["size"]), str(told["nuid"]))
            is_deleted, is_link = bool(told.get("deleted")), bool((told.get("options") or {}).get("link"))
        except (ValueError, KeyError, TypeError, AttributeError):
            raise SourceError("has a record that is none of an object store's", retry=False) from None
        if is_deleted:
            raise SourceError("is not there", retry=False)
        if is_link:
            raise SourceError("is a link to another object, which is not followed", retry=False)
        return found

    async def _place_of(self, found: _Object, start: int) -> _Place | None:
        """The chunk that has byte `start`, or the end of the last; None where this user cannot know it. Raises
        BusError."""
        heads = {**ALL, "headers_only": True}
        try:
            reader = await self._jetstream.reader(self._stream, found.chunks, heads, HEADS_AT_ONCE)
        except NotPermittedError:
            return None
        begins = 0
        try:
            for _ in range(reader.left):
                record = await reader.next()
                if record is None:
                    break
                size = int((record.headers or {})["Nats-Msg-Size"])
                if begins + size > start or begins + size >= found.size:
                    return _Place(record.seq, begins)
                begins += size
        except (KeyError, ValueError):
            return None
        finally:
            with suppress(BusError):
                await reader.close()
        raise BusError("chunks of it are not there any more")

    @property
    def _prefix(self) -> str:
        return self._stream.subject.removesuffix(".>")

    # --- the loop ---------------------------------------------------------------------------------------------------

    def _begun(self) -> asyncio.AbstractEventLoop | None:
        """The loop, in its thread; None: the source is closed."""
        with self._lock:
            if self._loop is None and not self._is_closed:
                self._jetstream = JetStream(Link(self._place, "zcserve, a source of releases"))
                self._loop = asyncio.new_event_loop()
                self._thread = threads.start(self._run, "nats")
            return self._loop

    def _run(self) -> None:
        loop = self._loop
        assert loop is not None
        try:
            loop.run_forever()
            loop.run_until_complete(_end_all())
        finally:
            loop.close()

    def _call(self, what: Coroutine[Any, Any, T]) -> T:
        """What a coroutine returns that the loop runs. Raises SourceError."""
        loop = self._begun()
        if loop is None:
            what.close()
            raise SourceError("the source is closed", retry=False)
        future = asyncio.run_coroutine_threadsafe(what, loop)
        try:
            return future.result(READ_S + CONNECT_S)
        except JetStreamError as error:
            if error.code == NO_STREAM:
                raise SourceError("is not there", retry=False) from None
            raise SourceError(str(error), retry=True) from None
        except BusError as error:
            raise SourceError(str(error), retry=not isinstance(error, NotPermittedError)) from None
        except (TimeoutError, concurrent.futures.TimeoutError):
            future.cancel()
            raise SourceError("no answer in time", retry=True) from None
        except concurrent.futures.CancelledError:
            raise SourceError("the source is closed", retry=True) from None


async def _end_all() -> None:
    """End what the library left running in this loop."""
    left = asyncio.all_tasks() - {asyncio.current_task()}
    for task in left:
        task.cancel()
    await asyncio.gather(*left, return_exceptions=True)
