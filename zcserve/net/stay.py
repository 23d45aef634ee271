"""How long the general lane keeps a connection that the front handed over.

A hand-over costs as much as a request: a `Connection` is made, armed, and torn down when it is given back. So a client
that asks for what the front cannot answer is kept. Whether it is one the front tells, which sees what comes: how often
in a row it had to hand this connection over again at once. What was not in memory is so when it was loaded, and so none
is kept for long on a guess: the first time a connection goes back at the first chance.
"""

from __future__ import annotations

# How often it may be idle before it goes back, when it was handed over for the first time in a row, the second, ...
# The last: a hand-over costs one or two requests, and so 1% of them; kept in vain, they cost 3 ms.
KEPT = (1, 4, 16, 64, 256)
# So many requests in a row that the front would have answered: kept, each costs some 8 us more than there, and a
# hand-over costs 10 to 20.
PLAIN_MAX = 4
# Seconds in which nothing comes. An idle connection takes 3 KB more here than in the front.
IDLE_S = 1.0


class Stay:
    """Of one connection, from one hand-over to the moment when it is given back."""

    __slots__ = ("_left",)

    def __init__(self, in_vain: int) -> None:
        """`in_vain` as in `front.Handed`."""
        self._left = KEPT[min(max(in_vain, 1), len(KEPT)) - 1]

    def is_over(self, plain: int) -> bool:
        """To be asked each time that the connection owes nothing: whether it goes back now. `plain` as
        `Http1.plain`."""
        self._left -= 1
        return self._left <= 0 or plain >= PLAIN_MAX
