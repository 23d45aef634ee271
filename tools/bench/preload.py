"""How long zcserve takes until a large tree is in memory, against `tar` reading the same tree; and how much
memory a file costs on top of its content.

Interleaved rounds of three: tar, zcserve on the tree, zcserve on an empty root. The empty root is what the
interpreter and the server cost by themselves. Nothing is pinned: both may use all cores (tar's reader does).
"""

from __future__ import annotations

import os
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tools.bench.content import Tree, keep_tree
from tools.bench.peers import Peer, find_program, running
from tools.bench.proc import memory_bytes
from tools.bench.summary import Spread, spread

PRELOAD_TIMEOUT_S = 900.0


@dataclass(frozen=True)
class Preload:
    """One round, in seconds and bytes; memory as proc.memory_bytes tells it, content included."""

    tar_s: float
    ready_s: float
    empty_ready_s: float
    memory_bytes: int
    empty_memory_bytes: int


@dataclass(frozen=True)
class Figure:
    """One line of the result; `decimals` is how exactly it is shown."""

    name: str
    unit: str
    spread: Spread
    decimals: int


def tar_seconds(root: Path) -> float:
    """The time of `tar cf - ROOT | cat > /dev/null` (given /dev/null itself, tar would read nothing)."""
    started = time.perf_counter()
    argv = [find_program("tar"), "cf", "-", "-C", str(root), "."]
    with subprocess.Popen(argv, stdout=subprocess.PIPE) as tar:
        subprocess.run([find_program("cat")], stdin=tar.stdout, stdout=subprocess.DEVNULL, check=True)
        if tar.wait() != 0:
            raise subprocess.CalledProcessError(tar.returncode, "tar")
    return time.perf_counter() - started


def _start(name: str, peer: Peer, root: Path, workdir: Path, path: str) -> tuple[float, int]:
    """Seconds until a new server has answered `path`, and its memory then."""
    with running(name, peer, root, workdir, ready_path=path, start_timeout_s=PRELOAD_TIMEOUT_S) as server:
        return server.ready_s, memory_bytes(server.pid)


def run_preload(
    peer: Peer,
    files: int,
    *,
    rounds: int,
    kept: Path | None,
    said: Callable[[Preload], None] = lambda one: None,
) -> tuple[Tree, list[Preload]]:
    """Measure `peer` over a tree of `files` files: the one at `kept`, or one that is made and removed again.

    Raises BenchError when the peer does not start or `kept` is no such tree.
    """
    done = []
    with tempfile.TemporaryDirectory(prefix="zcserve-bench-") as made:
        workdir = Path(made)
        empty = workdir / "empty"
        empty.mkdir()
        tree = keep_tree(kept or workdir / "root", files)
        os.sync()  # so that writing the tree back is not measured
        tar_seconds(tree.root)  # and so that all rounds are warm
        for _ in range(rounds):
            tar_s = tar_seconds(tree.root)
            ready_s, memory = _start("zcserve", peer, tree.root, workdir, tree.paths[-1])
            empty_ready_s, empty_memory = _start("zcserve-empty", peer, empty, workdir, "/")
            done.append(Preload(tar_s, ready_s, empty_ready_s, memory, empty_memory))
            said(done[-1])
    return tree, done


def figures(tree: Tree, done: Sequence[Preload]) -> list[Figure]:
    """The result: medians over rounds, of ratios and differences taken within a round."""
    files = len(tree.paths)
    alone_s = [one.ready_s - one.empty_ready_s for one in done]
    tar_s = [one.tar_s for one in done]
    extra_bytes = [one.memory_bytes - one.empty_memory_bytes - tree.content_bytes for one in done]
    return [
        Figure("tar of the warm tree", "s", spread(tar_s), 2),
        Figure("ready to serve the tree", "s", spread([one.ready_s for one in done]), 2),
        Figure("ready to serve an empty root", "s", spread([one.empty_ready_s for one in done]), 2),
        Figure("the tree alone (difference)", "s", spread(alone_s), 2),
        Figure("ready / tar", "x", spread([one.ready_s / one.tar_s for one in done]), 2),
        Figure(
            "the tree alone / tar",
            "x",
            spread([alone / tar for alone, tar in zip(alone_s, tar_s, strict=True)]),
            2,
        ),
        Figure(
            "memory a file on top of its content",
            "bytes",
            spread([extra / files for extra in extra_bytes]),
            0,
        ),
    ]
