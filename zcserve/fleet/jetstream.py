"""JetStream as far as a bus needs it: append, the last record of a subject, and readers.

It speaks JetStream's own JSON (NATS ADR-1, 13, 20 and 37), by requests, so that each call has one end and one error.

**A reader is what NATS calls an ordered consumer** (ADR-37): a consumer without a name of its own and without
acknowledgements, which the server keeps in memory, and which is made anew where the reader was last. What it brings has
no holes: the server numbers what it sends, and a number that is missing ends the reader. A server that has nothing says
so every HEARTBEAT_S; a silence ends the reader, too. After its end it is the reader's owner that makes another one.

**A stream that is missing is made**, and one that is there is left as it is, whatever its limits: an operator may have
made it wider.
"""

from __future__ import annotations

import asyncio
import base64
import json
import math
import secrets
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from zcserve.fleet import strict_json
from zcserve.fleet.bus import BusError
from zcserve.fleet.nats_link import ANSWER_S, Link, NoStreamError
from zcserve.log import Log

if TYPE_CHECKING:
    from nats.aio.msg import Msg

_log = Log(__name__)

# Between two signs of life of a reader that has nothing to bring; two of them that are missing end it.
HEARTBEAT_S = 3.0
SILENT_S = 2.5 * HEARTBEAT_S
# A reader asks for more so often, at the least.
ASKS_EVERY_S = 60.0
# The server forgets a reader that has not asked for so long.
FORGOTTEN_S = 150.0
# A stream that was there and is missing is made anew after this: nats-server 2.9.10 tells of its end before it removes
# its directory, and removes that of the new stream then, which keeps nothing from then on.
GONE_S = 1.0
# A stream that was made, or is made at this moment, listens within this, and is written to again so often until then:
# a busy nats-server says that it is there before that.
LISTENS_S, LISTENS_AGAIN_S = 2.0, 0.02
# What a reader asks for at once. 64 of the largest messages are 16 MB.
BATCH = 64

_NS = 10**9
NO_STREAM = 10059
_NO_MESSAGE, _WRONG_LAST = 10037, (10071, 10164)
_NAME_IN_USE = 10058


class JetStreamError(BusError):
    """The server has refused a request: `code` is JetStream's `err_code`."""

    def __init__(self, what: str, error: Mapping[str, Any]) -> None:
        super().__init__(f"NATS, {what}: {error.get('description', error)}")
        self.code = error.get("err_code", 0)


class WrongLastError(BusError):
    """The subject's last record is another one by now."""


@dataclass(frozen=True, slots=True)
class Stream:
    """A stream as it is made where it is missing.

    name        of it
    subject     what it takes
    age_s       what is older is dropped; 0: nothing is
    bytes_max   of all, the oldest are dropped for new ones; -1: no limit
    records_max as well
    by_subject  of one subject, as well
    dedup_s     the same id within this is appended once
    """

    name: str
    subject: str
    age_s: float = 0.0
    bytes_max: int = -1
    records_max: int = -1
    by_subject: int = -1
    dedup_s: float = 120.0

    def config(self, replicas: int) -> dict[str, Any]:
        """As the server takes it."""
        return {
            "name": self.name,
            "subjects": [self.subject],
            "retention": "limits",
            "storage": "file",
            "discard": "old",
            "max_age": int(self.age_s * _NS),
            "max_bytes": self.bytes_max,
            "max_msgs": self.records_max,
            "max_msgs_per_subject": self.by_subject,
            "duplicate_window": int(self.dedup_s * _NS),
            "num_replicas": replicas,
            "allow_rollup_hdrs": True,
            "allow_direct": True,
        }


class Record(NamedTuple):
    """One record of a stream.

    seq    its number in the stream
    time   when it came to the server, by the server's clock, in seconds since 1970
    left   how many the reader has to bring after it, for now
    came   when it came here, by time.monotonic
    """

    subject: str
    data: bytes
    seq: int
    time: float
    left: int = 0
    came: float = 0.0
    headers: Mapping[str, str] | None = None


