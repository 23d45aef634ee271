"""The flags of the benchmark's commands.

It must not know how anything is measured: what a command does with its options stands in __main__.py.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from tools.bench import cold, million, ordinary, sweep
from tools.bench.peers import PEERS
from tools.bench.workloads import WORKLOADS
from zcserve.config.units import parse_size


def positive(text: str) -> int:
    """A number above 0. Raises ValueError."""
    number = int(text)
    if number < 1:
        raise ValueError(text)
    return number


def parser() -> argparse.ArgumentParser:
    """The command line: `command` is one of those that __main__.py has."""
    made = argparse.ArgumentParser(prog="python -m tools.bench", description="Measure zcserve and its peers.")
    commands = made.add_subparsers(dest="command", required=True)
    _of_peers(commands)
    _of_trees(commands)
    _of_changes(commands)
    _of_memory(commands)
    return made


def _of_peers(commands: Any) -> None:
    """Requests of several servers."""
    requests = commands.add_parser(
        "requests",
        help="requests/s and CPU per request of each peer, and their ratios",
        description="The first peer is compared with each of the others; a peer named twice shows the noise.",
        epilog="workloads: " + "; ".join(f"{name} ({load.about})" for name, load in WORKLOADS.items()),
    )
    requests.add_argument("--peers", default="zcserve,nginx", metavar="A,B", help=f"of {','.join(PEERS)}")
    requests.add_argument("--workloads", default=",".join(WORKLOADS), metavar="A,B", help="by default all")
    requests.add_argument("--rounds", type=positive, default=5)
    requests.add_argument("--seconds", type=positive, default=4, help="length of one run")
    requests.add_argument("--svg", type=Path, metavar="FILE", help="draw CPU per request as bars")
    _result_files(requests)
    targets = commands.add_parser(
        "targets",
        help="whether the ratios hold that zcserve promises",
        description="Measures both sides of every promised ratio, in interleaved rounds of one run.",
    )
    _result_folder(targets, rounds=5, seconds=4)
    sweeps = commands.add_parser(
        "sweep",
        help="peers against concurrency and body size, with charts",
        description="Measures every peer from 1 to 1,000 connections and from 100 bytes to 10 MB, and draws it.",
    )
    sweeps.add_argument("--peers", metavar="A,B", help="by default all that are installed, without zcserve-log")
    sweeps.add_argument("--sweeps", default=",".join(sweep.SWEEPS), metavar="A,B", help="by default both")
    _result_folder(sweeps, rounds=3, seconds=2)
    servlets = commands.add_parser(
        "servlets",
        help="the same for servlets: against other servers' programs, against files, and beside files",
        description="Measures a servlet against bjoern, nginx's page and Starlette, and what files notice of it.",
    )
    _result_folder(servlets, rounds=5, seconds=4)
    others = commands.add_parser(
        "ordinary",
        help="ranges, conditions, queries, what is absent: against our own page and other servers",
        description="Measures each kind of request next to our own page, and whether its promised ratios hold.",
        epilog="workloads: " + "; ".join(f"{name} ({kind.about})" for name, kind in ordinary.KINDS.items()),
    )
    others.add_argument("--engine", choices=("native", "python"), default="native", help="of our own server")
    others.add_argument("--workloads", default=",".join(ordinary.KINDS), metavar="A,B", help="by default all")
    _result_folder(others, rounds=5, seconds=2)
    many = commands.add_parser(
        "lanes",
        help="several lanes against one: CPU, requests/s, servlets, futex calls, balance",
        description="Measures what is asked of several lanes, as ratios to one lane in interleaved rounds.",
    )
    many.add_argument("--hits", type=positive, default=1_000_000, help="under strace")
    many.add_argument("--against", type=Path, metavar="TREE", help="a checkout that one lane is compared with")
    _result_folder(many, rounds=5, seconds=2)
    charts = commands.add_parser("charts", help="draw the charts of a sweep again from its JSON")
    charts.add_argument("results", type=Path, metavar="SWEEP.JSON")
    charts.add_argument("--out", type=Path, default=Path("bench-results"), metavar="DIR")


def _of_trees(commands: Any) -> None:
    """Large trees that are loaded."""
    preload = commands.add_parser("preload", help="time and memory of loading a large tree, against tar")
    preload.add_argument("--files", type=positive, default=100_000)
    preload.add_argument("--rounds", type=positive, default=5)
    preload.add_argument("--memory", default="2G", help="the server's memory budget")
    preload.add_argument("--tree", type=Path, metavar="DIR", help="make the tree here, or reuse it")
    _result_files(preload)
    growth = commands.add_parser(
        "million",
        help="how cost grows with the number of files, to a million",
        description="Time to ready, memory, reload, look-ups and CPU per request, for each number of files.",
    )
    growth.add_argument("--files", default="1000,100000,1000000", metavar="N,N", help="numbers of files")
    growth.add_argument("--seconds", type=positive, default=4, help="length of one run under load")
    growth.add_argument("--memory", default="8G", help="the server's memory budget")
    growth.add_argument("--tree", type=Path, metavar="DIR", help="make the trees below this, or reuse them")
    _result_files(growth)


def _of_changes(commands: Any) -> None:
    """Files that are replaced while the server runs."""
    live = commands.add_parser(
        "live",
        help="how soon a change is served, and what others notice of it",
        description="Replaces a page by rename, a burst of files, and a whole release, while pages are asked for.",
    )
    live.add_argument("--files", type=positive, default=100_000, help="in a release")
    live.add_argument("--burst", type=positive, default=10_000, help="files of a burst")
    live.add_argument("--times", type=positive, default=200, help="pages that are replaced")
    live.add_argument("--memory", default="4G", help="the server's memory budget")
    _result_files(live)


def _of_memory(commands: Any) -> None:
    """Content that does not fit."""
    budget = commands.add_parser("budget", help="whether a memory budget holds under ten times its content")
    budget.add_argument("--memory", type=parse_size, default="256M", help="the server's memory budget")
    budget.add_argument("--times", type=positive, default=10, help="content, in budgets")
    budget.add_argument("--clients", type=positive, default=8)
    budget.add_argument("--seconds", type=positive, default=30)
    _result_files(budget)
    stalls = commands.add_parser(
        "cold",
        help="whether files that are not resident stall requests for what is resident",
        description="The latency of a resident page, alone and while others ask for files from disk.",
    )
    stalls.add_argument("--engines", default=",".join(million.engines()), metavar="A,B", help="by default all")
    stalls.add_argument("--rounds", type=positive, default=3)
    stalls.add_argument("--seconds", type=positive, default=2, help="length of one run")
    stalls.add_argument("--rate", type=positive, default=cold.OTHERS_RATE, help="files asked for in a second")
    _result_files(stalls)
    replay = commands.add_parser(
        "hit-ratio",
        help="how often the eviction policies hit, what they cost, and whether the live curve foretells it",
        description="Replays traces through the policies, without a server: Zipf, a crawler, and files of your own.",
        epilog="where to get traces, and their formats: tools/bench/traces.py",
    )
    replay.add_argument("--traces", type=Path, nargs="*", default=[], metavar="FILE", help="recorded traces too")
    replay.add_argument("--requests", type=positive, default=1_000_000, help="of each trace, at most")
    replay.add_argument("--objects", type=positive, default=100_000, help="of those that are made here")
    _result_files(replay)


def _result_folder(command: argparse.ArgumentParser, *, rounds: int, seconds: int) -> None:
    command.add_argument("--rounds", type=positive, default=rounds)
    command.add_argument("--seconds", type=positive, default=seconds, help="length of one run")
    command.add_argument(
        "--out", type=Path, default=Path("bench-results"), metavar="DIR", help="for JSON, Markdown and SVG"
    )


def _result_files(command: argparse.ArgumentParser) -> None:
    command.add_argument("--json", type=Path, metavar="FILE", help="write every sample and figure")
    command.add_argument("--markdown", type=Path, metavar="FILE", help="write the tables")
