"""zcserve.cache.closing: what may hang is closed by a thread, and hangs there alone."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time

import pytest

from tests.support.command import CHECKOUT
from tests.support.waiting import WaitUntil
from zcserve.cache import closing, crew

DISK = os.makedev(8, 1).to_bytes(8, sys.byteorder)
FAR, FARTHER = (os.makedev(0, minor).to_bytes(8, sys.byteorder) for minor in (50, 51))


def opened() -> int:
    return os.open(os.devnull, os.O_RDONLY)


def is_open(fd: int) -> bool:
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True


def test_what_lies_on_a_disk_is_closed_at_once() -> None:
    closing.start()
    fd = opened()
    closing.close(fd, DISK)
    assert not is_open(fd)


def test_a_close_that_hangs_holds_up_nothing_but_its_device(
    monkeypatch: pytest.MonkeyPatch, wait_until: WaitUntil
) -> None:
    closing.start()
    far, farther = opened(), opened()
    go_on = threading.Event()
    really_close = os.close

    def close(fd: int) -> None:
        if fd == far:
            assert go_on.wait(20)
        really_close(fd)

    monkeypatch.setattr(os, "close", close)
    monkeypatch.setattr(crew, "STALL_S", 0.1)
    try:
        began = time.monotonic()
        closing.close(far, FAR)
        closing.close(farther, FARTHER)
        assert time.monotonic() - began < 1.0
        wait_until(lambda: not is_open(farther))
        assert not closing.wait(time.monotonic())
    finally:
        go_on.set()
    assert closing.wait(time.monotonic() + 20)
    assert not is_open(far)


def test_where_no_thread_was_started_it_is_closed_at_once() -> None:
    code = f"""
import os
from zcserve.cache import closing
fd = os.open("/dev/null", os.O_RDONLY)
closing.close(fd, {FAR!r})
os.fstat(fd)
"""
    environ = os.environ | {"PYTHONPATH": str(CHECKOUT)}
    done = subprocess.run([sys.executable, "-c", code], env=environ, capture_output=True, text=True)
    assert done.stderr.endswith("OSError: [Errno 9] Bad file descriptor\n")


@pytest.mark.parametrize("device", [FAR, FARTHER])
def test_a_device_without_a_number_of_its_own_may_hang(device: bytes) -> None:
    assert closing.may_hang(device)
    assert not closing.may_hang(DISK)


LEAVING = """
import sys, threading, time
from zcserve.cache import closing

def ask_for_the_gil():
    while True:
        sum(range(1000))

sys.setswitchinterval(0.00005)
for _ in range(4):
    threading.Thread(target=ask_for_the_gil, daemon=True).start()
time.sleep(0.05)
closing.leave(7)
"""


def test_a_process_that_leaves_beside_busy_threads_lets_go_of_everything() -> None:
    """Its pipe is closed: the process that closes it does not wait for the threads that it has not."""
    for _ in range(3):
        left = subprocess.run([sys.executable, "-c", LEAVING], stdout=subprocess.PIPE, timeout=30)
        assert left.returncode == 7
