"""Servers that are to get no clients: what has no release, or too old a one. And the root of those that have none.

    RELEASES/none/      an empty directory
    RELEASES/current    leads there until the first flip

So a server can be started before any release is there, with the root that it has for ever, and the first one is
prepared and flipped to like any other. A server of no files would be ready, though, and each path of the site 404
there. So it is drained (/readyz says 503, and no client is turned away) until it serves a release. A server of several
sites is drained as a whole: so it is not where another of its sites has files, which a new site is not to take away.

**A server that is behind by more than one flip** (`NodeState.behind`) is drained, too, unless the agent was told
otherwise: what is left out by a quorum, or was away, is to get no clients before it has caught up. Others serve then,
which the node knows by what is desired.

What has been drained here is noted by its process: a node that its operator has drained stays so, and one that its
operator takes back does, too.

**Where RELEASES is deleted beneath a running agent** (`find_again`) it is made anew. `current` is not, as long as the
server serves files from memory: it would take the empty directory for its next release. It leads to the release once
that is fetched again; or, if the server is away by then, to the empty directory, so that it can start.
"""

from __future__ import annotations

import json
import os
import threading
from contextlib import suppress

from zcserve.errors import UsageError, reason_of
from zcserve.fleet import strict_json
from zcserve.fleet.folders import CURRENT, Folders
from zcserve.fleet.keeping import Kept
from zcserve.fleet.local_server import LocalServer, Seen, ServerError
from zcserve.log import Log

_log = Log(__name__)

NONE = "none"
NO_RELEASE = "it has no release yet"
DRAINED = "drained.json"


class Standby:
    """Of one node. `look` blocks, in one thread at a time."""

    def __init__(self, folders: Folders, kept: Kept, server: LocalServer) -> None:
        """Has `current` lead somewhere, unless a server serves from memory. Raises UsageError."""
        self._none = os.path.realpath(os.path.join(folders.path, NONE))
        self._current = os.path.join(folders.path, CURRENT)
        self._folders = folders
        self._kept = kept
        self._server = server
        self._finding = threading.Lock()
        self._trouble = ""
        try:
            if not os.path.lexists(self._current) and not self._serves_files():
                self._make()
        except OSError as error:
            raise UsageError(f"{self._current} cannot be made: {reason_of(error)}") from None
        self._drained = self._read()

    def _serves_files(self) -> bool:
        """Whether there is a server that would lose something."""
        try:
            return self._server.look().has_files
        except ServerError:
            return False

    def _make(self) -> None:
        """Raises OSError."""
        os.makedirs(self._none, 0o755, exist_ok=True)
        if not os.path.lexists(self._current):
            os.symlink(NONE, self._current)

    def find_again(self) -> None:
        """Make anew what was deleted of RELEASES and of the agent's folder in it; from several threads. What cannot be
        made is in the log, once, and is tried at the next time."""
        with self._finding:
            try:
                found = [one for one in (self._folders, self._kept) if one.find_again()]
                trouble = ""
            except OSError as error:
                found, trouble = [], reason_of(error)
            if trouble and trouble != self._trouble:
                _log.error("%s is gone, and cannot be made: %s", self._folders.path, trouble)
            self._trouble = trouble
            if found:
                _log.warning("%s was gone, or is another one: it is used from now on", found[0].path)

    def stand_in(self) -> None:
        """The server is away, or serves the empty directory: where `current` leads to nothing, or to that, have it be
        there."""
        try:
            if not os.path.lexists(self._current) or os.readlink(self._current) == NONE:
                self._make()
        except OSError as error:
            _log.debug("%s cannot be made: %s", self._current, reason_of(error))

    def look(self, seen: Seen, behind: str = "") -> None:
        """Drain a server that serves nothing, or is `behind`, and take it back once it is neither. Raises
        ServerError."""
        serves_none = not seen.has_files and os.path.basename(seen.served) in (NONE, f"{NONE} (deleted)")
        if serves_none:
            self.stand_in()
            if seen.served != self._none:
                return  # the directory was moved or deleted, and is made anew by now: the next look says more
        why = "" if seen.others else NO_RELEASE if serves_none else behind
        process = list(seen.process)
        is_own = self._drained is not None and (self._drained == process or seen.is_drained)  # an upgrade hands it on
        if why and self._drained != process:
            if not is_own and seen.is_drained:
                return  # by its operator
            if not is_own:
                self._server.drain(why)
                _log.info("the server is drained until it has another release: %s", why)
            self._note(process)
        elif not why and self._drained is not None:
            if is_own:
                self._server.undrain()
                _log.info("the server has its release: it is drained no more")
            self._note(None)

    def _note(self, process: list[float] | None) -> None:
        self._drained = process
        with suppress(OSError):  # then it is drained once more, or an operator takes it back
            self._kept.write(DRAINED, json.dumps(process).encode())

    def _read(self) -> list[float] | None:
        with suppress(OSError, ValueError):
            data = self._kept.read(DRAINED) or b"null"
            found = strict_json.read(data, len(data))
            return found if isinstance(found, list) else None
        return None
