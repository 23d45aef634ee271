"""A bus in memory with nodes behind it, which run the state machine of real ones: what a fleet does, without a wire.

All of it runs in the loop of the test: a node's actions end a turn of the loop later, unless the test holds them or has
them fail.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

from zcserve.fleet.bus import (
    CLAIM_LASTS_S,
    BusError,
    Caught,
    Claim,
    ClaimHeldError,
    ConflictError,
    Heard,
    MissingError,
)
from zcserve.fleet.messages import Command, Desired, Release, State
from zcserve.fleet.node_memory import Memory
from zcserve.fleet.node_state import NodeState
from zcserve.fleet.node_words import (
    Acknowledge,
    Action,
    Done,
    Event,
    Failed,
    Fetch,
    Fetched,
    Flip,
    Flipped,
    Keep,
    Observed,
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


@dataclass
class Hub:
    """What a bus keeps of a site, and its nodes. Made in a running loop."""

    site: str = "www"
    desired: Desired = field(init=False)
    manifests: dict[str, bytes] = field(default_factory=dict)
    commands: dict[str, Command] = field(default_factory=dict)
    states: dict[str, tuple[State, float]] = field(default_factory=dict)
    nodes: dict[str, VirtualNode] = field(default_factory=dict)
    holder: str = ""
    token: str = ""
    until: float = 0.0
    listening: list[asyncio.Queue[State]] = field(default_factory=list)
    puts: list[Desired] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.desired = Desired(self.site)

    def add(self, *names: str) -> None:
        """Nodes that are new, and up."""
        for name in names:
            node = self.nodes[name] = VirtualNode(self, name)
            node.restart()

    def heard(self, state: State) -> None:
        """A node reports."""
        self.states[state.node] = (state, now())
        for queue in self.listening:
            queue.put_nowait(state)

    def over(self, action: Acknowledge | SetAside) -> None:
        """A node has done a command, or never will: this hub keeps all for all."""


def now() -> float:
    """The loop's clock."""
    return asyncio.get_running_loop().time()


class VirtualNode:
    """A node's state machine, whose actions succeed.

    holds   classes of actions that do not end
    fails   what fails for good with these words, by class of action
    on_flip is called before it flips
    """

    def __init__(self, hub: Hub, name: str) -> None:
        self._hub, self.name = hub, name
        self._boots = 0
        self._due: asyncio.TimerHandle | None = None
        self._memory = Memory()
        self.is_up = False
        self.live: Release | None = None
        self.holds: set[type] = set()
        self.fails: dict[type, str] = {}
        self.purged: list[str] = []
        self.on_flip: Callable[[Release], object] = lambda release: None

    def restart(self) -> None:
        """Its agent starts, or starts anew: it hears of what is desired, and of all commands."""
        self.is_up = True
        self._boots += 1
        self._machine = NodeState(self._hub.site, self.name, f"boot-{self._boots}", self._memory)
        self.hear(Observed(self.live.tree if self.live else ""))
        self.hear(self._hub.desired)
        for command in self._hub.commands.values():
            self.hear(command)

    def stop(self) -> None:
        """It hears and says nothing any more."""
        self.is_up = False

    def hear(self, event: Event) -> None:
        """An event of the machine; what it does ends later."""
        if not self.is_up:
            return
        for action in self._machine.on(event, now()):
            self._do(action)
        if self._due:
            self._due.cancel()
        self._due = asyncio.get_running_loop().call_at(min(self._machine.due, now() + 60), self.hear, Tick())

    def _do(self, action: Action) -> None:
        if isinstance(action, Report):
            self._hub.heard(action.state)
        elif isinstance(action, (Acknowledge, SetAside)):
            self._hub.over(action)
        elif isinstance(action, Keep):
            self._memory = action.memory
        elif isinstance(action, ReadDesired):
            self._later(self._hub.desired)
        elif isinstance(action, (Fetch, Prepare, Flip, Purge, Warm)) and type(action) not in self.holds:
            self._end(action, self.fails.get(type(action), ""))

    def _end(self, action: Fetch | Prepare | Flip | Purge | Warm, why: str) -> None:
        match action:
            case Fetch(release) | Prepare(release) | Flip(release) if why:
                self._later(Undone(release, why, is_final=True))
            case Fetch(release):
                self._later(Fetched(release))
            case Prepare(release):
                self._later(Prepared(release))
            case Flip(release):
                self.on_flip(release)
                self.live = release
                self._later(Flipped(release))
            case Purge(command) | Warm(command):
                self.purged.append(command.id)
                self._later(Failed(command.id, why, is_final=True) if why else Done(command.id))

    def _later(self, event: Event) -> None:
        asyncio.get_running_loop().call_soon(self.hear, event)


class MemoryBus:
    """The operator's side of a hub. `away`: so many calls from now on raise BusError."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self.away = 0

    async def _turn(self) -> None:
        await asyncio.sleep(0)
        if self.away:
            self.away -= 1
            raise BusError("the bus is away")

    async def claim(self, holder: str, lasts_s: float = CLAIM_LASTS_S) -> Claim:
        await self._turn()
        hub = self._hub
        if hub.holder not in ("", holder) and now() < hub.until:
            raise ClaimHeldError(hub.holder, hub.until - now())
        hub.holder, hub.until, hub.token = holder, now() + lasts_s, f"{hub.token}1"
        return Claim(holder, hub.token)

    async def renew(self, claim: Claim, lasts_s: float = CLAIM_LASTS_S) -> None:
        await self._turn()
        hub = self._hub
        if hub.holder and claim.token != hub.token:
            raise ClaimHeldError(hub.holder, hub.until - now())
        hub.holder, hub.until = claim.holder, now() + lasts_s

    async def give_up(self, claim: Claim) -> None:
        await self._turn()
        if claim.token == self._hub.token:
            self._hub.holder = ""

    async def put_manifest(self, digest: str, data: bytes) -> None:
        await self._turn()
        self._hub.manifests[digest] = data

    async def manifest(self, digest: str) -> bytes:
        await self._turn()
        try:
            return self._hub.manifests[digest]
        except KeyError:
            raise MissingError(f"there is no manifest {digest}") from None

    async def desired(self) -> Desired:
        await self._turn()
        return self._hub.desired

    async def put_desired(self, desired: Desired, after: int) -> None:
        await self._turn()
        hub = self._hub
        if hub.desired == desired:
            return
        if hub.desired.edition != after:
            raise ConflictError(hub.desired)
        hub.desired = desired
        hub.puts.append(desired)
        for node in hub.nodes.values():
            node.hear(desired)

    async def publish(self, command: Command, *, is_anew: bool = False) -> frozenset[str]:
        await self._turn()
        hub = self._hub
        if is_anew or command.id not in hub.commands:
            hub.commands[command.id] = command
            for node in hub.nodes.values():
                node.hear(command)
        return frozenset()

    async def states(self) -> AsyncIterator[Heard | Caught]:
        hub, queue = self._hub, asyncio.Queue[State]()
        hub.listening.append(queue)
        try:
            for state, at in list(hub.states.values()):
                yield Heard(state, now() - at)
            yield Caught()
            while True:
                yield Heard(await queue.get(), 0.0)
        finally:
            hub.listening.remove(queue)

    async def forget(self, node: str) -> None:
        await self._turn()
        self._hub.states.pop(node, None)

    async def close(self) -> None:
        pass
