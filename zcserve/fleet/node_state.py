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

**What is prepared is held for a while when nothing wants it any more** (HELD_S): after an abort clients have pages of
it still. What is being fetched or prepared then is ended at once.

**What is desired and cannot be had makes room for a trial**: after some tries it is given up for as long as another
release is on trial. Else nodes that lack a file that is at the source no more could not go to any release, nor back.

**A release folder that is gone is fetched again**: of what is live, which the server goes on serving from memory until
it is loaded from a folder again (`adrift`); of what is prepared; and when there is nothing else to do, of what a
rollback may go to. The server serves what it did meanwhile, and the state says so.

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
from zcserve.fleet.refusals import Refusals

# Between two reports, in seconds. Ten a second show a table that moves, and of a flood of purges each report tells of
# DONE_MAX.
REPORT_GAP_S = 0.1
# What is prepared and not wanted any more is held so long, in seconds: when a trial is aborted, clients have pages of
# it from its canaries, and ask the other nodes for the assets that these name. A browser asks within seconds, and over
# a slow line within a minute. It is let go of sooner where another release is to be prepared.
HELD_S = 60.0
# A folder that a rollback may go to, and that is gone, is fetched so often in vain before it is given up, for the long
# waits of what takes a person: its files may be at the source no more. What is desired makes room for a trial then.
VAIN_TRIES_MAX = 3


class _Step(Enum):
    """What a release needs next."""

    FETCH = "fetching"
    PREPARE = "preparing"
    READY = "prepared"
    FLIP = "flipping"


_ACTIONS: dict[_Step, Callable[[Release], Action]] = {_Step.FETCH: Fetch, _Step.PREPARE: Prepare, _Step.FLIP: Flip}


