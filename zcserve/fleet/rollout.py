"""The operator's state machine of one rollout: events in, actions out (rollout_words.py). It has no clock and no bus.

    claiming -> reading -> opening -> preparing -> [trying -> baking] -> committing -> flipping -> converging -> ended
                                \\________\\___________\\________\\____-> aborting -> returning -> ended

**All that a rollout has done is in what is desired** (messages.py), which it replaces by compare-and-set:

| it | by |
|---|---|
| opens    | a trial without canaries: nodes fetch and prepare |
| tries    | the trial with canaries: these flip, when they have it prepared |
| commits  | the release itself, and no trial: all flip, and nothing is undone any more |
| aborts   | no trial: canaries go back, nodes let go of what they have prepared |

So an operator that was killed at any point is run again, reads where it was, and goes on. If it is not run again, nodes
stay as they are, with the trial prepared; the next rollout's opening takes its place. Of two that are there at once,
one has the claim, and the other is told. If both believe to have it, the second put of one edition fails, and its
rollout reads what has come of the first: there is no half of a rollout that could win.

**Canaries flip before the commit by plan**, and because what is desired says that they are canaries. One that is
started anew in the bake goes on as a canary; it has `canary_s` to be live again (bake.py). An abort brings canaries
back, which the machine waits for, as long.

**The quorum is counted of the nodes that are known when it begins** and must hold at the commit. Nodes that come later
go along without being counted. A rollout that can no longer reach it, since too many nodes have given up, aborts at
once instead of at its deadline. After the commit it names the nodes that are late, and ends; they converge without it.

**A bus that has lost what was desired** begins at edition 0 again, and nodes take nothing that is older than what they
know. They report the edition that they know, and the machine puts a higher one, at once or when it hears of it.

A rollback is a rollout whose release has an old tree and a new sequence.
"""

from __future__ import annotations

import math
from dataclasses import replace
from enum import Enum
from typing import assert_never

