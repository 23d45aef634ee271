"""Commands as an operator gives them: `warm_cache` as a process, and what it has said."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tools.fleet_demo.processes import CHECKOUT, StageError

PROGRAM = CHECKOUT / "tools" / "warm_cache.py"
# No command of a scene takes longer, in seconds.
ENDS_WITHIN_S = 180.0


@dataclass
class Said:
    """What came of a command.

    code   its exit code
    lines  of JSON
    errors of standard error
    took_s from its start to its end
    """

    code: int
    lines: list[dict[str, Any]] = field(default_factory=list)
    errors: str = ""
    took_s: float = 0.0

    def event(self, name: str) -> dict[str, Any]:
        """The last line of an event. Raises StageError where there is none."""
        found = [line for line in self.lines if line.get("event") == name]
        if not found:
            raise StageError(f"the command does not tell {name!r}: {self.told}")
        return found[-1]

    @property
    def told(self) -> str:
        """Its last words."""
        last = self.lines[-1:] and json.dumps(self.lines[-1])
        return f"exit code {self.code}; {last or ''} {self.errors.strip()[-600:]}".strip()


class Command:
    """A command that runs. To be waited for."""

    def __init__(self, *words: str) -> None:
        self.words = words
        self.began = time.monotonic()
        self._process = subprocess.Popen(
            [sys.executable, str(PROGRAM), *words],
            cwd=CHECKOUT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def wait(self) -> Said:
        """Its end."""
        try:
            out, errors = self._process.communicate(timeout=ENDS_WITHIN_S)
        except BaseException:
            self.kill()
            raise
        took_s = time.monotonic() - self.began
        lines = [json.loads(line) for line in out.splitlines() if line.startswith("{")]
        return Said(self._process.returncode, lines, errors, took_s)

    def kill(self) -> None:
        """SIGKILL, where it has not ended."""
        if self._process.poll() is None:
            self._process.kill()
            self._process.communicate()


def key_at(folder: Path, name: str) -> Path:
    """Make a key; its public half lies beside it."""
    private = folder / name
    said = Command("keygen", str(private), "--json").wait()
    if said.code:
        raise StageError(said.told)
    return private
