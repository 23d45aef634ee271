"""Waiting without luck, and measuring that a busy machine does not spoil."""

from __future__ import annotations

import select
import time
from collections.abc import Callable
from typing import Literal, Protocol, TypeVar

import pytest

T = TypeVar("T")
# What is waited for: anything true.
Predicate = Callable[..., T | Literal[False] | None]


class WaitUntil(Protocol):
    """`wait_until` below, as a fixture has it."""

    def __call__(self, predicate: Predicate[T], timeout: float = 20.0) -> T: ...


def wait_until(predicate: Predicate[T], timeout: float = 20.0) -> T:
    """The first true value of `predicate`, asked again and again; fails after `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while not (value := predicate()):
        if time.monotonic() > deadline:
            pytest.fail(f"not true within {timeout} s: {predicate!r}")
        time.sleep(0.005)
    return value


class HasFileno(Protocol):
    """A socket, a file, a pipe's end."""

    def fileno(self) -> int: ...


def is_readable(file: HasFileno | int, within_s: float = 0.0) -> bool:
    """Whether bytes, an end or an error come within a time. `select` would refuse descriptors from 1024 on."""
    poll = select.poll()
    poll.register(file, select.POLLIN)
    return bool(poll.poll(within_s * 1000))


Growth = Callable[[Callable[[int], object], int], float]


def growth(work: Callable[[int], object], size: int) -> float:
    """How many times as long `work(4 * size)` takes as `work(size)`: 4 when it is linear, 16 when it is quadratic.

    Processor time of this thread, the best of three, so that a busy machine does not matter."""

    def best(size: int) -> float:
        times = []
        for _ in range(3):
            began = time.thread_time()
            work(size)
            times.append(time.thread_time() - began)
        return min(times)

    return best(4 * size) / best(size)