from zcserve.fleet.bake import Bake
from zcserve.fleet.bus import Caught, Heard
from zcserve.fleet.census import Census, Row, needed
from zcserve.fleet.messages import CANARIES_MAX, Command, Desired, Trial
from zcserve.fleet.rollout_words import (
    Action,
    AskHealth,
    Begin,
    Cancel,
    Claimed,
    ClaimHeld,
    Conflict,
    End,
    Ending,
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


class Phase(Enum):
    """Where a rollout is."""

    CLAIMING = "claiming"
    READING = "reading"
    OPENING = "opening"
    PREPARING = "preparing"
    TRYING = "trying"
    BAKING = "baking"
    COMMITTING = "committing"
    FLIPPING = "flipping"
    CONVERGING = "converging"
    ABORTING = "aborting"
    RETURNING = "returning"
    ENDED = "ended"


# Of nodes that are known, where a plan names another one.
NODES_NAMED_MAX = 10

COMMITTED_WORDS = "it is what all nodes are to serve, which is not taken back: `rollback` goes to an earlier release"
NO_NODE_WORDS = "no node is known: none has reported for this site (--site: is it the agents'?), and none is listed"
COMMITTED = (Phase.FLIPPING, Phase.CONVERGING)


def why_not(plan: Plan, desired: Desired, counted: frozenset[str]) -> str:
    """Why a plan cannot be begun where this is desired and these nodes count; "": it can."""
    new, old = plan.release, desired.release
    if not counted:
        return NO_NODE_WORDS
    if unknown := plan.canaries - counted:
        few = sorted(counted)[:NODES_NAMED_MAX]
        return f"canaries that are not known: {', '.join(sorted(unknown))}; known: {', '.join(few)}"
    if plan.canary_share * len(counted) > CANARIES_MAX:
        return f"canaries: more than {CANARIES_MAX:,}, of {len(counted):,} nodes"
    if old is None or new.sequence > old.sequence or new.is_same(old):
        return ""
    if new.sequence == old.sequence:
        return f"sequence {old.sequence} is desired already, with another manifest: {old.manifest[:12]}"
    return f"sequence {new.sequence} is older than {old.sequence}: a rollback has a new sequence"


class Rollout:
    """One rollout of a plan, from Begin to End. Not for several threads."""

    def __init__(self, site: str, plan: Plan) -> None:
        self._site, self._plan, self._release = site, plan, plan.release
        self._census = Census(plan.release, plan.nodes)
        self._has_caught = False
        self._desired: Desired | None = None
        self._putting: Desired | None = None
        self._has_claim = False
        self._renew_at = math.inf
        self._deadline = math.inf
        self._cancelled: str | None = None
        self._abort_why = ""
        self._bake: Bake | None = None
        self._asked_edition = 0
        self._actions: list[Action] = []
        self.phase = Phase.CLAIMING
        self.end: End | None = None

    def on(self, event: Event, now: float) -> list[Action]:
        """What is to be done because of an event, in this order."""
        self._actions = []
        if self.phase is not Phase.ENDED:
            self._hear(event, now)
        if self._has_claim and now >= self._renew_at:
            self._renew_at = now + self._plan.claim_lasts_s / 3
            self._do(RenewClaim(self._plan.claim_lasts_s))
        before = None
        while before is not self.phase and self.phase is not Phase.ENDED and self._putting is None:
            before = self.phase
            self._decide(now)
        return self._actions

    @property
    def due(self) -> float:
        """When it wants a Tick, if nothing comes before; inf after its end."""
        if self.phase is Phase.ENDED:
            return math.inf
        return min(self._renew_at, self._deadline, self._bake.due if self._bake else math.inf)

    def rows(self, now: float) -> list[Row]:
        """The table of nodes."""
        return self._census.rows(now)

    @property
    def counts(self) -> tuple[int, int, int, int]:
        """Nodes that have the release in memory, that serve it, that the quorum needs, and that count."""
        census, counted = self._census, len(self._census.counted)
        having, serving = census.having, census.serving
        return len(having), len(serving), self._needed, counted

    def _hear(self, event: Event, now: float) -> None:
        match event:
            case Begin():
                self._do(TakeClaim(self._release.rollout, self._plan.claim_lasts_s))
            case Claimed() if self.phase is Phase.CLAIMING:
                self._has_claim, self._renew_at = True, now + self._plan.claim_lasts_s / 3
                self.phase = Phase.READING
                self._do(ReadDesired())
            case ClaimHeld(holder, left_s):
                self._on_claim_held(holder, left_s, now)
            case Conflict(stored) if self._putting:
                self._putting = None
                self._on_stored(stored, now)
            case Desired() if self._putting is None:
                self._on_read(event, now)
            case Put() if self._putting:
                self._desired, self._putting = self._putting, None
                self._on_put(now)
            case Heard():
                self._on_heard(event, now)
            case Caught():
                self._has_caught = True
            case Health() if self._bake:
                self._bake.hear(event)
            case Cancel(why):
                self._cancelled = why
            case Claimed() | Desired() | Put() | Conflict() | Health() | Tick():
                pass  # late, or there is only the time
            case _:
                assert_never(event)

    # -- what others do

    def _on_claim_held(self, holder: str, left_s: float, now: float) -> None:
        self._has_claim, self._renew_at = False, math.inf
        if self.phase is Phase.CLAIMING:
            self._finish(Ending.REFUSED, f"{holder} has the site, for {left_s:.0f} s unless it ends before", now)
        elif self.phase in COMMITTED:
            self._finish_committed(f"{holder} has the site now", now)
        else:
            self._finish(Ending.SUPERSEDED, f"{holder} has the site now", now)

    def _on_heard(self, heard: Heard, now: float) -> None:
        """A state; one that knows of a newer edition says that what is desired was replaced."""
        self._census.hear(heard, now)
        known = self._desired.edition if self._desired else math.inf
        if self._putting is None and self._census.edition > max(known, self._asked_edition):
            self._asked_edition = self._census.edition
            self._do(ReadDesired())

    def _on_read(self, read: Desired, now: float) -> None:
        """What is desired was asked for: at the beginning, or since nodes know of a newer edition."""
        if self._desired is None:
            self._desired = read
        elif read.edition > self._desired.edition:
            self._on_stored(read, now)
        elif self._census.edition > self._desired.edition:
            self._ask_to_put(replace(self._desired, edition=1 + self._census.edition))

    def _on_stored(self, stored: Desired, now: float) -> None:
        """What is desired is not what this rollout has put there."""
        self._desired = stored
        if self._release.is_same(stored.release):
            if self._plan.takes_back:
                self._finish(Ending.REFUSED, COMMITTED_WORDS, now)
            elif self.phase not in COMMITTED:
                self._committed(now)
        elif self.phase in COMMITTED:
            self._finish_committed(f"sequence {stored.release.sequence if stored.release else 0} came after it", now)
        elif stored.release and stored.release.sequence >= self._release.sequence:
            self._finish(Ending.SUPERSEDED, f"{stored.release.rollout} is desired now", now)
        elif stored.trial is None:
            if self.phase is not Phase.OPENING:
                self._abort_why = (
                    self._abort_why or "its trial is gone: another run of it has aborted it, or the bus has lost it"
                )
                self._return(now)
        elif not self._release.is_same(stored.trial.release):
            self._finish(Ending.SUPERSEDED, f"{stored.trial.release.rollout} has the site now", now)
        elif self.phase is Phase.OPENING:
            self._opened(now)
        elif self.phase is Phase.TRYING and self._canaries:
            self._tried(now)

    # -- the steps of the rollout: each is begun by `_decide`, and goes on when what it has put is desired

    def _decide(self, now: float) -> None:
        """Go on, if it is time."""
        if self._cancelled is not None and self._cancel(now):
            return
        match self.phase:
            case Phase.READING if self._desired and self._has_caught:
                self._open(now)
            case Phase.OPENING:
                self._put(None, now)
            case Phase.PREPARING:
                self._decide_prepared(now)
            case Phase.TRYING:
                self._decide_tried(now)
            case Phase.BAKING if self._bake:
                self._decide_baked(self._bake, now)
            case Phase.COMMITTING:
                self._put(None, now)
            case Phase.FLIPPING | Phase.CONVERGING:
                self._decide_live(now)
            case Phase.ABORTING:
                self._put(None, now)
            case Phase.RETURNING:
                self._decide_returned(now)

    def _open(self, now: float) -> None:
        """The first look at what is desired: refuse, go on where an earlier run was, or begin."""
        assert self._desired is not None
        self._census.settle(now, self._plan.known_s)
        node, newest = self._census.newest()
        if self._plan.takes_back:
            self._abort("it is taken back")
        elif why := why_not(self._plan, self._desired, self._census.counted):
            self._finish(Ending.REFUSED, why, now)
        elif newest > self._release.sequence:
            why = f"{node} serves sequence {newest}, and {self._release.sequence} is older"
            self._finish(Ending.REFUSED, why, now)
        elif self._release.is_same(self._desired.release):
            self._committed(now)
        elif self._desired.trial and self._desired.trial.release == self._release:
            self._opened(now)
        else:
            self.phase = Phase.OPENING

    def _opened(self, now: float) -> None:
        self._publish("prepare")
        self._deadline = now + self._plan.prepare_s
        self.phase = Phase.PREPARING

    def _decide_prepared(self, now: float) -> None:
        census, canaries = self._census, self._canaries or self._plan.canaries
        having, counted = census.having, census.counted
        if len(counted) - len(census.failing) < self._needed:
            self._abort(f"{len(census.failing)} of {len(counted)} nodes have given up on it")
        elif len(having) >= self._needed and canaries <= having:
            self._deadline = math.inf
            self.phase = Phase.TRYING if canaries or self._plan.canary_share else Phase.COMMITTING
            if self._canaries:  # chosen by an earlier run
                self._tried(now)
        elif now >= self._deadline:
            need = f"{self._needed} of {len(counted)} nodes" + (" and all canaries" if canaries else "")
            self._abort(f"{len(having)} had it prepared within {self._plan.prepare_s:g} s, and {need} must")

    def _decide_tried(self, now: float) -> None:
        if not self._canaries:
            chosen = self._plan.canaries or self._census.choose(self._plan.canary_share)
            self._put(chosen, now)
            return
        missing = self._canaries - self._census.serving
        if not missing:
            self._bake = Bake(self._plan, self._canaries, now)
            self._deadline = math.inf
            self.phase = Phase.BAKING
        elif failed := missing & self._census.failing:
            self._abort(f"canaries have given up on it: {', '.join(sorted(failed))}")
        elif now >= self._deadline:
            self._abort(f"canaries do not serve it after {self._plan.canary_s:g} s: {', '.join(sorted(missing))}")

    def _tried(self, now: float) -> None:
        self._publish("flip")
        self._deadline = now + self._plan.canary_s
        self.phase = Phase.TRYING

    def _decide_baked(self, bake: Bake, now: float) -> None:
        why = bake.ended(self._census, self._needed, now)
        if why is None:
            if bake.asks(now):
                self._do(AskHealth(self._canaries))
            return
        self._bake = None
        if why:
            self._abort(why)
        else:
            self.phase = Phase.COMMITTING

    def _committed(self, now: float) -> None:
        self._publish("flip")
        self._deadline, self._bake = now + self._plan.live_s, None
        self.phase = Phase.FLIPPING

    def _decide_live(self, now: float) -> None:
        serving, counted = self._census.serving, self._census.counted
        if self.phase is Phase.FLIPPING and len(serving) >= self._needed:
            self._give_up_claim()
            self._deadline = now + self._plan.live_s
            self.phase = Phase.CONVERGING
        if serving >= counted:
            self._finish(Ending.LIVE, "", now)
        elif now >= self._deadline:
            self._finish_committed(f"{len(serving)} of {len(counted)} nodes serve it", now)

    def _abort(self, why: str) -> None:
        self._abort_why, self._deadline, self._bake = why, math.inf, None
        self.phase = Phase.ABORTING

    def _return(self, now: float) -> None:
        """No trial is desired any more."""
        self._deadline, self._bake = now + self._plan.canary_s, None
        self.phase = Phase.RETURNING

    def _decide_returned(self, now: float) -> None:
        """Canaries go back, if there is something to go back to."""
        serving = self._census.serving
        can_return = self._desired is not None and self._desired.release is not None
        if not serving or not can_return or now >= self._deadline:
            self._finish(Ending.ABORTED, self._abort_why, now)

    def _cancel(self, now: float) -> bool:
        """Ended by its operator, as far as it can be."""
        why, self._cancelled = self._cancelled or "", None
        if self.phase in COMMITTED:
            self._finish_committed(why, now)
        elif self.phase in (Phase.CLAIMING, Phase.READING):
            self._finish(Ending.ABORTED, why, now)
        elif self.phase not in (Phase.ABORTING, Phase.RETURNING):
            self._abort(why)
            return False
        return True

    # -- what is desired

    @property
    def _canaries(self) -> frozenset[str]:
        """Those that what is desired names."""
        trial = self._desired.trial if self._desired else None
        return trial.canaries if trial and trial.release.is_same(self._release) else frozenset()

    @property
    def _needed(self) -> int:
        return needed(self._plan.quorum, len(self._census.counted))

    def _put(self, canaries: frozenset[str] | None, now: float) -> None:
        """Have what the phase comes to desired."""
        old = self._desired
        assert old is not None
        if self.phase is Phase.ABORTING and (old.trial is None or not old.trial.release.is_same(self._release)):
            self._on_stored(old, now)
            return
        edition = 1 + max(old.edition, self._census.edition)
        if self.phase is Phase.COMMITTING:
            self._ask_to_put(old.committed(edition, self._release))
            return
        trial = None if self.phase is Phase.ABORTING else Trial(self._release, canaries or frozenset())
        self._ask_to_put(replace(old, edition=edition, trial=trial))

    def _ask_to_put(self, desired: Desired) -> None:
        """It is desired when the bus says so."""
        assert self._desired is not None
        self._putting = desired
        self._do(PutDesired(desired, self._desired.edition))

    def _on_put(self, now: float) -> None:
        match self.phase:
            case Phase.OPENING:
                self._opened(now)
            case Phase.TRYING:
                self._tried(now)
            case Phase.COMMITTING:
                self._committed(now)
            case Phase.ABORTING:
                self._publish("abort")
                self._return(now)

    # -- the end

    def _publish(self, op: str) -> None:
        """Tell the stream of what is desired; the same id for the same edition."""
        assert self._desired is not None
        edition = self._desired.edition
        name = f"{self._release.rollout}:{op}:{edition}"
        self._do(Publish(Command(name, op, self._site, edition, self._release)))

    def _give_up_claim(self) -> None:
        if self._has_claim:
            self._has_claim, self._renew_at = False, math.inf
            self._do(GiveUpClaim())

    def _finish_committed(self, why: str, now: float) -> None:
        self._finish(Ending.LIVE if self.phase is Phase.CONVERGING else Ending.COMMITTED, why, now)

    def _finish(self, ending: Ending, why: str, now: float) -> None:
        census = self._census
        late: frozenset[str] = frozenset()
        if ending in (Ending.LIVE, Ending.COMMITTED):
            late = census.counted - census.serving
        elif ending is Ending.ABORTED:
            late = frozenset(census.serving) or census.counted - census.having
        self._give_up_claim()
        self.phase, self.end = Phase.ENDED, End(ending, why, census.why(late, now))
        self._do(self.end)

    def _do(self, action: Action) -> None:
        self._actions.append(action)
