"""What the admin listener knows of the server: its parts, as they come to be while it starts."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypedDict

from zcserve.config.table import Config
from zcserve.content.content import Content
from zcserve.net.loop import Loop
from zcserve.net.service import Service


class Readiness(TypedDict):
    """Whether the node is to be asked, and why not."""

    is_ready: bool
    phase: str  # "starting", "warming" (clients are answered, --listen-when start), "ready", "draining"


@dataclass(slots=True)
class Node:
    """A server, as its operator sees it. All in the loop's thread.

    reload, upgrade  what the signals SIGHUP and SIGUSR2 do
    service, content None while the server starts
    """

    config: Config
    loop: Loop
    reload: Callable[[], object]
    upgrade: Callable[[], object]
    service: Service | None = None
    content: Content | None = None
    since: float = field(default_factory=time.time)  # of the wall clock, in seconds

    def readiness(self) -> Readiness:
        """Whether it is to be asked: what it was to load is resident, and it does not end."""
        if self.service is not None and self.service.draining:
            return {"is_ready": False, "phase": "draining"}
        if self.content is None:
            return {"is_ready": False, "phase": "starting"}
        if self.content.is_loading:
            return {"is_ready": False, "phase": "warming"}
        return {"is_ready": True, "phase": "ready"}
