"""A node that has no release yet: its server runs, serves nothing, and gets no clients.

    RELEASES/none/      an empty directory
    RELEASES/current    leads there until the first flip

So a server can be started before any release is there, with the root that it has for ever, and the first one is
prepared and flipped to like any other. A server of no files would be ready, though, and each path of the site 404
there. So it is drained (/readyz says 503, and no client is turned away) until it serves a release. A server of several
sites is drained as a whole: so it is not where another of its sites has files, which a new site is not to take away.

What has been drained here is noted by its process: a node that its operator has drained stays so.
"""

from __future__ import annotations

import json
import os
from contextlib import suppress

from zcserve.errors import UsageError, reason_of
from zcserve.fleet.folders import CURRENT, Folders
from zcserve.fleet.keeping import Kept
from zcserve.fleet.local_server import LocalServer, Seen
from zcserve.log import Log

_log = Log(__name__)

NONE = "none"
DRAINED = "drained.json"


class Standby:
    """Of one node. `look` blocks, in one thread at a time."""

    def __init__(self, folders: Folders, kept: Kept, server: LocalServer) -> None:
        """Has `current` lead somewhere. Raises UsageError."""
        self._none = os.path.realpath(os.path.join(folders.path, NONE))
        self._kept = kept
        self._server = server
        current = os.path.join(folders.path, CURRENT)
        try:
            if not os.path.lexists(current):
                os.makedirs(self._none, 0o755, exist_ok=True)
                os.symlink(NONE, current)
        except OSError as error:
            raise UsageError(f"{current} cannot be made: {reason_of(error)}") from None
        self._drained = self._read()

    def look(self, seen: Seen) -> None:
        """Drain a server that serves nothing, and take it back once it serves. Raises ServerError."""
        serves_none, process = seen.served == self._none and not seen.others, list(seen.process)
        if serves_none and self._drained != process:
            self._server.drain()
            _log.info("the server has no release yet: it is drained until it has")
            self._note(process)
        elif not serves_none and self._drained is not None:
            if self._drained == process:
                self._server.undrain()
                _log.info("the server has a release: it is drained no more")
            self._note(None)

    def _note(self, process: list[float] | None) -> None:
        self._drained = process
        with suppress(OSError):  # then it is drained once more, or an operator takes it back
            self._kept.write(DRAINED, json.dumps(process).encode())

    def _read(self) -> list[float] | None:
        with suppress(OSError, ValueError):
            found = json.loads(self._kept.read(DRAINED) or b"null")
            return found if isinstance(found, list) else None
        return None
