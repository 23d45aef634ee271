"""One node's state machine for a site: events in, actions out (node_words.py). It has no clock, no files, no sockets;
`now` is any clock of the node that only goes forward.

    nothing --Fetch--> fetched --Prepare--> ready ........ a trial stays here
                                              |--Flip--> live ...... what is desired of this node

**It goes after one release at a time**, and which one is asked anew after each event (`_wanted`): the one that is
desired of this node, if it does not serve it; else the one on trial, if it does not have it prepared; else none. So a
node that missed any number of events does the same as one that missed none, and a canary that was started anew in the
bake is a canary still, because what is desired says so. A flip has that one cause: no command makes one.

**What is desired is taken if its edition is newer**, and if it leads to nothing older than what was live here before,
as what was desired of all (`highest`). So what is replayed changes nothing, and neither does what comes twice or late.
Going back from a trial is no replay: a trial was never desired of all. A rollback is a new sequence, whose files are an
older release's: its folder and its content are there already, and if they are just what is served, nothing is loaded.

**Failures.** What may go away by itself is tried again, later each time (backoff.py), for as long as it is wanted. What
will not (`is_final`: a signature that is wrong, rules that the server refuses) is given up: until what is desired
changes, or the agent starts anew, or for the long waits of what takes a person, since a manifest may be signed anew and
a server mended. A flip that failed goes by Prepare again: the server may have lost what it had prepared.

**The state that is reported** is sent when it changes, REPORT_GAP_S after the last one at the least, and every
REPORT_EVERY_S in any case.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import Enum
from typing import assert_never

from zcserve.fleet import backoff
from zcserve.fleet.bus import Gap
from zcserve.fleet.errands import Errands
from zcserve.fleet.messages import (
    REPORT_EVERY_S,
    ROLLOUT_OPS,
    Command,
    Desired,
    Poisoned,
    Release,
    State,
    reason,
)
from zcserve.fleet.node_memory import Memory
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
    Observed,
    Prepare,
    Prepared,
    ReadDesired,
    Report,
    SetAside,
    Tick,
    Undone,
)

# Between two reports, in seconds. Ten a second show a table that moves, and of a flood of purges each report tells of
# DONE_MAX.
REPORT_GAP_S = 0.1


class _Step(Enum):
    """What a release needs next."""

    FETCH = "fetching"
    PREPARE = "preparing"
    READY = "prepared"
    FLIP = "flipping"


_ACTIONS: dict[_Step, Callable[[Release], Action]] = {_Step.FETCH: Fetch, _Step.PREPARE: Prepare, _Step.FLIP: Flip}


@dataclass(slots=True)
class _Work:
    """The release that is worked on. `runs`: the action of its step has begun and not ended."""

    release: Release
    step: _Step = _Step.FETCH
    runs: bool = False
    tries: int = 0
    due: float = 0.0
    error: str = ""
    share: float = 0.0

    def forward(self, step: _Step) -> None:
        """The step before has been done."""
        self.step, self.runs, self.tries, self.error = step, False, 0, ""


@dataclass(slots=True)
class _GivenUp:
    """A release that was refused so often, why, and when it is tried again: never, where it cannot become right."""

    release: Release
    why: str
    tries: int = 0
    due: float = math.inf


class NodeState:
    """What one node knows and does. Not for several threads.

    site, node  their names
    boot        tells this run of the agent from all others: random
    memory      what Keep has written last; none for a node that is new
    """

    def __init__(self, site: str, node: str, boot: str, memory: Memory | None = None) -> None:
        self._site, self._node, self._boot = site, node, boot
        known = memory or Memory()
        self._desired, self._live, self._highest = known.desired, known.live, known.highest
        self._kept = known
        self._is_observed = False
        self._holds = False  # the server may have something prepared that is not of the work
        self._work: _Work | None = None
        self._given_up: list[_GivenUp] = []  # the last one last
        self._errands = Errands(node)
        if known.has_gap:
            self._errands.miss(Gap("before the agent was started"), site)
        self._refusal = ""
        self._live_share = 0.0
        self._said: State | None = None
        self._is_news = False
        self._said_at = 0.0
        self._said_try_due: float | None = None
        self._now = 0.0
        self._number = 0
        self._actions: list[Action] = []

    def on(self, event: Event, now: float) -> list[Action]:
        """What is to be done because of an event, in this order. The first one is Observed."""
        self._actions, self._now = [], now
        self._hear(event, now)
        self._actions += self._errands.begin(now)
        self._go_on(now)
        self._report(now)
        memory = Memory(self._desired, self._live, self._highest, self._errands.has_gap)
        if memory != self._kept:
            self._kept = memory
            self._actions.insert(0, Keep(memory))
        return self._actions

    @property
    def due(self) -> float:
        """When it wants a Tick, if nothing comes before."""
        times = [self._report_due(), self._errands.due, self._try_due()]
        return min((time for time in times if time is not None), default=math.inf)

    @property
    def needed(self) -> frozenset[str]:
        """The trees whose folders must stay."""
        desired = self._desired
        releases = [self._live, self._highest]
        if self._work:
            releases.append(self._work.release)
        if desired:
            releases += [desired.release, desired.trial.release if desired.trial else None]
        return frozenset(release.tree for release in releases if release)

    def _hear(self, event: Event, now: float) -> None:
        match event:
            case Command():
                self._on_command(event)
            case Poisoned(name, _, why):
                self._actions += self._errands.over(SetAside(name, reason(why)))
            case Gap():
                self._errands.miss(event, self._site)
                self._actions.append(ReadDesired())
            case Desired():
                self._on_desired(event)
            case Observed():
                self._on_observed(event)
            case Fetched(release) if work := self._doing(release, _Step.FETCH):
                work.forward(_Step.READY if self._serves(release.tree) else _Step.PREPARE)
                work.share = self._live_share
            case Prepared(release, share) if work := self._doing(release, _Step.PREPARE):
                work.forward(_Step.READY)
                work.share = share
            case Flipped(release, share) if self._doing(release, _Step.FLIP):
                self._become(release, share)
            case Undone():
                self._on_undone(event, now)
            case Done() | Failed():
                self._actions += self._errands.ended(event, now)
            case Fetched() | Prepared() | Flipped() | Tick():
                pass  # of what is not wanted any more; or there is only the time
            case _:
                assert_never(event)

    # -- commands

    def _on_command(self, command: Command) -> None:
        """Each is done once; one of a rollout says only that there is a newer edition."""
        if self._errands.knows(command.id):
            self._actions.append(Acknowledge(command.id))
        elif command.site != self._site:
            why = f"site: {command.site}, and this node is of {self._site}"
            self._actions += self._errands.over(SetAside(command.id, why))
        elif command.op not in ROLLOUT_OPS:
            self._errands.take(command)
        elif why := self._why_not(command):
            self._actions += self._errands.over(SetAside(command.id, why))
        else:
            self._actions += self._errands.over(Acknowledge(command.id))
            if command.edition > (self._desired.edition if self._desired else 0):
                self._actions.append(ReadDesired())

    def _why_not(self, command: Command) -> str:
        """Why a command of a rollout is refused; "": it is not."""
        desired, release = self._desired, command.release
        if release is None or command.op == "abort":
            return ""
        if replayed := self._replayed(release):
            return replayed
        if desired is None or command.edition != desired.edition:
            return ""  # there is news; or it is late, and there was other news since
        known = desired.trial.release if desired.trial else desired.release
        if release.is_same(known) or release.is_same(desired.release):
            return ""
        return f"rollout {known.rollout if known else 'of none'} has the site, not {release.rollout}"

    def _replayed(self, release: Release | None) -> str:
        """What is wrong with going to this release by its sequence; "": nothing."""
        highest = self._highest
        if not release or not highest or release.sequence > highest.sequence or release.is_same(highest):
            return ""
        if release.sequence == highest.sequence:
            return f"sequence {release.sequence} was live with another manifest, {highest.manifest[:12]}"
        return f"sequence {release.sequence} is older than {highest.sequence}, which was live"

    # -- what is desired, and what the server has

    def _on_desired(self, desired: Desired) -> None:
        if desired.site != self._site or (self._desired and desired.edition <= self._desired.edition):
            return
        self._refusal = self._replayed(desired.release)
        if self._refusal or not desired.edition:
            return
        self._desired = desired
        self._given_up.clear()
        if desired.trial and (why := self._replayed(desired.trial.release)):
            self._given_up.append(_GivenUp(desired.trial.release, why))
        self._raise()

    def _on_observed(self, observed: Observed) -> None:
        """The server was looked at: what it serves is the truth, and what it has prepared."""
        self._is_observed = True
        work = self._work
        if work and work.step is _Step.FLIP and work.runs:
            return  # the flip's own end says more
        verified = [self._live, self._highest, work.release if work and work.step is not _Step.FETCH else None]
        is_settled = observed.current in ("", observed.served)
        found = next((found for found in verified if found and found.tree == observed.served), None)
        self._live = found if is_settled else None
        self._holds = observed.prepared != ""
        if work and work.step is _Step.READY and work.release.tree not in (observed.prepared, observed.served):
            work.forward(_Step.PREPARE)

    def _serves(self, tree: str) -> bool:
        return self._live is not None and self._live.tree == tree

    def _become(self, release: Release, share: float) -> None:
        """It is live."""
        self._live, self._live_share, self._work, self._holds = release, share, None, False
        self._raise()

    def _raise(self) -> None:
        """What is live and desired of all is the least that is taken from now on."""
        if self._live and self._desired and self._live.is_same(self._desired.release):
            self._highest = self._live

    # -- the work

    def _wanted(self) -> tuple[Release | None, bool]:
        """The release to go after, and whether it is to be flipped to."""
        if not self._desired:
            return None, False
        target, trial = self._desired.of_node(self._node), self._desired.trial
        if target and not target.is_same(self._live) and not self._is_given_up(target):
            return target, True
        if trial and not trial.release.is_same(self._live) and not self._is_given_up(trial.release):
            return trial.release, False
        return None, False

    def _is_given_up(self, release: Release) -> bool:
        """Whether it is not to be tried now."""
        found = self._refused(release)
        return found is not None and self._now < found.due

    def _refused(self, release: Release) -> _GivenUp | None:
        return next((one for one in self._given_up if one.release.is_same(release)), None)

    def _try_due(self) -> float | None:
        """When something is tried again that has failed, or is next to be done; None: nothing is."""
        if work := self._work:
            return work.due if not work.runs and work.step is not _Step.READY else None
        return min((one.due for one in self._given_up if self._now < one.due < math.inf), default=None)

    def _go_on(self, now: float) -> None:
        """Begin what is next."""
        work = self._work
        if not self._is_observed or (work and work.step is _Step.FLIP and work.runs):
            return
        wanted, is_to_flip = self._wanted()
        if wanted is None:
            if work or self._holds:
                self._actions.append(Drop())
            self._work, self._holds = None, False
            return
        if work is None or not work.release.is_same(wanted):
            refused = self._refused(wanted)
            work = self._work = _Work(wanted, error=refused.why if refused else "")
        if work.runs or now < work.due:
            return
        if work.step is _Step.READY:
            if not is_to_flip:
                return
            if self._serves(work.release.tree):
                self._become(work.release, work.share)
                self._go_on(now)
                return
            work.step = _Step.FLIP
        work.runs, work.release = True, wanted
        self._actions.append(_ACTIONS[work.step](wanted))

    def _doing(self, release: Release, step: _Step) -> _Work | None:
        """The work, if this is the release and the step that runs."""
        work = self._work
        return work if work and work.runs and work.step is step and work.release.is_same(release) else None

    def _on_undone(self, undone: Undone, now: float) -> None:
        work = self._work
        if work is None or not work.runs or not work.release.is_same(undone.release):
            return
        if undone.is_final:
            self._give_up(work.release, reason(undone.why), now)
            self._holds = work.step is not _Step.FETCH
            self._work = None
            return
        if work.step is _Step.FLIP:
            work.step = _Step.PREPARE
        work.runs = False
        work.tries += 1
        work.due = now + backoff.wait_s(work.tries, f"{self._node} {work.release.manifest}")
        work.error = reason(undone.why)

    def _give_up(self, release: Release, why: str, now: float) -> None:
        found = self._refused(release)
        tries = 1 + (found.tries if found else 0)
        if found:
            self._given_up.remove(found)
        due = now + backoff.refused_wait_s(tries, f"{self._node} {release.manifest}")
        self._given_up.append(_GivenUp(release, why, tries, due))

    # -- the report

    def _state(self) -> State:
        """How it is, but for number and time."""
        work, live, share = self._work, self._live, self._live_share
        stage, release, error = ("live", live, "") if live else ("empty", None, "")
        prepared = None
        if work:
            stage, release, error, share = work.step.value, work.release, work.error, work.share
            prepared = work.release if work.step in (_Step.READY, _Step.FLIP) else None
        elif refused := [one for one in self._given_up if self._now < one.due]:
            release, error, stage = refused[-1].release, refused[-1].why, "failed"
        error = error or self._refusal or self._errands.error
        edition = self._desired.edition if self._desired else 0
        done, aside = self._errands.last(True), self._errands.last(False)
        return State(
            self._site,
            self._node,
            self._boot,
            self._number,
            edition,
            stage,
            release,
            live,
            prepared,
            share,
            error,
            0.0,
            done,
            aside,
        )

    def _report_due(self) -> float | None:
        if self._said is None:
            return None
        if self._is_news:
            return self._said_at + REPORT_GAP_S
        return self._said_at + REPORT_EVERY_S * (1 - 0.1 * backoff.spread(self._node))

    def _report(self, now: float) -> None:
        state = self._state()
        try_due = self._try_due() if state.error else None
        self._is_news = state != self._said or try_due not in (None, self._said_try_due)
        due = self._report_due()
        if not self._is_observed or (due is not None and now < due):
            return
        self._number += 1
        self._said, self._said_at, self._is_news = replace(state, number=self._number), now, False
        self._said_try_due = try_due
        retry_s = max(try_due - now, 0.0) if try_due is not None else 0.0
        self._actions.append(Report(replace(self._said, retry_s=round(retry_s, 1))))