class Held(NamedTuple):
    """What a stream holds: when it was made, and its first and its last number (first > last: nothing)."""

    made: str
    first: int
    last: int


class JetStream:
    """The requests."""

    def __init__(self, link: Link) -> None:
        self.link = link
        self._refusing: set[str] = set()  # streams that took no record last
        self._known: set[str] = set()  # streams that were there

    async def api(self, verb: str, body: Mapping[str, Any] | None = None, within_s: float = ANSWER_S) -> dict[str, Any]:
        """One request of JetStream's API, and its answer. Raises JetStreamError, BusError."""
        data = json.dumps(body).encode() if body else b""
        answer = await self._ask(f"$JS.API.{verb}", data, within_s=within_s)
        if error := answer.get("error"):
            raise JetStreamError(verb, error)
        return answer

    async def _ask(
        self, subject: str, data: bytes, headers: Mapping[str, str] | None = None, within_s: float = ANSWER_S
    ) -> dict[str, Any]:
        message = await self.link.request(subject, data, headers, within_s)
        try:
            answer = strict_json.read(message.data, len(message.data))
        except ValueError:
            answer = None
        if not isinstance(answer, dict):
            raise BusError(f"NATS: an answer to {subject} is no JetStream's")
        return answer

    async def held(self, stream: Stream) -> Held:
        """What it holds; it is made where it is missing."""
        try:
            info = await self.api(f"STREAM.INFO.{stream.name}")
        except JetStreamError as error:
            if error.code != NO_STREAM:
                raise
            info = await self._make(stream)
        self._known.add(stream.name)
        state = info["state"]
        return Held(info["created"], max(state["first_seq"], 1), state["last_seq"])

    async def _make(self, stream: Stream) -> dict[str, Any]:
        if stream.name in self._known:
            await asyncio.sleep(GONE_S)
        try:
            return await self.api(f"STREAM.CREATE.{stream.name}", stream.config(self.link.place.replicas))
        except JetStreamError as error:
            if error.code != _NAME_IN_USE:
                raise
            return await self.api(f"STREAM.INFO.{stream.name}")  # another side was faster

    async def append(
        self,
        stream: Stream,
        subject: str,
        data: bytes,
        *,
        last: int | None = None,
        headers: Mapping[str, str] | None = None,
        within_s: float = ANSWER_S,
    ) -> int:
        """Append to it, and its number. `last`: only if that is the number of the subject's last record, 0: if it has
        none; raises WrongLastError else. The log is told once where the server refuses to store it."""
        all_headers = dict(headers or {})
        if last is not None:
            all_headers["Nats-Expected-Last-Subject-Sequence"] = str(last)
        try:
            number = await self._append(stream, subject, data, all_headers, within_s)
        except JetStreamError as error:
            if stream.name not in self._refusing:
                self._refusing.add(stream.name)
                _log.error(
                    "NATS stores nothing that is written to %s; it is written again until it does: %s",
                    stream.name,
                    error,
                )
            raise
        if stream.name in self._refusing:
            self._refusing.discard(stream.name)
            _log.info("NATS stores what is written to %s again", stream.name)
        return number

    async def _append(
        self, stream: Stream, subject: str, data: bytes, headers: Mapping[str, str], within_s: float
    ) -> int:
        until = math.inf
        while True:
            try:
                answer = await self._ask(subject, data, headers, within_s)
                break
            except NoStreamError:
                if time.monotonic() > until:
                    raise
            await self.held(stream)
            until = min(until, time.monotonic() + LISTENS_S)
            await asyncio.sleep(LISTENS_AGAIN_S)
        self._known.add(stream.name)
        if error := answer.get("error"):
            if error.get("err_code") in _WRONG_LAST:
                raise WrongLastError(f"{subject}: {error.get('description')}")
            raise JetStreamError(subject, error)
        return int(answer["seq"])

    async def last(self, stream: Stream, subject: str) -> Record | None:
        """The last record of a subject, as the stream's leader has it; None where there is none.

        By a reader: nats-server 2.9.10 has been seen to panic in STREAM.MSG.GET of a subject's last record, while a
        stream that keeps one of each subject was written."""
        try:
            reader = await self.reader(stream, subject, LAST, 1)
        except JetStreamError as error:
            if error.code == NO_STREAM:
                return None
            raise
        try:
            record = await reader.next() if reader.left else None
        finally:
            await reader.close()
        if reader.left and record is None:
            raise BusError(f"NATS: the last record of {subject} has not come, or was dropped at this moment")
        return record

    async def at(self, stream: Stream, seq: int) -> Record | None:
        """The record of this number; None where it is not there any more."""
        return await self._got(stream, {"seq": seq})

    async def next(
        self, stream: Stream, subject: str, seq: int, *, is_direct: bool = False, within_s: float = ANSWER_S
    ) -> Record | None:
        """The first record of a subject from number `seq` on; None where there is none.

        is_direct  ask any server that has the stream (ADR-31), which then comes as it is, and not in base64. The stream
                   must allow it
        """
        asked = {"seq": seq, "next_by_subj": subject}
        if not is_direct:
            return await self._got(stream, asked, within_s)
        data = json.dumps(asked).encode()
        message = await self.link.request(f"$JS.API.DIRECT.GET.{stream.name}", data, within_s=within_s)
        headers = message.headers or {}
        if status := headers.get("Status"):
            if status == "404":
                return None
            raise BusError(f"NATS, {stream.name}: {headers.get('Description', status)}")
        return Record(
            headers["Nats-Subject"],
            message.data,
            int(headers["Nats-Sequence"]),
            _seconds(headers["Nats-Time-Stamp"]),
        )

    async def _got(self, stream: Stream, asked: Mapping[str, Any], within_s: float = ANSWER_S) -> Record | None:
        """One record, or None. Not of `last_by_subj`: see `last`."""
        try:
            message = (await self.api(f"STREAM.MSG.GET.{stream.name}", asked, within_s))["message"]
        except JetStreamError as error:
            if error.code in (NO_STREAM, _NO_MESSAGE):
                return None
            raise
        data = base64.b64decode(message.get("data", ""))
        return Record(message["subject"], data, message["seq"], _seconds(message["time"]))

    async def drop(self, stream: Stream, subject: str) -> None:
        """Drop all records of a subject. None is no error."""
        try:
            await self.api(f"STREAM.PURGE.{stream.name}", {"filter": subject})
        except JetStreamError as error:
            if error.code != NO_STREAM:
                raise

    async def now(self, stream: Stream) -> float:
        """The time by the server's clock. A server of this age says it of a consumer that it makes, and nowhere
        else."""
        reader = await self.read(stream, stream.subject, {"deliver_policy": "new"})
        await reader.close()
        return reader.server_time(time.monotonic())

    async def read(self, stream: Stream, subject: str, start: Mapping[str, Any], batch: int = BATCH) -> Reader:
        """A reader of a subject, which may hold wildcards. `start`: `deliver_policy` and what goes with it. The stream
        is made where it is missing."""
        try:
            return await self.reader(stream, subject, start, batch)
        except JetStreamError as error:
            if error.code != NO_STREAM:
                raise
        await self._make(stream)
        return await self.reader(stream, subject, start, batch)

    async def reader(self, stream: Stream, subject: str, start: Mapping[str, Any], batch: int = BATCH) -> Reader:
        """The same, where a stream that is missing is an error (NO_STREAM). Raises JetStreamError, BusError."""
        name = secrets.token_hex(8)
        config = {
            "name": name,
            "ack_policy": "none",
            "filter_subject": subject,
            "inactive_threshold": int(FORGOTTEN_S * _NS),
            "mem_storage": True,
            "num_replicas": 1,
            **start,
        }
        body = {"stream_name": stream.name, "config": config}
        made = await self.api(f"CONSUMER.CREATE.{stream.name}.{name}.{subject}", body)
        self._known.add(stream.name)
        reader = Reader(self, f"{stream.name}.{name}", made, batch)
        await reader.begin()
        return reader


