"""What makes a server unhurried fits the server."""

from __future__ import annotations

import subprocess
import sys

from tests.support import unhurried
from tests.support.command import CHECKOUT


def test_all_that_comes_late_is_there() -> None:
    asked = [sys.executable, *unhurried.PROGRAM, "--version"]
    done = subprocess.run(asked, capture_output=True, text=True, timeout=60, env={"PYTHONPATH": str(CHECKOUT)})
    assert done.stdout.startswith("zcserve "), done.stderr
