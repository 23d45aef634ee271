"""Control groups: what the files of the process's groups say, in cgroup v2 and v1 (cgroups(7)).

A limit of a group holds for the groups below it, so those above the process's count, too.

What is odd: depending on its namespace a container sees the path of its group as the host does, or as "/", and the
files of its own group at the mount point. So all directories are read from the group's up to the mount point; some do
not exist.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

PROC = Path("/proc")


def told(controller: str, v2: Sequence[str], v1: Sequence[str], proc: Path = PROC) -> Iterator[tuple[Path, str]]:
    """The files by these names that there are of a controller ("memory", "cpu"): of the process's group, and of each
    above it. Each with its text, without the end of the line; those that cannot be read are left out."""
    groups = _groups(proc)
    for mount, is_v2, group in _mounts(proc, groups, controller):
        directory = mount / group.lstrip("/")
        for place in (directory, *directory.parents):
            for name in v2 if is_v2 else v1:
                if text := text_of(place / name).strip():
                    yield place / name, text
            if place == mount:
                break


def text_of(path: Path) -> str:
    """What a file of the kernel's says; "" where there is none."""
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""


def _groups(proc: Path) -> dict[str, str]:
    """The path of the process's group, by controller in v1, by "" in v2."""
    groups = {}
    for line in text_of(proc / "self/cgroup").splitlines():
        _, controllers, path = (*line.split(":", 2), "", "")[:3]
        for controller in controllers.split(","):
            groups[controller] = path
    return groups


def _mounts(proc: Path, groups: dict[str, str], controller: str) -> Iterator[tuple[Path, bool, str]]:
    """Where the controller's hierarchies are mounted: mount point, whether it is v2, the group's path below it."""
    for line in text_of(proc / "self/mountinfo").splitlines():
        where, _, what = line.partition(" - ")
        fields, (kind, _, options) = where.split(" "), (*what.split(" "), "", "", "")[:3]
        if len(fields) < 5:
            continue
        root, mount = fields[3], Path(_unescaped(fields[4]))
        if kind == "cgroup2" and "" in groups:
            yield mount, True, _below(groups[""], root)
        elif kind == "cgroup" and controller in options.split(",") and controller in groups:
            yield mount, False, _below(groups[controller], root)


def _below(group: str, root: str) -> str:
    """A group's path below a mount of the subtree `root`; "" where it is not in it, as the namespace shows it."""
    if ".." in group.split("/"):
        return ""
    root = root.rstrip("/")
    return group[len(root) :] if f"{group}/".startswith(f"{root}/") else group


def _unescaped(text: str) -> str:
    r"""A path as it stands in mountinfo (proc(5)): blanks as \040."""
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), text)
