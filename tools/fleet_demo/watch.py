"""What nodes report, as it comes over the bus: it goes to the judge, and into the record."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable
from contextlib import aclosing
from typing import Any, cast

from tools.fleet_demo.load import Court
from tools.fleet_demo.processes import StageError, wait_until
from zcserve.fleet.bus import Heard, OperatorBus
from zcserve.fleet.messages import Release, State


class Watch:
    """A thread that listens. `build_of` tells the build of a tree; None: it is of no build."""

    def __init__(self, court: Court, build_of: Callable[[str], int | None], now: Callable[[], float]) -> None:
        self._court, self._build_of, self._now = court, build_of, now
        self.states: dict[str, State] = {}
        self._steps: dict[tuple[int, str], dict[str, float]] = {}
        self._shown: dict[str, tuple[int | None, int | None]] = {}
        self._errors: dict[str, str] = {}
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="watch", daemon=True)
        self._task: asyncio.Task[None] | None = None

    def start(self, bus: Callable[[], Any]) -> None:
        """`bus` makes an operator's side, in the thread."""
        logging.getLogger("zcserve").setLevel(logging.ERROR)  # that NATS is away is what a scene wants
        self._thread.start()

        async def begin() -> None:
            self._task = asyncio.create_task(self._listen(await bus()))

        asyncio.run_coroutine_threadsafe(begin(), self._loop).result(30)

    async def _listen(self, bus: OperatorBus) -> None:
        try:
            async with aclosing(cast(Any, bus.states())) as states:
                async for event in states:
                    if isinstance(event, Heard):
                        self._hear(event.state)
        finally:
            await bus.close()

    def _hear(self, state: State) -> None:
        """Only what is newer than what is known."""
        known = self.states.get(state.node)
        if known is not None and state.is_older_than(known):
            return
        self.states[state.node] = state
        live, prepared = self._of(state.live), self._of(state.prepared)
        court = self._court
        with court.lock:
            court.judge.reports(state.node, live, prepared, self._now())
        if state.release and (build := self._of(state.release)) is not None:
            self._steps.setdefault((build, state.stage), {}).setdefault(state.node, self._now())
        before = self._shown.get(state.node, (None, None))
        self._shown[state.node] = (live, prepared)
        if live is not None and live != before[0]:
            court.record.add(state.node, "live", f"build {live} is live", live)
        if prepared is not None and prepared != before[1]:
            court.record.add(state.node, "prepared", f"build {prepared} is prepared", prepared)
        if prepared is None and before[1] is not None:
            court.record.add(state.node, "let go", f"build {before[1]} is not prepared any more", before[1])
        if state.error and state.error != self._errors.get(state.node, ""):
            court.record.add(state.node, "note", state.error)
        self._errors[state.node] = state.error

    def _of(self, release: Release | None) -> int | None:
        return self._build_of(release.tree) if release else None

    def steps(self, build: int) -> dict[str, list[float]]:
        """When each node has reported first that it is at a stage with a build, by stage."""
        return {stage: list(times.values()) for (of, stage), times in self._steps.items() if of == build}

    def live(self, node: str) -> int | None:
        """The build that a node has reported last as live."""
        state = self.states.get(node)
        return self._of(state.live) if state else None

    def await_live(self, build: int, *nodes: str, within_s: float = 60.0) -> None:
        """Until these report it. Raises StageError."""
        try:
            wait_until("", lambda: all(self.live(node) == build for node in nodes), within_s)
        except StageError:
            found = ", ".join(f"{node} {self.live(node)}" for node in nodes)
            raise StageError(f"build {build} is not live within {within_s:g} s: {found}") from None

    def end(self) -> None:
        """It listens no more."""
        if not self._thread.is_alive():
            return

        async def end() -> None:
            if self._task is not None:
                self._task.cancel()
                await asyncio.wait([self._task])

        asyncio.run_coroutine_threadsafe(end(), self._loop).result(30)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