LAST = {"deliver_policy": "last_per_subject"}
ALL = {"deliver_policy": "all"}


def from_number(seq: int) -> dict[str, Any]:
    """Start at this record, or the first one after it."""
    return {"deliver_policy": "by_start_sequence", "opt_start_seq": seq}


class Reader:
    """Records of a subject, in order.

    left  how many there were when it was made
    """

    def __init__(self, jetstream: JetStream, consumer: str, made: Mapping[str, Any], batch: int) -> None:
        self.left = int(made.get("num_pending", 0))
        self._jetstream = jetstream
        self._consumer = consumer
        self._batch = batch
        self._made = (_seconds(made["created"]), time.monotonic())
        self._came: asyncio.Queue[tuple[float, Msg] | BusError] = asyncio.Queue()
        self._asked = 0  # records that are asked for and have not come
        self._number = 0
        self._inbox = ""

    async def begin(self) -> None:
        """Subscribe. Called once, before anything else."""

        def take(message: Msg) -> None:
            self._came.put_nowait((time.monotonic(), message))

        self._inbox, self._end = await self._jetstream.link.subscribe(take, self._came.put_nowait)

    async def close(self) -> None:
        """The server forgets it."""
        await self._end()
        if self._jetstream.link.is_connected:
            with suppress(BusError):  # it forgets it by itself
                await self._jetstream.api(f"CONSUMER.DELETE.{self._consumer}")

    def server_time(self, monotonic: float) -> float:
        """The server's time at a time here, which is exact to the time of one request."""
        server, here = self._made
        return server + monotonic - here

    async def next(self) -> Record | None:
        """The next record; None where there has been none for HEARTBEAT_S. Raises BusError where there will be no
        more."""
        while True:
            if not self._asked:
                await self._ask()
            try:
                async with asyncio.timeout(SILENT_S):
                    found = await self._came.get()
            except TimeoutError:
                refusal = self._jetstream.link.refusal
                raise BusError(f"NATS: nothing is heard of {self._consumer}{refusal and ': ' + refusal}") from None
            if isinstance(found, BusError):
                raise found
            came, message = found
            status = (message.headers or {}).get("Status") if not message.data else None
            if status is None:
                return self._taken(came, message)
            if status == "100":
                return None
            if status not in ("404", "408"):
                raise BusError(f"NATS: {self._consumer}: {(message.headers or {}).get('Description', status)}")
            self._asked = 0

    async def _ask(self) -> None:
        self._asked = self._batch
        asked = {"batch": self._batch, "expires": int(ASKS_EVERY_S * _NS), "idle_heartbeat": int(HEARTBEAT_S * _NS)}
        subject = f"$JS.API.CONSUMER.MSG.NEXT.{self._consumer}"
        await self._jetstream.link.publish(subject, json.dumps(asked).encode(), self._inbox)

    def _taken(self, came: float, message: Msg) -> Record:
        """A record, out of what the server says of it in the subject of its acknowledgement (ADR-15)."""
        said = message.reply.split(".")
        place = 5 if len(said) == 9 else 7  # with the account and the domain, or without
        stream_seq, number, nanoseconds, left = (int(part) for part in said[place : place + 4])
        self._asked -= 1
        self._number += 1
        if number != self._number:
            raise BusError(f"NATS: {self._consumer}: record {self._number} is missing, {number} came")
        return Record(message.subject, message.data, stream_seq, nanoseconds / _NS, left, came, message.headers)


def _seconds(rfc3339: str) -> float:
    """Seconds since 1970. The server writes up to nine digits behind the point."""
    whole, _, rest = rfc3339.rstrip("Z").partition(".")
    return datetime.fromisoformat(whole + "+00:00").timestamp() + float(f"0.{rest or 0}")
