"""What systemd is told, where it wants to be told (`Type=notify`, sd_notify(3)): one datagram for each matter.

    EXTEND_TIMEOUT_USEC, STATUS   while the content is loaded, as long as that goes on
    READY                         clients are answered
    STATUS, WATCHDOG              while it serves, by the loop: one that stands still says nothing, and is ended
    RELOADING, READY              around a reload
    MAINPID                       another process has taken over; this one says nothing more
    STOPPING                      it ends

What is odd: systemd hears the main process alone (`NotifyAccess=main`), so what a process that takes over says before
the old one has named it is lost, and all is said again now and then. Its WATCHDOG_PID is the old one's, and counts.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial

from zcserve.config.units import counted
from zcserve.net.loop import Loop
from zcserve.net.timers import Deadline

# What systemd waits for longer at each word of progress, in microseconds: many words may be late.
EXTENDED_US = 30_000_000
# How often progress is told while the content is loaded.
LOADING_TOLD_S = 1.0
# How often it is told what is resident while it serves.
STATUS_EVERY_S = 10.0
# Of the time within which systemd wants to hear of the loop, it hears after this share (sd_watchdog_enabled(3)).
WATCHDOG_SHARE = 0.5
# What must not be lost waits so long for room in systemd's queue; nothing else waits.
TOLD_WITHIN_S = 0.5


def tell_supervisor(state: str, path: str, within_s: float = 0.0) -> None:
    """Send one datagram to the socket at `path`, @ for an abstract one; nothing where that is empty."""
    if path:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock, suppress(OSError):
            sock.settimeout(within_s)
            sock.sendto(state.encode(), "\0" + path[1:] if path.startswith("@") else path)


class Supervisor:
    """Tells systemd. Any thread may call it, but for `follow`, which is the loop's."""

    def __init__(self, environ: Mapping[str, str], *, takes_over: bool = False) -> None:
        """`takes_over`: from the process that the variables were meant for."""
        self._path = environ.get("NOTIFY_SOCKET", "")
        self._watchdog_s = _watchdog_s(environ, takes_over)
        self._is_ready = False
        self._reloads: set[object] = set()  # that are not over
        self._loading_told = 0.0
        self._status: Callable[[], str] = str

    # --- while it starts ----------------------------------------------------------------------------------

    def loading(self, done: int, total: int) -> None:
        """So many files of so many are loaded; of 0 while they are looked for."""
        now = time.monotonic()
        if self._path and not self._is_ready and now - self._loading_told >= LOADING_TOLD_S:
            self._loading_told = now
            self._go_on(f"loading: {done} of {counted(total, 'file')}" if total else "loading: looking for files")

    def compressing(self, told: str) -> None:
        """How far the variants are."""
        if not self._is_ready:
            self._go_on(f"compress: {told}")

    def _go_on(self, status: str) -> None:
        self._tell(f"EXTEND_TIMEOUT_USEC={EXTENDED_US}\nSTATUS={status}")

    def ready(self) -> None:
        """Clients are answered, and no process before this one was named."""
        self._is_ready = True
        self._tell("READY=1", TOLD_WITHIN_S)

    # --- while it serves ----------------------------------------------------------------------------------

    def follow(self, loop: Loop, status: Callable[[], str]) -> None:
        """Tell now and then that this loop turns, and what `status` says, a line. Before its first turn."""
        self._is_ready = True
        self._status = status
        if self._path:
            _every(loop, STATUS_EVERY_S, self._tell_status)
            if self._watchdog_s:
                _every(loop, self._watchdog_s, lambda: self._tell("WATCHDOG=1"))

    def _tell_status(self) -> None:
        self._tell(f"STATUS={self._status()}")

    def reloading(self) -> Callable[[str], None]:
        """A reload is asked for. What is returned is to be called when all of it is served, or could not be built: with
        the last of several, systemd hears so. Also in a signal's handler, so nothing is locked."""
        reload = object()
        self._reloads.add(reload)
        self._tell(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}", TOLD_WITHIN_S)
        return partial(self._reloaded, reload)

    def _reloaded(self, reload: object, _: str) -> None:
        if reload in self._reloads:
            self._reloads.discard(reload)
            if not self._reloads:
                self._tell(f"READY=1\nSTATUS={self._status()}", TOLD_WITHIN_S)

    # --- as it ends ---------------------------------------------------------------------------------------

    def hand_over(self, process: int) -> None:
        """This process is the main one from now on. It is given all of the watchdog's time for its first word."""
        self._tell(f"MAINPID={process}" + ("\nWATCHDOG=1" if self._watchdog_s else ""), TOLD_WITHIN_S)
        self._path = ""

    def stopping(self) -> None:
        """The server ends in order. Until then the loop turns, and says so."""
        self._reloads.clear()
        self._status = lambda: "stopping: what is under way is answered"
        self._tell(f"STOPPING=1\nSTATUS={self._status()}", TOLD_WITHIN_S)

    def _tell(self, state: str, within_s: float = 0.0) -> None:
        tell_supervisor(state, self._path, within_s)


def _every(loop: Loop, seconds: float, tell: Callable[[], object]) -> None:
    """At once, and then again and again."""

    def expire() -> None:
        tell()
        deadline.at = loop.now + seconds
        loop.timers.arm(deadline)

    deadline = Deadline(expire)
    loop.call_soon(expire)


def _watchdog_s(environ: Mapping[str, str], takes_over: bool) -> float:
    """How often systemd is to hear of the loop, in seconds; 0 for never."""
    period, process = environ.get("WATCHDOG_USEC", ""), environ.get("WATCHDOG_PID", "")
    is_meant = takes_over or process in ("", str(os.getpid()))
    return int(period) / 1e6 * WATCHDOG_SHARE if period.isascii() and period.isdigit() and is_meant else 0.0
