"""How a server ends: in order, or at once. And how it steps aside without an end.

    begin   listeners are closed; what is under way is answered, and that was the connection's last answer. A listener
            whose clients the kernel keeps back (deferral.py) is closed when they had their time to ask
    end     after --grace: what is under way is cut short. A second signal waits for none of this (server.py)
    last    what the kernel has queued goes out, for LAST_S at most
    over    no connection is left, or no time: the loop stops

A process that was succeeded by another one answers what it has accepted (`hand_over`), and begins to end later.

A server that steps aside (`step_aside`) accepts clients as before, and each answer is its connection's last: so what
stands in front of it sends them elsewhere, and none of them fails until it does. `step_back` takes that back.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import inf

from zcserve.net.deferral import LET_IN_S
from zcserve.net.listener import Listener
from zcserve.net.service import Service
from zcserve.net.timers import Deadline

# How long the end waits for clients to take what the kernel has queued for them, and what they send meanwhile is read.
LAST_S = 1.0


class Drain:
    """The end of what a service serves. In the loop."""

    def __init__(self, service: Service, listeners: Sequence[Listener]) -> None:
        self._service = service
        self._loop = service.loop
        self._listeners = listeners
        self._is_ending = False
        self._grace = Deadline(self.end)
        self._last = Deadline(self._loop.stop)
        self._let_in = Deadline(self._close_listeners)
        service.closed.subscribe(self.closed)

    @property
    def until(self) -> float:
        """When `--grace` is over, a time of the loop; infinity where nothing has begun to end in order."""
        return self._grace.at

    @property
    def is_ending(self) -> bool:
        """Whether the loop stops when the last connection has ended: that is not taken back."""
        return self._is_ending

    def step_aside(self, why: str = "") -> bool:
        """Answer what comes, and let each answer be its connection's last. Idle connections stay until they ask. False
        where that was so already, and for whatever reason that was."""
        return self._set_draining(True, why)

    def step_back(self) -> bool:
        """Serve as before `step_aside`. False where nothing is to be taken back; and an end is not."""
        return self._set_draining(False)

    def _set_draining(self, draining: bool, why: str = "") -> bool:
        if self._is_ending or self._service.draining == draining:
            return False
        self._service.draining, self._service.drained_for = draining, why
        self._loop.front.answer_last(draining)
        return True

    def hand_over(self) -> None:
        """Another process accepts: answer what is here, and close no connection on which a request may be under way."""
        for listener in self._listeners:
            listener.close(handed_over=True)
        self._drain()
        self._loop.front.drain()
        self.closed()

    def begin(self) -> None:
        """Accept no more, and end when what is under way is answered."""
        kept = [listener for listener in self._listeners if listener.let_in()]
        if kept:
            self._let_in.at = self._loop.now + LET_IN_S
            self._loop.timers.arm(self._let_in)
        for listener in self._listeners:
            if listener not in kept:
                listener.close()
        self._drain()
        self._service.ending = True
        self._loop.front.end(idle_only=True)
        for connection in list(self._service.connections):
            connection.drain()
        self._grace.at = self._loop.now + self._service.config.grace_s
        self._loop.timers.arm(self._grace)
        self.closed()

    def end(self) -> None:
        """Stop now. What is begun is cut short; but what the kernel has queued already still goes out."""
        service = self._service
        self._drain()
        service.ending = service.hurried = True
        self._close_listeners()
        self._loop.front.end(idle_only=False)
        for connection in list(service.connections):
            connection.end()
        for ending in list(service.endings):
            ending.hurry()
        self._last.at = self._loop.now + LAST_S
        self._loop.timers.arm(self._last)
        self.closed()

    def _close_listeners(self) -> None:
        self._let_in.at = inf
        for listener in self._listeners:
            listener.close()
        self.closed()

    def _drain(self) -> None:
        """From now on the last connection ends the loop. Of the front's only a turn tells that they are closed."""
        self._service.draining = True
        if not self._is_ending:
            self._is_ending = True
            self._loop.each_turn.subscribe(self._stop_when_over)

    def _stop_when_over(self) -> None:
        if not self._service.count() and self._let_in.at == inf:
            self._loop.stop()

    def closed(self) -> None:
        """A connection ended: there is room for another, or an end to wait for."""
        if not self._is_ending:
            for listener in self._listeners:
                listener.retry()
        else:
            self._stop_when_over()
