"""How much memory content may take: what was asked for, and what there is.

The kernel kills a process that takes more memory than its control group may have, or than the machine has. So the
smallest of these is the *limit*:

    v2    memory.max and memory.high of the process's group and of every group above it
    v1    memory.limit_in_bytes likewise
          MemTotal of /proc/meminfo

The pages of a memfd are charged to the group like those of the process itself, and neither can be reclaimed where there
is no swap. The page cache is charged, too, but can be reclaimed, so it does not count here. What is left for content is
the limit without what the process takes for itself: what it has now, and RESERVE_BYTES for what comes later. (What
entries cost is part of the budget: `index.ENTRY_BYTES`.)

A share (`--memory 70%`, and the default) is a share of the limit, and never more than what is left. A number of bytes
is taken as it is; where it is more than what is left, that is a warning.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from zcserve import cgroups
from zcserve.cache.heads import HEAD_BYTES
from zcserve.cache.store import Store
from zcserve.cache.variants import threads_max
from zcserve.cgroups import PROC
from zcserve.config.table import Config
from zcserve.config.units import KIB, MIB, Share, counted, size_text

# What a process comes to take beside content after its start. Measured: 4 MiB with 1,000 connections, kernel memory
# included; the rest is for servlets, for large files on their way into memory, and for the allocator's own.
RESERVE_BYTES = 16 * MIB
# What a thread that compresses takes, besides the content: measured 17 MiB for a file of 1 MB, 83 for one of 16 (zstd);
# and all of them together at most this share of the limit.
COMPRESSING_BYTES = 24 * MIB
COMPRESSING_SHARE = 1 / 4
# Room for content below which whole pages and the room to move bodies leave nothing.
CONTENT_BYTES_MIN = 64 * KIB
# The least budget, however little there is: Config's own bound.
BUDGET_MIN = 4 * KIB

_V2, _V1 = ("memory.max", "memory.high"), ("memory.limit_in_bytes",)


class Limit(NamedTuple):
    """The memory that a process may have, in bytes, and what says so, for people."""

    bytes: int
    source: str


@dataclass(frozen=True, slots=True)
class Budget:
    """What content may take, in bytes. `note` says where it comes from if that is not the command line alone;
    `warning` why it is too much. Either may be empty."""

    bytes: int
    note: str = ""
    warning: str = ""


def limit(proc: Path = PROC) -> Limit | None:
    """The least limit on this process's memory; None where nothing says one."""
    return min([*_of_groups(proc), *_of_machine(proc)], default=None)


def own_bytes(proc: Path = PROC) -> int:
    """What the process itself takes now, without the memfds that content lies in."""
    status = cgroups.text_of(proc / "self/status")
    return sum(int(size) * KIB for size in re.findall(r"^Rss(?:Anon|File):\s+(\d+) kB$", status, re.MULTILINE))


def budget_of(config: Config, proc: Path = PROC) -> Budget:
    """The budget that `config.memory` means here."""
    asked, there = config.memory, limit(proc)
    if there is None:
        return Budget(asked)
    own = own_bytes(proc) + RESERVE_BYTES
    if config.compress:
        own += min(threads_max() * COMPRESSING_BYTES, int(there.bytes * COMPRESSING_SHARE))
    if config.servlets or config.mount:
        own += config.servlet_bodies_max
    left = there.bytes - own
    if (config.servlets or config.mount) and not config.servlet_bodies_max:
        left = left * 4 // 5  # bodies of requests to applications are held beside the budget: a quarter of it
    figures = f"{size_text(there.bytes)} ({there.source}), of which the process needs {size_text(own)} for itself"
    if left < BUDGET_MIN:
        return Budget(
            BUDGET_MIN if isinstance(asked, Share) else asked,
            warning=f"memory: there is too little for any content: {figures}",
        )
    if not isinstance(asked, Share):
        too_much = (
            f"memory: the budget of {size_text(asked)} is too much, and the process may be killed without a word: "
            f"there is {figures}. Lower --memory to {_flag_text(left)}, or leave it out"
        )
        return Budget(asked, warning=too_much if asked > left else "")
    wanted = int(there.bytes * asked.percent / 100)
    given = min(asked, wanted, left)
    if given == asked:
        return Budget(given)
    how = f"{asked.percent:g}%" if given == wanted else "what is left"
    return Budget(max(int(given), BUDGET_MIN), f"{size_text(given)}, {how} of {figures}")


def with_budget(config: Config, proc: Path = PROC) -> Config:
    """The same configuration, with the budget in bytes."""
    return replace(config, memory=budget_of(config, proc).bytes)


def eaten(store: Store, files: int, content: int) -> str:
    """What to say where the entries of so many files with so many bytes of content take more of the budget than they
    leave for content; "" where they do not."""
    least = store.overhead + min(store.overhead, content + files * HEAD_BYTES) + CONTENT_BYTES_MIN
    if store.budget >= least:
        return ""
    left = max(store.budget - store.overhead, 0)
    return (
        f"memory: the entries of {counted(files, 'file')} take {size_text(store.overhead)}, which leaves "
        f"{size_text(left)} of the {size_text(store.budget)} budget for content: "
        f"the least that makes sense for these files is "
        f"--memory {-(-least // MIB)}M"
    )


def _flag_text(size: int) -> str:
    """A size that --memory takes, rounded down."""
    return f"{size // MIB}M" if size >= MIB else f"{max(size // KIB, BUDGET_MIN // KIB)}K"


def _of_machine(proc: Path) -> Iterator[Limit]:
    found = re.search(r"^MemTotal:\s+(\d+) kB$", cgroups.text_of(proc / "meminfo"), re.MULTILINE)
    if found:
        yield Limit(int(found[1]) * KIB, "the machine's memory")
    elif proc == PROC:  # there may be no /proc
        with suppress(ValueError, OSError):
            yield Limit(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"), "the machine's memory")


def _of_groups(proc: Path) -> Iterator[Limit]:
    for path, text in cgroups.told("memory", _V2, _V1, proc):
        if text.isdigit():  # else it is "max"
            yield Limit(int(text), f"{path.name} of {path.parent}")
