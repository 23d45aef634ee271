"""A node of the demo: a server with an address of its own, and its agent."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tools.fleet_demo.processes import Process, StageError, wait_until, zcserve
from zcserve.config.addresses import TcpAddress
from zcserve.ctl.client import Node as Admin
from zcserve.ctl.client import NodeError, ask

SITE = "www"
TOKEN = "a token of the demo's fleet"
# A page finds its assets for so many builds, and longer than a run lasts.
KEPT = 1
KEEP_FOR = "1h"
MEMORY = "1G"
# Paths in one request to an admin listener.
WARMED_AT_ONCE = 1000


class Node:
    """It has `host`, and three ports that are free there: of clients, of its admin listener, and of its agent.

    source   where its agent's files come from; "": where a release says
    carried  the agent's flags of the bus
    """

    def __init__(
        self, name: str, host: str, ports: tuple[int, int, int], folder: Path, carried: list[str], source: str = ""
    ) -> None:
        self.name, self.host = name, host
        self.web, self.admin, self.listen = ((host, port) for port in ports)
        self.folder = folder
        self.releases = folder / "releases"
        folder.mkdir(parents=True, exist_ok=True)
        config = folder / "site.toml"
        config.write_text(RULES)
        place = "{}:{}".format
        self.server = Process(
            zcserve(
                *("--root", str(self.releases / "current"), "--config", str(config)),
                *("--listen", place(*self.web), "--admin", place(*self.admin), "--proxy-headers", "127.0.0.1"),
                *("--keep-generations", str(KEPT), "--keep-for", KEEP_FOR, "--memory", MEMORY),
            ),
            folder / "server.log",
        )
        self._words = ["node", "--site", SITE, "--node", name, "--server", place(*self.admin)]
        self._words += ["--releases", str(self.releases), "--keys", str(folder.parent / "keys"), *carried]
        self._words += ["--source", source] if source else []
        self.agent = Process(zcserve(*self._words), folder / "agent.log")
        self.before: list[str] = []

    def start(self) -> None:
        """Both; it is ready, or has no release yet."""
        self.start_agent()
        wait_until(f"{self.name}: a root", (self.releases / "current").exists)
        self.start_server()

    def start_server(self) -> None:
        """And it answers."""
        self.server.start()
        wait_until(f"{self.name}: its server", self.answers)

    def start_agent(self, preexec: Callable[[], None] | None = None) -> None:
        """With what `before` has before it: another clock."""
        self.agent.argv = [*self.before, *zcserve(*self._words)]
        self.agent.start(preexec)

    def answers(self) -> bool:
        """Whether the server serves."""
        if not self.server.runs:
            raise StageError(f"{self.name}: its server has ended:\n{self.server.tail()}")
        try:
            return bool(self.stats()["sites"])
        except NodeError:
            return False

    def stats(self) -> Any:
        """What the server tells. Raises NodeError."""
        return json.loads(ask(Admin(TcpAddress(*self.admin), timeout_s=10.0), "/stats").body)

    def warm(self, paths: Sequence[str]) -> None:
        """Have the server load these, if it has not. Raises NodeError."""
        admin = Admin(TcpAddress(*self.admin), timeout_s=60.0)
        for first in range(0, len(paths), WARMED_AT_ONCE):
            ask(admin, "/warm", json.dumps({"paths": paths[first : first + WARMED_AT_ONCE]}).encode())

    def cpu_s(self) -> float:
        """Of the agent so far, in seconds of a processor."""
        return cpu_s(self.agent.pid)

    def end(self) -> None:
        """Agent and server."""
        for process in (self.agent, self.server):
            process.end()


def cpu_s(pid: int) -> float:
    """What a process has used of a processor, in seconds, also in threads that have ended (clock_getcpuclockid(3))."""
    return time.clock_gettime((~pid << 3) | 2)


RULES = """\
[[rules]]
path = "/bulk/**"
tags = ["bulk"]

[[rules]]
path = "/pages/**"
tags = ["pages"]

[[rules]]
path = "/assets/**"
immutable = true
"""
