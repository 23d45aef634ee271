"""`zcserve ctl wait`: until the node is ready, which may not even have been started yet."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from typing import Any

from zcserve.ctl import figures
from zcserve.ctl.client import Node, NodeError, follow

# A node that is not there is looked for this often.
LOOKED_FOR_EVERY_S = 0.2


def wait(node: Node, path: str, tell: Callable[[dict[str, Any], bytes], object]) -> bool:
    """Whether it is ready within `node.timeout_s`. `tell` gets each of its lines, read and as it came. Raises NodeError
    where nobody has answered by then, or it is of no use to wait on."""
    until = time.monotonic() + node.timeout_s
    was_there = False
    while True:
        left = until - time.monotonic()
        trouble: NodeError | None = None
        try:
            for line in follow(node._replace(timeout_s=max(left, 0.001)), path):
                was_there = True
                readiness = _object_of(line)
                tell(readiness, line)
                if readiness.get("is_ready"):
                    return True
        except NodeError as error:  # it is not there yet, or ends: the next may come
            if not error.is_early:
                raise
            trouble = error
        if time.monotonic() + LOOKED_FOR_EVERY_S >= until:
            if was_there or trouble is None:
                return False
            raise trouble
        time.sleep(LOOKED_FOR_EVERY_S)


def _object_of(line: bytes) -> dict[str, Any]:
    try:
        value = json.loads(line)
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise NodeError("the answer is no JSON: is it an admin listener?")
    return value


class Progress:
    """Tells a person on standard error how far it is: a line that changes in a terminal, else one for each change."""

    def __init__(self) -> None:
        self._is_terminal = sys.stderr is not None and sys.stderr.isatty()
        self._last = ""

    def __call__(self, readiness: dict[str, Any], line: bytes) -> None:
        """As `wait` calls it."""
        text = progress_text(readiness)
        if text == self._last or sys.stderr is None:
            return
        self._last = text
        sys.stderr.write(f"\r{text}\x1b[K" if self._is_terminal else f"{text}\n")
        sys.stderr.flush()

    def end(self) -> None:
        """End the line."""
        if self._is_terminal and self._last:
            sys.stderr.write("\n")


def progress_text(readiness: dict[str, Any]) -> str:
    """The phase, and how much of what is wanted is there."""
    parts = [figures.printable(str(readiness.get("phase", "")))]
    if isinstance(share := readiness.get("share"), int | float):
        parts.append(figures.share_text(share))
    there, wanted = readiness.get("resident_bytes"), readiness.get("wanted_bytes")
    if isinstance(there, int | float) and isinstance(wanted, int | float) and wanted:
        parts.append(f"{figures.size_text(there)} of {figures.size_text(wanted)}")
    if readiness.get("phase") == "incomplete":  # else it comes by itself
        parts.append(figures.printable(str(readiness.get("why", ""))))
    return "  ".join(filter(None, parts))
