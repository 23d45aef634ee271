"""Command line of the benchmark.

Exit codes: 0 measured, 1 measured but invalid (see the INVALID lines), 2 wrong use or something missing,
130 and 143 interrupted.
"""

from __future__ import annotations

import argparse
import signal
import sys
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from types import FrameType

from tools.bench import budget, preload, report, rounds, summary
from tools.bench.errors import BenchError
from tools.bench.load import GENERATORS
from tools.bench.peers import PEERS, Peer, version, zcserve
from tools.bench.workloads import WORKLOADS, Workload
from zcserve.config import parse_size


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise ValueError(text)
    return number


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tools.bench", description="Measure zcserve and its peers.")
    commands = parser.add_subparsers(dest="command", required=True)
    requests = commands.add_parser(
        "requests",
        help="requests/s and CPU per request of each peer, and their ratios",
        description="The first peer is compared with each of the others; a peer named twice shows the noise.",
        epilog="workloads: " + "; ".join(f"{name} ({load.about})" for name, load in WORKLOADS.items()),
    )
    requests.add_argument("--peers", default="zcserve,nginx", metavar="A,B", help=f"of {','.join(PEERS)}")
    requests.add_argument("--workloads", default=",".join(WORKLOADS), metavar="A,B", help="by default all")
    requests.add_argument("--rounds", type=_positive, default=5)
    requests.add_argument("--seconds", type=_positive, default=4, help="length of one run")
    loading = commands.add_parser("preload", help="time and memory of loading a large tree, against tar")
    loading.add_argument("--files", type=_positive, default=100_000)
    loading.add_argument("--rounds", type=_positive, default=5)
    loading.add_argument("--memory", default="2G", help="the server's memory budget")
    loading.add_argument("--tree", type=Path, metavar="DIR", help="make the tree here, or reuse it")
    keeping = commands.add_parser("budget", help="whether a memory budget holds under ten times its content")
    keeping.add_argument("--memory", type=parse_size, default="256M", help="the server's memory budget")
    keeping.add_argument("--times", type=_positive, default=10, help="content, in budgets")
    keeping.add_argument("--clients", type=_positive, default=8)
    keeping.add_argument("--seconds", type=_positive, default=30)
    for command in (requests, loading, keeping):
        command.add_argument("--json", type=Path, metavar="FILE", help="write every sample and figure")
        command.add_argument("--markdown", type=Path, metavar="FILE", help="write the tables")
    return parser


def _chosen_peers(names: str) -> dict[str, Peer]:
    """Peers by label; the second nginx of `nginx,nginx` is labelled nginx-2."""
    seen: Counter[str] = Counter()
    chosen = {}
    for name in names.split(","):
        if name not in PEERS:
            raise BenchError(f"no such peer: {name!r} (there are {', '.join(PEERS)})")
        seen[name] += 1
        chosen[name if seen[name] == 1 else f"{name}-{seen[name]}"] = PEERS[name]
    return chosen


def _chosen_workloads(names: str) -> dict[str, Workload]:
    for name in names.split(","):
        if name not in WORKLOADS:
            raise BenchError(f"no such workload: {name!r} (there are {', '.join(WORKLOADS)})")
    return {name: WORKLOADS[name] for name in names.split(",")}


def _requests(options: argparse.Namespace) -> int:
    peers, workloads = _chosen_peers(options.peers), _chosen_workloads(options.workloads)

    def said(one: rounds.Sample) -> None:
        figures = f"{one.requests_per_s:9,.0f} requests/s {one.cpu_us:7.2f} us"
        print(f"{one.workload} {one.round}/{options.rounds} {one.peer}: {figures}", file=sys.stderr)

    samples = rounds.run_rounds(peers, workloads, rounds=options.rounds, seconds=options.seconds, said=said)
    rows, ratios, faults = summary.rows(samples), summary.ratios(samples), summary.faults(samples)
    server_core, generator_core = rounds.pick_cores()
    versions = {name: version(peer.program, *peer.version_option) for name, peer in peers.items()}
    for name in dict.fromkeys(load.generator for load in workloads.values()):
        versions[name] = version(name, GENERATORS[name].version_option)
    where = report.circumstances(versions)
    where["run"] = (
        f"{options.rounds} interleaved rounds of {options.seconds} s, "
        f"server on core {server_core}, generator on core {generator_core}"
    )
    report.write_results(
        [report.requests_table(rows), report.ratios_table(ratios)],
        where,
        {
            "rows": [asdict(row) for row in rows],
            "ratios": [asdict(ratio) for ratio in ratios],
            "samples": [asdict(sample) for sample in samples],
        },
        faults,
        json_file=options.json,
        markdown_file=options.markdown,
    )
    return 1 if faults else 0


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


def _terminated(number: int, _frame: FrameType | None) -> None:
    raise SystemExit(128 + number)


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns its exit code."""
    options = _parser().parse_args(arguments)
    try:
        return {"requests": _requests, "preload": _preload, "budget": _budget}[options.command](options)
    except BenchError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, _terminated)  # so that servers are ended then, too
    sys.exit(main())
