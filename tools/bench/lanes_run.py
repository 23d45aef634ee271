"""Measures what lanes.py asks for. Each part has servers of its own, and looks first at which lane has which client."""

from __future__ import annotations

import contextlib
import functools
import itertools
import math
import os
import random
import re
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from socket import socket

from tools.bench import calls, lanes, placed
from tools.bench.content import PAGE, make_page
from tools.bench.errors import BenchError
from tools.bench.idle import REQUEST, idle_connections, read_answer
from tools.bench.lanes import Done, told
from tools.bench.load import OVERTIME_S
from tools.bench.peers import Peer, Server, build, prepare, running
from tools.bench.proc import cpu_seconds, process_tree
from tools.bench.rounds import Sample, make_root, pick_cores, run_rounds
from tools.bench.servlets import with_servlets
from tools.bench.steady import STEADY_SOURCE, Latency, parse_latency, plain, write_records
from tools.bench.summary import spread
from tools.bench.targets import Measured

HELLO_CONNECTIONS, HIT_CONNECTIONS, FUTEX_CONNECTIONS = 40, 16, 64
HELD_S = 1
REST_S = 10
LOOK_EVERY_S = 0.2
FEW, MANY = 2000, 22_000
IN_A_TURN = (1, 16)  # requests in a turn, whose instructions are counted

# Both hold the loop for a second: one has the GIL and sleeps (a call by PyDLL keeps it), one counts.
HOLDING = f"""\
import ctypes
sleep = ctypes.PyDLL(None).usleep
def get(request):
    sleep({HELD_S * 1_000_000 - 1})
    return "held"
"""
COUNTING = f"""\
import time
def get(request):
    until = time.monotonic() + {HELD_S}
    while time.monotonic() < until:
        pass
    return "counted"
"""

Coming = Callable[[int, int], contextlib.AbstractContextManager[list[socket]]]
COMING: dict[str, Coming] = {"one by one": idle_connections, "at once": placed.at_once}

Said = Callable[[Sample], None]


@dataclass(frozen=True)
class Place:
    """What all parts share."""

    root: Path
    workdir: Path
    steady: Path
    rounds: int
    seconds: int
    said: Said

    def drive(
        self, server: Server, clients: Sequence[socket], target: str, *, core: int | None, rate: int = 0
    ) -> tuple[Latency, float]:
        """Ask on these connections; what was found, and the server's CPU in microseconds a request. Raises BenchError
        with what is wrong."""
        records = self.workdir / "records"
        write_records(records, [plain(target, "127.0.0.1")])
        numbers = [one.fileno() for one in clients]
        words = (server.port, "@" + ",".join(map(str, numbers)), rate, self.seconds, 0, 1, records)
        before_s = cpu_seconds(server.pid)
        done = subprocess.run(
            [str(self.steady), *map(str, words)],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            pass_fds=numbers,
            timeout=self.seconds + OVERTIME_S,
            preexec_fn=functools.partial(prepare, core),
        )
        if done.returncode:
            raise BenchError(done.stderr.strip() or f"steady ended with {done.returncode}")
        found = parse_latency(done.stdout)
        return found, (cpu_seconds(server.pid) - before_s) * 1e6 / found.requests


def run_lanes(rounds: int, seconds: int, hits: int, before: Path | None, said: Said) -> Done:
    """Measure everything; `before`: another checkout, for what one lane costs. A part that fails is a fault, and the
    others go on. Raises BenchError when one lane does not start or answers wrong."""
    done = Done()
    peers = {**lanes.PEERS, **({lanes.BEFORE: calls.in_tree(lanes.PLAIN, before)} if before else {})}
    for workloads, cores in ((lanes.APART, None), (lanes.TOGETHER | lanes.DEEP, (None, None))):
        done.samples += run_rounds(peers, workloads, rounds=rounds, seconds=seconds, cores=cores, said=said)
    with tempfile.TemporaryDirectory(prefix="zcserve-bench-") as made:
        workdir = Path(made)
        tree = make_root(workdir / "root", site=False)
        place = Place(tree.root, workdir, build(STEADY_SOURCE, workdir), rounds, seconds, said)
        parts: list[Callable[[Place, Done], None]] = [servlets, balance, functools.partial(futexes, hits=hits)]
        if before is not None:
            parts.append(functools.partial(weigh, before=before))
        for part in parts:
            try:
                part(place, done)
            except BenchError as error:
                done.faults.append(str(error))
    return done


