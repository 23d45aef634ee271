"""One look at a node: all that `/stats` tells, and what `/metrics` and the dashboard are made of (docs/admin.md).

Everything is read where it is counted anyway, and nothing is walked for it: a snapshot takes some tenths of a
millisecond, however many files there are. What needs a walk is the survey's (survey.py), which is some seconds old.

Keys are snake_case with units in their names. A key that is there stays there, and means the same, as long as `version`
does. What there is not is None: while the node starts, what clients have; `servlets` where there are none.
"""

from __future__ import annotations

import gc
import os
import platform
import resource
import threading
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeAlias

from zcserve import __version__, log
from zcserve.admin.node import Node
from zcserve.cache.memfd import PAGE_BYTES
from zcserve.cache.store import Store
from zcserve.config.sites import configs_of
from zcserve.content.content import Content
from zcserve.net.counts import Answered, Counts, Histogram, Requests, turns_of
from zcserve.net.service import Service
from zcserve.site.accounts import OTHERS_NUMBER

Told: TypeAlias = dict[str, Any]

# Of the form of all this: it grows when a key goes, or means something else.
VERSION = 1
# Points of the miss-ratio curve, in halves of the budget: from an eighth of it to eight times as much.
CURVE_SHARES = (1 / 8, 1 / 4, 1 / 2, 3 / 4, 1, 3 / 2, 2, 3, 4, 8)
# To list more descriptors takes milliseconds, where the kernel does not say how many there are (before Linux 6.2).
LISTED_MAX = 2000

# What is told of a site that has an account of its own.
_OF_CONTENT = ("root", "directory", "files", "resident_bytes", "generation", "watcher", "prepared")

_PROC = Path("/proc/self")


class _Uses:
    """Hits and misses by account, those of lanes not among them."""

    def __init__(self, service: Service) -> None:
        self.hits, self.misses = Counter(service.past_hits), Counter(service.past_misses)
        for site in service.sites:
            self.hits[site.account] += site.hits
            self.misses[site.account] += site.misses


def snapshot_of(node: Node, *, surveys: bool = True) -> Told:
    """What is known of a node now, as JSON has it. In the loop's thread. `surveys`: it is to know of single files, too,
    which has them walked where that was not done lately."""
    service, content, store = node.service, node.content, node.store
    counts = service.counts() if service is not None else None
    uses = _Uses(service) if service is not None else None
    by_site = _by_site(service, counts, uses) if service and counts and uses and service.accounts.are_several else None
    if surveys or (node.contents is not None and len(node.contents) > 1):  # of which each has its resident bytes told
        node.survey.ask()
    return {
        "version": VERSION,
        "time": time.time(),
        "uptime_s": time.time() - node.since,
        "engine": node.loop.front.engine,
        "lanes": node.loop.front.lanes,
        "pid": os.getpid(),
        "zcserve": __version__,
        "release": _release(node),
        "ready": dict(node.readiness()),
        "warm_list": node.warming(),
        "requests": _requests(node, by_site, counts) if counts is not None else None,
        "connections": _connections(counts) if counts is not None else None,
        "cache": _cache(node, counts, service, store, uses) if counts and service and store and uses else None,
        "generation": _generation(content) if content is not None else None,
        "prepared": _prepared(content) if content is not None else None,
        "watcher": _watcher(content) if content is not None else None,
        "sites": _sites(node, service, counts, uses) if counts and service and uses else [],
        "loop": _loop(node, counts),
        "queues": _queues(node, service) if service is not None else None,
        "passwords": _passwords(service) if service is not None else None,
        "servlets": _servlets(node, counts),
        "log": _log(node),
        "lanes_detail": _lanes(counts) if counts is not None else [],
        "hottest": list(node.survey.hottest),
        "does_not_fit": list(node.survey.does_not_fit),
        "survey_age_s": node.loop.now - node.survey.at if node.survey.at is not None else None,
        "warnings": [one._asdict() for one in log.recent()],
        "process": _process(node, counts),
        "python": _python(),
    }


def _release(node: Node) -> Told:
    if node.content is None:
        root = next(iter(configs_of(node.config).values())).directory
        return {"root": os.fspath(root), "since": None}
    return {"root": node.content.site.root.path, "since": node.content.counters.live_since}


