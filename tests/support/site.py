"""A directory to serve, and a server of it in the test's own process."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Protocol

from zcserve import Server


class Site:
    """A directory to serve, under construction."""

    def __init__(self, root: Path) -> None:
        self.root = root
        root.mkdir(exist_ok=True)

    def write(self, path: str, content: bytes = b"", *, mtime: float | None = None) -> Path:
        """Write a file under the root, making its directories; `mtime` in seconds since 1970."""
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
        if mtime is not None:
            os.utime(file, (mtime, mtime))
        return file


class Serve(Protocol):
    """A fixture that starts servers: `config` is what `Config` takes besides the root."""

    def __call__(self, root: Path, **config: Any) -> Server: ...
