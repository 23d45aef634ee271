"""How hot files are on nodes: asked of their admin listeners, several at a time, or read from files of it.

A node is http://HOST:PORT, HOST:PORT or unix:PATH. A file has lines of heat (what a node's /heat answers, or its
--heat-file), or names nodes, one a line; blank lines and lines that begin with # are passed over.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor

from zcserve.cache import heat_lines
from zcserve.cache.heat_lines import FileTold, HeatError, RootTold, Told
from zcserve.config.addresses import FdAddress, parse_listen
from zcserve.ctl.client import Node, NodeError, ask
from zcserve.errors import UsageError, reason_of

# So many are asked at a time: an answer has 10 MB where 100,000 files are hot.
AT_ONCE = 8
TIMEOUT_S = 60.0
# Of a file that names nodes.
NODES_MAX = 10_000

Lines = list[Told | RootTold | FileTold]


class AskError(Exception):
    """Of a node, or a file, nothing is known: says which one, and why."""


def heat_of(sources: Iterable[str], token: str = "") -> Iterator[Lines | AskError]:
    """What each of these says, or why it says nothing; nodes as they are told, and as files name them. Raises
    UsageError where one is neither."""
    asked: list[str | Node] = []
    for source in sources:
        asked += _named(source, token)
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for start in range(0, len(asked), AT_ONCE):  # so that no more answers than these are in memory
            yield from pool.map(_heat, asked[start : start + AT_ONCE])


def _named(source: str, token: str) -> list[str | Node]:
    if source.startswith(("http://", "unix:")) or not os.path.exists(source):
        return [node_of(source, token)]
    try:
        with open(source, "rb") as file:
            if file.read(1) == b"{":
                return [source]
            file.seek(0)
            lines = [line.decode().strip() for line in file.readlines(NODES_MAX * 100)]
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{source} cannot be read: {reason_of(error)}") from None
    return [node_of(line, token) for line in lines if line and not line.startswith("#")]


def node_of(text: str, token: str = "") -> Node:
    """A node at an address. Raises UsageError."""
    accepted = "http://HOST:PORT or unix:PATH of an admin listener, or a file"
    try:
        address = parse_listen(text.removeprefix("http://").rstrip("/"))
    except UsageError:
        raise UsageError(f"{text!r} is no node; accepted: {accepted}") from None
    if isinstance(address, FdAddress):
        raise UsageError(f"{text!r} is no node; accepted: {accepted}")
    return Node(address, token, TIMEOUT_S)


def _heat(source: str | Node) -> Lines | AskError:
    try:
        if isinstance(source, str):
            with open(source, "rb") as file:
                return list(heat_lines.read(heat_lines.lines_in(file)))
        answer = ask(source, "/heat")
        if answer.status != 200:
            why = answer.body.decode(errors="replace").strip()[:200]
            return AskError(f"{source.address} answers {answer.status}: {why}")
        return list(heat_lines.read(answer.body.splitlines()))
    except NodeError as error:
        return AskError(str(error))
    except (OSError, HeatError) as error:
        name = source if isinstance(source, str) else source.address
        return AskError(f"{name}: {reason_of(error)}")
