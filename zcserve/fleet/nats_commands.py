"""A node's way through the stream of commands over NATS.

**An ordered consumer, and a position of the node's own** (nats_position.py). A durable consumer would keep the place in
the server, too, but what was not acknowledged before a restart comes again only after its `ack_wait`, and so behind
what is newer. Here the order holds over restarts: first what is open, by its number, then what comes after the last one
that was heard. And a durable consumer does not tell what the stream has dropped before it.

The position is written when a command is acknowledged, and before the acknowledgement returns; what is acknowledged
meanwhile goes into one write. A gap is written before it is told.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from dataclasses import replace

from zcserve.fleet import nats_streams
from zcserve.fleet.bus import UNACKNOWLEDGED_MAX, Delivery, Gap
from zcserve.fleet.forms import FormError
from zcserve.fleet.jetstream import JetStream, JetStreamError, Record, from_number
from zcserve.fleet.messages import Command, parse_command
from zcserve.fleet.nats_link import lasting
from zcserve.fleet.nats_position import SAME_S, Position, dropped
from zcserve.log import Log

_log = Log(__name__)

# An agent that is started anew within this after a gap is told of it again: by then it has compared its content.
GAP_KEPT_S = 60.0


class NatsCommands:
    """Of one node of a site."""

    def __init__(self, jetstream: JetStream, site: str, node: str) -> None:
        self._jetstream = jetstream
        self._link = jetstream.link
        self._stream = nats_streams.commands(site)
        self._key = nats_streams.key(nats_streams.POSITION, site, node)
        self._aside = nats_streams.key(nats_streams.ASIDE, site, node)
        self._position: Position | None = None  # until it is read
        self._open: dict[str, dict[int, bytes]] = {}  # by id, the messages that are open
        self._room = asyncio.Event()
        self._gap_told_at = 0.0
        self._is_gap_due = False
        self._version = self._saved = 0
        self._saving = asyncio.Lock()

    def close(self) -> None:
        """Nothing waits any more. The link is closed before."""
        self._room.set()

    def deliveries(self) -> AsyncIterator[Delivery]:
        """See NodeBus."""
        again: deque[int] | None = None

        async def attempt() -> AsyncGenerator[Delivery | None]:
            nonlocal again
            await self._enter()
            if again is None:
                again, self._is_gap_due = deque(self._now.open), bool(self._now.gap)
            if self._is_gap_due:
                yield await self._gap()
            yield None
            async with aclosing(self._bring_open(again)) as brought:
                async for one in brought:
                    yield one
            async with aclosing(self._bring_new()) as brought:
                async for one in brought:
                    yield one

        return lasting(self._link, "commands", attempt)

    async def _bring_open(self, numbers: deque[int]) -> AsyncGenerator[Delivery | None]:
        """What was brought before, and is not done."""
        while numbers:
            if (number := numbers[0]) in self._now.open:
                record = await self._jetstream.at(self._stream, number)
                if record is None:
                    self._miss(self._now.without(number), "the stream of commands has dropped one that was not done")
                    yield await self._gap()
                    numbers.popleft()
                    continue
                numbers.popleft()
                yield self._opened(record)
            else:
                numbers.popleft()

    async def _bring_new(self) -> AsyncGenerator[Delivery | None]:
        """What comes after that, for ever."""
        reader = await self._jetstream.read(self._stream, self._stream.subject, from_number(self._now.heard + 1))
        try:
            while not self._link.is_closed:
                record = await reader.next()
                if record is None or record.seq <= self._now.heard:
                    yield None
                    continue
                if (lost := record.seq - self._now.heard - 1) > 0:
                    self._miss(self._now.heard_to(record.seq - 1), dropped(lost))
                    yield await self._gap()
                if await self._has_room():
                    self._set(self._now.heard_to(record.seq, record.time, is_open=True))
                    yield self._opened(record)
        finally:
            await reader.close()

    @property
    def _now(self) -> Position:
        assert self._position is not None, "it is read first"
        return self._position

    def _set(self, position: Position) -> None:
        if position != self._position:
            self._position = position
            self._version += 1

    async def _enter(self) -> None:
        """Find the place in the stream."""
        if self._position is None:
            record = await self._jetstream.last(nats_streams.POSITION, self._key)
            try:
                position = Position.parse(record.data) if record else Position()
            except FormError as error:
                _log.warning("the position of this node in the stream of commands cannot be read: %s", error)
                position = Position()
        else:
            position = self._position
        held = await self._jetstream.held(self._stream)
        is_same = True
        if position.time and position.made == held.made and held.first <= position.heard <= held.last:
            record = await self._jetstream.at(self._stream, position.heard)
            is_same = record is None or abs(record.time - position.time) < SAME_S
        entered = position.entered(held, is_same)
        if entered == position:
            self._position = position
            return
        if not entered.open:
            self._open.clear()
            self._room.set()
        self._miss(entered, entered.gap)

    def _miss(self, position: Position, gap: str) -> None:
        """Commands may have been lost before what comes after this position."""
        self._set(replace(position, gap=gap))
        self._is_gap_due = True

    async def _gap(self) -> Gap:
        """It is written, then told."""
        self._gap_told_at = time.monotonic()
        await self._save()
        self._is_gap_due = False
        return Gap(self._now.gap)

    def _opened(self, record: Record) -> Delivery:
        message = parse_command(record.data)
        name = message.id if isinstance(message, Command) else message.name
        self._open.setdefault(name, {})[record.seq] = record.data
        return message

    async def _has_room(self) -> bool:
        """Wait for it; False: the bus was closed."""
        while len(self._now.open) >= UNACKNOWLEDGED_MAX and not self._link.is_closed:
            self._room.clear()
            await self._room.wait()
        return not self._link.is_closed

    # -- what is over

    async def acknowledge(self, name: str) -> None:
        """See NodeBus."""
        numbers = self._open.pop(name, None)
        if numbers and self._position:
            self._set(self._position.without(*numbers))
            self._room.set()
        await self._save()

    async def set_aside(self, name: str, reason: str) -> None:
        """See NodeBus. Where the server refuses to store it, it is over all the same, since the log has named it: else
        some that are wrong would keep this node from all that come after them."""
        for number, data in list(self._open.get(name, {}).items()):
            headers = {"Zcserve-Name": _header(name), "Zcserve-Reason": _header(reason)}
            headers["Nats-Msg-Id"] = f"{self._aside}:{self._now.made}:{number}"
            try:
                await self._jetstream.append(nats_streams.ASIDE, self._aside, data, headers=headers)
            except JetStreamError as error:
                _log.error("command %s is set aside, and not kept for an operator: %s", name, error)
        await self.acknowledge(name)

    async def write_again(self) -> None:
        """The position, where another agent may have written over it. Raises BusError."""
        if self._position:
            self._version += 1
            await self._save()

    async def _save(self) -> None:
        """Write the position as it is now, unless it is written."""
        version = self._version
        async with self._saving:
            if self._saved >= version or self._position is None:
                return
            if self._now.gap and time.monotonic() - self._gap_told_at > GAP_KEPT_S:
                self._position = replace(self._now, gap="")
            version = self._version
            await self._jetstream.append(nats_streams.POSITION, self._key, self._now.dump())
            self._saved = version


def _header(text: str) -> str:
    """For a header of NATS, which is ASCII on one line."""
    return text.encode("ascii", "backslashreplace").decode().replace("\r", " ").replace("\n", " ")
