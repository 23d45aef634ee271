"""A node's purges and warmings: done once each, whatever comes twice, and acknowledged when they are done.

- **Purges commute**, and to do one twice is to do it once. So they need no order, none waits for another here, and the
  server does them as it likes.
- **A purge is tried until it is done**, because content that should be gone is served until then; unless the server
  refuses it for good: then it is set aside, with the server's words. A warming that fails TRIES_MAX times is set aside:
  it is lost speed only.
- **After a gap** the node does not know which purges it has missed. Files need none: a release's files are what its
  manifest says, by digest, and no purge changes them. What can be stale are results of applications that the server
  keeps, and files that were changed in the release folder by hand. So all content is purged once, softly: compared with
  its files and made anew while it serves. A hard purge of all would be no fresher a moment later, and after a loss at
  the bus the whole fleet would be cold at once. What must be gone for certain is taken out by a new release, which
  reaches a node that was off, too. A server that was started anew has no results to be stale: the purge costs it a
  comparison. An agent that is started anew before it is done does it then (node_memory.py).
"""

from __future__ import annotations

from collections import OrderedDict, deque
from dataclasses import dataclass

from zcserve.fleet import backoff
from zcserve.fleet.bus import Gap
from zcserve.fleet.messages import DONE_MAX, Command, reason
from zcserve.fleet.node_words import Acknowledge, Action, Done, Failed, Purge, SetAside, Warm

# Ids that are known to be done, or set aside: a hundred KB. A bus brings a command again within minutes, if it does.
KNOWN_MAX = 1024
# A warming that failed so often is given up.
TRIES_MAX = 3


@dataclass(slots=True)
class _Errand:
    command: Command
    is_own: bool  # after a gap: no bus waits for it
    tries: int = 0
    due: float = 0.0
    runs: bool = False


class Errands:
    """Those that are not done yet, and the ids of those that are."""

    def __init__(self, node: str) -> None:
        self._node = node
        self._waiting: dict[str, _Errand] = {}
        self._known: OrderedDict[str, Acknowledge | SetAside] = OrderedDict()  # by id, what each was over by
        self._last: dict[bool, deque[str]] = {is_done: deque(maxlen=DONE_MAX) for is_done in (True, False)}
        self._purged: deque[int] = deque(maxlen=DONE_MAX)  # by each of the last that were done
        self._gaps = 0
        self.error = ""

    def knows(self, name: str) -> bool:
        """Whether it is over: done, or set aside."""
        return name in self._known

    def last(self, is_done: bool) -> tuple[str, ...]:
        """The ids of the last ones that were done, or else set aside, the newest last."""
        return tuple(self._last[is_done])

    @property
    def purged(self) -> tuple[int, ...]:
        """How much each of the last ones that were done has purged."""
        return tuple(self._purged)

    @property
    def has_gap(self) -> bool:
        """Whether a purge of all is not done yet."""
        return any(errand.is_own for errand in self._waiting.values())

    @property
    def due(self) -> float | None:
        """When `begin` is next of use."""
        return min((errand.due for errand in self._waiting.values() if not errand.runs), default=None)

    def take(self, command: Command) -> None:
        """A purge or a warming that has come: once is enough."""
        self._waiting.setdefault(command.id, _Errand(command, is_own=False))

    def miss(self, gap: Gap, site: str) -> None:
        """Commands may have been lost: see above."""
        if any(errand.is_own and not errand.runs for errand in self._waiting.values()):
            return
        self._gaps += 1
        self.error = reason(f"missed commands, so all content is compared: {gap.reason}")
        all_content = Command(f"gap:{self._gaps}", "purge", site, prefix="/")
        self._waiting[all_content.id] = _Errand(all_content, is_own=True)

    def begin(self, now: float) -> list[Action]:
        """Those that are due."""
        begun: list[Action] = []
        for errand in self._waiting.values():
            if not errand.runs and errand.due <= now:
                errand.runs = True
                begun.append(Purge(errand.command) if errand.command.op == "purge" else Warm(errand.command))
        return begun

    def ended(self, event: Done | Failed, now: float) -> list[Action]:
        """What comes of one that has ended."""
        errand = self._waiting.get(event.name)
        if errand is None or not errand.runs:
            return []
        if isinstance(event, Done):
            self.error = ""
            return self._end(errand, Acknowledge(event.name, event.purged))
        errand.runs = False
        errand.tries += 1
        errand.due = now + backoff.wait_s(errand.tries, f"{self._node} {event.name}")
        self.error = reason(f"{event.name}: {event.why}")
        if event.is_final or (errand.command.op == "warm" and errand.tries >= TRIES_MAX):
            return self._end(errand, SetAside(event.name, reason(event.why)))
        return []

    def _end(self, errand: _Errand, action: Acknowledge | SetAside) -> list[Action]:
        del self._waiting[errand.command.id]
        return [] if errand.is_own else self.over(action)

    def over(self, action: Acknowledge | SetAside) -> list[Action]:
        """A command is over by this action, or was before by another: it is known from now on, the bus is told, and the
        state tells it as one of the last, since something waits for that."""
        known = self._known.setdefault(action.name, action)
        self._known.move_to_end(action.name)
        is_done = isinstance(known, Acknowledge)
        if action.name not in (last := self._last[is_done]):
            last.append(action.name)
            if isinstance(known, Acknowledge):
                self._purged.append(known.purged)
        while len(self._known) > KNOWN_MAX:
            self._known.popitem(last=False)
        if isinstance(action, SetAside):
            self.error = reason(f"set aside {action.name}: {action.why}")
        return [action]
