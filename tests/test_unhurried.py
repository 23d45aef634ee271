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


WITHDRAWS = """
import threading
from tests.support import unhurried
from zcserve.servlets.workers import Pool

unhurried.begin()
pool, taken, release = Pool(1, 8), threading.Event(), threading.Event()
pool.submit(lambda: (taken.set(), release.wait()))
taken.wait()
pool.submit(print)
print(pool.withdraw(print), pool.withdraw(print), pool.waiting)
release.set()
"""


def test_a_job_that_would_come_late_can_still_be_withdrawn() -> None:
    asked = [sys.executable, "-c", WITHDRAWS]
    done = subprocess.run(asked, capture_output=True, text=True, timeout=60, env={"PYTHONPATH": str(CHECKOUT)})
    assert done.stdout == "True False 0\n", done.stderr
