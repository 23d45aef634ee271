"""zcserve.net.lanes: how many lanes there are, and where their threads run."""

from __future__ import annotations

import os
import re
import signal
import threading
from pathlib import Path

import pytest

from tests.support.groups import Kernel
from tests.support.site import Serve, Site
from tests.support.waiting import WaitUntil
from zcserve import threads
from zcserve.config.units import LANES_MAX, Auto
from zcserve.net import fastlane, lanes

WITHIN_S = 20.0


@pytest.fixture
def cpus(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, set[int]]]:
    """The process may use the cpus 2, 5 and 7; which thread was then allowed which, by its name, in order."""
    allowed: list[tuple[str, set[int]]] = []
    now: dict[str, set[int]] = {}

    def get(_: int) -> set[int]:
        return set(now.get(threading.current_thread().name, {2, 5, 7}))

    def allow(_: int, cpus: set[int]) -> None:
        name = threading.current_thread().name
        now[name] = set(cpus)
        allowed.append((name, set(cpus)))

    monkeypatch.setattr(os, "sched_getaffinity", get)
    monkeypatch.setattr(os, "sched_setaffinity", allow)
    return allowed


# --- how many ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("quota", "cores"),
    [("max 100000", 3), ("250000 100000", 2), ("50000 100000", 1), ("1000000 100000", 3), ("nonsense", 3)],
)
def test_auto_is_the_cpus_that_may_be_used_and_the_whole_cores_of_the_quota(
    tmp_path: Path, cpus: list[object], quota: str, cores: int
) -> None:
    kernel = Kernel(tmp_path)
    kernel.tell("self/cgroup", "0::/a/b\n")
    kernel.mount("", "cgroup2")
    kernel.group("a", "cpu.max", quota)
    kernel.group("a/b", "cpu.max", "max 100000")
    assert lanes.cores(kernel.proc) == lanes.number_of(Auto(LANES_MAX), kernel.proc) == cores
    assert lanes.number_of(Auto(2), kernel.proc) == min(cores, 2)
    assert lanes.number_of(5, kernel.proc) == 5


@pytest.mark.parametrize(("quota", "cores"), [(-1, 3), (199_999, 1), (200_000, 2)])
def test_in_v1_the_quota_and_its_period_are_two_files(
    tmp_path: Path, cpus: list[object], quota: int, cores: int
) -> None:
    kernel = Kernel(tmp_path)
    kernel.tell("self/cgroup", "3:cpu,cpuacct:/c\n")
    kernel.mount("cpu", "cgroup", "rw,cpu,cpuacct")
    kernel.group("cpu/c", "cpu.cfs_quota_us", quota)
    kernel.group("cpu/c", "cpu.cfs_period_us", 100_000)
    assert lanes.cores(kernel.proc) == cores


def test_lanes_max_is_that_of_the_compiled_lane() -> None:
    unit = (Path(fastlane.__file__).parent / "lane/lanes.pxd").read_text()
    assert re.search(rf"^    LANES_MAX = {LANES_MAX}$", unit, re.MULTILINE)


# --- their threads ----------------------------------------------------------------------------------------------------


def test_the_thread_of_a_lane_has_its_name_and_leaves_signals_to_others() -> None:
    blocked: list[set[int]] = []
    thread = lanes.start(3, lambda: blocked.append(set(signal.pthread_sigmask(signal.SIG_BLOCK, ()))), pinned=False)
    thread.join(WITHIN_S)
    assert (thread.name, thread.daemon) == ("zcserve-lane-3", True)
    assert {signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2} <= blocked[0]
    assert signal.SIGSEGV not in blocked[0]


def test_a_lane_is_bound_to_the_cpu_of_its_number_and_from_the_first_again(cpus: list[tuple[str, set[int]]]) -> None:
    for number in (1, 2, 4):
        lanes.start(number, lambda: None, pinned=True).join(WITHIN_S)
    lanes.start(5, lambda: None, pinned=False).join(WITHIN_S)
    assert cpus == [("zcserve-lane-1", {5}), ("zcserve-lane-2", {7}), ("zcserve-lane-4", {5})]


def test_a_cpu_that_is_refused_is_told_and_the_lane_runs(
    cpus: list[object], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(_: int, cpus: set[int]) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "sched_setaffinity", refuse)
    ran = threading.Event()
    lanes.start(1, ran.set, pinned=True).join(WITHIN_S)
    assert ran.is_set()
    assert caplog.messages == ["pin_cpus: lane 1 cannot be bound to cpu 5: Operation not permitted"]


def test_threads_of_the_first_lane_are_not_bound_to_its_cpu() -> None:
    """With the kernel's own calls, in a thread that stands for the first lane's."""
    had, seen = os.sched_getaffinity(0), {}

    def first() -> None:
        lanes.bind(0)
        seen["bound"] = os.sched_getaffinity(0)
        threads.start(lambda: seen.update(other=os.sched_getaffinity(0)), "zcserve-test").join(WITHIN_S)
        seen["still"] = os.sched_getaffinity(0)
        threads.unbind()
        seen["after"] = os.sched_getaffinity(0)

    thread = threading.Thread(target=first)
    thread.start()
    thread.join(WITHIN_S)
    assert seen == {"bound": {min(had)}, "other": had, "still": {min(had)}, "after": had}


def test_with_pin_cpus_the_loop_runs_on_the_first_cpu_and_the_loaders_do_not(
    site: Site, serve: Serve, wait_until: WaitUntil
) -> None:
    pytest.importorskip("zcserve.net._lane")
    serve(site.root, engine="native", pin_cpus=True, lanes=1)
    had = os.sched_getaffinity(0)

    def allowed() -> dict[str, set[int]]:
        return {
            thread.name: os.sched_getaffinity(thread.native_id)
            for thread in threading.enumerate()
            if thread.native_id is not None and thread.name.startswith("zcserve")
        }

    wait_until(lambda: allowed()["zcserve"] == {min(had)})
    assert {frozenset(cpus) for name, cpus in allowed().items() if name != "zcserve"} == {frozenset(had)}