# --- servlets of the first lane ---------------------------------------------------------------------------------------


def servlets(place: Place, done: Done) -> None:
    """What hello costs from the other lane, and what its hits notice of a servlet that holds the first."""
    for workload, core in ((lanes.HELLO_APART, pick_cores()), (lanes.HELLO_TOGETHER, (None, None))):
        with contextlib.ExitStack() as stack:
            servers = {
                name: stack.enter_context(
                    running(f"{name} {core[0]}", _holding(count), place.root, place.workdir, core=core[0])
                )
                for name, count in ((lanes.ONE, 1), (lanes.TWO, 2))
            }
            for round in range(1, place.rounds + 1):
                for name, server in servers.items():
                    with in_other_lane(server, lanes.COUNTS[name], HELLO_CONNECTIONS, done) as clients:
                        if clients:
                            _sample(place, done, server, workload, name, round, clients, "/csp?hello", core=core[1])
            if core[0] is None:
                _held(place, done, servers)


def _held(place: Place, done: Done, servers: Mapping[str, Server]) -> None:
    """Hits of the other lane; and those of one lane, which show that the loop is held."""
    kinds = ((lanes.QUIET, ""), (lanes.HELD, "/csp?hold"), (lanes.COUNTED, "/csp?count"))
    cells = [(lanes.ONE, kind) for kind in kinds[:2]] + [(lanes.TWO, kind) for kind in kinds]
    for round, (name, (workload, target)) in itertools.product(range(1, place.rounds + 1), cells):
        with in_other_lane(servers[name], lanes.COUNTS[name], HIT_CONNECTIONS, done) as clients:
            if clients:
                with _asking_on(servers[name], target, place.seconds, done):
                    _sample(place, done, servers[name], workload, name, round, clients, PAGE, rate=lanes.PAGE_RATE)


def _holding(count: int) -> Peer:
    """The server with the servlets that hold the loop, too."""
    peer = with_servlets("native", "--lanes", str(count))

    def command(root: Path, port: int, own: Path) -> list[str]:
        argv = peer.command(root, port, own)
        (own / "servlets" / "hold.py").write_text(HOLDING)
        (own / "servlets" / "count.py").write_text(COUNTING)
        return argv

    return replace(peer, command=command)


@contextlib.contextmanager
def in_other_lane(server: Server, count: int, wanted: int, done: Done) -> Iterator[list[socket]]:
    """Connections that lanes but the first have; with one lane, that it has. Behind the block they have to be there
    still. None, and a note, where so many are not to be had."""
    asked = wanted * count * 3
    with idle_connections(server.port, asked) as made:
        found = placed.settled(server.pid, server.port, count, asked)
        clients = (found.others(made) if count > 1 else made)[:wanted]
        if len(clients) < wanted:
            done.notes["other lanes"] = f"of {asked} clients {found.counts} are in the lanes"
            yield []
            return
        for one in set(made) - set(clients):
            one.close()
        yield clients
        behind = placed.lanes_of(server.pid, server.port, count)
        if count > 1 and (moved := wanted - len(behind.others(clients))):
            done.faults.append(f"{moved} of {wanted} connections have left the other lanes")


