"""The agent of a node: it tells the machine (node_state.py) what happens, and does what the machine says.

    bus --commands, gaps, desired--> machine --actions--> bus, folders, server
    server --what it serves-------------^

- **The machine is told by one task**, an event at a time; what an action does runs in tasks of its own, and comes back
  as an event. What blocks is in a thread (background.py).
- **Serving needs no agent.** A server that is away, starts or ends is asked again; an agent that is away loses nothing
  that a start does not find: what is desired, the folders, what the server serves.
- **`current` leads to what the server serves**, or is about to serve. Where a flip is refused it is put back, so that a
  server that is started anew serves what it did.
- **What cannot be kept** (the disk is full) is told, and tried again: content that should be purged is not to wait for
  that.

The order of a flip: `current` is swapped, the server reloads and is waited for, and then it is looked at. What it says
that it serves is what is reported.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from math import inf
from typing import Any

from zcserve.errors import ZcserveError, reason_of
from zcserve.fleet import backoff
from zcserve.fleet.background import in_thread
from zcserve.fleet.bus import BusError, Gap, NodeBus
from zcserve.fleet.folders import CURRENT, FolderError, Folders
from zcserve.fleet.keeping import Kept
from zcserve.fleet.local_server import LocalServer, Seen, ServerError
from zcserve.fleet.lookout import Lookout
from zcserve.fleet.messages import Command, Release, State
from zcserve.fleet.node_memory import Memory
from zcserve.fleet.node_state import NodeState
from zcserve.fleet.node_words import (
    Acknowledge,
    Action,
    Done,
    Drop,
    Event,
    Failed,
    Fetch,
    Fetched,
    Flip,
    Flipped,
    Keep,
    Prepare,
    Prepared,
    Purge,
    ReadDesired,
    Report,
    SetAside,
    Tick,
    Undone,
    Warm,
)
from zcserve.fleet.obtaining import ObtainError, Obtaining
from zcserve.fleet.standby import Standby
from zcserve.log import Log

_log = Log(__name__)

MEMORY = "memory.json"
# How often it is told that the agent turns, in seconds.
TURN_EVERY_S = 10.0
# A purge that comes while the server is away waits so long for it, in seconds, before it has failed: it may just start.
ERRAND_WAITS_S = 2.0
# Purges and warmings that the server has at once; it has room for 32 verbs.
ERRANDS_MAX = 8


class Agent:
    """One node's, for one site. `run` is called once.

    keep_count, keep_age_s  release folders that stay beside those that are needed, and for how long
    drains_behind           whether the server is drained while it is behind (`NodeState.behind`)
    on_turn                 called every TURN_EVERY_S, as long as the agent turns
    beside                  what runs as long as the agent
    """

    def __init__(
        self,
        machine: NodeState,
        bus: NodeBus,
        server: LocalServer,
        obtaining: Obtaining,
        folders: Folders,
        kept: Kept,
        standby: Standby,
        *,
        keep_count: int,
        keep_age_s: float,
        drains_behind: bool = True,
        on_turn: Callable[[], object] = lambda: None,
        beside: Sequence[Coroutine[Any, Any, None]] = (),
    ) -> None:
        self._machine = machine
        self._bus = bus
        self._server = server
        self._obtaining = obtaining
        self._folders = folders
        self._kept = kept
        self._keep = (keep_count, keep_age_s)
        self._on_turn = on_turn
        self._beside = beside
        self._events: asyncio.Queue[Event] = asyncio.Queue()
        self._step: asyncio.Task[None] | None = None  # a Fetch or a Prepare
        self._dropping: asyncio.Task[None] | None = None
        self._reading: asyncio.Task[None] | None = None
        self._errands = asyncio.Semaphore(ERRANDS_MAX)
        self._unkept: Memory | None = None
        self._to_report: State | None = None
        self._has_report = asyncio.Event()
        self._standby = standby
        self._drains_behind = drains_behind
        self._was_behind = ""
        self._lookout = Lookout(
            server, standby, folders, self._events.put_nowait, lambda: machine.needed, lambda: self._behind
        )
        self._tasks: asyncio.TaskGroup

    async def run(self) -> None:
        """Until it is cancelled."""
        try:
            async with asyncio.TaskGroup() as self._tasks:
                for pump in (self._bus.deliveries(), self._bus.desired()):
                    self._begin(self._pump(pump))
                for work in (self._lookout.run(), self._report(), self._turn(), *self._beside):
                    self._begin(work)
                while True:
                    event = await self._next()
                    for action in self._machine.on(event, time.monotonic()):
                        await self._do(action)
                    if self._behind != self._was_behind:
                        self._was_behind = self._behind
                        self._lookout.look_soon()
        finally:
            await self._bus.close()

    @property
    def _behind(self) -> str:
        return self._machine.behind if self._drains_behind else ""

    async def _turn(self) -> None:
        while True:
            self._on_turn()
            if self._unkept is not None:
                await self._write(self._unkept)
            await asyncio.sleep(TURN_EVERY_S)

    def _begin(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        return self._tasks.create_task(work)

    async def _next(self) -> Event:
        """What happens next; a Tick, where the machine wants to go on before."""
        due = self._machine.due
        try:
            async with asyncio.timeout(None if due == inf else max(0.0, due - time.monotonic())):
                return await self._events.get()
        except TimeoutError:
            return Tick()

    async def _pump(self, events: AsyncIterator[Event]) -> None:
        async for event in events:
            if isinstance(event, Gap):
                _log.info("commands may have been missed, so all content is compared with its files: %s", event.reason)
            self._events.put_nowait(event)

    async def _do(self, action: Action) -> None:
        """Begin it; Keep ends here."""
        match action:
            case Keep(memory):
                await self._write(memory)
            case Fetch(release):
                await self._instead(self._fetch(release))
            case Prepare(release):
                await self._instead(self._prepare(release))
            case Flip(release):
                self._begin(self._flip(release))
            case Drop():
                await self._instead(None)
                self._dropping = self._begin(self._drop())
            case Purge(command):
                self._begin(self._errand(command, self._server.purge))
            case Warm(command):
                self._begin(self._errand(command, self._server.warm))
            case Acknowledge(name):
                self._begin(self._until_told(partial(self._bus.acknowledge, name)))
            case SetAside(name, why):
                _log.error("command %s is set aside: %s", name, why)
                self._begin(self._until_told(partial(self._bus.set_aside, name, why)))
            case ReadDesired():
                if self._reading is None or self._reading.done():
                    self._reading = self._begin(self._until_told(self._read_desired))
            case Report(state):
                self._to_report = replace(state, at=time.time())
                self._has_report.set()

    # --- a release ------------------------------------------------------------------------------------------------

    async def _instead(self, work: Coroutine[Any, Any, None] | None) -> None:
        """Begin a step instead of the one that runs; and nothing is dropped while it does."""
        for task in (self._step, self._dropping):
            if task is not None:
                task.cancel()
                await asyncio.wait((task,))
        self._step = self._begin(work) if work is not None else None
        self._dropping = None

    async def _fetch(self, release: Release) -> None:
        _log.info("release %d (%s) is wanted", release.sequence, release.rollout)
        await in_thread(self._standby.find_again, "find")
        try:
            await self._obtaining.obtain(release, self._bus.manifest)
        except ObtainError as error:
            self._undone(release, str(error), is_final=error.is_final)
        except Exception as error:
            self._surprise(release, error)
        else:
            self._lookout.found(release.tree)
            self._tell(Fetched(release))

    async def _prepare(self, release: Release) -> None:
        directory = self._folders.path_of(release.tree)
        try:
            with self._lookout.step():
                share = await in_thread(partial(self._prepared, release), "prepare")
        except (ServerError, FolderError) as error:
            self._undone(release, str(error), is_final=isinstance(error, ServerError) and error.is_final)
            self._lookout.doubt()
        except Exception as error:
            self._surprise(release, error)
        else:
            _log.info("release %d is prepared: %.0f%% of it in memory", release.sequence, 100 * share)
            self._lookout.know_prepared(directory)
            self._tell(Prepared(release, share))

    def _prepared(self, release: Release) -> float:
        """In a thread. Raises ServerError, FolderError."""
        self._standby.find_again()
        directory = self._folders.path_of(release.tree)
        if not self._folders.holds(release.tree):
            raise FolderError(f"{directory}: there is no such complete release")
        return self._server.prepare(directory)

    async def _flip(self, release: Release) -> None:
        """It is never ended in the middle, but with the process."""
        began = time.monotonic()
        try:
            with self._lookout.step():
                seen = await in_thread(partial(self._flipped, release), "flip")
        except (ServerError, FolderError, OSError) as error:
            self._undone(release, reason_of(error) if isinstance(error, OSError) else str(error))
            self._lookout.doubt()
        except Exception as error:
            self._surprise(release, error)
            self._lookout.doubt()
        else:
            took_ms = 1000 * (time.monotonic() - began)
            _log.info("release %d is live, %.0f ms after the flip began", release.sequence, took_ms)
            self._lookout.know(seen)
            self._tell(Flipped(release, seen.share))
            self._begin(self._collect(seen.kept))

    def _flipped(self, release: Release) -> Seen:
        """In a thread. Raises ServerError, FolderError, OSError."""
        self._standby.find_again()
        wanted = os.path.realpath(self._folders.path_of(release.tree))
        if self._folders.current() == release.tree and (seen := self._server.look()).served == wanted:
            return seen  # an agent that was ended in the middle has done it
        self._folders.point(release.tree)
        try:
            self._server.reload()
        except ServerError as error:
            if error.is_early:
                raise
            if (seen := self._server.look()).served != wanted:
                self._put_back()
                raise
            _log.warning("release %d is served; what else the server reloads failed: %s", release.sequence, error)
            return seen  # a site of its own reloads each: another one's root is not there
        seen = self._server.look()
        if seen.served != wanted:
            self._put_back()
            current = os.path.join(self._folders.path, CURRENT)
            raise ServerError(f"the server has reloaded, and serves {seen.served}: is its root {current}?")
        return seen

    def _put_back(self) -> None:
        """Have `current` lead to what the server serves, where that is a release."""
        with suppress(ServerError, FolderError, OSError):  # why it was refused says more
            if tree := self._lookout.tree_of(self._server.look().served):
                self._folders.point(tree)

    async def _drop(self) -> None:
        """Until it is done, or a Prepare follows."""
        await self._until_told(partial(in_thread, self._server.drop, "drop"))

    async def _collect(self, kept: int) -> None:
        """Folders that are of no use any more go. The server still serves from so many (`keep_generations`): those
        that were used last."""
        needed, folders = self._machine.needed, self._folders

        def collect() -> list[str]:
            others = [one.tree for one in folders.complete() if one.tree not in needed]
            return folders.collect(*self._keep, needed.union(others[:kept]))

        try:
            with self._lookout.collecting() as forget:
                gone = await in_thread(collect, "collect")
                forget(gone)
        except (OSError, ZcserveError) as error:
            _log.warning("release folders that are of no use cannot be removed: %s", reason_of(error))
            return
        for tree in gone:
            _log.info("release folder %s is removed: it is of no use any more", tree[:12])

    def _undone(self, release: Release, why: str, *, is_final: bool = False) -> None:
        if is_final:
            _log.error("release %d is given up for now: %s", release.sequence, why)
        else:
            _log.warning("release %d has failed, and is tried again: %s", release.sequence, why)
        self._tell(Undone(release, why, is_final, is_lost=not self._folders.holds(release.tree)))

    def _surprise(self, release: Release, error: Exception) -> None:
        """A fault of the agent's own, or of the system: it goes on."""
        _log.error("a fault of the agent at release %d: %s", release.sequence, reason_of(error), exc_info=error)
        self._tell(Undone(release, f"{type(error).__name__}: {reason_of(error)}"))

    # --- purges and warmings ----------------------------------------------------------------------------------------

    async def _errand(self, command: Command, work: Callable[[Command], int | None]) -> None:
        async with self._errands:
            with suppress(TimeoutError):
                async with asyncio.timeout(ERRAND_WAITS_S):
                    await self._lookout.is_there.wait()
            try:
                purged = await in_thread(partial(work, command), command.op)
            except ServerError as error:
                # One that is away is told of by the lookout: each command that waits for it would say the same.
                tell = _log.warning if self._lookout.is_there.is_set() else _log.debug
                tell("command %s is not done (%s): %s", command.id, command.op, error)
                self._tell(Failed(command.id, str(error), error.is_final))
            except Exception as error:
                _log.error("a fault of the agent at command %s: %s", command.id, reason_of(error), exc_info=error)
                self._tell(Failed(command.id, reason_of(error)))
            else:
                self._tell(Done(command.id, purged or 0))

    # --- the bus --------------------------------------------------------------------------------------------------

    def _tell(self, event: Event) -> None:
        self._events.put_nowait(event)

    async def _read_desired(self) -> None:
        self._tell(await self._bus.read_desired())

    async def _until_told(self, tell: Callable[[], Awaitable[None]]) -> None:
        """Tell the bus or the server, again until it has heard."""
        tries = 0
        while True:
            try:
                return await tell()
            except (BusError, ServerError) as error:
                tries += 1
                _log.debug("tried again: %s", error)
            await asyncio.sleep(backoff.wait_s(tries, "tell"))

    async def _report(self) -> None:
        """The newest state goes out; one that is not out when the next comes need not go."""
        tries = 0
        while True:
            await self._has_report.wait()
            self._has_report.clear()
            state = self._to_report
            assert state is not None
            try:
                await self._bus.report(state)
                tries = 0
            except BusError as error:
                tries += 1
                _log.debug("not reported: %s", error)
                self._has_report.set()
                await asyncio.sleep(backoff.wait_s(tries, state.node))

    # --- the disk -------------------------------------------------------------------------------------------------

    async def _write(self, memory: Memory) -> None:
        try:
            await in_thread(lambda: self._kept.write(MEMORY, memory.dump()), "keep")
            self._unkept = None
        except (OSError, ZcserveError) as error:
            _log.error("what is desired cannot be kept, and is tried again: %s", reason_of(error))
            self._unkept = memory
