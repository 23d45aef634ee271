"""Canaries serve a release for a while before all others do: whether they do, and are well."""

from __future__ import annotations

from zcserve.fleet.census import Census
from zcserve.fleet.rollout_words import Health, Plan

# Canaries are asked for their health so often, in seconds, or ten times in a bake that is shorter.
HEALTH_EVERY_S = 5.0
# And not more often than this.
HEALTH_GAP_S = 0.1


class Bake:
    """One bake, from when all canaries serve the release.

    It is over when `bake_s` have gone by, each canary has said that it is well, and all serve the release still, as the
    quorum has it prepared still. What is otherwise may be a restart, so it may last `canary_s`.
    """

    def __init__(self, plan: Plan, canaries: frozenset[str], now: float) -> None:
        self._plan, self._canaries = plan, canaries
        self._well: set[str] = set()
        self._over_at = now + plan.bake_s
        self._ask_at = now
        self._wrong_since: float | None = None
        self._unwell = ""

    @property
    def due(self) -> float:
        """When it is to be looked at next."""
        over = self._over_at if self._wrong_since is None else self._wrong_since + self._plan.canary_s
        return min(self._ask_at, over)

    def hear(self, health: Health) -> None:
        """What a canary says."""
        if health.node not in self._canaries:
            return
        if health.is_well:
            self._well.add(health.node)
        else:
            self._unwell = f"canary {health.node} is not well: {health.why}"

    def asks(self, now: float) -> bool:
        """Whether canaries are to be asked now."""
        if now < self._ask_at:
            return False
        self._ask_at = now + min(HEALTH_EVERY_S, max(self._plan.bake_s / 10, HEALTH_GAP_S))
        return True

    def ended(self, census: Census, quorum: int, now: float) -> str | None:
        """None: it goes on. "": it ended well. Else why the rollout is to be aborted."""
        if self._unwell:
            return self._unwell
        why = self._why_not(census, quorum, now)
        if not why:
            self._wrong_since = None
            return "" if now >= self._over_at else None
        if self._wrong_since is None:
            self._wrong_since = now
        return why if now >= self._wrong_since + self._plan.canary_s else None

    def _why_not(self, census: Census, quorum: int, now: float) -> str:
        """What is not as it must be."""
        missing = (self._canaries - census.serving) | census.silent(self._canaries, now)
        if missing:
            return f"canaries do not serve it any more: {', '.join(sorted(missing))}"
        if now < self._over_at:
            return ""
        if unasked := self._canaries - self._well:
            return f"canaries do not say how they are: {', '.join(sorted(unasked))}"
        if (having := len(census.having)) < quorum:
            return f"only {having} nodes have it prepared any more, and {quorum} must"
        return ""
