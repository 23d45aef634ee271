"""What a node's state machine is told, and what it has done: its events and its actions. Data alone.

Beside these events it is told what a bus brings as it is: Command, Poisoned, Gap, and Desired.

What does the actions (the agent, the simulator) keeps to this:

- **Actions are begun in their order**, and Keep has ended before the next one begins.
- **Fetch, Prepare and Flip each end with an event of their own, sooner or later**; whatever waits has a time limit. One
  runs at a time: a Fetch or a Prepare that runs when another of these (or Drop) comes is ended, and its event may come
  or not. A Flip is never ended. Purge and Warm end with Done or Failed, and run beside all others.
- **The server is looked at** (Observed) when the agent starts, whenever the server's process is another one than
  before, and after a flip that failed.
"""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

from zcserve.fleet.bus import Gap
from zcserve.fleet.messages import Command, Desired, Poisoned, Release, State
from zcserve.fleet.node_memory import Memory


class Observed(NamedTuple):
    """What the server has now, as trees; "" for none, or for one that is no release folder.

    served    what it answers with
    prepared  what it has in memory beside that
    current   where `current` leads, so what it would serve after a restart; "": as `served`. Where it is another one, a
              flip has ended in its middle, and is made again
    adrift    the folder of what it serves is not the one that it was loaded from, which was deleted or moved: it goes
              on from memory
    absent    of the trees that are needed, or that had a folder at an earlier look, those that have none
    """

    served: str
    prepared: str = ""
    current: str = ""
    adrift: bool = False
    absent: frozenset[str] = frozenset()


class Fetched(NamedTuple):
    """The release folder is complete, and the manifest is what Fetch asks for."""

    release: Release


class Prepared(NamedTuple):
    """The release is in memory, `share` of it, and a flip to it takes no time."""

    release: Release
    share: float = 1.0


class Flipped(NamedTuple):
    """The server serves the release, and no other; `current` leads to it, so that it does after a restart, too."""

    release: Release
    share: float = 1.0


class Undone(NamedTuple):
    """A Fetch, Prepare or Flip has failed.

    is_final  to do it again is of no use: a signature that is wrong, a manifest that is of another release
    is_lost   its folder is there no more: it is to be fetched again
    """

    release: Release
    why: str
    is_final: bool = False
    is_lost: bool = False


class Done(NamedTuple):
    """A Purge or Warm has been done; `name` is the command's id, and so many representations and results were
    `purged`."""

    name: str
    purged: int = 0


class Failed(NamedTuple):
    """A Purge or Warm has not been done; `is_final`: the server refuses it, and would again."""

    name: str
    why: str
    is_final: bool = False


class Tick(NamedTuple):
    """It is as late as `due` said."""


Event: TypeAlias = (
    Command | Poisoned | Gap | Desired | Observed | Fetched | Prepared | Flipped | Undone | Done | Failed | Tick
)


class Keep(NamedTuple):
    """Write this where the agent finds it after a restart, and after one of the machine."""

    memory: Memory


class Fetch(NamedTuple):
    """Have the release folder complete: get the manifest by its digest, and the files that are not there.

    Before it is Fetched: the manifest has this digest, is of this site, and has this sequence and this tree, a key that
    is known has signed it (where the node has keys), and every file is as it says. What is otherwise is Undone, and
    final where the manifest is at fault.
    """

    release: Release


class Prepare(NamedTuple):
    """Have the server load this release beside the live one. Again: the same answer, sooner."""

    release: Release


class Flip(NamedTuple):
    """Have `current` lead to the release, and the server serve what it has prepared of it."""

    release: Release


class Drop(NamedTuple):
    """Have the server let go of what is prepared, and end a Fetch or Prepare that runs. What fails is tried again until
    a Prepare follows; no event comes of it."""


class Purge(NamedTuple):
    """Have the server purge what the command says; its id may be the machine's own."""

    command: Command


class Warm(NamedTuple):
    """Have the server load the command's paths."""

    command: Command


class Acknowledge(NamedTuple):
    """Tell the bus that the command of this id need not come again. `purged` as of Done."""

    name: str
    purged: int = 0


class SetAside(NamedTuple):
    """The same of a message on which this node cannot act, and why; it is logged, too."""

    name: str
    why: str


class ReadDesired(NamedTuple):
    """Ask the bus what is desired; the answer is an event."""


class Report(NamedTuple):
    """Tell the bus how this node is, with the time of the node's clock as its `at`. One that is not out when the next
    comes need not go."""

    state: State


Action: TypeAlias = Keep | Fetch | Prepare | Flip | Drop | Purge | Warm | Acknowledge | SetAside | ReadDesired | Report
