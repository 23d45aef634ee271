"""The table of the lane's connections: it grows where it is, and takes no more addresses than there are."""

from __future__ import annotations

import fcntl
import os
import socket
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from tests.support.client import Client
from tests.support.driver import PLAIN, Driver, packed, put

pytest.importorskip("zcserve.net._lane")

# One lane tells what its addresses are; the next one gets three quarters of that.
FEW_ADDRESSES = """
import os
import resource
import sys

from zcserve import Config
from zcserve.net._lane import Lane


def addresses() -> int:
    return int(open("/proc/self/statm").read().split()[0]) * os.sysconf("SC_PAGESIZE")


config = Config(root=sys.argv[1])
before = addresses()
first = Lane(config, False)
taken = addresses() - before
resource.setrlimit(resource.RLIMIT_AS, (addresses() + taken * 3 // 4,) * 2)
second = Lane(config, False)
second.register(0, stream=True)
print("there is a lane", second.foreign)
"""


def test_a_process_that_may_have_few_addresses_has_a_lane_all_the_same(tmp_path: Path) -> None:
    """The hard limit of descriptors may be a million, and each has a place in the table."""
    command = [sys.executable, "-c", FEW_ADDRESSES, str(tmp_path)]
    with socket.socket() as watched:
        said = subprocess.run(command, stdin=watched.fileno(), capture_output=True, timeout=30, check=False)
    assert said.stdout == b"there is a lane 1\n", said.stderr.decode()


def test_an_answer_is_sent_on_when_the_table_of_connections_has_grown_meanwhile(tmp_path: Path) -> None:
    content = bytes(range(256)) * 40_000
    with closing(Driver(tmp_path)) as driver, Client(driver.where[1]) as client, socket.socket() as other:
        put(driver.lane, b"/a", packed(content))
        client.send(PLAIN)
        driver.turn()
        high = fcntl.fcntl(other, fcntl.F_DUPFD_CLOEXEC, 5000)
        driver.lane.register(high, stream=True)
        os.close(high)
        got = b""
        while not got.endswith(content):
            driver.turn()
            got += client.socket.recv(1 << 20)


def test_a_lane_that_finds_no_memory_says_so_and_goes(tmp_path: Path) -> None:
    script = FEW_ADDRESSES.replace("taken * 3 // 4", "100_000").split("second.register")[0]
    ended = subprocess.run([sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, check=False)
    assert ended.returncode == 1, ended.stderr
    assert "MemoryError" in ended.stderr
