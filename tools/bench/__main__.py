"""Command line of the benchmark.

Exit codes: 0 measured, 1 measured but invalid (see the INVALID lines), 2 wrong use or something missing,
130 and 143 interrupted.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path
from types import FrameType
from typing import Any

from tools.bench import (
    budget,
    cold,
    hit_ratio,
    lanes,
    lanes_run,
    live,
    million,
    ordinary,
    preload,
    report,
    rounds,
    servlets,
    summary,
    sweep,
    traces,
)
from tools.bench.content import site_lacks
from tools.bench.errors import BenchError
from tools.bench.load import GENERATORS
from tools.bench.options import parser, positive
from tools.bench.peers import PEERS, Peer, installed, missing, version, versions, zcserve
from tools.bench.targets import TARGETS, Target, outcomes, plan
from tools.bench.workloads import WORKLOADS, Workload


def _known(names: str, table: Collection[str], what: str) -> list[str]:
    """The names, which the table has. Raises BenchError on the first one that it does not have."""
    for name in names.split(","):
        if name not in table:
            raise BenchError(f"no such {what}: {name!r} (there are {', '.join(table)})")
    return names.split(",")


def _chosen_peers(names: str) -> dict[str, Peer]:
    """Peers by label; the second nginx of `nginx,nginx` is labelled nginx-2."""
    seen: Counter[str] = Counter()
    chosen = {}
    for name in _known(names, PEERS, "peer"):
        seen[name] += 1
        chosen[name if seen[name] == 1 else f"{name}-{seen[name]}"] = PEERS[name]
    return chosen


@dataclass(frozen=True)
class Measured:
    """The samples of one run, and where and how they came about."""

    samples: list[rounds.Sample]
    where: dict[str, str]

    @property
    def figures(self) -> dict[str, Any]:
        """For the JSON file."""
        rows = [asdict(row) for row in summary.rows(self.samples)]
        return {"rows": rows, "samples": [asdict(sample) for sample in self.samples]}


def measure(
    peers: dict[str, Peer],
    workloads: dict[str, Workload],
    groups: list[list[rounds.Cell]],
    options: argparse.Namespace,
) -> Measured:
    """Run the rounds that the options ask for, telling how they go."""

    def said(one: rounds.Sample) -> None:
        figures = f"{one.requests_per_s:9,.0f} requests/s {one.cpu_us:7.2f} us"
        print(f"{one.workload} {one.round}/{options.rounds} {one.peer}: {figures}", file=sys.stderr)

    busy = os.getloadavg()[0]
    samples = rounds.run_rounds(
        peers, workloads, groups=groups, rounds=options.rounds, seconds=options.seconds, said=said
    )
    found = versions(peers)
    loads = chain.from_iterable(load.loads for load in workloads.values())
    for generator in dict.fromkeys(GENERATORS[load.generator] for load in loads):
        found[generator.program] = version(generator.program, generator.version_option)
    where = report.circumstances(found)
    server_core, generator_core = rounds.pick_cores()
    where["run"] = (
        f"{options.rounds} interleaved rounds of {options.seconds} s, "
        f"server on core {server_core}, generator on core {generator_core}, load average {busy:.2f} before"
    )
    return Measured(samples, where)


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    print(f"wrote {path}", file=sys.stderr)


def _requests(options: argparse.Namespace) -> int:
    peers = _chosen_peers(options.peers)
    workloads = {name: WORKLOADS[name] for name in _known(options.workloads, WORKLOADS, "workload")}
    done = measure(peers, workloads, rounds.table_of_cells(peers, workloads), options)
    rows, ratios, faults = summary.rows(done.samples), summary.ratios(done.samples), summary.faults(done.samples)
    report.write_results(
        [report.requests_table(rows), report.ratios_table(ratios)],
        done.where,
        {**done.figures, "ratios": [asdict(ratio) for ratio in ratios]},
        faults,
        json_file=options.json,
        markdown_file=options.markdown,
    )
    if options.svg is not None:
        _write(options.svg, sweep.workloads_chart(rows, done.where))
    return 1 if faults else 0


def _targets(options: argparse.Namespace) -> int:
    return _promises(TARGETS, PEERS, WORKLOADS, options)


def _servlets(options: argparse.Namespace) -> int:
    return _promises(servlets.TARGETS, servlets.PEERS, servlets.WORKLOADS, options)


def _ordinary(options: argparse.Namespace) -> int:
    kinds = _known(options.workloads, ordinary.KINDS, "workload")
    targets = [target for name in kinds for target in ordinary.TARGETS[name]]
    return _promises(targets, ordinary.peers(options.engine), ordinary.WORKLOADS, options)


def _promises(
    targets: Sequence[Target], peers: Mapping[str, Peer], workloads: Mapping[str, Workload], options: argparse.Namespace
) -> int:
    """Measure what stands in `targets` and can be measured here; what cannot is told with how to install it."""
    needed = {cell.peer for target in targets for cell in target.cells}
    absent = missing({name: peer for name, peer in peers.items() if name in needed})
    lack = site_lacks()
    possible = [target for target in targets if not (lack and workloads[target.own.workload].site)]
    if len(possible) < len(targets):
        absent["the site"] = lack
    groups = plan(possible, needed - absent.keys())
    cells = [cell for group in groups for cell in group]
    chosen = {name: peer for name, peer in peers.items() if name in {cell.peer for cell in cells}}
    done = measure(chosen, {cell.workload: workloads[cell.workload] for cell in cells}, groups, options)
    where = done.where | ({"not measured": "; ".join(absent.values())} if absent else {})
    rows, faults = summary.rows(done.samples), summary.faults(done.samples)
    found = outcomes(targets, done.samples)
    options.out.mkdir(parents=True, exist_ok=True)
    report.write_results(
        [report.targets_table(found), report.requests_table(rows)],
        where,
        {"targets": [{**asdict(one), "reached": one.reached} for one in found], **done.figures},
        faults,
        json_file=options.out / f"{options.command}.json",
        markdown_file=options.out / f"{options.command}.md",
    )
    return 1 if faults else 0


def _lanes(options: argparse.Namespace) -> int:
    def said(one: rounds.Sample) -> None:
        print(f"{one.workload} {one.round} {one.peer}: {one.cpu_us:.2f} us, p99 {one.p99_ms:.3f} ms", file=sys.stderr)

    busy = os.getloadavg()[0]
    done = lanes_run.run_lanes(options.rounds, options.seconds, options.hits, options.against, said)
    peer = lanes.PLAIN
    where = report.circumstances({"zcserve": version(peer.program, *peer.version_option), "wrk": version("wrk", "-v")})
    where["run"] = f"{options.rounds} interleaved rounds of {options.seconds} s, load average {busy:.2f} before"
    found = [*outcomes(lanes.targets(before=options.against is not None), done.samples), *done.figures]
    faults = done.faults + summary.faults(done.samples)
    options.out.mkdir(parents=True, exist_ok=True)
    report.write_results(
        [report.targets_table(found), report.requests_table(summary.rows(done.samples))],
        where | done.notes,
        {
            "targets": [{**asdict(one), "reached": one.reached} for one in found],
            "samples": [asdict(sample) for sample in done.samples],
        },
        faults,
        json_file=options.out / "lanes.json",
        markdown_file=options.out / "lanes.md",
    )
    return 1 if faults else 0


def _sweep(options: argparse.Namespace) -> int:
    names = _known(options.sweeps, sweep.SWEEPS, "sweep")
    peers = _chosen_peers(options.peers or ",".join(name for name in installed() if name != "zcserve-log"))
    workloads = sweep.loads(names)
    done = measure(peers, workloads, rounds.table_of_cells(peers, workloads), options)
    faults = summary.faults(done.samples)
    options.out.mkdir(parents=True, exist_ok=True)
    rows = summary.rows(done.samples)
    report.write_results(
        [report.requests_table(rows)],
        done.where,
        done.figures,
        faults,
        json_file=options.out / "sweep.json",
        markdown_file=options.out / "sweep.md",
    )
    _draw(rows, done.where, options.out)
    return 1 if faults else 0


def _draw(rows: list[summary.Row], where: dict[str, str], out: Path) -> None:
    """Charts of the sweeps that rows are of."""
    for name in sweep.SWEEPS:
        if any(row.workload.startswith(f"{name}-") for row in rows):
            _write(out / f"{name}.svg", sweep.sweep_chart(name, rows, where))


def _charts(options: argparse.Namespace) -> int:
    try:
        results = json.loads(options.results.read_text())
        rows = [summary.Row(**row) for row in results["rows"]]
        where = results["circumstances"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BenchError(f"{options.results} holds no results of a sweep ({error!r})") from None
    _draw(rows, where, options.out)
    return 0


def _preload(options: argparse.Namespace) -> int:
    def said(one: preload.Preload) -> None:
        print(
            f"tar {one.tar_s:.2f} s, ready {one.ready_s:.2f} s, empty {one.empty_ready_s:.2f} s",
            file=sys.stderr,
        )

    peer = zcserve("--engine", "python", "--memory", options.memory)
    tree, done = preload.run_preload(peer, options.files, rounds=options.rounds, kept=options.tree, said=said)
    figures = preload.figures(tree, done)
    where = report.circumstances({"zcserve": version(peer.program, *peer.version_option)})
    where["run"] = f"{len(tree.paths):,} files, {tree.content_bytes:,} bytes, {options.rounds} interleaved rounds"
    report.write_results(
        [report.preload_table(figures)],
        where,
        {
            "files": len(tree.paths),
            "content_bytes": tree.content_bytes,
            "figures": [asdict(figure) for figure in figures],
            "samples": [asdict(one) for one in done],
        },
        [],
        json_file=options.json,
        markdown_file=options.markdown,
    )
    return 0


def _million(options: argparse.Namespace) -> int:
    def said(one: million.Growth) -> None:
        print(f"{one.files:,} files: tar {one.tar_s:.2f} s, ready {one.ready_s:.2f} s", file=sys.stderr)

    try:
        counts = [positive(number) for number in options.files.split(",")]
    except ValueError:
        raise BenchError(f"no numbers of files: {options.files!r}") from None
    peers = {
        engine: zcserve("--engine", engine, "--memory", options.memory, "--no-watch") for engine in million.engines()
    }
    done = million.run_million(peers, counts, kept=options.tree, seconds=options.seconds, said=said)
    peer = next(iter(peers.values()))
    where = report.circumstances({"zcserve": version(peer.program, *peer.version_option), "wrk": version("wrk", "-v")})
    content = sum(one.content_bytes for one in done) / sum(one.files for one in done)
    where["run"] = f"one round, files of {content:,.0f} bytes, {options.seconds} s under load"
    report.write_results(
        [million.table(done)],
        where,
        {"growth": [asdict(one) for one in done]},
        [],
        json_file=options.json,
        markdown_file=options.markdown,
    )
    return 0


def _live(options: argparse.Namespace) -> int:
    peers = {engine: zcserve("--engine", engine, "--memory", options.memory) for engine in million.engines()}
    done = live.run_live(peers, files=options.files, burst=options.burst, times=options.times)
    peer = next(iter(peers.values()))
    where = report.circumstances({"zcserve": version(peer.program, *peer.version_option)})
    where["run"] = (
        f"{options.times} renames, a burst of {options.burst:,} files, releases of {options.files:,} files; "
        f"a client asks for a page each ms"
    )
    report.write_results(
        [live.table(done)],
        where,
        {"live": {name: asdict(one) for name, one in done.items()}},
        [],
        json_file=options.json,
        markdown_file=options.markdown,
    )
    return 0


def _budget(options: argparse.Namespace) -> int:
    peer = zcserve("--engine", "python", "--memory", str(options.memory))
    done = budget.run_budget(
        peer, options.memory, times=options.times, clients=options.clients, seconds=options.seconds
    )
    where = report.circumstances({"zcserve": version(peer.program, *peer.version_option)})
    where["run"] = f"{options.clients} clients for {options.seconds} s, files at random, every body checked"
    faults = done.faults()
    report.write_results(
        [report.budget_table(done)],
        where,
        {"budget": asdict(done)},
        faults,
        json_file=options.json,
        markdown_file=options.markdown,
    )
    return 1 if faults else 0


def _cold(options: argparse.Namespace) -> int:
    def said(one: cold.Run) -> None:
        beside = "alone" if one.others is None else f"{one.others.requests_per_s:,.0f} files/s, {one.kind}"
        print(f"{one.engine} {one.load} {one.round}, {beside}: p99 {one.page.p99_ms:.3f} ms", file=sys.stderr)

    engines = options.engines.split(",")
    done = cold.run_cold(engines, rounds=options.rounds, seconds=options.seconds, others_rate=options.rate, said=said)
    peer = zcserve()
    where = report.circumstances({"zcserve": version(peer.program, *peer.version_option)})
    server_core, client_core = rounds.pick_cores()
    where["run"] = (
        f"{options.rounds} interleaved rounds of {options.seconds} s, {cold.FILES:,} files of "
        f"{cold.SMALLEST_BYTES:,} to {cold.LARGEST_BYTES:,} bytes, a budget of {cold.BUDGET}, "
        f"{options.rate} files/s asked for, server on core {server_core}, clients on core {client_core}"
    )
    report.write_results(
        [cold.table(done)],
        where,
        {"runs": [asdict(one) for one in done]},
        cold.faults(done),
        json_file=options.json,
        markdown_file=options.markdown,
    )
    return 1 if cold.faults(done) else 0


def _hit_ratio(options: argparse.Namespace) -> int:
    about: list[tuple[str, int, int, int]] = []
    ratios: list[hit_ratio.HitRatio] = []
    foretold: list[hit_ratio.Foretold] = []
    recorded = (traces.recorded(path, options.requests) for path in options.traces)
    for trace in chain(recorded, traces.synthetic(options.objects, options.requests)):
        print(f"{trace.name}: {len(trace.objects):,} requests", file=sys.stderr)
        about.append((trace.name, len(trace.objects), len(trace.sizes), trace.footprint))
        of_policies, of_curve = hit_ratio.compare(trace)
        ratios += of_policies
        foretold += of_curve
    report.write_results(
        [hit_ratio.traces_table(about), hit_ratio.ratios_table(ratios), hit_ratio.curve_table(foretold)],
        report.circumstances(hit_ratio.oracle_version()),
        {"ratios": [asdict(one) for one in ratios], "curve": [asdict(one) for one in foretold]},
        [],
        json_file=options.json,
        markdown_file=options.markdown,
    )
    return 0


def _terminated(number: int, _frame: FrameType | None) -> None:
    raise SystemExit(128 + number)


COMMANDS = {
    "requests": _requests,
    "targets": _targets,
    "servlets": _servlets,
    "ordinary": _ordinary,
    "lanes": _lanes,
    "sweep": _sweep,
    "charts": _charts,
    "preload": _preload,
    "million": _million,
    "live": _live,
    "budget": _budget,
    "cold": _cold,
    "hit-ratio": _hit_ratio,
}


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns its exit code."""
    options = parser().parse_args(arguments)
    try:
        return COMMANDS[options.command](options)
    except BenchError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, _terminated)  # so that servers are ended then, too
    sys.exit(main())
