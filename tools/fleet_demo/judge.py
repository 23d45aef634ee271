"""The judge: may this node have given this answer at this time? It has no sockets and no clock.

A node's **track** is the builds that it serves one after the other, as far as it was told to: the first one, then each
that a rollout, a rollback or an abort lets it flip to. At any time it is at one place of the track, and it goes forward
alone. So a build that is older comes again only where the track has it again: after a rollback, or an abort.

Where a node is on its track is known from below: it is at least at the place that it has reported before a request
began, or that an answer has shown that ended before (its **floor**). And it is at most at the last place that was open
when the answer ended. What it may answer:

| path | answer |
|---|---|
| each build that the node may be at has it | the bytes of one of these builds |
| one of them lacks it | or the bytes of a build that it has beside that one: kept, or prepared |
| all lack it | or 404, unless a build has it that is kept, or reported as prepared |

An answer that only a later place explains raises the floor, for what begins after it. So a node that is mixed (one file
of the new build, then another one of the old) is found, whatever it reports.

A server that is started anew has lost what it had beside its live build. While it is down, clients that ask the node
itself may fail; those that ask the front may not, ever.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import inf
from typing import NamedTuple

OK, NOT_FOUND, SERVER_ERROR = 200, 404, 500


class Answer(NamedTuple):
    """What a client got.

    node      which node answered; "" where that is not known
    begun     when the request was sent, and `ended`: when the answer was read; in seconds
    digest    of the body
    trouble   why there is no whole answer: reset, short; "" where there is one
    is_front  it came through HAProxy
    """

    node: str
    path: str
    begun: float
    ended: float
    status: int
    digest: str
    trouble: str = ""
    is_front: bool = False


class Place(NamedTuple):
    """A place of a track: a build, open from that time on, and as long as it is not withdrawn."""

    build: int
    opened: float
    closed: float = inf


@dataclass
class Track:
    """One node's.

    places    what it may serve, in this order
    marks     (time, place): from that time on it is there at least; both rise
    reached   places where it was seen
    prepared  (build, time): reported as prepared, and the last place still
    fresh     the first place whose build the server has had since it was started
    downs     [from, to]: the server was down
    """

    places: list[Place]
    marks: list[tuple[float, int]] = field(default_factory=list)
    reached: set[int] = field(default_factory=lambda: {0})
    prepared: tuple[int, float] | None = None
    fresh: int = 0
    downs: list[list[float]] = field(default_factory=list)

    def floor(self, when: float) -> int:
        """The place at which it is at least, at that time."""
        before = bisect_right(self.marks, (when, len(self.places)))
        return self.marks[before - 1][1] if before else 0

    def mark(self, when: float, place: int) -> None:
        """From that time on it is there at least."""
        if place <= self.floor(when):
            return
        self.marks = [one for one in self.marks if one[0] < when or one[1] > place]
        self.marks.insert(bisect_right(self.marks, (when, place)), (when, place))

    def was_down(self, begun: float, ended: float) -> bool:
        """In some part of that time."""
        return any(first <= ended and begun <= last for first, last in self.downs)


class Judge:
    """For one thread at a time. `kept`: how many builds a node keeps beside its live one."""

    def __init__(self, kept: int = 1) -> None:
        self._kept = kept
        self._builds: dict[int, Mapping[str, str]] = {}
        self._tracks: dict[str, Track] = {}
        self.judged = 0
        self.absent = 0  # a path of a build that the node had no part in: a cut node, a server that was started anew

    # --- what happens -------------------------------------------------------------------------------------------------

    def knows(self, build: int, digests: Mapping[str, str]) -> None:
        """What a build holds: digests by path."""
        self._builds[build] = digests

    def serves(self, node: str, build: int, now: float) -> None:
        """A node's first build, which it serves."""
        self._tracks[node] = Track([Place(build, now)])

    def may_flip(self, node: str, build: int, now: float) -> None:
        """From now on it may have this prepared, or serve it."""
        track = self._tracks[node]
        if track.places[-1].build != build or track.places[-1].closed <= now:
            track.places.append(Place(build, now))
            track.prepared = None

    def reports(self, node: str, live: int | None, prepared: int | None, now: float) -> None:
        """What a node says that it has; None: nothing, or nothing of here."""
        track = self._tracks.get(node)
        if track is None:
            return
        floor = track.floor(now)
        for place in range(floor, len(track.places)):
            if track.places[place].build == live and track.places[place].closed > now:
                track.mark(now, place)
                track.reached.add(place)
                break
        if prepared is None or prepared != track.places[-1].build:
            track.prepared = None
        elif track.prepared is None or track.prepared[0] != prepared:
            track.prepared = (prepared, now)

    def withdraw(self, node: str, build: int, now: float) -> None:
        """It has not flipped to this build, and will not; one that it was seen to serve stays."""
        track = self._tracks[node]
        last = max((number for number, place in enumerate(track.places) if place.build == build), default=0)
        if last not in track.reached:
            track.places[last] = track.places[last]._replace(closed=now)
            track.prepared = None

    def goes_down(self, node: str, now: float) -> None:
        """Its server ends from now on, whatever it was doing."""
        if track := self._tracks.get(node):
            track.downs.append([now, inf])

    def comes_up(self, node: str, now: float) -> None:
        """Its server answers again."""
        if track := self._tracks.get(node):
            track.downs[-1][1] = now
            track.fresh, track.prepared = len(track.places) - 1, None

    def live(self, node: str, now: float) -> int:
        """The build that it serves at least."""
        track = self._tracks[node]
        return track.places[track.floor(now)].build

    # --- answers ------------------------------------------------------------------------------------------------------

    def fault(self, answer: Answer) -> str:
        """What is wrong with an answer; "": nothing."""
        self.judged += 1
        track = self._tracks.get(answer.node)
        if answer.trouble or answer.status >= SERVER_ERROR:
            what = answer.trouble or f"status {answer.status}"
            if not answer.is_front and track and track.was_down(answer.begun, answer.ended):
                return ""
            return f"a request failed: {what}"
        if track is None:
            return "no node is named by the answer"
        places = self._possible(track, answer)
        if answer.status == NOT_FOUND:
            return self._not_found(track, answer, places)
        if answer.status != OK:
            return f"status {answer.status}"
        return self._found(track, answer, places)

    def _possible(self, track: Track, answer: Answer) -> list[int]:
        """The places where the node may have been, in their order; one at least."""
        first = track.floor(answer.begun)
        later = [
            number
            for number, place in enumerate(track.places[first + 1 :], first + 1)
            if place.opened <= answer.ended and answer.begun <= place.closed
        ]
        return [first, *later]

    def _found(self, track: Track, answer: Answer, places: list[int]) -> str:
        def has(place: int) -> bool:
            return self._builds[track.places[place].build].get(answer.path) == answer.digest

        having = [place for place in places if has(place)]
        before = places[: places.index(having[0])] if having else places
        # Where a place before lacks it, it may be what is prepared there, or kept: so it shows no flip.
        lacking = not all(self._has(track.places[place].build, answer.path) for place in before)
        if having:
            if not lacking:
                track.mark(answer.ended, having[0])
                track.reached |= set(having) if len(having) == 1 else set()
            return ""
        if lacking and any(map(has, range(self._oldest(track, places[0]), places[0]))):
            return ""
        return self._mixed(track, answer, places[0])

    def _oldest(self, track: Track, first: int) -> int:
        """The first place whose build may be kept: so many others were served since."""
        others: set[int] = set()
        for place in range(first - 1, -1, -1):
            others |= {track.places[place].build} if place in track.reached else set()
            if len(others) > self._kept:
                return place + 1
        return 0

    def _mixed(self, track: Track, answer: Answer, first: int) -> str:
        owners = [build for build, digests in self._builds.items() if digests.get(answer.path) == answer.digest]
        live = track.places[first].build
        if not owners:
            return f"the bytes are of no build (build {live} is live)"
        if any(place.build in owners for place in track.places[:first]):
            return f"it goes back to build {owners[0]}, after build {live}"
        return f"it is of build {owners[0]}, and build {live} is live"

    def _not_found(self, track: Track, answer: Answer, places: list[int]) -> str:
        first = places[0]
        if all(self._has(track.places[place].build, answer.path) for place in places):
            return f"not found, and build {track.places[first].build} has it, which is live"
        told, since = track.prepared or (0, inf)
        if since <= answer.begun and self._has(told, answer.path) and not track.was_down(answer.begun, answer.ended):
            return f"not found, and build {told} has it, which is prepared"
        kept = self._kept_before(track, first)
        if places == [first] and kept and self._has(kept, answer.path):
            return f"not found, and build {kept} has it, which is kept"
        self.absent += 1
        return ""

    def _kept_before(self, track: Track, first: int) -> int:
        """The build that it must have kept; 0: that is not known."""
        for place in range(first - 1, track.fresh - 1, -1):
            if track.places[place].closed == inf:
                return track.places[place].build if self._kept and place in track.reached else 0
        return 0

    def _has(self, build: int, path: str) -> bool:
        return path in self._builds[build]