@dataclass(slots=True)
class _Work:
    """The release that is worked on. `runs`: the action of its step has begun and not ended; `flips`: how many flips
    to it have failed; `is_lost`: its folder was there, and is to be fetched again."""

    release: Release
    step: _Step = _Step.FETCH
    runs: bool = False
    tries: int = 0
    flips: int = 0
    due: float = 0.0
    error: str = ""
    share: float = 0.0
    is_lost: bool = False

    def forward(self, step: _Step) -> None:
        """The step before has been done."""
        self.step, self.runs, self.tries, self.error, self.is_lost = step, False, 0, "", False

    def fail(self) -> None:
        """Its step has failed. Waits for a flip go by failed flips: Prepare succeeds between, and each flip reloads
        the server."""
        self.runs, self.tries = False, self.tries + 1
        if self.step is _Step.FLIP:
            self.step, self.flips = _Step.PREPARE, self.flips + 1
            self.tries = self.flips

    def lose(self) -> None:
        """Its folder is there no more."""
        self.step, self.runs, self.is_lost = _Step.FETCH, False, True

    @property
    def is_vain(self) -> bool:
        """It has failed so often that something else may go first; and waits to be tried again."""
        return not self.runs and self.tries >= VAIN_TRIES_MAX

    @property
    def trouble(self) -> str:
        """What the state says of it; "": nothing is wrong."""
        if self.is_lost:
            return f"the folder of release {self.release.sequence} is gone: {self.error or 'it is fetched again'}"
        return self.error


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
        self._is_adrift = False  # what is live has no folder that the server could read again
        self._absent: frozenset[str] = frozenset()  # trees without a folder
        self._held_until: float | None = None  # the server may have prepared what is not of the work, and is to hold it
        self._work: _Work | None = None
        self._given_up = Refusals(node)
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
        times = [self._report_due(), self._errands.due, self._try_due(), None if self._work else self._held_until]
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

    @property
    def behind(self) -> str:
        """How far what is served is behind, where that is more than one flip; "": it is not.

        A node prepares a trial only when it serves what was released before (or has given up on it). So when a release
        is desired of all, the quorum that has prepared it serves the one before at the least, and a node that serves
        an older one is not needed, and answers for pages of others without their assets.
        """
        desired, live = self._desired, self._live
        if desired is None or desired.release is None or live is None or not desired.earlier:
            return ""
        before = desired.earlier[0]
        if live.sequence >= before.sequence or live.tree in (before.tree, desired.release.tree):
            return ""
        return f"release {live.sequence} is served, more than one behind {desired.release.sequence}, which is desired"

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
                self._on_observed(event, now)
            case Fetched(release) if work := self._doing(release, _Step.FETCH):
                self._on_fetched(work)
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
            self._actions += self._errands.over(Acknowledge(command.id))
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
            self._given_up.add(desired.trial.release, why)
        self._raise()

    def _on_observed(self, observed: Observed, now: float) -> None:
        """The server was looked at: what it serves is the truth, and what it has prepared."""
        self._is_observed = True
        self._absent = observed.absent
        work = self._work
        if work and work.step is _Step.FLIP and work.runs:
            return  # the flip's own end says more
        verified = [self._live, self._highest, work.release if work and work.step is not _Step.FETCH else None]
        is_settled = observed.current in ("", observed.served)
        found = next((found for found in verified if found and found.tree == observed.served), None)
        self._live = found if is_settled else None
        self._is_adrift = self._live is not None and observed.adrift
        if not observed.prepared:
            self._held_until = None
        elif self._held_until is None:
            self._held_until = now + HELD_S
        if work and work.step is _Step.READY and work.release.tree in observed.absent:
            work.lose()
        elif work and work.step is _Step.READY and work.release.tree not in (observed.prepared, observed.served):
            work.forward(_Step.PREPARE)

    def _on_fetched(self, work: _Work) -> None:
        _, goal = self._wanted()
        self._absent -= {work.release.tree}
        if goal is _Step.FETCH:
            self._work = None
            return
        work.forward(_Step.READY if self._serves(work.release.tree) else _Step.PREPARE)
        work.share = self._live_share

    def _serves(self, tree: str) -> bool:
        """Whether it is live, and has its folder."""
        return self._live is not None and self._live.tree == tree and not self._is_adrift

    def _become(self, release: Release, share: float) -> None:
        """It is live."""
        self._live, self._live_share, self._work = release, share, None
        self._is_adrift, self._held_until = False, None
        self._raise()

    def _raise(self) -> None:
        """What is live and desired of all is the least that is taken from now on."""
        if self._live and self._desired and self._live.is_same(self._desired.release):
            self._highest = self._live

    # -- the work

    def _wanted(self) -> tuple[Release | None, _Step]:
        """The release to go after, and up to which step."""
        desired = self._desired
        if not desired:
            return None, _Step.FLIP
        target, trial, given_up = desired.of_node(self._node), desired.trial, self._given_up
        if target and (self._is_adrift or not target.is_same(self._live)) and not given_up.holds(target, self._now):
            return target, _Step.FLIP
        if trial and not trial.release.is_same(self._live) and not given_up.holds(trial.release, self._now):
            return trial.release, _Step.READY
        kept = (one for one in (desired.release, *desired.earlier) if one and one.tree in self._absent)
        return next((one for one in kept if not given_up.holds(one, self._now)), None), _Step.FETCH

    def _try_due(self) -> float | None:
        """When something is tried again that has failed, or is next to be done; None: nothing is."""
        if work := self._work:
            return work.due if not work.runs and work.step is not _Step.READY else None
        return self._given_up.due(self._now)

    def _go_on(self, now: float) -> None:
        """Begin what is next."""
        work = self._work
        if not self._is_observed or (work and work.step is _Step.FLIP and work.runs):
            return
        if work and work.is_vain and self._desired and self._desired.tries_another(work.release, self._live):
            self._given_up.add(work.release, work.trouble)
        wanted, goal = self._wanted()
        if work and not (wanted and work.release.is_same(wanted) and (goal is not _Step.FETCH or work.step is goal)):
            self._held_until = now + (HELD_S if work.step is _Step.READY else 0.0)
            work = self._work = None
        if wanted is None:
            if self._held_until is not None and now >= self._held_until:
                self._actions.append(Drop())
                self._held_until = None
            return
        if work is None:
            refused = self._given_up.of(wanted)
            work = self._work = _Work(wanted, error=refused.why if refused else "")
            if goal is _Step.FETCH or (self._is_adrift and wanted.is_same(self._live)):
                work.is_lost, work.error, work.share = True, "", self._live_share
        if work.runs or now < work.due:
            return
        if work.step is _Step.READY:
            if goal is not _Step.FLIP:
                return
            if self._serves(work.release.tree):
                self._become(work.release, work.share)
                self._go_on(now)
                return
            work.step = _Step.FLIP
        if work.step is _Step.PREPARE:
            self._held_until = None  # it takes the place of what is held
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
        is_lost = undone.is_lost and work.step is not _Step.FETCH
        is_vain = self._wanted()[1] is _Step.FETCH and work.tries + 1 >= VAIN_TRIES_MAX
        if (undone.is_final and not is_lost) or is_vain:
            work.error = reason(undone.why)
            self._given_up.add(work.release, work.trouble, now)
            if work.step is not _Step.FETCH:
                self._held_until = now
            self._work = None
            return
        work.fail()
        if is_lost:
            work.lose()
        work.due = now + backoff.wait_s(work.tries, f"{self._node} {work.release.manifest}")
        work.error = "" if is_lost else reason(undone.why)

    # -- the report

    def _state(self) -> State:
        """How it is, but for number and time."""
        work, live, share = self._work, self._live, self._live_share
        stage, release, error = ("live", live, "") if live else ("empty", None, "")
        prepared = None
        if work and self._is_desired(work.release):
            stage, release, error, share = work.step.value, work.release, work.trouble, work.share
            prepared = work.release if work.step in (_Step.READY, _Step.FLIP) else None
        elif refused := self._given_up.last(self._now):
            error = refused.why
            if self._is_desired(refused.release):
                release, stage = refused.release, "failed"
        error = error or (work.trouble if work else "") or self._refusal or self._errands.error
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
            purged=self._errands.purged,
        )

    def _is_desired(self, release: Release) -> bool:
        """Of this node, or on trial."""
        desired = self._desired
        aims = (desired.of_node(self._node), desired.trial.release if desired.trial else None) if desired else ()
        return any(release.is_same(one) for one in aims)

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
