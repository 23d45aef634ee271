"""What is to be desired next, over HTTP: a node keeps it aside, and acts on it once most of the nodes have kept it.

A put has two steps, so that one which is cut off has been acted on by no node, or is found by each claim that comes
after, whichever nodes that one reaches: two majorities have a node in common. `right_of` says what a claim ends.

    propose at all; most have it on their disks -> put at all; most have it -> it is desired
                    fewer: no node acts on it

- **What is found is ended, not left and not taken back**: a node that was not reached may act on it already.
- **One that was to replace something older than what is stored came too late**: another was put meanwhile, by a claim
  that did not find this one. So no node has acted on it.
- **Of two that were to replace the same, the one of the later claim is right**: two puts were cut off, one after the
  other. If most of the nodes had kept the first one, the second claim would have found it. Which claim is the later one
  says its number (http_claims.py).
- **A claim makes one proposal after an edition.** Where two are of one number all the same (agents that know no numbers
  keep them as 0), what more nodes have is right, with an edition above both.
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

    after   the edition of what it replaces
    number  of the claim under which it is to be put; 0: not known
    """

    after: int
    desired: Desired
    number: int = 0

    def dump(self) -> bytes:
        """As a file has it: the edition, the number, a line feed, and the message."""
        return b"%d %d\n%b" % (self.after, self.number, self.desired.dump())

    @classmethod
    def parse(cls, data: bytes) -> Proposal:
        """From that. Raises FormError."""
        first, _, message = data.partition(b"\n")
        after, _, number = first.decode(errors="replace").partition(" ")
        return cls.of(after, number or "0", message)

    @classmethod
    def of(cls, after: str, number: str, message: bytes) -> Proposal:
        """From the digits of an edition and of a number, and the message. Raises FormError."""
        return cls(_whole(after, "after"), Desired.parse(message), _whole(number, "number"))


def _whole(digits: str, where: str) -> int:
    """Raises FormError."""
    if not (digits.isascii() and digits.isdigit() and len(digits) <= len(str(forms.NUMBER_MAX))):
        raise FormError(f"{where}: must be a whole number, not {forms.shown(digits)}")
    return forms.number(int(digits), where)


def right_of(found: Iterable[Proposal], stored: Desired) -> Proposal | None:
    """Of the proposals of most of the nodes, where `stored` is the newest that they have stored, the one that is to be
    ended; None: there is none."""
    late = [one for one in found if one.after >= stored.edition and one.desired.edition > stored.edition]
    place = max(((one.after, one.number) for one in late), default=None)
    values = Counter(one for one in late if (one.after, one.number) == place)
    if not values:
        return None
    best = values.most_common(1)[0][0]
    if len(values) == 1:
        return best
    return replace(best, desired=replace(best.desired, edition=1 + max(one.desired.edition for one in values)))
