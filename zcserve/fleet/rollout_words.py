"""What the operator's state machine is given, told, and has done: its plan, its events and its actions. Data alone.

Beside these events it is told Desired, Heard and Caught, as the bus brings them. What does the actions keeps to this:

- **They are done one after the other, in their order**, and one that raises BusError is done again, a second later,
  until it is done or the machine has ended. So what a put has come to is known before the next begins.
- **The manifest is at the bus** (`put_manifest`) before Begin.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import NamedTuple, TypeAlias

from zcserve.errors import UsageError
from zcserve.fleet.bus import CLAIM_LASTS_S, Caught, Heard
from zcserve.fleet.messages import CANARIES_MAX, Command, Desired, Release


def rollout_id(site: str, release_sequence: int, manifest: str) -> str:
    """The rollout of a release: begun again, it is the same one, and goes on where it was."""
    return f"{site}.{release_sequence}.{manifest[:12]}"


@dataclass(frozen=True, slots=True)
class Plan:
    """A rollout, as an operator wants it. Raises UsageError.

    quorum        the share of the known nodes that must have it prepared before the commit, and serve it after that
    prepare_s     they have so long for the first
    live_s        and so long for the second; the others have as long again
    canaries      nodes that serve it before the commit
    canary_share  or how many do, of the known ones: the machine chooses
    canary_s      they have so long for their flip, and for a restart in the bake
    bake_s        they must serve it well for so long
    takes_back    the rollout, which another run has left in the middle, is to be aborted
    nodes         those that are known, where a list says so; empty: those that have reported within `known_s`
    """

    release: Release
    quorum: float = 0.9
    prepare_s: float = 600.0
    live_s: float = 120.0
    canaries: frozenset[str] = frozenset()
    canary_share: float = 0.0
    canary_s: float = 60.0
    bake_s: float = 300.0
    nodes: frozenset[str] = frozenset()
    known_s: float = 3600.0
    claim_lasts_s: float = CLAIM_LASTS_S
    takes_back: bool = False

    def __post_init__(self) -> None:
        if not 0 < self.quorum <= 1:
            raise UsageError(f"quorum is {self.quorum:g}; accepted: more than 0, up to 1")
        if not 0 <= self.canary_share <= 1:
            raise UsageError(f"the canaries' share is {self.canary_share:g}; accepted: 0 to 1")
        if self.canaries and self.canary_share:
            raise UsageError("canaries are named, and a share of them is; accepted: one of both")
        if len(self.canaries) > CANARIES_MAX:
            raise UsageError(f"{len(self.canaries):,} canaries; accepted: {CANARIES_MAX:,} at most")


class Begin(NamedTuple):
    """The first event."""


class Claimed(NamedTuple):
    """The site is taken."""


class ClaimHeld(NamedTuple):
    """It is another one's, asked for or taken away."""

    holder: str
    left_s: float


class Put(NamedTuple):
    """What was to be put is desired now."""


class Conflict(NamedTuple):
    """It was not put: this is what is stored."""

    stored: Desired


class Health(NamedTuple):
    """A canary was asked whether it is well."""

    node: str
    is_well: bool
    why: str = ""


class Cancel(NamedTuple):
    """An operator wants it ended: before the commit all is as it was, after it the rollout is not waited for."""

    why: str


class Tick(NamedTuple):
    """It is as late as `due` said."""


Event: TypeAlias = Begin | Claimed | ClaimHeld | Desired | Put | Conflict | Heard | Caught | Health | Cancel | Tick


class TakeClaim(NamedTuple):
    """Claim the site for the rollout: Claimed or ClaimHeld."""

    holder: str
    lasts_s: float


class RenewClaim(NamedTuple):
    """No event, or ClaimHeld."""

    lasts_s: float


class GiveUpClaim(NamedTuple):
    """No event."""


class ReadDesired(NamedTuple):
    """Desired."""


class PutDesired(NamedTuple):
    """Put or Conflict."""

    desired: Desired
    after: int


class Publish(NamedTuple):
    """No event."""

    command: Command


class AskHealth(NamedTuple):
    """Health, of each of these nodes."""

    nodes: frozenset[str]


class Ending(Enum):
    """How a rollout ends.

    LIVE        it is live on the quorum at least; `late` names those that do not serve it yet
    COMMITTED   it is desired of all, and fewer serve it yet: they will, and nothing is to be done again
    ABORTED     nothing has changed
    REFUSED     it was not begun
    SUPERSEDED  another rollout has taken the site
    """

    LIVE = "live"
    COMMITTED = "committed"
    ABORTED = "aborted"
    REFUSED = "refused"
    SUPERSEDED = "superseded"


@dataclass(frozen=True, slots=True)
class End:
    """The last action: how it ended, and why; `late` has what is known of each node that is not where it was to be."""

    ending: Ending
    why: str = ""
    late: dict[str, str] = field(default_factory=dict)


Action: TypeAlias = TakeClaim | RenewClaim | GiveUpClaim | ReadDesired | PutDesired | Publish | AskHealth | End
