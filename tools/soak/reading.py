"""Connections of one client process, and whether what is answered on them may be: whole, of one version, none older
than what was answered on the same connection before, and none that is not written yet.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial, wraps
from typing import Any

from tools.soak.client import Answer, Connection, UnavailableError
from tools.soak.content import WrongError, size_of, target_of, version_of, whole_of
from tools.soak.crew import Facts, Make, Step

# Answers on one connection, which then says that it closes.
ANSWERS_MAX = 300
_PART = re.compile(rb"Content-Range: bytes (\d+)-(\d+)/(\d+)\r\n\r\n")
_ONE_PART = re.compile(rb"bytes (\d+)-(\d+)/(\d+)")


class Reading:
    """So many connections; `versions` has for each file the version that is in place, or one less: it is written after
    the file is. 0: the file is absent, or has been for a moment."""

    def __init__(self, facts: Facts, versions: Any, connections: int) -> None:
        self.versions = versions
        self._facts = facts
        self._made = 0
        self._connections = [self._connected() for _ in range(connections)]
        self._tags: dict[tuple[int, int], bytes] = {}

    def _connected(self) -> Connection:
        self._made += 1
        return Connection(self._facts.port, f"{self._facts.number}-{self._made}")

    def use(self, ask: Callable[[Connection], bool]) -> None:
        """Have one of the connections asked on, and replaced where that returns that it has ended, or raises. What is
        answered 503 is counted."""
        place = self._facts.random.randrange(len(self._connections))
        one = self._connections[place]
        has_ended = True
        try:
            has_ended = ask(one)
        except UnavailableError:
            self._facts.count("503")
        finally:
            if has_ended:
                one.close()
                self._connections[place] = self._connected()

    def whole(self, one: Connection, number: int, answer: Answer) -> None:
        """A 200 with all of a file, or a 404 where it may be absent. Raises WrongError."""
        if answer.status == 404 and may_be_absent(number):
            return
        if answer.status != 200:
            raise WrongError(f"{target_of(number)}: {answer.status}")
        self.follow(one, number, whole_of(number, answer.body), answer.fields[b"etag"])

    def follow(self, one: Connection, number: int, version: int, tag: bytes) -> None:
        """Raises WrongError where this version may not come now on this connection, or its tag is another's."""
        if version < one.seen.get(number, 0):
            raise WrongError(f"{one.name}: file {number} goes back from {one.seen[number]} to {version}")
        if not may_be_absent(number) and version > self.versions[number] + 1:
            raise WrongError(f"file {number}: version {version} is not written yet")
        one.seen[number] = version
        one.tags[number] = tag
        if len(self._tags) > 50_000:
            self._tags.clear()
        if self._tags.setdefault((number, version), tag) != tag:
            raise WrongError(f"file {number}, version {version} has two tags")

    def part(self, one: Connection, number: int, answer: Answer) -> None:
        """A 206 with one part. Raises WrongError."""
        found = _ONE_PART.fullmatch(answer.fields.get(b"content-range", b""))
        if answer.status != 206 or found is None:
            raise WrongError(f"{target_of(number)}: {answer.status} to a range, {answer.fields}")
        version = _part(number, found, answer.body)
        self.follow(one, number, version, answer.fields[b"etag"])

    def parts(self, one: Connection, number: int, answer: Answer, count: int) -> None:
        """A 206 with several parts, all of one version. Raises WrongError."""
        at, versions = 0, set()
        while found := _PART.search(answer.body, at):
            at = found.end() + int(found[2]) - int(found[1]) + 1
            versions.add(_part(number, found, answer.body[found.end() : at]))
            count -= 1
        if answer.status != 206 or count or len(versions) != 1:
            raise WrongError(f"{target_of(number)}: {answer.status} to ranges, {count} are missing, {versions}")
        self.follow(one, number, versions.pop(), answer.fields[b"etag"])


def on_connections(count: int) -> Callable[[Callable[[Facts, Reading, Connection], bool]], Make]:
    """Make a client of a function that asks on one connection, as `Reading.use` has it: each step asks on one of so
    many."""

    def client_of(ask: Callable[[Facts, Reading, Connection], bool]) -> Make:
        @wraps(ask)  # a process finds it by its name
        def make(facts: Facts, versions: Any) -> Step:
            reading = Reading(facts, versions, count)
            return lambda _: reading.use(partial(ask, facts, reading))

        return make

    return client_of


def may_be_absent(number: int) -> bool:
    """Whether this is one of the files that come and go."""
    return number % 10 == 9


def _part(number: int, found: re.Match[bytes], data: bytes) -> int:
    first, last, size = (int(word) for word in found.groups())
    version = version_of(number, data, first)
    if last - first + 1 != len(data) or size != size_of(number, version):
        raise WrongError(f"{target_of(number)}: {found[0]!r} with {len(data)} bytes, version {version}")
    return version
