"""Links between the bus and all others: messages take a while, are lost, come twice and overtake each other."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import TypeVar

from tools.fleet_sim.clock import Clock, Then

T = TypeVar("T")

# A question that was not answered for so long has failed, in seconds.
TIMEOUT_S = 5.0


@dataclass(frozen=True, slots=True)
class Weather:
    """How links are.

    latency_s  one way, the median; lognormal, as measured between data centres: the 99th of a hundred takes 3.2 times
               as long, with the `sigma` of 0.5
    loss       the share of messages that are lost, and brought again by whoever promised to
    twice      the share that comes twice
    """

    latency_s: float = 0.02
    sigma: float = 0.5
    loss: float = 0.001
    twice: float = 0.001


class Link:
    """One way to the bus and back. `is_up`: else all that is sent or comes now is lost."""

    def __init__(self, clock: Clock, random: Random, weather: Weather) -> None:
        self._clock, self._random, self.weather = clock, random, weather
        self.is_up = True

    def latency_s(self) -> float:
        """How long the next message takes."""
        return self._random.lognormvariate(math.log(self.weather.latency_s), self.weather.sigma)

    def send(self, then: Then, lost: Then = lambda: None) -> None:
        """Have `then` happen at the other end: once, twice, or never; then `lost` happens here."""
        if not self.is_up or self._random.random() < self.weather.loss:
            lost()
            return
        self._clock.after(self.latency_s(), lambda: then() if self.is_up else lost())
        if self._random.random() < self.weather.twice:
            self._clock.after(self.latency_s(), lambda: then() if self.is_up else None)

    def ask(self, question: Callable[[], T], then: Callable[[T], object], failed: Then) -> None:
        """Have a question answered at the other end: just one of `then` and `failed` happens here, but the question
        may have been put when it has failed."""
        is_over = False

        def end(it: Then) -> None:
            nonlocal is_over
            if not is_over:
                is_over = True
                it()

        def put() -> None:
            answer = question()
            self.send(lambda: end(lambda: then(answer)))

        self.send(put)
        self._clock.after(TIMEOUT_S, lambda: end(failed))