def histogram(found: Histogram) -> Told:
    """Counts of what took so long as each bound at most, and longer than the one before; one more for the rest."""
    return {"bounds": found.bounds_s, "counts": found.counts, "sum": found.sum_s, "count": found.times}


# --- clients ------------------------------------------------------------------------------------------------------


def _requests(node: Node, sites: list[Told] | None, counts: Counts) -> Told:
    return {
        "total": counts.answers,
        "by": _by(counts.requests),
        "by_site": sites,
        "response_bytes_total": counts.response_bytes,
        "duration_s": {**histogram(counts.durations), "sampled_every": counts.sampled_every},
        "slow_total": node.slow.count if node.slow is not None else None,
    }


def _by_site(service: Service, counts: Counts, uses: _Uses) -> list[Told]:
    """Of each account in use, a site's that is gone among them: all together are the totals."""
    return [
        {
            "site": name,
            "requests_total": one.answers,
            "by": _by(one.requests),
            "response_bytes_total": one.bytes_sent,
            "hits_total": one.lane_hits + uses.hits[number],
            "misses_total": uses.misses[number],
        }
        for number, (name, one) in enumerate(_accounts(service, counts))
        if number != OTHERS_NUMBER or one.requests or any(site.account == number for site in service.sites)
    ]


def _by(requests: Requests) -> list[Told]:
    return [{"code": code, "method": method, "total": total} for (code, method), total in sorted(requests.items())]


def _accounts(service: Service, counts: Counts) -> list[tuple[str, Answered]]:
    """All of them, by number; nothing was asked yet of some that have just come."""
    names, accounts = service.accounts.names, counts.accounts
    return list(zip(names, (*accounts, *[Answered()] * (len(names) - len(accounts))), strict=False))


def _connections(counts: Counts) -> Told:
    return {
        "open": counts.open,
        "max": counts.connections_max,
        "by_state": dict(counts.states),
        "accepted_total": counts.accepted,
        "shed_total": dict(counts.shed),
        "refused_total": dict(counts.refused),
        "waits_total": dict(counts.waits),
    }


def _lanes(counts: Counts) -> list[Told]:
    return [
        {
            "lane": number,
            "connections": lane.connections,
            "requests_total": lane.answers,
            "response_bytes_total": lane.bytes_sent,
            "accepted_total": lane.accepted,
        }
        for number, lane in enumerate(counts.lanes)
    ]


# --- content ------------------------------------------------------------------------------------------------------


def _cache(node: Node, counts: Counts, service: Service, store: Store, uses: _Uses) -> Told:
    return {
        "hits_total": sum(one.lane_hits for one in counts.accounts) + uses.hits.total(),
        "misses_total": uses.misses.total(),
        "loads_total": service.fetcher.loads,
        "evictions_total": store.evictions,
        "compactions_total": store.moves,
        "resident_bytes": store.taken,
        "index_bytes": store.overhead,
        "budget_bytes": store.budget,
        "pinned_bytes": store.pinned_bytes,
        "entries": store.resident,
        "files": sum(map(_files, node.contents)) if node.contents is not None else 0,
        "curve": _curve(node, store),
    }


def _files(content: Content) -> int:
    """As the live generation was loaded."""
    return content.report.files - content.report.variants


def _curve(node: Node, store: Store) -> list[Told] | None:
    curve = node.curve()
    if curve is None or not curve.accesses:
        return None
    points = curve.points([int(store.budget * share) for share in CURVE_SHARES])
    return [{"bytes": memory, "hit_ratio": ratio} for memory, ratio in points]


def _generation(content: Content) -> Told:
    counters, site = content.counters, content.site
    return {
        "number": counters.flips + 1,
        "age_s": max(time.time() - counters.live_since, 0.0),
        "files": _files(content),
        "paths": len(site.live.resources),
        "problems": len(site.live.problems),
        "kept": len(site.older),
        "left_out": content.report.left_out,
        "reloads_total": counters.flips,
        "patches_total": counters.patches,
        "patched_paths_total": counters.changed,
        "failures_total": counters.failed,
    }


def _watcher(content: Content) -> Told:
    watcher = content.watcher
    return {
        "events_total": content.events,
        "rescans_total": content.counters.rescans,
        "is_watching": watcher is not None,
        "blind": watcher.blind if watcher is not None else None,
    }


