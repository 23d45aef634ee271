"""An operator: has a rollout run over a link to the bus, does what it wants one after the other, and can be killed."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable

from tools.fleet_sim.bus import SimBus
from tools.fleet_sim.clock import Clock, Desk
from tools.fleet_sim.network import Link
from zcserve.fleet.bus import Caught, ClaimHeldError, Heard
from zcserve.fleet.messages import Command
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
    Plan,
    Publish,
    Put,
    PutDesired,
    ReadDesired,
    RenewClaim,
    TakeClaim,
    Tick,
)

# What raises BusError is done again after this, in seconds.
AGAIN_S = 1.0


class SimOperator:
    """One run of a rollout. `desk`: it reads one state at a time; `cpu_s`: what the machine has really taken."""

    def __init__(
        self, clock: Clock, link: Link, bus: SimBus, plan: Plan, state_s: float, is_well: Callable[[str], bool | None]
    ) -> None:
        self.link, self.plan = link, plan
        self.desk = Desk(clock, state_s)
        self.machine = Rollout(bus.desired.site, plan)
        self.phases: dict[str, float] = {}
        self.done_at: dict[str, dict[str, float]] = {}  # of a command: when each node was heard to have done it
        self.cpu_s = 0.0
        self._clock, self._bus, self._is_well = clock, bus, is_well
        self._waiting: deque[Action] = deque()
        self._is_busy = False
        self._tick_at = 0.0
        self.is_killed = False

    @property
    def end(self) -> End | None:
        """How it ended."""
        return self.machine.end

    def start(self) -> None:
        """Begin, and hear of all states that there are."""
        self.tell(Begin())
        self._bus.watch(self)
        for state, at in list(self._bus.states.values()):
            heard = Heard(state, self._clock.now - at)
            self._clock.after(self.link.latency_s(), lambda heard=heard: self.hear_state(heard))  # type: ignore[misc]
        self._clock.after(self.link.latency_s() + 0.5, lambda: self.desk.take(lambda: self.tell(Caught())))

    def kill(self) -> None:
        """It is gone, whatever it was about."""
        self.is_killed = True
        self._bus.unwatch(self)

    def hear_state(self, heard: Heard) -> None:
        """A state has come, and is read after those before it."""
        self.desk.take(lambda: self.tell(heard))

    def tell(self, event: Event) -> None:
        """Tell the machine, and do what it wants."""
        if self.is_killed:
            return
        if isinstance(event, Heard):
            for command in event.state.done:
                self.done_at.setdefault(command, {}).setdefault(event.state.node, self._clock.now)
        began = time.perf_counter()
        actions = self.machine.on(event, self._clock.now)
        self.cpu_s += time.perf_counter() - began
        self.phases.setdefault(self.machine.phase.value, self._clock.now)
        self._waiting += actions
        if self.machine.end:
            self._waiting = deque(action for action in self._waiting if isinstance(action, (GiveUpClaim, Publish)))
        self._next()
        self._wake()

    def _wake(self) -> None:
        due = self.machine.due
        if due == float("inf") or self._clock.now < self._tick_at <= due:
            return
        self._tick_at = due

        def tick() -> None:
            if self._tick_at == due:
                self._tick_at = 0.0
                self.tell(Tick())

        self._clock.after(due - self._clock.now, tick)

    def _next(self) -> None:
        """Do the next action, when the one before has been done."""
        if self._is_busy or not self._waiting or self.is_killed:
            return
        self._is_busy = True
        self._do(self._waiting.popleft())

    def _do(self, action: Action) -> None:
        rollout, bus = self.plan.release.rollout, self._bus
        match action:
            case TakeClaim(holder, lasts_s):
                self._ask(action, lambda: bus.claim(holder, lasts_s), self._claimed)
            case RenewClaim(lasts_s):
                self._ask(action, lambda: bus.claim(rollout, lasts_s), self._renewed)
            case GiveUpClaim():
                self._ask(action, lambda: bus.give_up(rollout), lambda _: None)
            case ReadDesired():
                self._ask(action, lambda: bus.desired, lambda desired: desired)
            case PutDesired(desired, after):
                self._ask(action, lambda: bus.put(desired, after), lambda old: Conflict(old) if old else Put())
            case Publish(command):
                self._ask(action, lambda: self.publish(command), lambda _: None)
            case AskHealth(nodes):
                self._clock.after(self.link.latency_s() * 2, lambda: self._tell_health(nodes))
                self._done(None)
            case End():
                self._done(None)

    def publish(self, command: Command) -> None:
        """As the bus has it."""
        self._bus.publish(command)

    @staticmethod
    def _claimed(held: ClaimHeldError | None) -> Event:
        return ClaimHeld(held.holder, held.left_s) if held else Claimed()

    @staticmethod
    def _renewed(held: ClaimHeldError | None) -> Event | None:
        return ClaimHeld(held.holder, held.left_s) if held else None

    def _tell_health(self, nodes: frozenset[str]) -> None:
        for node in sorted(nodes):
            well = self._is_well(node)
            if well is not None:
                self.tell(Health(node, well, "" if well else "its answers are errors"))

    def _ask(self, action: Action, question: Callable[[], object], event: Callable[..., Event | None]) -> None:
        """Ask the bus until it answers."""
        self.link.ask(
            question,
            lambda answer: self._done(event(answer)),
            lambda: self._clock.after(AGAIN_S, lambda: None if self.is_killed else self._do(action)),
        )

    def _done(self, event: Event | None) -> None:
        self._is_busy = False
        if event is not None:
            self.tell(event)
        self._next()
