"""The memory that there is: what groups and the machine say, from files laid out as the kernel's are."""

from __future__ import annotations

import copy
import os
from pathlib import Path
from typing import Any

import pytest

from tests.support.groups import Kernel
from zcserve.cache.budget import RESERVE_BYTES, Limit, budget_of, eaten, limit, own_bytes, with_budget
from zcserve.cache.index import ENTRY_BYTES
from zcserve.cache.store import Store
from zcserve.config.table import Config
from zcserve.config.units import GIB, KIB, MIB, Share

OWN = 20 * MIB


class Machine(Kernel):
    """What it says of memory, too."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.tell("self/status", f"Name:\tpython\nRssAnon:\t{OWN // KIB} kB\nRssFile:\t0 kB\nRssShmem:\t999999 kB\n")

    def machine(self, size: int) -> None:
        """How much memory the machine has."""
        self.tell("meminfo", f"MemTotal:       {size // KIB} kB\nMemFree:        1 kB\n")

    def limit(self) -> Limit | None:
        return limit(self.proc)


@pytest.fixture
def kernel(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_the_machine_is_the_limit_where_no_group_has_one(kernel: Machine) -> None:
    kernel.machine(2 * GIB)
    assert kernel.limit() == (2 * GIB, "the machine's memory")
    kernel.tell("self/cgroup", "0::/a\n")
    kernel.mount("", "cgroup2")
    kernel.group("a", "memory.max", "max")
    assert kernel.limit() == (2 * GIB, "the machine's memory")


def test_nothing_is_known_without_a_proc(tmp_path: Path) -> None:
    assert limit(tmp_path / "none") is None
    assert budget_of(Config(root="."), tmp_path / "none").bytes == 512 * MIB
    there = limit()  # of this process
    assert there is not None
    assert 0 < there.bytes <= os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.parametrize(
    ("told", "least"),
    [
        ({"a/b": {"memory.max": 80 * MIB}}, 80 * MIB),
        ({"a": {"memory.max": 70 * MIB}, "a/b": {"memory.max": "max"}}, 70 * MIB),  # the group above
        ({"a/b": {"memory.max": 80 * MIB, "memory.high": 60 * MIB}}, 60 * MIB),
        ({"a": {"memory.high": 50 * MIB}, "a/b": {"memory.max": 80 * MIB}}, 50 * MIB),
        ({"": {"memory.max": 40 * MIB}}, 40 * MIB),  # a container's own group, at the mount point
        ({"a/c": {"memory.max": 10 * MIB}}, 2 * GIB),  # another's
    ],
)
def test_version_2_is_asked_along_the_whole_path(kernel: Machine, told: dict[str, Any], least: int) -> None:
    kernel.machine(2 * GIB)
    kernel.tell("self/cgroup", "0::/a/b\n")
    kernel.mount("", "cgroup2")
    for path, files in told.items():
        for name, value in files.items():
            kernel.group(path, name, value)
    found = kernel.limit()
    assert found is not None
    assert found.bytes == least


@pytest.mark.parametrize(
    ("group", "root", "directory"),
    [
        ("/docker/1", "/", "docker/1"),
        ("/docker/1", "/", "docker"),  # of a group above
        ("/docker/1", "/docker/1", ""),  # a container sees its own group only, and its path as the host does
        ("/docker/1", "/", ""),
        ("/../../x", "/", ""),  # beyond the namespace
    ],
)
def test_version_1_is_found_beside_other_controllers(kernel: Machine, group: str, root: str, directory: str) -> None:
    kernel.machine(2 * GIB)
    kernel.tell("self/cgroup", f"9:name=systemd:/\n5:cpu,memory:{group}\n0::/\n")
    kernel.mount("unified", "cgroup2")
    kernel.mount("pids", "cgroup", "rw,pids")
    kernel.mount("memory", "cgroup", "rw,memory,cpu", root)
    kernel.group("memory", "memory.limit_in_bytes", 2**63 - 4096)
    kernel.group(f"memory/{directory}", "memory.limit_in_bytes", 80 * MIB)
    found = kernel.limit()
    assert found is not None
    assert found.bytes == 80 * MIB
    assert found.source.startswith("memory.limit_in_bytes of ")


@pytest.fixture
def small(kernel: Machine) -> Machine:
    """80 MiB, of which the process has 20 now."""
    kernel.machine(80 * MIB)
    return kernel


@pytest.mark.parametrize(
    ("memory", "bytes"),
    [
        (None, 80 * MIB - OWN - RESERVE_BYTES),
        ("70%", 80 * MIB - OWN - RESERVE_BYTES),
        ("25%", 20 * MIB),
        ("50% up to 8M", 8 * MIB),
        ("10M", 10 * MIB),
    ],
)
def test_content_gets_what_the_process_leaves(small: Kernel, memory: str | None, bytes: int) -> None:
    config = Config(root=".", memory=memory) if memory else Config(root=".")  # type: ignore[arg-type]
    budget = budget_of(config, small.proc)
    assert (budget.bytes, budget.warning) == (bytes, "")
    assert with_budget(config, small.proc).memory == bytes
    assert ("of 80.0 MiB (the machine's memory)" in budget.note) == (memory in (None, "70%", "25%"))


def test_the_default_is_what_it_says_where_there_is_enough(kernel: Machine) -> None:
    kernel.machine(8 * GIB)
    assert budget_of(Config(root="."), kernel.proc).bytes == 512 * MIB
    kernel.machine(GIB // 2)
    budget = budget_of(Config(root="."), kernel.proc)
    assert budget.bytes == GIB // 2 * 60 // 100
    assert budget.note.startswith("307.2 MiB, 60% of 512.0 MiB")


def test_bodies_of_requests_to_applications_have_their_part(small: Kernel) -> None:
    plain = budget_of(Config(root="."), small.proc).bytes
    config = with_budget(Config(root=".", servlets="."), small.proc)
    assert config.memory + config.servlet_bodies_bytes() == pytest.approx(plain, abs=4)
    config = with_budget(Config(root=".", servlets=".", servlet_bodies_max=10 * MIB), small.proc)
    assert config.memory + 10 * MIB == plain


@pytest.mark.parametrize("memory", [512 * MIB, 80 * MIB, 45 * MIB])
def test_a_number_that_is_too_much_is_taken_with_a_warning(small: Kernel, memory: int) -> None:
    budget = budget_of(Config(root=".", memory=memory), small.proc)
    assert budget.bytes == memory
    assert budget.warning.startswith(f"memory: the budget of {memory // MIB}.0 MiB is too much")
    assert "80.0 MiB (the machine's memory), of which the process needs 36.0 MiB for itself" in budget.warning
    assert "Lower --memory to 44M" in budget.warning
    assert not budget_of(Config(root=".", memory="44M"), small.proc).warning  # type: ignore[arg-type]


def test_where_nothing_is_left_that_is_said(kernel: Machine) -> None:
    kernel.machine(30 * MIB)
    budget = budget_of(Config(root="."), kernel.proc)
    assert budget.bytes == 4 * KIB
    assert "too little for any content" in budget.warning


def test_memfds_are_not_the_process_itself(kernel: Machine) -> None:
    assert own_bytes(kernel.proc) == OWN
    assert 4 * MIB < own_bytes() < 4 * GIB


def test_a_share_is_the_most_that_it_can_be() -> None:
    assert Config(root=".").memory == 512 * MIB
    memory = Config(root=".", memory="70%").memory  # type: ignore[arg-type]
    assert isinstance(memory, Share)
    assert memory.percent == copy.deepcopy(memory).percent == 70


@pytest.mark.parametrize(
    ("budget", "files", "content", "least"),
    [
        (5 * MIB, 9872, 1000, "10M"),
        (8 * MIB, 9872, 10**9, "13M"),
        (13 * MIB, 9872, 10**9, ""),
        (10 * MIB, 9872, 1000, ""),
        (4 * KIB, 1, 10, "1M"),
        (MIB, 20, 10**9, ""),
    ],
)
def test_a_budget_that_entries_eat_is_too_small(budget: int, files: int, content: int, least: str) -> None:
    store = Store(budget, slab_bytes=MIB, small_body_bytes_max=16 * KIB)
    store.count_index(0, files * ENTRY_BYTES)
    told = eaten(store, files, content)
    store.close()
    assert told.endswith(f"is --memory {least}" if least else "")
    assert bool(told) == bool(least)
