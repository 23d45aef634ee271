"""A bus as zcserve/fleet/bus.py has it, and hardly better: commands come again and out of order, what is desired comes
late, twice and out of order, states overtake each other. What it has survives; it can be away.

It sends one message at a time (`Desk`), as a server with one core does.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from tools.fleet_sim.clock import Clock, Desk
from tools.fleet_sim.network import Link
from zcserve.fleet.bus import UNACKNOWLEDGED_MAX, ClaimHeldError, Delivery, Gap, Heard
from zcserve.fleet.messages import Command, Desired, Message, Poisoned, State

# A message that is not acknowledged comes again after this, in seconds.
ACKNOWLEDGED_WITHIN_S = 10.0
# What was lost on its way is sent again after this, as TCP does.
AGAIN_S = 1.0


class Listener(Protocol):
    """A node, as the bus has it."""

    name: str
    link: Link

    def hear(self, event: Delivery | Desired) -> bool:
        """Something has come; whether there was an agent to take it."""


class Watcher(Protocol):
    """An operator, as the bus has it."""

    link: Link

    def hear_state(self, heard: Heard) -> None:
        """A state has come."""


class Consumer:
    """How far a node has come with the commands."""

    def __init__(self, node: Listener, begin: int) -> None:
        self.node = node
        self.next = begin
        self.pending: dict[int, Message] = {}
        self.gap: Gap | None = None


class SimBus:
    """One site's.

    retained  so many commands are kept; a node that has missed more has a gap
    """

    def __init__(self, clock: Clock, site: str, retained: int, message_s: float) -> None:
        self.clock, self._retained = clock, retained
        self.desk = Desk(clock, message_s)
        self.chain = [Desired(site)]
        self.states: dict[str, tuple[State, float]] = {}
        self.commands: list[Message] = []
        self.reports = 0
        self._consumers: dict[str, Consumer] = {}
        self._watchers: list[Watcher] = []
        self._claim: tuple[str, float] | None = None
        self.on_put: Callable[[Desired, Desired], None] = lambda old, new: None

    # -- an operator's side

    def claim(self, holder: str, lasts_s: float) -> ClaimHeldError | None:
        """Take or renew it; what comes of it, as a value."""
        held = self._claim
        if held and held[0] != holder and held[1] > self.clock.now:
            return ClaimHeldError(held[0], held[1] - self.clock.now)
        self._claim = (holder, self.clock.now + lasts_s)
        return None

    def give_up(self, holder: str) -> None:
        """Let go of it."""
        if self._claim and self._claim[0] == holder:
            self._claim = None

    def lose_claim(self) -> None:
        """Whatever its holder believes."""
        self._claim = None

    @property
    def desired(self) -> Desired:
        """What is desired now."""
        return self.chain[-1]

    def put(self, desired: Desired, after: int) -> Desired | None:
        """Replace it, or what is stored, which is something else."""
        stored = self.desired
        if desired == stored:
            return None
        if stored.edition != after or desired.edition <= after:
            return stored
        self.on_put(stored, desired)
        self.chain.append(desired)
        for consumer in self._consumers.values():
            self._tell_desired(consumer)
        return None

    def publish(self, command: Command | Poisoned) -> None:
        """Append it."""
        if isinstance(command, Command) and any(
            isinstance(known, Command) and known.id == command.id for known in self.commands[-100:]
        ):
            return
        self.commands.append(command)
        for consumer in self._consumers.values():
            self._pump(consumer)

    def watch(self, watcher: Watcher) -> None:
        """Have it hear of each state that comes."""
        self._watchers.append(watcher)

    def unwatch(self, watcher: Watcher) -> None:
        """It hears of no more."""
        if watcher in self._watchers:
            self._watchers.remove(watcher)

    # -- a node's side

    def connect(self, node: Listener) -> None:
        """A node is there, again: it hears what is desired, and what it has not acknowledged."""
        consumer = self._consumers.get(node.name)
        if consumer is None:
            consumer = self._consumers[node.name] = Consumer(node, len(self.commands))
        self._tell_desired(consumer)
        self._tell_gap(consumer)
        for place in sorted(consumer.pending):
            self._deliver(consumer, place)
        self._pump(consumer)

    def acknowledge(self, name: str, command: str) -> None:
        """A node need not hear of a command any more."""
        consumer = self._consumers[name]
        for place, message in list(consumer.pending.items()):
            if (message.id if isinstance(message, Command) else message.name) == command:
                del consumer.pending[place]
        self._pump(consumer)

    def report(self, state: State) -> None:
        """A node's state has come."""
        self.reports += 1
        self.states[state.node] = (state, self.clock.now)
        for watcher in self._watchers:
            self._tell_state(watcher, Heard(state, 0.0))

    def _tell_state(self, watcher: Watcher, heard: Heard) -> None:
        """A state that is lost is not sent again, unless it is the last one."""

        def again() -> None:
            is_last = self.states[heard.state.node][0] is heard.state
            if watcher in self._watchers and is_last:
                self.clock.after(AGAIN_S, lambda: self._tell_state(watcher, heard))

        self.desk.take(lambda: watcher.link.send(lambda: watcher.hear_state(heard), again))

    def _tell_desired(self, consumer: Consumer) -> None:
        """The newest, now and as long as it is lost while the node is connected."""
        desired, node = self.desired, consumer.node

        def again() -> None:
            if node.link.is_up and self.desired is desired:
                self.clock.after(AGAIN_S, lambda: self._tell_desired(consumer))

        self.desk.take(lambda: node.link.send(lambda: node.hear(desired), again))

    def _pump(self, consumer: Consumer) -> None:
        """Send what may be sent."""
        first = max(0, len(self.commands) - self._retained)
        if consumer.next < first:
            consumer.gap = Gap(f"the stream begins at {first}, and {consumer.next} was to come")
            consumer.next = first
            self._tell_gap(consumer)
        while len(consumer.pending) < UNACKNOWLEDGED_MAX and consumer.next < len(self.commands):
            consumer.pending[consumer.next] = self.commands[consumer.next]
            self._deliver(consumer, consumer.next)
            consumer.next += 1

    def _tell_gap(self, consumer: Consumer) -> None:
        """Until an agent has taken it."""
        gap, node = consumer.gap, consumer.node
        if gap is None:
            return

        def told() -> None:
            if node.hear(gap) and consumer.gap is gap:
                consumer.gap = None

        def again() -> None:
            if node.link.is_up:
                self.clock.after(AGAIN_S, lambda: self._tell_gap(consumer))

        self.desk.take(lambda: node.link.send(told, again))

    def forget(self) -> None:
        """All that it had is gone, but for the states, and it begins anew."""
        self.chain = [Desired(self.desired.site)]
        self.commands = []
        for consumer in self._consumers.values():
            consumer.pending.clear()
            consumer.next, consumer.gap = 0, Gap("the stream is a new one")
            self._tell_gap(consumer)

    def _deliver(self, consumer: Consumer, place: int) -> None:
        """Bring a command, and again if it is not acknowledged; a node that is away gets it when it connects."""
        message, node = consumer.pending.get(place), consumer.node
        if message is None or not node.link.is_up:
            return
        self.desk.take(lambda: node.link.send(lambda: node.hear(message)))
        self.clock.after(ACKNOWLEDGED_WITHIN_S, lambda: self._deliver(consumer, place))
