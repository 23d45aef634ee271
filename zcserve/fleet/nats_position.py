"""Where a node is in the stream of commands: the last one that it has heard, and which it has not done yet.

It is kept in a bucket of NATS, and not at the node: where the store is lost, both are lost together, and a node whose
disk is new does not do what is done. A position that NATS does not have, or that does not fit its stream, is a gap; no
position is guessed.

- **A new node is brought the last FIRST_BROUGHT commands**: an operator that knows it already may have sent them
  between its first state and its first look at the stream. What is older is covered by the gap.
- **A gap is kept with the position** for a while: an agent that ends before it has made good for it is told once more.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from zcserve.fleet import forms
from zcserve.fleet.bus import UNACKNOWLEDGED_MAX
from zcserve.fleet.jetstream import Held

# As many as a node has room for.
FIRST_BROUGHT = UNACKNOWLEDGED_MAX
# Times of one record differ by what a float loses of nanoseconds.
SAME_S = 0.001


@dataclass(frozen=True, slots=True)
class Position:
    """
    made   when the stream was made; "": the node is new
    heard  the number of the last record that it has heard
    time   when that record came to the server, in seconds since 1970; 0: it was not heard, the node begins after it
    open   the numbers of those before that it has not done, in order
    gap    a gap that was told, or is to be; "": none
    """

    made: str = ""
    heard: int = 0
    time: float = 0.0
    open: tuple[int, ...] = ()
    gap: str = ""

    def dump(self) -> bytes:
        """Its record."""
        form = {"made": self.made, "heard": self.heard, "time": self.time, "open": list(self.open), "gap": self.gap}
        return forms.dump(form)

    @classmethod
    def parse(cls, data: bytes) -> Position:
        """From its record. Raises FormError."""
        form = forms.load(data)
        numbers = form.get("open", [])
        if not isinstance(numbers, list) or len(numbers) > UNACKNOWLEDGED_MAX:
            raise forms.FormError(f"open: must be a list of {UNACKNOWLEDGED_MAX} at most")
        return cls(
            forms.text(forms.member(form, "made"), "made", forms.NAME_CHARACTERS_MAX),
            forms.whole(form, "heard"),
            forms.real(form.get("time", 0.0), "time", float(forms.NUMBER_MAX)),
            tuple(forms.number(one, "open", 1) for one in numbers),
            forms.text(form.get("gap", ""), "gap", forms.REASON_CHARACTERS_MAX),
        )

    def entered(self, held: Held, is_same: bool) -> Position:
        """Where a node that was here goes on, in a stream that holds this. Its `gap` is set where commands may have
        been lost.

        is_same  the record number `heard` is the one that was heard, as far as it is there
        """
        if not self.made:
            first = max(held.first - 1, held.last - FIRST_BROUGHT, 0)
            return Position(held.made, first, gap="this node is new to the stream of commands")
        if self.made != held.made:
            return Position(held.made, held.first - 1, gap="the stream of commands was made anew")
        if held.last < self.heard or not is_same:
            first = max(held.first - 1, held.last - FIRST_BROUGHT, 0)
            return Position(held.made, first, gap="the stream of commands has lost its end")
        if held.first > self.heard + 1:
            lost = held.first - self.heard - 1
            return replace(self, heard=held.first - 1, time=0.0, gap=dropped(lost))
        return self

    def heard_to(self, number: int, time: float = 0.0, is_open: bool = False) -> Position:
        """After the record of this number."""
        return replace(self, heard=number, time=time, open=(*self.open, number) if is_open else self.open)

    def without(self, *numbers: int) -> Position:
        """These are done, or are not in the stream any more."""
        return replace(self, open=tuple(one for one in self.open if one not in numbers))


def dropped(lost: int) -> str:
    """The reason of a gap."""
    return f"the stream of commands has dropped {lost:,} that this node had not heard"
