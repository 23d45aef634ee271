"""Drives a rollout's states over a bus: what the bus brings are its events, and what it wants done is done there.

- **Actions are done one after the other.** One that the bus cannot do now is done again RETRY_S later, until it is
  done or the rollout has ended. Canaries are asked for their health beside that.
- **An operator that is interrupted leaves the rollout as it is**, and lets go of the claim: what is desired says how
  far it came, so the same command goes on with it.

It decides nothing, and shows nothing: `look` is called when something may have changed, at least every LOOK_EVERY_S.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import aclosing, suppress
from typing import Any, cast

from zcserve.fleet.bus import BusError, Claim, ClaimHeldError, ConflictError, OperatorBus
from zcserve.fleet.rollout import Rollout
from zcserve.fleet.rollout_words import (
    Action,
    AskHealth,
    Begin,
    Claimed,
    ClaimHeld,
    Conflict,
    End,
    Event,
    GiveUpClaim,
    Health,
    Publish,
    Put,
    PutDesired,
    ReadDesired,
    RenewClaim,
    TakeClaim,
    Tick,
)

# In seconds. A bus that is started anew takes about one.
RETRY_S = 1.0
LOOK_EVERY_S = 0.5
# For the last actions, once the rollout has ended: a claim that is not given up ends by itself.
SETTLE_S = 3.0


class Driver:
    """One run of a rollout.

    ask_health  asks one canary
    look        is called after each event, with the time
    holder      the rollout that has, or took, the site; "": none
    trouble     why the bus could not do what was asked of it last; "" once it could
    """

    def __init__(
        self,
        machine: Rollout,
        bus: OperatorBus,
        ask_health: Callable[[str], Awaitable[Health]],
        look: Callable[[float], None],
    ) -> None:
        self.machine, self._bus, self._ask_health, self._look = machine, bus, ask_health, look
        self._events: asyncio.Queue[Event | Exception] = asyncio.Queue()
        self._actions: asyncio.Queue[Action] = asyncio.Queue()
        self._claim: Claim | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self.holder = ""
        self.trouble = ""

    async def run(self) -> End:
        """From its beginning to its end. Raises what is no BusError."""
        clock = asyncio.get_running_loop().time
        self._start(self._listen())
        self._start(self._act())
        try:
            self._tell(Begin(), clock())
            while self.machine.end is None:
                event = await self._next(min(self.machine.due - clock(), LOOK_EVERY_S))
                if event is not None or clock() >= self.machine.due:
                    self._tell(Tick() if event is None else event, clock())
                self._look(clock())
            with suppress(TimeoutError):
                async with asyncio.timeout(SETTLE_S):
                    await self._actions.join()
            return self.machine.end
        finally:
            await self._stop()

    async def _next(self, within_s: float) -> Event | None:
        """The next event, if there is one so soon. Raises what a task has raised."""
        try:
            async with asyncio.timeout(max(within_s, 0)):
                found = await self._events.get()
        except TimeoutError:
            return None
        if isinstance(found, Exception):
            raise found
        return found

    def _tell(self, event: Event, now: float) -> None:
        for action in self.machine.on(event, now):
            if isinstance(action, AskHealth):
                for node in action.nodes:
                    self._start(self._ask(node))
            elif not isinstance(action, End):
                self._actions.put_nowait(action)

    def _start(self, work: Any) -> None:
        async def guarded() -> None:
            try:
                await work
            except Exception as error:
                self._events.put_nowait(error)

        task = asyncio.create_task(guarded())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _stop(self) -> None:
        """End the tasks, and let go of a claim that is held still."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._claim:
            with suppress(BusError, TimeoutError):
                async with asyncio.timeout(SETTLE_S):
                    await self._bus.give_up(self._claim)

    async def _listen(self) -> None:
        async with aclosing(cast(Any, self._bus.states())) as states:
            async for found in states:
                self._events.put_nowait(found)

    async def _ask(self, node: str) -> None:
        self._events.put_nowait(await self._ask_health(node))

    async def _act(self) -> None:
        while True:
            action = await self._actions.get()
            while self.machine.end is None or isinstance(action, GiveUpClaim):
                try:
                    event = await self._try(action)
                    break
                except BusError as error:
                    self.trouble = str(error)
                await asyncio.sleep(RETRY_S)
            else:
                event = None
            if event is not None:
                self._events.put_nowait(event)
            self._actions.task_done()

    async def _try(self, action: Action) -> Event | None:
        """The event that comes of an action, if one does. Raises BusError where it cannot be done now."""
        try:
            event = await self._do(action)
        except ClaimHeldError as held:
            self.holder, self._claim = held.holder, None
            event = ClaimHeld(held.holder, held.left_s)
        except ConflictError as conflict:
            event = Conflict(conflict.stored)
        self.trouble = ""
        return event

    async def _do(self, action: Action) -> Event | None:
        bus = self._bus
        match action:
            case TakeClaim(holder, lasts_s):
                self._claim = await bus.claim(holder, lasts_s)
                return Claimed()
            case RenewClaim(lasts_s) if self._claim:
                await bus.renew(self._claim, lasts_s)
            case GiveUpClaim() if self._claim:
                await bus.give_up(self._claim)
                self._claim = None
            case ReadDesired():
                return await bus.desired()
            case PutDesired(desired, after):
                await bus.put_desired(desired, after)
                return Put()
            case Publish(command):
                await bus.publish(command)
        return None
