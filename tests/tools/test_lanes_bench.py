"""The benchmark of several lanes: what it asks for, which lane has a client, what strace says, and its arithmetic."""

from __future__ import annotations

import os
import select
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tools.bench import calls, lanes, placed
from tools.bench.content import PAGE, make_page
from tools.bench.errors import BenchError
from tools.bench.lanes_run import unevenness
from tools.bench.peers import PEERS, Peer, build, running
from tools.bench.steady import STEADY_SOURCE, parse_latency, plain, write_records

needs_cc = pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler")

# strace -f -c, as 6.1 prints it.
COUNTS = """\
% time     seconds  usecs/call     calls    errors syscall
------ ----------- ----------- --------- --------- ----------------
 60.99    0.775358          13     59027           sendto
 37.25    0.473519           8     59050        22 recvfrom
  0.01    0.000091           1        64           epoll_ctl
------ ----------- ----------- --------- --------- ----------------
100.00    1.271295          10    119291        23 total
"""
CALLS = """\
7158 100.500000 futex(0x7f, FUTEX_WAIT_BITSET_PRIVATE, 0, NULL) = 0
7158 101.250000 futex(0x7f, FUTEX_WAIT_BITSET_PRIVATE, 0, NULL <unfinished ...>
7160 101.500000 futex(0x7f, FUTEX_WAKE_PRIVATE, 1) = 1
7158 101.600000 <... futex resumed>) = 0
7160 103.000000 +++ exited with 0 +++
"""


def test_each_side_of_a_ratio_is_measured() -> None:
    named = set(lanes.PEERS) | {lanes.BEFORE}
    cells = [cell for target in lanes.targets(before=True) for cell in target.cells]
    assert {cell.peer for cell in cells} == named
    runs = {*lanes.APART, *lanes.TOGETHER, *lanes.DEEP}
    by_hand = {lanes.HELLO_APART, lanes.HELLO_TOGETHER, lanes.QUIET, lanes.HELD, lanes.COUNTED}
    assert {cell.workload for cell in cells} == runs | by_hand
    assert not [target for target in lanes.targets() if lanes.BEFORE in {cell.peer for cell in target.cells}]


def test_calls_are_counted_by_their_names() -> None:
    assert calls.parse_counts(COUNTS) == {"sendto": 59027, "recvfrom": 59050, "epoll_ctl": 64}


def test_a_call_counts_once_and_in_its_time(tmp_path: Path) -> None:
    (tmp_path / "calls").write_text(CALLS)
    assert len(calls.calls_between(tmp_path / "calls", 100, 102)) == 3
    assert len(calls.calls_between(tmp_path / "calls", 101, 101.4)) == 1
    assert len(calls.calls_between(tmp_path / "calls", 100, 102, {7160, 7200})) == 1


def test_instructions_are_those_between_two_runs(tmp_path: Path) -> None:
    said = {10: 5_000, 110: 25_000}

    def run(requests: int) -> Path:
        file = tmp_path / "said"
        file.write_text(f"==1== Collected : {said[requests]}\n")
        return file

    assert calls.instructions(run, 10, 110) == 200
    with pytest.raises(BenchError, match="no sum"):
        calls.instructions(lambda _: Path(os.devnull), 1, 2)


def test_a_tree_that_is_no_checkout_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BenchError, match="no checkout"):
        calls.in_tree(lanes.PLAIN, tmp_path)
    peer = calls.in_tree(lanes.PLAIN, Path(__file__).parents[2])
    argv = peer.command(tmp_path, 1, tmp_path)
    assert argv[:3] == ["env", "-C", str(Path(__file__).parents[2])]


@pytest.mark.parametrize(
    ("counts", "share"), [((32, 32), 0.0), ((36, 28), 0.125), ((17, 16, 17, 14), 0.125), ((9, 0), 1)]
)
def test_unevenness_is_the_way_from_the_mean(counts: tuple[int, ...], share: float) -> None:
    assert unevenness(counts) == pytest.approx(share)


# --- which lane has which client --------------------------------------------------------------------------------------


