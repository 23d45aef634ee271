"""A node's own state in NATS, and how two agents of one name are noticed.

A state is one record, which each report replaces by compare-and-set: where the last record is not this agent's own,
something else has written it. That costs nothing, and a run that has ended is never taken for another agent: what it
sent at its end is refused, since it was to replace its own record.

**Both say so, in their states and in the log, and the one that was there first goes on**: a new machine with the flags
of an old one is what mostly happens, and the old one serves clients. Which was first is said by the number of each
one's first record (`State.since`), and by no clock. The later one ends (NameTakenError) when it has found a second
record of the other: so the other lives, and was not ended just after the later one was begun.

The position in the stream of commands has one record for a name, too: the one that goes on writes its own again.

An agent of an earlier version does not compare, and says no `since`: it counts as the later one, and is told of.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from dataclasses import replace

from zcserve.fleet import nats_streams
from zcserve.fleet.bus import BusError, NameTakenError
from zcserve.fleet.forms import FormError
from zcserve.fleet.jetstream import JetStream, WrongLastError
from zcserve.fleet.messages import REPORT_EVERY_S, State, reason
from zcserve.fleet.nats_link import NotPermittedError
from zcserve.fleet.nats_streams import STATE
from zcserve.log import Log

_log = Log(__name__)

# An agent that was noticed is told of for so long after its last record, in seconds: it would have reported by then.
NOTICED_S = 4 * REPORT_EVERY_S
# A record that others come before is written again, so often at once.
TRIES_MAX = 5


class Reports:
    """Of one agent. `mend` is called where another one of its name may have written over what else it has."""

    def __init__(self, jetstream: JetStream, site: str, node: str, mend: Callable[[], Awaitable[None]]) -> None:
        self._jetstream = jetstream
        self._node = node
        self._key = nats_streams.key(STATE, site, node)
        self._mend = mend
        self._last: int | None = None  # of the record that the next one replaces; None: it is not known
        self._is_blind = False
        self._since = 0
        self._other: State | None = None  # of another agent, as it was noticed last
        self._noticed_at = 0.0

    async def report(self, state: State) -> None:
        """See NodeBus. Raises NameTakenError, BusError."""
        if self._last is None and not self._is_blind:
            await self._begin()
        if self._other and time.monotonic() - self._noticed_at > NOTICED_S:
            _log.info("no other agent says that it is %s any more", self._node)
            self._other = None
            await self._mend()
        for _ in range(TRIES_MAX):
            try:
                seq = await self._jetstream.append(STATE, self._key, self._told(state).dump(), last=self._last)
            except WrongLastError:
                await self._look(state)
                continue
            if not self._is_blind:
                self._last, self._since = seq, self._since or seq
            return
        raise BusError(f"the state of {self._node} changes too fast")

    async def _begin(self) -> None:
        """Whatever is there may be an earlier run's: nothing is said of it."""
        try:
            record = await self._jetstream.last(STATE, self._key)
            self._last = record.seq if record else 0
        except NotPermittedError as error:
            self._is_blind = True
            _log.warning("a second agent with the name of this one would not be noticed: %s", error)

    def _told(self, state: State) -> State:
        """As it is reported."""
        if self._other is None:
            return replace(state, since=self._since)
        which = "began later" if self._is_later(self._other) else "was there before"
        words = f"two agents say they are {self._node}, and the other one {which}"
        return replace(state, since=self._since, error=reason(f"{words}; {state.error}" if state.error else words))

    def _is_later(self, other: State) -> bool:
        return other.since == 0 or other.since > self._since

    async def _look(self, state: State) -> None:
        """At a record that is not the last one of this agent's. Raises NameTakenError, BusError."""
        record = await self._jetstream.last(STATE, self._key)
        if record is None:  # an operator has had it forgotten; or NATS has lost it, and counts anew
            self._last = self._since = 0
            return
        self._last = record.seq
        try:
            other = State.parse(record.data)
        except FormError:
            return  # written by hand
        if other.boot == state.boot or not self._since:
            return  # it is this one's, whose answer was lost; or this one begins
        known, self._other, self._noticed_at = self._other, other, time.monotonic()
        if self._is_later(other):
            if known is None:
                _log.error(
                    "two agents say they are %s: another one began later, and each writes over what the other reports;"
                    " give one of them another --node",
                    self._node,
                )
            await self._mend()
        elif known and known.boot == other.boot and other.number > known.number:
            raise NameTakenError(f"another agent is node {self._node}, and was there before: it goes on")
        else:
            _log.error(
                "two agents say they are %s: another one was there before, and this one ends if it reports once more",
                self._node,
            )