@contextlib.contextmanager
def _asking_on(server: Server, target: str, seconds: int, done: Done) -> Iterator[None]:
    """A client asks for this again and again meanwhile; it is asked already when the block begins. Where it had fewer
    answers than it takes to hold the loop for half of the time, that is a fault."""
    if not target:
        yield
        return
    client = subprocess.Popen(
        ["wrk", "-t1", "-c1", "-d3600s", "--timeout", "60s", f"http://127.0.0.1:{server.port}{target}"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        time.sleep(HELD_S / 2)
        yield
        client.send_signal(signal.SIGINT)  # then it tells
        output, _ = client.communicate(timeout=OVERTIME_S)
        answers = re.search(r"(\d+) requests in", output)
        if answers is None or int(answers[1]) < seconds / HELD_S / 2:
            done.faults.append(f"{target} has not held the loop: {output.strip()[-100:]}")
    finally:
        client.kill()
        client.wait()
        time.sleep(HELD_S)  # what was asked is answered


def _sample(
    place: Place,
    done: Done,
    server: Server,
    workload: str,
    name: str,
    round: int,
    clients: Sequence[socket],
    target: str,
    *,
    core: int | None = None,
    rate: int = 0,
) -> None:
    found, cpu_us = place.drive(server, clients, target, core=core, rate=rate)
    is_late = found.unanswered > len(clients) and name != lanes.ONE  # one lane answers nothing while it is held
    late = (f"{found.unanswered:,} requests were not answered",) * is_late
    done.samples.append(
        Sample(workload, name, round, found.requests, found.requests_per_s, cpu_us, found.p50_ms, found.p99_ms, late)
    )
    place.said(done.samples[-1])


# --- system calls and instructions ------------------------------------------------------------------------------------


def futexes(place: Place, done: Done, hits: int) -> None:
    """Futex calls of the lanes' threads in so many hits, under `strace -c` and at full speed. Clients come before the
    hits, and go after them."""
    for name in (lanes.ONE, lanes.TWO):
        _futexes_counted(place, hits, done, name)
        _futexes_traced(place, hits, done, name)


def _futexes_counted(place: Place, hits: int, done: Done, name: str) -> None:
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(running(f"counted {name}", lanes.STILL[name], place.root, place.workdir))
        threads = placed.threads_of(server.pid, server.port, lanes.COUNTS[name])
        with calls.counting(threads, place.workdir / "tried"):
            place = _for_so_many(place, server, hits)
        clients = stack.enter_context(idle_connections(server.port, FUTEX_CONNECTIONS))
        found = stack.enter_context(calls.counting(threads, place.workdir / "counts"))
        asked = place.drive(server, clients, PAGE, core=None)[0].requests
        counts = found()
    if sum(counts.values()) < 2 * asked:  # each hit has two calls: strace has not seen them all
        done.faults.append(f"{name}: strace has seen {sum(counts.values()):,} calls in {asked:,} hits")
    _tell_futexes(done, f"{name}, strace -c", counts.get("futex", 0), asked)


def _futexes_traced(place: Place, hits: int, done: Done, name: str) -> None:
    with contextlib.ExitStack() as stack:
        peer = calls.traced(lanes.STILL[name], "futex")
        server = stack.enter_context(running(f"traced {name}", peer, place.root, place.workdir))
        _, pid = process_tree(server.pid)  # strace's, and the server's
        threads = placed.threads_of(pid, server.port, lanes.COUNTS[name])
        place = _for_so_many(place, server, hits)
        clients = stack.enter_context(idle_connections(server.port, FUTEX_CONNECTIONS))
        placed.settled(pid, server.port, lanes.COUNTS[name], FUTEX_CONNECTIONS)
        began = time.time()
        asked = place.drive(server, clients, PAGE, core=None)[0].requests
        ended = time.time()
        time.sleep(REST_S)
    found = functools.partial(calls.calls_between, place.workdir / f"traced {name}" / "calls")
    if not found(0, began, threads[:1]):  # that one starts threads, and waits for them
        done.faults.append(f"{name}: strace has seen no futex call at the start")
    _tell_futexes(done, f"{name}, full speed", len(found(began, ended, threads)), asked)
    rest = ended, ended + REST_S
    at_rest = f"{len(found(*rest))} in {REST_S} s at rest ({len(found(*rest, threads))} of lanes)"
    done.notes[f"futex calls of all threads, {name}"] = f"{len(found(began, ended))} in the hits, {at_rest}"


def _for_so_many(place: Place, server: Server, hits: int) -> Place:
    """With the time that so many hits take. Clients are its own: a request that is under way at the end of a run leaves
    an answer behind."""
    with idle_connections(server.port, FUTEX_CONNECTIONS) as clients:
        found, _ = place.drive(server, clients, PAGE, core=None)
    return replace(place, seconds=math.ceil(hits / found.requests_per_s))


def _tell_futexes(done: Done, how: str, count: int, asked: int) -> None:
    figure = spread([count * 1e6 / asked])
    done.figures.append(Measured(told(how, f"{asked:,} hits", lanes.FUTEX, 0.0), figure))


def weigh(place: Place, done: Done, before: Path) -> None:
    """Instructions a hit with one lane, against the other checkout: one request in a turn, and several."""
    root = place.workdir / "page"
    root.mkdir()
    make_page(root)
    place = replace(place, root=root)
    peer = calls.weighed(lanes.PLAIN)
    for together in IN_A_TURN:
        own, other = (
            calls.instructions(functools.partial(_few_hits, place, one, together), FEW, MANY)
            for one in (peer, calls.in_tree(peer, before))
        )
        about = f"{own:,.0f} instructions a hit, {lanes.ONE}, {together} in a turn"
        done.figures.append(Measured(told(about, f"{other:,.0f} before", "ratio", 1.01), spread([own / other])))


def _few_hits(place: Place, peer: Peer, together: int, hits: int) -> Path:
    with contextlib.ExitStack() as stack:
        start = running("weighed", peer, place.root, place.workdir, ready_path=PAGE, start_timeout_s=OVERTIME_S)
        server = stack.enter_context(start)
        (client,) = stack.enter_context(idle_connections(server.port, 1))
        client.sendall(REQUEST)
        answer_bytes = read_answer(client)
        for _ in range(hits // together):
            client.sendall(REQUEST * together)
            left = answer_bytes * together
            while left:
                left -= len(client.recv(left))
        os.kill(server.pid, signal.SIGTERM)
        said = place.workdir / "weighed" / "log.txt"
        until = time.monotonic() + OVERTIME_S
        while "Collected" not in said.read_text(errors="replace") and time.monotonic() < until:
            time.sleep(LOOK_EVERY_S)
    return said


# --- balance ----------------------------------------------------------------------------------------------------------


def balance(place: Place, done: Done) -> None:
    """How far from the mean the lane is that is farthest, of clients that come one by one and at once."""
    for name in (lanes.TWO, lanes.FOUR):
        with running(f"balanced {name}", lanes.PEERS[name], place.root, place.workdir) as server:
            for clients, (how, come) in itertools.product(lanes.CLIENTS, COMING.items()):
                counts = [_come_and_go(server, name, clients, come, round) for round in range(place.rounds)]
                for said, found in zip(("", ", most closed and come again"), zip(*counts, strict=True), strict=True):
                    about = told(f"{name}, {clients:,} clients {how}{said}", "", lanes.BALANCE, lanes.BALANCE_SHARE)
                    done.figures.append(Measured(about, spread(list(map(unevenness, found)))))
                    done.notes[about.about] = " ".join(":".join(map(str, one)) for one in found)


def unevenness(counts: Sequence[int]) -> float:
    """How far the lane is from the mean that is farthest, as a share of the mean."""
    mean = sum(counts) / len(counts)
    return max(abs(one - mean) for one in counts) / mean


def _come_and_go(server: Server, name: str, clients: int, come: Coming, seed: int) -> tuple[tuple[int, ...], ...]:
    """The clients of each lane when all have come, and when most have gone and as many have come again."""
    settled = functools.partial(placed.settled, server.pid, server.port, lanes.COUNTS[name])
    with come(server.port, clients) as first:
        came = settled(clients)
        leaving = random.Random(seed).sample(first, clients * 3 // 4)
        for one in leaving:
            one.close()
        settled(clients - len(leaving))
        with come(server.port, len(leaving)):
            again = settled(clients)
    settled(0)
    return came.counts, again.counts
