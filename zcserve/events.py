"""Events: one part of the server tells others what happens in it (the observer pattern).

A callback that exists when a part is made is a parameter of it. Where two parts need each other, one of them cannot be
there yet: then the part that tells has an event, and the other one subscribes. Nothing replaces a method or an
attribute of another part, so the imports say which part knows which.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Generic, TypeVarTuple

Ts = TypeVarTuple("Ts")


class Event(Generic[*Ts]):
    """To call it calls every subscriber, in the order in which they subscribed; True where one of them returned True.

    subscribers  replaced by `subscribe`, and never changed: a call that is under way goes on with those it began with

    Any thread may call it. Subscribe while the server is made. What a subscriber raises ends the call.
    """

    __slots__ = ("subscribers",)

    def __init__(self, *subscribers: Callable[[*Ts], object]) -> None:
        self.subscribers = subscribers

    def subscribe(self, subscriber: Callable[[*Ts], object]) -> None:
        """From now on call `subscriber`, too."""
        self.subscribers = (*self.subscribers, subscriber)

    def close(self) -> None:
        """Nothing subscribes any more: what tells of it is done with, and subscribers may refer to what tells."""
        self.subscribers = ()

    def __call__(self, *args: *Ts) -> bool:
        answer = False
        for subscriber in self.subscribers:
            if subscriber(*args) is True:
                answer = True
        return answer


def together(told: Iterable[Callable[[str], object]], count: int) -> Callable[[str], None]:
    """Hears `count` times why something failed, or "", and tells then."""
    whys: list[str] = []

    def hear(why: str) -> None:
        whys.append(why)
        if len(whys) == count:
            for tell in told:
                tell("; ".join(filter(None, whys)))

    return hear
