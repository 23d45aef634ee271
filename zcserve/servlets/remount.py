"""When mounted applications are loaded anew: an edit of a file of theirs, or SIGHUP.

A thread waits for the kernel to tell of changes in the directories that their modules lie in (inotify(7), as for
servlets), gathers what belongs together, and has them loaded. It also waits for the requests of what was replaced.

The events only say that it is worth looking: whether a file is what was loaded, its content tells. After a load that
failed, any new or changed Python file is worth another try, since it may be the one that was missing.
"""

from __future__ import annotations

import os
import select
import time
from collections.abc import Callable, Collection
from contextlib import suppress

from zcserve import threads
from zcserve.cache import inotify
from zcserve.log import Log
from zcserve.net.wake import Wake
from zcserve.servlets.imports import Imports

_log = Log(__name__)

# Edits that follow each other this closely are one: editors write a file in several steps, a checkout takes longer.
GATHER_S = 0.1
# And what goes on for longer is loaded as it is then; the rest is another edit.
GATHER_MAX_S = 2.0
# How often it is looked whether what was replaced has requests still.
LOOK_S = 0.05
# What the end waits for a load that is under way.
END_WITHIN_S = 1.0

_MASK = (
    inotify.IN_CLOSE_WRITE | inotify.IN_CREATE | inotify.IN_DELETE | inotify.IN_MOVED_FROM | inotify.IN_MOVED_TO
    | inotify.IN_DELETE_SELF | inotify.IN_MOVE_SELF | inotify.IN_ONLYDIR
)  # fmt: skip
_READ_BYTES = 16384


class Edits:
    """What the kernel tells of Python files in some directories. Where there is no inotify to be had, nothing."""

    def __init__(self) -> None:
        self.fd = -1
        self._watched: set[int] = set()

    def watch(self, directories: Collection[str]) -> bool:
        """From now on of these directories, too. Whether one is new: nothing was told of what happened there before."""
        try:
            if self.fd < 0:
                self.fd = inotify.start()
            return sum(map(self._watch, directories)) > 0
        except OSError as error:
            self.close()
            _log.warning("mounts: edits are not seen (%s): SIGHUP loads applications anew", error.strerror)
            return False

    def _watch(self, directory: str) -> bool:
        try:
            fd = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError:
            return False  # it is gone: the directory above tells when it comes back
        try:
            wd = inotify.add_watch(self.fd, fd, _MASK)
        finally:
            os.close(fd)
        known = wd in self._watched
        self._watched.add(wd)
        return not known

    def take(self) -> bool:
        """Whether a Python file, or a directory, was told of since this was last asked."""
        told = False
        with suppress(BlockingIOError):
            while self.fd >= 0:
                for wd, mask, name in inotify.events(os.read(self.fd, _READ_BYTES)):
                    if mask & inotify.IN_IGNORED:
                        self._watched.discard(wd)
                    of_python = name.endswith(b".py") and not name.startswith(b".")
                    # A symlink to a package has no dot in its name, and the directory itself has no name here.
                    of_directory = (mask & inotify.IN_ISDIR or b"." not in name) and name != b"__pycache__"
                    told |= of_python or bool(of_directory)
        return told

    def close(self) -> None:
        """Give the descriptor back."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


class Remount:
    """The thread. In it `load` is called for what is due; it says why that failed, or "", and must not raise. `retire`
    ends what was replaced and has no requests left, and says whether anything has."""

    def __init__(self, imports: Imports, *, load: Callable[[], str], retire: Callable[[], bool], watches: bool) -> None:
        """Raises NoThreadError, OSError."""
        self._imports = imports
        self._load = load
        self._retire = retire
        self._watches = watches
        self._edits = Edits()
        self._asked: list[Callable[[str], object]] = []
        self._ended = False
        self._wake: Wake | None = Wake()
        self._thread = threads.start(self._run, "zcserve-mounts")

    def ask(self, told: Callable[[str], object] = lambda why: None) -> None:
        """Have everything loaded anew, whether it changed or not. Any thread. `told` hears in the thread why that
        failed, or "" where it ends before, too."""
        if self._ended:
            told("")
            return
        self._asked.append(told)
        self.look()

    def look(self) -> None:
        """There is something new to watch, or to retire. Any thread."""
        if (wake := self._wake) is not None:
            wake.tell()

    def end(self) -> None:
        """Load nothing any more. Returns at once."""
        self._ended = True
        self.look()

    @property
    def is_running(self) -> bool:
        """Whether its thread has not ended: after `end`, that a load is under way."""
        return self._thread.is_alive()

    def close(self) -> None:
        """Load nothing any more. A load that is under way is waited for `END_WITHIN_S`."""
        self.end()
        self._thread.join(END_WITHIN_S)
        if not self._thread.is_alive():
            self._wake = None
            self._edits.close()

    def _run(self) -> None:
        while not self._ended:
            retiring = self._retire()
            if not self._is_due():
                self._wait(LOOK_S if retiring else None)
            elif not self._ended:
                asked, self._asked = self._asked, []
                why = self._load()
                for told in asked:
                    told(why)
        for told in self._asked:
            told("")

    def _is_due(self) -> bool:
        """Whether something is to be loaded anew, and all edits that belong together are made."""
        imports = self._imports
        is_new = self._watches and self._edits.watch(imports.directories())
        told = self._edits.take()
        # What was missing may have come to a new directory before it was watched.
        is_edit = (told or is_new) and (imports.failed is not None or imports.changed())
        if not is_edit and not self._asked:
            return False
        if self._edits.fd < 0:
            return True
        now = time.monotonic()
        until, quiet = now + GATHER_MAX_S, now + GATHER_S
        while not self._ended and (now := time.monotonic()) < min(quiet, until):
            self._wait(min(quiet, until) - now)
            if self._edits.take():
                quiet = time.monotonic() + GATHER_S
        return True

    def _wait(self, seconds: float | None) -> None:
        """Until something is told, or the time is over."""
        wake = self._wake
        assert wake is not None
        poll = select.poll()
        poll.register(wake.fd, select.POLLIN)
        if self._edits.fd >= 0:
            poll.register(self._edits.fd, select.POLLIN)
        poll.poll(None if seconds is None else seconds * 1000)
        wake.clear()