class TwoLanes:
    """A server of this process with two epoll descriptors: one for what listens, and for the clients that `give` names
    0, one for those that it names 1."""

    def __init__(self, undo: ExitStack) -> None:
        self.listener = undo.enter_context(socket.create_server(("127.0.0.1", 0)))
        self.port: int = self.listener.getsockname()[1]
        self._lanes = [undo.enter_context(select.epoll()) for _ in range(2)]
        self._lanes[0].register(self.listener, select.EPOLLIN)
        self._undo = undo

    def give(self, lane: int) -> socket.socket:
        client = self._undo.enter_context(socket.create_connection(("127.0.0.1", self.port)))
        taken = self._undo.enter_context(self.listener.accept()[0])
        self._lanes[lane].register(taken, select.EPOLLIN)
        return client

    @contextmanager
    def waiting(self) -> Iterator[list[int]]:
        """A thread of each lane waits for its descriptor; their numbers. What wakes them is a pipe."""
        near, far = os.pipe()
        threads = [threading.Thread(target=lane.poll) for lane in self._lanes]
        try:
            for lane, thread in zip(self._lanes, threads, strict=True):
                lane.register(near, select.EPOLLIN)
                thread.start()
            yield [thread.native_id or 0 for thread in threads]
        finally:
            os.close(far)
            for thread in threads:
                thread.join()
            os.close(near)


@pytest.fixture
def two_lanes() -> Iterator[TwoLanes]:
    with ExitStack() as stack:
        stack.enter_context(select.epoll())  # one that waits for nothing of the server's is no lane
        yield TwoLanes(stack)


def test_the_kernel_tells_which_lane_has_a_client(two_lanes: TwoLanes) -> None:
    clients = [two_lanes.give(lane) for lane in (0, 1, 1)]
    ports = [client.getsockname()[1] for client in clients]
    found = placed.settled(os.getpid(), two_lanes.port, 2, 3)
    assert found.ports == (frozenset(ports[:1]), frozenset(ports[1:]))
    assert found.counts == (1, 2)
    assert found.others(clients) == clients[1:]


def test_a_lane_without_anything_is_the_last_and_more_than_there_are_is_an_error(two_lanes: TwoLanes) -> None:
    two_lanes.give(0)
    assert placed.lanes_of(os.getpid(), two_lanes.port, 3).counts == (1, 0, 0)
    two_lanes.give(1)
    with pytest.raises(BenchError, match="2 epoll descriptors wait for clients, and there are 1 lanes"):
        placed.lanes_of(os.getpid(), two_lanes.port, 1)


def test_the_threads_of_lanes_are_those_that_wait_with_their_descriptors(two_lanes: TwoLanes) -> None:
    two_lanes.give(1)
    with two_lanes.waiting() as threads:
        assert placed.threads_of(os.getpid(), two_lanes.port, 2) == tuple(threads)


def test_lanes_that_never_wait_are_told(two_lanes: TwoLanes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(placed, "ARRIVE_TIMEOUT_S", 0.0)
    with pytest.raises(BenchError, match="of 1 lanes 0 wait for clients"):
        placed.threads_of(os.getpid(), two_lanes.port, 1)


def test_clients_that_do_not_come_are_told(two_lanes: TwoLanes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(placed, "ARRIVE_TIMEOUT_S", 0.0)
    with pytest.raises(BenchError, match=r"have \(0, 0\) connections, and not 1 together"):
        placed.settled(os.getpid(), two_lanes.port, 2, 1)


# --- with a server ----------------------------------------------------------------------------------------------------


@needs_cc
def test_clients_that_come_at_once_are_asked_for_on_by_their_descriptors(tmp_path: Path) -> None:
    make_page(tmp_path)
    program = build(STEADY_SOURCE, tmp_path)
    write_records(tmp_path / "records", [plain(PAGE, "a")])
    floor: Peer = PEERS["floor"]
    with running("floor", floor, tmp_path, tmp_path, ready_path=PAGE) as server, placed.at_once(server.port, 5) as made:
        numbers = [one.fileno() for one in made[:3]]
        words = (program, server.port, "@" + ",".join(map(str, numbers)), 0, 0.05, 0, 1, tmp_path / "records")
        done = subprocess.run([*map(str, words)], capture_output=True, text=True, pass_fds=numbers, timeout=60)
        assert placed.lanes_of(server.pid, server.port, 1).counts == (5,)  # none came beside these
    assert done.stderr == ""
    assert parse_latency(done.stdout).requests > 3
