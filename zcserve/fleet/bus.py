"""What carries commands, what is desired, and states: two protocols, an operator's side and a node's. Each is of one
site (and one node).

What decides (rollout.py, node_state.py) is right whatever a bus does within this:

- **Commands come at least once, and in the order in which they were published**, each until it is acknowledged or set
  aside, also over restarts of the agent. A bus may bring one again, and out of order after a loss of its own: a node
  knows by the id that it has done it, and nothing that is done twice or in another order does harm.
- **A gap is told.** Where commands may have been lost (a stream that no longer holds what was published since this node
  took its last one, a bus that cannot know what was published while the node was away), `Gap` comes before the next
  command, and where there is none, at once; after a restart of the agent again, until a command behind it has been
  acknowledged. A node that is new to a bus has a gap, too. A gap that is none costs a
  comparison of content with its files; one that is not told may leave an application's results as they were.
- **What is desired is one value.** Of two puts after one edition no node ever hears of more than one, and a put that
  has ended well is never undone. Nodes hear of the newest; those between may be left out, and none is promised to come
  in order or once. A node that comes back hears of the newest without asking.
- **A claim is a courtesy, with an end**: while one holder has it, another is told who. What holds a rollout together is
  the compare-and-set of what is desired, so a claim that is lost, or that two believe to have, mixes nothing. (A bus
  that has no value in one place, as HTTP to a list of nodes, makes its compare-and-set of a claim at most of them.)
- **States are each node's last one**; those between may be left out. They come with the age that the bus has measured,
  because clocks of nodes may be wrong.
- **Nothing waits for ever**, and what cannot be done now raises BusError. The caller tries again, and each method does
  no harm when it is called again after that, whether it was done or not.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import NamedTuple, Protocol, TypeAlias

from zcserve.errors import ZcserveError
from zcserve.fleet.messages import Command, Desired, Message, State

# A claim that is not renewed ends after this, in seconds. Its holder renews it at a third: a bus may be gone for a
# while (a restart of nats-server takes seconds), and an operator that was killed blocks the next for no longer.
CLAIM_LASTS_S = 60.0
# So many commands are brought to a node before it has acknowledged one. The server has room for as many purges that
# wait (content/purging.py).
UNACKNOWLEDGED_MAX = 64


class BusError(ZcserveError):
    """It cannot be done now: the bus is away, or too few nodes are reached. The message says what, and where."""


class ClaimHeldError(BusError):
    """Another one has the claim, or has it now.

    holder  which one
    left_s  when its claim ends at the latest, unless it is renewed
    """

    def __init__(self, holder: str, left_s: float) -> None:
        super().__init__(f"{holder} has the site, for {left_s:.0f} s at least unless it ends before")
        self.holder = holder
        self.left_s = left_s


class ConflictError(BusError):
    """What is desired was replaced meanwhile: `stored` is what it is."""

    def __init__(self, stored: Desired) -> None:
        super().__init__(f"edition {stored.edition} was written meanwhile")
        self.stored = stored


class NameTakenError(ZcserveError):
    """Another agent has the name of this node, and had it first: to try again is of no use."""


class MissingError(BusError):
    """There is no manifest of that digest."""


@dataclass(frozen=True, slots=True)
class Claim:
    """A site is taken.

    holder  the rollout, by its id: a rollout that is begun again has the claim that it had
    token   what the bus knows this claim by
    """

    holder: str
    token: str


class Heard(NamedTuple):
    """A state, and how many seconds ago it came to the bus."""

    state: State
    age_s: float


class Gap(NamedTuple):
    """Commands may have been lost before the next one; `reason` says how, in a line."""

    reason: str


class Caught(NamedTuple):
    """All states that the bus had have been told; what follows is new."""


Delivery: TypeAlias = Message | Gap


class OperatorBus(Protocol):
    """The operator's side. Each coroutine raises BusError."""

    async def claim(self, holder: str, lasts_s: float = CLAIM_LASTS_S) -> Claim:
        """Take the site, or take it again as the same holder: the claim that this one had is over. Raises
        ClaimHeldError."""

    async def renew(self, claim: Claim, lasts_s: float = CLAIM_LASTS_S) -> None:
        """Keep it for so long from now. Raises ClaimHeldError where it is another's; where it has ended, and nothing
        else has taken it, it is taken again."""

    async def give_up(self, claim: Claim) -> None:
        """Let go of it. One that is lost is no error."""

    async def put_manifest(self, digest: str, data: bytes) -> None:
        """Keep a manifest for the nodes, which ask for it by its digest (manifest.py: its signatures are not in it, so
        one that is signed anew replaces the one that was kept)."""

    async def manifest(self, digest: str) -> bytes:
        """One that was kept. Raises MissingError."""

    async def desired(self) -> Desired:
        """What is desired now; edition 0 where nothing ever was."""

    async def put_desired(self, desired: Desired, after: int) -> None:
        """Replace it, if what is stored has the edition `after` (0: nothing is stored); the new edition is higher, and
        by more than one where nodes know of editions that the bus has lost. What is stored already is no error. Raises
        ConflictError with what is stored, else."""

    async def publish(self, command: Command, *, is_anew: bool = False) -> frozenset[str]:
        """Append a command for all nodes. The same id again is appended once, as far as the bus remembers; but anew it
        comes to all of them once more, also to one that had it: that tells again what it has done, and one that was
        started since, and does not know, does it. Returns the nodes that are known to have missed it for good: none,
        where a stream keeps it for them."""

    def states(self) -> AsyncIterator[Heard | Caught]:
        """The last state of each node that is known, then Caught, then each that comes, until it is closed. It goes on
        by itself when the bus comes back, with the last states and Caught once more."""

    async def forget(self, node: str) -> None:
        """Let go of a node's state: it is known no more, until it reports again."""

    async def close(self) -> None:
        """Let go of all that this side holds. Nothing is lost that was done."""


class NodeBus(Protocol):
    """A node's side. Each coroutine raises BusError; the two iterators go on by themselves when the bus comes back."""

    def deliveries(self) -> AsyncIterator[Delivery]:
        """Commands and gaps, in order; at most UNACKNOWLEDGED_MAX that are not acknowledged."""

    async def acknowledge(self, name: str) -> None:
        """The command of this id (or the Poisoned of this name) does not come again."""

    async def set_aside(self, name: str, reason: str) -> None:
        """The same, but it is kept where an operator finds it, with the reason, as far as the bus keeps anything."""

    def desired(self) -> AsyncIterator[Desired]:
        """What is desired now, then each that is newer, as it comes."""

    async def read_desired(self) -> Desired:
        """What is desired now, asked for."""

    async def manifest(self, digest: str) -> bytes:
        """A manifest. Whoever asked checks that it is the one of that digest. Raises MissingError."""

    async def report(self, state: State) -> None:
        """Replace this node's state. Raises NameTakenError where the bus notices another agent of this name."""

    async def close(self) -> None:
        """Let go of all that this side holds."""
