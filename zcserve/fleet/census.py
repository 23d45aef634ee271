"""The nodes of a site, as the operator hears of them: which are known, how many have a release, and a table's rows.

Ages are of the operator's clock: a state's own time is that of a clock which may be wrong.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import sha256
from typing import NamedTuple

from zcserve.fleet.bus import Heard
from zcserve.fleet.messages import REPORT_EVERY_S, Release, State

# A node that was not heard of for so long is silent, in seconds.
SILENT_S = 3 * REPORT_EVERY_S
# A node that says it knows of a higher edition is not believed: each rollout makes three or four, and one that is near
# the end of all numbers would be the last.
EDITION_BELIEVED_MAX = 10**12


class Row(NamedTuple):
    """A node in a table.

    stage     what it is at; "unknown": it was never heard of, "silent": not for SILENT_S
    sequence  of the release that it serves; 0: none
    prepared  the same of the one that it has prepared
    share     how much of the release that it is at is in memory
    lag_s     how long it was not heard of
    error     what went wrong last
    retry_s   in how many seconds it tries again; 0: it does not wait for that
    """

    node: str
    stage: str
    sequence: int
    prepared: int
    share: float
    lag_s: float
    error: str
    retry_s: float = 0.0


@dataclass(slots=True)
class _Known:
    state: State
    heard_at: float


def needed(quorum: float, nodes: int) -> int:
    """How many of so many nodes are the quorum: at least one. 0.9 of 10 are 9, whatever floats say."""
    return max(1, math.ceil(quorum * nodes - 1e-9))


class Census:
    """What was heard of each node, which ones count, and how far these are with a release.

    counted  the nodes that count
    having   those that have the release in memory: prepared, or live
    serving  those that have it live
    failing  those that have given up on it
    edition  the highest that a node knows of

    The sets are kept as states come: a rollout of 10,000 nodes looks at them 50,000 times.
    """

    def __init__(self, release: Release, nodes: Iterable[str] = ()) -> None:
        """`nodes` count, and no others; empty: `settle` says which do."""
        self._release = release
        self._heard: dict[str, _Known] = {}
        self._listed = frozenset(nodes)
        self.counted: frozenset[str] = self._listed
        self.having: set[str] = set()
        self.serving: set[str] = set()
        self.failing: set[str] = set()
        self.edition = 0

    def hear(self, heard: Heard, now: float) -> None:
        """A state; one that is older than what is known is passed over."""
        state, at = heard.state, now - heard.age_s
        known = self._heard.get(state.node)
        if known and (state.is_older_than(known.state) or (state.boot != known.state.boot and at < known.heard_at)):
            return
        self._heard[state.node] = _Known(state, at)
        if state.edition <= EDITION_BELIEVED_MAX:
            self.edition = max(self.edition, state.edition)
        self._count(state)

    def settle(self, now: float, known_s: float) -> None:
        """From now on the nodes count that were heard of within `known_s`."""
        if not self._listed:
            self.counted = frozenset(name for name, known in self._heard.items() if now - known.heard_at <= known_s)
        for known in self._heard.values():
            self._count(known.state)

    def newest(self) -> tuple[str, int]:
        """A node that serves the highest sequence, and that; "" and 0 where none serves anything."""
        live = ((known.state.live.sequence, name) for name, known in self._heard.items() if known.state.live)
        sequence, name = max(live, default=(0, ""))
        return name, sequence

    def _count(self, state: State) -> None:
        release, node = self._release, state.node
        serves = release.is_same(state.live)
        for nodes, is_one in (
            (self.having, serves or release.is_same(state.prepared)),
            (self.serving, serves),
            (self.failing, state.stage == "failed" and release.is_same(state.release)),
        ):
            if is_one and node in self.counted:
                nodes.add(node)
            else:
                nodes.discard(node)

    def silent(self, nodes: Iterable[str], now: float) -> frozenset[str]:
        """Those of these that were not heard of for SILENT_S."""
        return frozenset(name for name in nodes if self._lag_s(name, now) > SILENT_S)

    def _lag_s(self, node: str, now: float) -> float:
        known = self._heard.get(node)
        return now - known.heard_at if known else math.inf

    def why(self, nodes: Iterable[str], now: float) -> dict[str, str]:
        """What is known of each of these: its error, or what it is at."""
        rows = (self._row(node, now) for node in sorted(nodes))
        return {row.node: f"{row.stage}: {row.error}" if row.error else row.stage for row in rows}

    def rows(self, now: float) -> list[Row]:
        """All nodes that count or were heard of, by name."""
        return [self._row(node, now) for node in sorted(self.counted | self._heard.keys())]

    def _row(self, node: str, now: float) -> Row:
        known, lag_s = self._heard.get(node), self._lag_s(node, now)
        if known is None:
            return Row(node, "unknown", 0, 0, 0.0, lag_s, "")
        state = known.state
        stage = "silent" if lag_s > SILENT_S else state.stage
        live, prepared = (found.sequence if found else 0 for found in (state.live, state.prepared))
        retry_s = max(0.0, state.retry_s - lag_s)
        return Row(node, stage, live, prepared, state.share, lag_s, state.error, retry_s)

    def choose(self, share: float) -> frozenset[str]:
        """So large a share of the nodes that count, of those that have it in memory: the same ones each time."""
        many = math.ceil(share * len(self.counted) - 1e-9)
        salt = self._release.rollout
        order = sorted(self.having, key=lambda node: sha256(f"{salt} {node}".encode()).digest())
        return frozenset(order[:many])
