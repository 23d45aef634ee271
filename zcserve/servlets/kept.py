"""Which results are kept: by target, and by the path that their targets name.

A file goes before the results at its path, and clients choose queries: so one file may end ten thousand results, each
for some microseconds of the loop. `sweep` lets them go a few at a time; until then each look-up must find out whether
the result's time is over.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Set
from functools import partial
from itertools import islice
from typing import NamedTuple, Protocol, TypeVar

from zcserve.servlets.routes import Route

# So many are looked at, or let go of, between two turns of the loop: about a millisecond.
SWEPT_AT_ONCE = 250


class Source(NamedTuple):
    """Where a result comes from. `target` is as it was sent, `path` the target's in canonical encoding."""

    route: Route
    target: bytes
    params: dict[str, str]
    path: bytes


class Sourced(Protocol):
    """A result."""

    @property
    def source(self) -> Source:
        """Where it comes from."""


Result = TypeVar("Result", bound=Sourced)


class Kept(dict[bytes, Result]):
    """Target -> result. Only `keep` and `remove` change it."""

    def __init__(self) -> None:
        super().__init__()
        self._targets: dict[bytes, dict[bytes, None]] = {}  # by path

    def keep(self, result: Result) -> None:
        """Keep a result for a target that has none."""
        source = result.source
        self[source.target] = result
        self._targets.setdefault(source.path, {})[source.target] = None

    def remove(self, result: Result) -> None:
        """Keep it no more."""
        source = result.source
        del self[source.target]
        targets = self._targets[source.path]
        del targets[source.target]
        if not targets:
            del self._targets[source.path]

    def paths(self, keys: Collection[bytes]) -> Set[bytes]:
        """Those of `keys` at which there are results."""
        if len(keys) > len(self._targets):
            return {path for path in self._targets if path in keys}
        return {key for key in keys if key in self._targets}

    def at(self, paths: Iterable[bytes]) -> list[Result]:
        """The results at these paths."""
        return [self[target] for path in paths for target in self._targets[path]]


def sweep(
    some: Iterator[Result],
    look: Callable[[list[Result]], object],
    call_soon: Callable[..., object],
    then: Callable[[], object] = lambda: None,
) -> None:
    """Have `look` look at all of `some`, a few between two turns; `then` is called when it has."""
    few = list(islice(some, SWEPT_AT_ONCE))
    if few:
        look(few)
        call_soon(partial(sweep, some, look, call_soon, then))
    else:
        then()
