"""What a process tree has cost, read from /proc: CPU time, and memory that is the processes' own.

It must not know servers or load. Odd about it: memory counts anonymous pages and memfd blocks but no mapped
files, because mapped files are page cache that the machine would keep anyway; and a memfd is counted once,
however often it is mapped or held.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

TICKS_PER_S = os.sysconf("SC_CLK_TCK")
BLOCK_BYTES = 512  # the unit of st_blocks, whatever the file system's own block is (stat(2))


def _stat_fields(pid: int) -> list[str]:
    """Fields 3 and up of /proc/PID/stat: [0] state, [1] parent, [3] session; [] when the process is gone."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return []
    return text.rpartition(")")[2].split()  # the command's name may hold blanks and brackets


def _all_stat_fields() -> Iterator[tuple[int, list[str]]]:
    for name in os.listdir("/proc"):
        if name.isdigit() and (fields := _stat_fields(int(name))):
            yield int(name), fields


def session_members(leader_pid: int) -> list[int]:
    """All processes of the session that `leader_pid` opened, orphans included, also after it has ended."""
    return [pid for pid, fields in _all_stat_fields() if int(fields[3]) == leader_pid]


def process_tree(root_pid: int) -> list[int]:
    """`root_pid` and all its living descendants, parents first."""
    children: defaultdict[int, list[int]] = defaultdict(list)
    for pid, fields in _all_stat_fields():
        children[int(fields[1])].append(pid)
    tree = [root_pid]
    for pid in tree:
        tree.extend(children[pid])
    return tree


def cpu_seconds(root_pid: int) -> float:
    """User and system time of the tree so far: all threads, and children that ended and were waited for.

    The kernel reports in ticks (10 ms), so take differences over seconds, not over single requests.
    """
    ticks = 0
    for pid in process_tree(root_pid):
        fields = _stat_fields(pid)
        ticks += sum(int(field) for field in fields[11:15])  # utime stime cutime cstime
    return ticks / TICKS_PER_S


def _memfd_bytes(pid: int) -> int:
    """Allocated bytes of the distinct memfds that `pid` holds open."""
    blocks: dict[tuple[int, int], int] = {}
    for fd in Path(f"/proc/{pid}/fd").iterdir():
        try:
            if not os.readlink(fd).startswith("/memfd:"):
                continue
            status = os.stat(fd)
        except FileNotFoundError:  # closed meanwhile
            continue
        blocks[status.st_dev, status.st_ino] = status.st_blocks
    return sum(blocks.values()) * BLOCK_BYTES


def memory_bytes(pid: int) -> int:
    """Memory of one process that goes when it goes: anonymous pages and memfds.

    A memfd whose descriptor was closed lives on in its mapping and shows in RssShmem alone, hence the larger
    of the two; their sum would count a mapped memfd twice.
    """
    status = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    kib = {name: int(status[name].split()[0]) for name in ("RssAnon", "RssShmem")}
    return kib["RssAnon"] * 1024 + max(kib["RssShmem"] * 1024, _memfd_bytes(pid))
