"""What is to be desired next, over HTTP: a node keeps it aside, and acts on it once most of the nodes have kept it.

A put has two steps, so that one which is cut off has been acted on by no node, or is found by each claim that comes
after, whichever nodes that one reaches: two majorities have a node in common. `right_of` says what a claim ends.

    propose at all; most have it on their disks -> put at all; most have it -> it is desired
                    fewer: no node acts on it

- **What is found is ended, not left and not taken back**: a node that was not reached may act on it already.
- **One that was to replace something older than what is stored came too late**: another was put meanwhile, by a claim
  that did not find this one. So no node has acted on it.
- **Of two that were to replace the same, one at most has been acted on**, and nothing here says which: two puts were
  cut off, one after the other, and the node is away at which the second one has ended. What more nodes have is right,
  with an edition above both. A node that has acted on the other one, and so serves another release of that sequence,
  takes the next sequence.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace

from zcserve.fleet import forms
from zcserve.fleet.forms import FormError
from zcserve.fleet.messages import Desired


@dataclass(frozen=True, slots=True)
class Proposal:
    """What is to be desired, once most of the nodes have it.

    after  the edition of what it replaces
    """

    after: int
    desired: Desired

    def dump(self) -> bytes:
        """As a file has it: the edition, a line feed, and the message."""
        return b"%d\n%b" % (self.after, self.desired.dump())

    @classmethod
    def parse(cls, data: bytes) -> Proposal:
        """From that. Raises FormError."""
        after, _, message = data.partition(b"\n")
        return cls.of(after.decode(errors="replace"), message)

    @classmethod
    def of(cls, after: str, message: bytes) -> Proposal:
        """From the digits of an edition, and the message. Raises FormError."""
        if not (after.isascii() and after.isdigit() and len(after) <= len(str(forms.NUMBER_MAX))):
            raise FormError(f"after: must be a whole number, not {forms.shown(after)}")
        return cls(forms.number(int(after), "after"), Desired.parse(message))


def right_of(found: Iterable[Proposal], stored: Desired) -> Proposal | None:
    """Of the proposals of most of the nodes, where `stored` is the newest that they have stored, the one that is to be
    ended; None: there is none."""
    late = [one for one in found if one.after >= stored.edition and one.desired.edition > stored.edition]
    after = max((one.after for one in late), default=0)
    values = Counter(one for one in late if one.after == after)
    if not values:
        return None
    best = values.most_common(1)[0][0]
    if len(values) == 1:
        return best
    return replace(best, desired=replace(best.desired, edition=1 + max(one.desired.edition for one in values)))
