"""What comes up while a manifest is made of a directory, for people on standard error, or for programs as events, an
object a line on standard output."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from tools.warm.progress import shown
from tools.warm.words import printable
from zcserve.config.units import counted

if TYPE_CHECKING:
    from zcserve.cache.index import Problem

# How often a program is told how far it is, in seconds.
TOLD_EVERY_S = 1.0


def tell(lines: Iterable[str]) -> None:
    """Lines for people, beside what is printed."""
    for line in lines:
        print("warm_cache:", printable(line), file=sys.stderr)


class ForPeople:
    """Lines, and a bar while files are read."""

    @contextmanager
    def reading(self, root: str) -> Iterator[Callable[[int, int], None]]:
        """A function to be told how many of how many files are read."""
        with shown(f"reading {root}") as progress:
            yield progress

    def doubts(self, lines: Iterable[str]) -> None:
        """What could not be done, or may be meant otherwise."""
        tell(lines)

    def left_out(self, problems: Iterable[Problem]) -> None:
        """What cannot be in a release, and why."""
        tell(f"{problem.path}: {problem.why}" for problem in problems)

    def encodings(self, written: Mapping[str, tuple[str, ...]]) -> None:
        """Siblings that were made, by the paths of their files."""
        if written:
            siblings = sum(map(len, written.values()))
            tell([f"made {counted(siblings, 'encoding')} of {counted(len(written), 'file')}"])

    def made(self, **about: Any) -> None:
        """The manifest is there."""

    def failed(self, why: str) -> None:
        """There is none."""
        tell([why])


class ForPrograms(ForPeople):
    """begin (a root), reading (once a second), doubt (a text), left_out (a path, why), encodings (a path and its
    codings), and last made or failed (why)."""

    @contextmanager
    def reading(self, root: str) -> Iterator[Callable[[int, int], None]]:
        _print("begin", root=root)
        next_s = 0.0

        def progress(done: int, total: int) -> None:
            nonlocal next_s
            if time.monotonic() >= next_s:
                next_s = time.monotonic() + TOLD_EVERY_S
                _print("reading", done=done, total=total)

        yield progress

    def doubts(self, lines: Iterable[str]) -> None:
        for line in lines:
            _print("doubt", text=line)

    def left_out(self, problems: Iterable[Problem]) -> None:
        for problem in problems:
            _print("left_out", path=problem.path, why=problem.why)

    def encodings(self, written: Mapping[str, tuple[str, ...]]) -> None:
        for path, codings in written.items():
            _print("encodings", path=path, codings=codings)

    def made(self, **about: Any) -> None:
        _print("made", **about)

    def failed(self, why: str) -> None:
        _print("failed", error=why)


def _print(event: str, **fields: Any) -> None:
    print(json.dumps({"event": event, **fields}), flush=True)
