"""What the admin listener knows of the server: its parts, as they come to be while it starts."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Required, TypeAlias, TypedDict

from zcserve.admin.survey import Survey
from zcserve.applications import Applications
from zcserve.cache.curve import MissRatioCurve
from zcserve.cache.index import Generation
from zcserve.cache.store import Store
from zcserve.config.table import Config
from zcserve.content.content import Content
from zcserve.content.contents import Contents
from zcserve.drain import Drain
from zcserve.net.loop import Loop
from zcserve.net.service import Service

if TYPE_CHECKING:
    from zcserve.net.access_logs import AccessLogs
    from zcserve.net.slow import SlowRequests


# Hears how a reload ended: why it failed, or "". And an upgrade: the process that serves, or 0 and why none does.
Reloaded: TypeAlias = Callable[[str], object]
Upgraded: TypeAlias = Callable[[int, str], object]


def _no_curve() -> MissRatioCurve | None:
    return None


class Missing(TypedDict):
    """As `content.readiness.Missing`."""

    path: str
    bytes: int
    why: str


class WarmList(TypedDict):
    """How far a list is that is being warmed (`content.warming.Warmth`), and how many wait behind it."""

    paths: int
    done: int
    resident: int
    resident_bytes: int
    failed_total: int
    waiting: int


class Readiness(TypedDict, total=False):
    """Whether the node is to be asked, and why not. As `content.readiness.Ready`; while it starts, the first two."""

    is_ready: Required[bool]
    # "starting", "warming" (also while clients are answered already), "incomplete" (and does not come by waiting),
    # "ready", "draining"
    phase: Required[str]
    share: float
    wanted_share: float
    wanted_bytes: int
    resident_bytes: int
    missing: list[Missing]
    missing_total: int
    draining: bool
    why: str


@dataclass(slots=True)
class Node:
    """A server, as its operator sees it. All in the loop's thread.

    reload, upgrade  what the signals SIGHUP and SIGUSR2 do, and what hears how it ended; `upgrade` tells why not, or ""
    service, contents, store, applications, drain  None while the server starts
    access_log, slow  None where there is none (--access-log, --slow-log)
    curve            what more memory would give; None as long as all is resident
    survey           which files are hot, and which do not fit
    """

    config: Config
    loop: Loop
    reload: Callable[[Reloaded | None], object]
    upgrade: Callable[[Upgraded | None], str]
    service: Service | None = None
    contents: Contents | None = None
    store: Store | None = None
    applications: Applications | None = None
    access_log: AccessLogs | None = None
    slow: SlowRequests | None = None
    curve: Callable[[], MissRatioCurve | None] = _no_curve
    survey: Survey = field(init=False)
    drain: Drain | None = None
    since: float = field(default_factory=time.time)  # of the wall clock, in seconds

    @property
    def content(self) -> Content | None:
        """That of the first site; None while the server starts."""
        return self.contents.first if self.contents is not None else None

    def __post_init__(self) -> None:
        self.survey = Survey(self.loop, self._live)

    def _live(self) -> Iterable[Generation]:
        return [site.live for site in self.service.sites] if self.service is not None else ()

    def readiness(self) -> Readiness:
        """Whether it is to be asked: what it was to load is resident, and it does not end."""
        if self.contents is None:
            return {"is_ready": False, "phase": "starting"}
        ready = self.contents.readiness()
        return {
            "is_ready": ready.is_ready,
            "phase": ready.phase,
            "share": ready.share,
            "wanted_share": ready.wanted_share,
            "wanted_bytes": ready.wanted_bytes,
            "resident_bytes": ready.resident_bytes,
            "missing": [{"path": f"/{one.path}", "bytes": one.bytes, "why": one.why} for one in ready.missing],
            "missing_total": ready.missing_total,
            "draining": ready.draining,
            "why": ready.why,
        }

    def warming(self) -> WarmList | None:
        """How far the list is that is being warmed; None: there is none."""
        warming = self.content.warming if self.content is not None else None
        if warming is None or (warmth := warming.under_way) is None:
            return None
        return {
            "paths": warmth.paths,
            "done": warmth.done,
            "resident": warmth.resident,
            "resident_bytes": warmth.resident_bytes,
            "failed_total": warmth.failed_total,
            "waiting": warming.waiting,
        }
