"""Which sequence a release gets, and which release a rollback goes back to. Of what is desired, and what nodes say.

Each command can be given again: what is on trial already, or is desired already, with the same files, is that release,
and has its sequence. Else the new one is above all that was ever told a node. So a node that has heard of a release
that came to nothing takes the next one.
"""

from __future__ import annotations

from collections.abc import Iterable

from zcserve.errors import UsageError
from zcserve.fleet.messages import Desired, Release, State

PREVIOUS = "previous"


def sequence_for(tree: str, desired: Desired, states: Iterable[State]) -> int:
    """The sequence of a release of these files."""
    trial = desired.trial.release if desired.trial else None
    for known in (trial, desired.release if trial is None else None):
        if known and known.tree == tree:
            return known.sequence
    return 1 + max((known.sequence for known in _told(desired, states)), default=0)


def _told(desired: Desired, states: Iterable[State]) -> Iterable[Release]:
    """All releases that nodes may know of."""
    found = [desired.release, desired.trial.release if desired.trial else None, *desired.earlier]
    for state in states:
        found += [state.release, state.live, state.prepared]
    return [release for release in found if release]


def goes_back_to(desired: Desired, wanted: str) -> Release:
    """The release that a rollback to `wanted` (a sequence, or PREVIOUS) brings back: its files and its source.

    Given again, PREVIOUS is the same one, whether the first rollback lasts or has ended: it is no toggle. Raises
    UsageError with those that there are.
    """
    now, earlier = desired.release, desired.earlier
    if now is None:
        raise UsageError(f"nothing was ever released to {desired.site}: there is nothing to go back to")
    there = [now, *earlier]
    if wanted != PREVIOUS:
        found = next((one for one in there if str(one.sequence) == wanted), None)
    elif any(one.tree == now.tree for one in earlier[1:]):
        found = now  # a rollback is what is desired already
    else:
        found = next((one for one in earlier if one.tree != now.tree), None)
    if found is None:
        known = ", ".join(str(one.sequence) for one in earlier) or "none"
        raise UsageError(f"--to {wanted}: is not known; known before {now.sequence}: {known}")
    return found