def _sites(node: Node, service: Service, counts: Counts, uses: _Uses) -> list[Told]:
    """Each site by itself that has an account of its own; the others together."""
    accounts = _accounts(service, counts)

    def answered(number: int) -> Told:
        name, one = accounts[number]
        return {
            "name": name,
            "requests_total": one.answers,
            "response_bytes_total": one.bytes_sent,
            "hits_total": one.lane_hits + uses.hits[number],
            "misses_total": uses.misses[number],
        }

    contents = list(node.contents or ())
    told = [
        answered(content.site.account) | _of_content(node, content)
        for content in contents
        if content.site.account != OTHERS_NUMBER
    ]
    if len(told) < len(contents):
        told.append(answered(OTHERS_NUMBER) | dict.fromkeys(_OF_CONTENT))
    return told


def _of_content(node: Node, content: Content) -> Told:
    root = content.site.root
    return {
        "root": root.path,
        "directory": root.directory(),
        "files": _files(content),
        "resident_bytes": node.survey.resident.get(content.site.id),
        "generation": _generation(content),
        "watcher": _watcher(content),
        "prepared": _prepared(content),
    }


def _prepared(content: Content) -> Told | None:
    """As it was when it was prepared: what is resident of it may be evicted since."""
    held = content.preparing.held
    if held is None:
        return None
    told = held.told
    return {
        "root": told.root,
        "files": told.files,
        "bytes": told.bytes,
        "resident_bytes": told.resident_bytes,
        "share": told.share,
        "shared_files": told.shared,
        "problems": told.problems_total,
    }


# --- what does it -------------------------------------------------------------------------------------------------


def _loop(node: Node, counts: Counts | None) -> Told:
    loop = node.loop
    lag = counts.lag if counts is not None else turns_of(loop.rounds, loop.busy_s, loop.long_turns)
    return {"lag_s": histogram(lag), "turns_total": loop.rounds}


def _queues(node: Node, service: Service) -> Told:
    return {
        "loads_waiting": service.fetcher.waiting,
        "calls_waiting": len(node.loop.calling.waiting) + len(node.loop.calling.quiet),
        "servlets_waiting": node.applications.waiting if node.applications is not None else 0,
        "bodies_bytes": service.bodies.held,
        "bodies_max_bytes": service.bodies.bytes_max,
    }


def _passwords(service: Service) -> Told:
    keeper = service.keeper
    return {"verdicts_total": dict(keeper.counts), "checks_waiting": keeper.checks.waiting}


def _servlets(node: Node, counts: Counts | None) -> Told | None:
    outcomes = node.applications.outcomes if node.applications is not None else None
    if outcomes is None or counts is None:
        return None
    calls = outcomes.look()
    for lane in counts.lanes:
        calls |= lane.calls
    return {"calls_total": calls.times, "errors_total": outcomes.errors, "duration_s": histogram(calls)}


def _log(node: Node) -> Told:
    access = node.loop.front.lines_lost + (node.access_log.lost if node.access_log is not None else 0)
    own = log.lost()
    return {
        "dropped_lines_total": access + own,
        "dropped_by": {"access": access, "own": own},
        "left_out_lines_total": node.access_log.left_out if node.access_log is not None else None,
    }


def _process(node: Node, counts: Counts | None) -> Told:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return {
        "cpu_s": time.process_time(),
        "resident_memory_bytes": _resident_bytes(),
        "open_fds": _descriptors(counts.open if counts is not None else 0),
        "max_fds": soft,
        "start_time": node.since,
        "threads": threading.active_count(),
    }


def _resident_bytes() -> int:
    """What the kernel has given of the address space, content that is mapped among it (proc(5): statm)."""
    with suppress(OSError, ValueError, IndexError):
        return int((_PROC / "statm").read_bytes().split()[1]) * PAGE_BYTES
    return 0


def _descriptors(connections: int) -> int | None:
    """How many are open; None where that would take long to tell."""
    with suppress(OSError):
        if size := os.stat(_PROC / "fd").st_size:  # Linux 6.2 and later
            return size
        if connections < LISTED_MAX:
            return len(os.listdir(_PROC / "fd"))
    return None


def _python() -> Told:
    return {"gc_collections": [one["collections"] for one in gc.get_stats()], "version": platform.python_version()}
