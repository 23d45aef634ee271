"""A disk that is full: a node's releases lie on a small tmpfs, where the demo may mount one; else its agent gets a
limit of the size of files, and fails at the first that is larger."""

from __future__ import annotations

import os
import resource
import subprocess
from pathlib import Path

from tools.fleet_demo.node import Node
from tools.fleet_demo.processes import StageError

# Of the tmpfs: two releases of the scene of speed, and room for what is linked.
SIZE = "500m"
# What is left of it, in bytes, and the limit of a file. A build's large page is larger.
LEFT_BYTES = 64 << 10
BALLAST = ".ballast"


class Full:
    """Of one node. `mount` before its processes start, `end` after they have ended."""

    def __init__(self) -> None:
        self._mounted: Path | None = None

    def mount(self, node: Node) -> None:
        """Have its releases on a tmpfs, if that can be done."""
        node.releases.mkdir(parents=True, exist_ok=True)
        argv = ["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "fleet-demo", str(node.releases)]
        try:
            done = subprocess.run(argv, capture_output=True, timeout=10, check=False)
        except OSError:
            return
        if done.returncode == 0:
            self._mounted = node.releases

    def fill(self, node: Node) -> str:
        """From now on it has no room; which way."""
        if self._mounted is None:
            node.agent.end()
            node.start_agent(lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (LEFT_BYTES, LEFT_BYTES)))
            return f"RLIMIT_FSIZE {LEFT_BYTES >> 10} KiB"
        there = os.statvfs(self._mounted)
        size = there.f_bavail * there.f_frsize - LEFT_BYTES
        with open(self._mounted / BALLAST, "wb") as file:
            try:
                os.posix_fallocate(file.fileno(), 0, size)
            except OSError as error:
                raise StageError(f"the tmpfs cannot be filled: {error}") from None
        return "a tmpfs"

    def empty(self, node: Node) -> None:
        """There is room again."""
        if self._mounted is None:
            node.agent.end()
            node.start_agent()
        else:
            (self._mounted / BALLAST).unlink(missing_ok=True)

    def end(self) -> None:
        """Unmount it."""
        if self._mounted is not None:
            subprocess.run(["umount", "--lazy", str(self._mounted)], capture_output=True, timeout=10, check=False)
            self._mounted = None
