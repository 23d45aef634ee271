"""Looks at the server beside an agent, and tells the machine what it serves and has prepared, where that is news.

It is looked at every LOOK_EVERY_S; at once where its process has ended (exits.py), and after a step that failed; and
twice a second while it is away or starts. A look that a step was begun or ended beside is thrown away: it may say what
was before.

Each look is at the folders, too (two calls of the system for each): which are gone that are needed, or were there at
the look before. A server whose folder was deleted or moved goes on from memory, and says of its root what the kernel
does (`/old/TREE`, `/releases/TREE (deleted)`): it serves what it did, and is adrift until it is loaded from a folder
again.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from math import inf

from zcserve.errors import reason_of
from zcserve.fleet.background import in_thread
from zcserve.fleet.exits import Exits
from zcserve.fleet.folders import CURRENT, FolderError, Folders
from zcserve.fleet.local_server import LocalServer, Seen, ServerError
from zcserve.fleet.node_words import Observed
from zcserve.fleet.standby import Standby
from zcserve.log import Log

_log = Log(__name__)

# How often the server is looked at, in seconds: so late it is known at most that an operator has told it something, or
# that another process has taken over. That a process has ended is heard at once.
LOOK_EVERY_S = 10.0
# The same while the server is away or starts: it has nothing else to do for the agent.
LOOK_SOON_S = 0.5
# Between two looks at the least: what happens at once is looked at once.
LOOK_GAP_S = 0.1
# A server that is away for so long serves nothing, and the state says so, in seconds. One that is started anew takes
# less, mostly.
AWAY_S = 5.0

# The process of a server that was seen to serve a folder, and the folder's tree: none was.
_NO_SERVER = ((0, 0.0), "")


class Lookout:
    """Of one agent. `tell` hears what is seen; `is_there` is set while the server answers."""

    def __init__(
        self,
        server: LocalServer,
        standby: Standby,
        folders: Folders,
        tell: Callable[[Observed], object],
        needed: Callable[[], frozenset[str]] = frozenset,
        behind: Callable[[], str] = str,
    ) -> None:
        """`needed` says the trees whose folders must stay; `behind` why the server is to get no clients, "" for not."""
        self.is_there = asyncio.Event()
        self._server = server
        self._standby = standby
        self._folders = folders
        self._tell = tell
        self._now = asyncio.Event()
        self._exits = Exits(self._now.set)
        self._needed = needed
        self._behind = behind
        # What the machine knows, where `current` led, whether the server is adrift, and trees without a folder.
        self._known: tuple[Seen, str, bool, frozenset[str]] | None = None
        self._served = _NO_SERVER
        self._adrift = False
        self._is_collecting = False
        self._had: frozenset[str] = frozenset()  # trees that had a folder
        self._absent: frozenset[str] = frozenset()
        self._steps = 0  # how many have begun or ended that change what the server has

    async def run(self) -> None:
        """Look now and then, until it is cancelled."""
        trouble = ""
        away_since: float | None = None
        try:
            while True:
                self._now.clear()
                try:
                    await self._look(was_away=bool(trouble))
                    trouble, away_since = "", None
                except ServerError as error:
                    if str(error) != trouble:
                        trouble = str(error)
                        _log.warning("the agent cannot reach its server, and asks it again: %s", trouble)
                    self._known = None
                    self.is_there.clear()
                    away_since = time.monotonic() if away_since is None else away_since
                    if time.monotonic() >= away_since + AWAY_S:
                        away_since = inf  # it is told once
                        self._tell(Observed(""))
                    if away_since == inf and error.is_early:
                        await in_thread(self._standby.stand_in, "standby")
                await self._wait(LOOK_SOON_S if trouble else LOOK_EVERY_S)
        finally:
            self._exits.close()

    async def _look(self, *, was_away: bool) -> None:
        """Raises ServerError."""
        steps = self._steps
        wanted = self._had | self._needed()
        present, seen = await in_thread(partial(self._look_around, wanted), "look")
        self.is_there.set()
        self._exits.follow(seen.process[0])
        if was_away:
            _log.info("the server is back")
        if steps == self._steps:
            self._compare(seen, present, self._absent if self._is_collecting else wanted - present)
        await in_thread(partial(self._standby.look, seen, self._behind()), "standby")

    def _look_around(self, wanted: frozenset[str]) -> tuple[frozenset[str], Seen]:
        """The trees that have a folder, and the server. In a thread; raises ServerError. The folders are looked at
        last: one that the server says is gone is gone by then."""
        try:
            seen = self._server.look()
        finally:
            self._standby.find_again()
        try:
            present = frozenset(release.tree for release in self._folders.complete())
        except OSError as error:
            _log.warning("release folders cannot be looked at: %s", reason_of(error))
            present = wanted
        return present, seen

    def _compare(self, seen: Seen, present: frozenset[str], absent: frozenset[str]) -> None:
        """Tell the machine what is news."""
        for tree in sorted(self._had & absent - self._absent):
            _log.warning("release folder %s is gone", tree[:12])
        served = self._of_server(seen, absent)
        current = self._folders.current() or self._put_back(seen)
        new = (seen, current, self._adrift, absent)
        known, self._known = self._known, new
        self._had |= present
        self._absent = absent
        if known is None or (known[0][:4], *known[1:]) != (seen[:4], *new[1:]):
            prepared = self.tree_of(seen.prepared)
            self._tell(Observed(served, prepared, current, self._adrift, absent))
            if not self._adrift:
                self._warn_of_root(seen.served)

    def _of_server(self, seen: Seen, absent: frozenset[str]) -> str:
        """The tree that it serves, also from memory."""
        if tree := self.tree_of(seen.served):
            self._served, self._adrift = (seen.process, tree), False
        elif self._served[0] == seen.process and seen.has_files and (self._adrift or self._served[1] in absent):
            self._adrift = True
            return self._served[1]
        else:
            self._adrift = False
        return tree

    def found(self, tree: str) -> None:
        """Its folder is complete, and the machine knows it. A look that is under way may say what was before."""
        self._steps += 1
        self._had |= {tree}
        self._absent -= {tree}
        if self._known is not None:
            self._known = *self._known[:3], self._absent

    @contextmanager
    def collecting(self) -> Iterator[Callable[[Iterable[str]], None]]:
        """While folders are removed on purpose, which takes seconds: what a look finds gone meanwhile is not absent.
        What is given is to be told the trees."""

        def forget(trees: Iterable[str]) -> None:
            self._had -= frozenset(trees)

        with self.step():  # a look that goes on beyond it is thrown away
            self._is_collecting = True
            try:
                yield forget
            finally:
                self._is_collecting = False

    def _warn_of_root(self, served: str) -> None:
        """No release would ever reach a server with another root."""
        if os.path.dirname(served) != os.path.realpath(self._folders.path):
            root = os.path.join(self._folders.path, CURRENT)
            _log.warning("the server serves %s, where no release comes: start it with --root %s", served, root)

    def _put_back(self, seen: Seen) -> str:
        """Where `current` leads to no release: the one that is served, if no directory is in its place. It was removed
        or moved by hand, and the server would not start again without it, or would start with something else."""
        tree, current = self.tree_of(seen.served), os.path.join(self._folders.path, CURRENT)
        if not tree or (os.path.lexists(current) and not os.path.islink(current)):
            return ""
        try:
            self._folders.point(tree)
        except (FolderError, OSError) as error:
            _log.warning("%s leads to no release, and cannot be made: %s", current, error)
            return ""
        _log.warning("%s has led to no release: it leads to what the server serves again", current)
        return tree

    async def _wait(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._now.wait()
        except TimeoutError:
            return
        await asyncio.sleep(LOOK_GAP_S)

    @contextmanager
    def step(self) -> Iterator[None]:
        """While something is done that changes what the server has."""
        self._steps += 1
        try:
            yield
        finally:
            self._steps += 1

    def know(self, seen: Seen) -> None:
        """The machine knows this from a step. Look soon: a server that was drained may serve."""
        tree = self.tree_of(seen.served)
        self._served, self._adrift = (seen.process, tree), False
        self._absent -= {tree}
        self._known = seen, tree, False, self._absent
        self._now.set()

    def know_prepared(self, directory: str) -> None:
        """The same of what is prepared alone."""
        if self._known is not None:
            self._known = self._known[0]._replace(prepared=os.path.realpath(directory)), *self._known[1:]

    def look_soon(self) -> None:
        """Something else may be to do."""
        self._now.set()

    def doubt(self) -> None:
        """A step has failed: look at once, and tell whatever is seen."""
        self._known = None
        self._now.set()

    def tree_of(self, directory: str) -> str:
        """Which release folder this is; "": none."""
        above, name = os.path.split(directory)
        if not directory or above != os.path.realpath(self._folders.path):
            return ""
        try:
            return name if self._folders.holds(name) else ""
        except FolderError:
            return ""
