"""What stands in front of a loop: it waits for events, and may answer requests before Python hears of them.

`Front` is the contract, and a front that answers nothing: nothing is taught, nothing forgotten, no client is its own.
What a front knows of one site is a `Shelf`, which is a contract in the same way.
`Poller` (poller.py) adds the waiting, which makes the general lane complete; `FastLane` (fastlane.py) has the compiled
lane, and overrides everything. So whatever stands above tells the front what happens and never asks which one it is.
Only `open_front` (fastlane.py) chooses.

A connection belongs to the front or to Python, never to both: the front hands it over (`take`), and gets it back when
it is idle (`give`). Everything happens in the loop's thread, but for `running`.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple, Protocol, TypeAlias

from zcserve.cache.curve import MissRatioCurve
from zcserve.cache.entry import Entry
from zcserve.events import Event
from zcserve.net.counts import LaneCounts
from zcserve.net.timers import Timers
from zcserve.rules.redirects import Queries
from zcserve.site.exchange import Answer, Owned, Quick
from zcserve.site.reply import Reply

if TYPE_CHECKING:
    from zcserve.cache.store import Store


class Kind(enum.Enum):
    """What a descriptor is that is watched."""

    CLIENT = 1  # a connection: read from and written to
    LISTENER = 2  # a listening socket
    SOURCE = 3  # something else that is only ever read, such as a wake-up
    STREAM = 4  # read from and written to as a client's, and counted among none of them: an operator's connection


# A connection that is handed over: the client's address as `Transport.peer`; what was read of it and is not answered;
# how often in a row it was handed over with fewer than four requests answered in between, this time included; whether
# the client has closed its side; what the application has made of the first request that was read, or None: it was
# not called; what is to be sent before all else, and the account
# that its bytes count for; when the turn began in which the last of it was read, by the loop's
# clock; and the id by which the application knows that request, where the front has given it one.
Handed: TypeAlias = tuple[str, bytes, int, bool, Answer | None, bytes, int, float, bytes]


class Lasting(NamedTuple):
    """What a path leads to for all requests that read, until the front is told otherwise.

    answer   a file, or an answer of the site's own: a redirect, or a page that says that nothing is there
    is_own   the path is a key of the index, until `Shelf.forget_keys` names it. Else rules lead there, until any key is
             forgotten
    queries  of such requests
    status   what is said with a file's content
    """

    answer: Entry | Reply
    is_own: bool
    queries: Queries
    status: int = 200


class Turns(Protocol):
    """What of a loop (loop.py) a front subscribes to."""

    each_turn: Event[()]
    timers: Timers

    def call_soon(self, call: Callable[[], object]) -> None:
        """Have it called in the loop's thread. Any thread may ask."""


class Shelf:
    """What a front knows of one site: what the site's keys lead to, and which lead nowhere. The contract, and that of a
    front that remembers nothing. In the loop's thread alone."""

    def reserve(self, resources: int) -> None:
        """The site has so many resources."""

    def note_as(self, account: int, log: int) -> None:
        """What is asked of the site counts for this account (site/accounts.py), and is logged in the log of this number
        (access_logs.py). Before any host leads to the site."""

    def learn(self, find: Callable[[bytes], Lasting | None]) -> None:
        """Ask `leading.lasting` what a path leads to that is asked for and not known."""

    def teach(self, target: bytes, entry: Entry) -> None:
        """`target`, with the query that it has, leads to `entry` until this is told otherwise."""

    def consult(self, look_up: Callable[[bytes, bytes], Quick | None] | None, owned: Owned) -> None:
        """Ask `Application.look_up` what answers a request for a target that was not taught, and that the application
        may own; anew for what was found before. None: nothing answers at once."""

    # --- what is absent -------------------------------------------------------------------------------------------

    def know_keys(self, pieces: Iterable[Collection[bytes]], count: int) -> None:
        """These are all the keys that lead somewhere, `count` of them: a target that is none of them may be answered
        with 404. Where that is never said, none is."""

    def add_keys(self, keys: Collection[bytes]) -> None:
        """These keys may lead somewhere from now on: told before they do."""

    def remove_keys(self, keys: Collection[bytes]) -> None:
        """These keys lead nowhere: told after they did."""

    def set_not_found(self, answer: Reply) -> None:
        """What is absent gets this."""

    def leave_failures(self, on: bool) -> None:
        """Whether 412 and 416 are left to Python: rules may have fields for them."""

    # --- what is forgotten --------------------------------------------------------------------------------------

    def forget_keys(self, keys: Collection[bytes], resources: int) -> None:
        """These keys lead elsewhere now, and rules may lead any other key elsewhere; the site has so many
        `resources`."""

    def forget_all(self, resources: int) -> None:
        """Any key may lead elsewhere now, and to a page that no key of an index is; `resources` as of `forget_keys`."""

    def doubt(self) -> None:
        """Something may have changed in the application: ask whether it owns what it did. Told before it takes that
        up."""

    def forget_quick(self) -> None:
        """Consult anew for what was found so."""


_EMPTY = Shelf()


