"""zcserve.cgroups: what the files of the process's groups say. tests/cache/test_budget.py has the layouts of both
versions and of namespaces."""

from __future__ import annotations

from pathlib import Path

from tests.support.groups import Kernel
from zcserve.cgroups import text_of, told


def test_each_group_up_to_the_mount_point_is_told_of(tmp_path: Path) -> None:
    kernel = Kernel(tmp_path)
    kernel.tell("self/cgroup", "0::/a/b\n")
    kernel.mount("", "cgroup2")
    for place, text in (("a/b", "one"), ("a", "two"), ("", "three"), ("a/b/c", "below")):
        kernel.group(place, "cpu.max", text)
    found = list(told("cpu", ("cpu.max",), ("cpu.cfs_quota_us",), kernel.proc))
    assert [text for _, text in found] == ["one", "two", "three"]
    assert found[0][0] == kernel.groups / "a/b/cpu.max"


def test_a_controller_of_v1_has_a_mount_of_its_own(tmp_path: Path) -> None:
    kernel = Kernel(tmp_path)
    kernel.tell("self/cgroup", "4:memory:/m\n3:cpu,cpuacct:/c\n")
    kernel.mount("memory", "cgroup", "rw,memory")
    kernel.mount("cpu", "cgroup", "rw,cpu,cpuacct")
    kernel.group("cpu/c", "cpu.cfs_quota_us", -1)
    kernel.group("memory/m", "cpu.cfs_quota_us", "of another")
    assert [text for _, text in told("cpu", ("cpu.max",), ("cpu.cfs_quota_us",), kernel.proc)] == ["-1"]


def test_a_file_that_is_not_there_says_nothing(tmp_path: Path) -> None:
    assert text_of(tmp_path / "none") == ""