class Front:
    """The contract, and a front without clients.

    engine     its name
    lanes      how many loops it has; the first is that of Python's thread
    takes      whether `give` does anything: a call of it for each request would be half a percent of a plain hit
    hash_seed  what `take_sightings` numbers resources by
    """

    engine = "python"
    lanes = 1
    takes = False
    hash_seed = 0

    # --- waiting ------------------------------------------------------------------------------------------------

    def poll(self, timeout: float) -> list[tuple[int, int]]:
        """Descriptors with what they are ready for; waits at most `timeout` seconds (-1: without end). One that the
        loop has no handler for is a connection that is handed over: `take` it.

        Edge-triggered: a report is not repeated. What gets one reads until EAGAIN or a short read, and writes until
        EAGAIN, or remembers that it has not.
        """
        raise NotImplementedError

    def watch(self, fd: int, kind: Kind) -> None:
        """Report this descriptor, which is Python's. Of a LISTENER the front may accept the clients by itself, and
        report it where it cannot. Raises OSError."""

    def forget(self, fd: int) -> None:
        """Stop watching a descriptor that is about to be closed: its open file may live on in another process."""

    def descriptors(self) -> list[int]:
        """Its own descriptors, and those of its connections."""
        return []

    def close(self) -> None:
        """Close its connections, and watch nothing any more."""

    def begin(self, loop: Turns, store: Store) -> None:
        """From now on `loop` turns, and it serves what lies in `store`: subscribe to what has to be known of both."""

    # --- connections --------------------------------------------------------------------------------------------

    def count(self, known: int) -> int:
        """Open connections, where Python knows of so many."""
        return known

    def introduce(self, fd: int, family: int, peer: str) -> None:
        """The peer of a connection that Python accepted, for when it is given."""

    def take(self, fd: int) -> Handed | None:
        """What was handed over with `fd`, which is Python's from now on. None: nothing was."""
        return None

    def give(self, fd: int, since: float) -> bool:
        """Take a connection that owes nothing and of which no bytes are held; what has come meanwhile is read here. It
        is idle `since` then, by the loop's clock. False: it stays Python's."""
        return False

    def shed(self, most: int) -> int | None:
        """Close up to `most` idle connections, at most half; how many were closed since the last call. None: other
        threads look for some to close; the listeners are reported when these have."""
        return 0

    def drain(self) -> None:
        """Accept no client any more, and let each connection's next answer be its last."""

    def answer_last(self, is_last: bool) -> None:
        """Let each connection's next answer be its last, or not any more; clients come as before."""

    def end(self, *, idle_only: bool) -> None:
        """End the connections; `idle_only`: those that owe nothing now, and the others when they are through."""

    # --- what it knows of sites ---------------------------------------------------------------------------------

    def shelf(self, number: int) -> Shelf:
        """What it knows of the site of this number: nothing at first. A new one has a higher number than all before."""
        return _EMPTY

    def drop_shelf(self, number: int) -> None:
        """The site of this number is gone: no host is its any more (`set_hosts`), and no other site ever has the
        number. What its shelf is told from now on goes nowhere."""

    def set_hosts(self, names: Mapping[bytes, int], unnamed: int | None, unknown: int | None) -> None:
        """Which site is asked for by which host, by the sites' numbers; until this is said, that of the first shelf by
        all. `names` are in lower case, without a port and a dot at the end, or `*.` and a name for all below it.
        `unnamed`: a request that names no host; `unknown`: a name that no site has. None: the general lane is to say
        (421). Lanes may go by what was said before until `when_passed`."""

    # --- what it forgets ----------------------------------------------------------------------------------------

    def when_passed(self, then: Callable[[], None]) -> None:
        """Call `then` when no client gets what it was to forget by now: at once, where one thread answers."""
        then()

    def when_written(self, then: Callable[[], None]) -> None:
        """Call `then` when the log has all lines of what was answered until now."""
        then()

    def drop(self, entry: Entry) -> None:
        """Let go of an entry's body: the entry is not served any more."""

    # --- what it tells ------------------------------------------------------------------------------------------

    def tell_uses(self, entry: Entry) -> None:
        """Write into a representation how often it was used until now, and when last (`uses`, `tick`). Into the others
        this is written about once a second."""

    def sighted_as(self, number: int) -> int:
        """What `take_sightings` knows the site of this number by."""
        return number

    def note_use(self, entry: Entry, tick: int) -> int:
        """Python uses a representation at this tick: that of the use before, as far as the front knows; 0 for none."""
        return 0

    def sample(self, curve: MissRatioCurve) -> None:
        """From now on note uses by the rule of this curve."""

    def take_sightings(self) -> list[tuple[int, int, int, int, bool, bool]]:
        """What was noted since the last call: [(hash, size, tick, tick of the use before, followed, measured)]."""
        return []

    def counts(self) -> Sequence[LaneCounts]:
        """What each lane has counted."""
        return ()

    @property
    def lines_lost(self) -> int:
        """Lines of the access log that a lane had no room for."""
        return 0

    def running(self) -> tuple[str | None, int]:
        """Where the servlet is that it is calling, or None; and a number that another call does not have. Any thread
        may ask."""
        return None, 0
