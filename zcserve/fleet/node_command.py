"""`zcserve node`: the agent as a program. Flags -> parts -> run until SIGTERM.

    0  it was told to end
    1  it cannot go on: the log says why
    2  wrong use: nothing was begun; or another agent has the name of this node, and had it first

What NATS and signatures need is imported when it is asked for.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import signal
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from zcserve import log
from zcserve.admin.guard import is_loopback
from zcserve.config.addresses import TcpAddress, parse_listen
from zcserve.config.units import parse_duration, parse_size
from zcserve.ctl import arguments
from zcserve.ctl.client import Node
from zcserve.ctl.commands import NODE
from zcserve.ctl.shell import EXIT_DONE, EXIT_REFUSED, EXIT_WRONG_USE, complain, say
from zcserve.ctl.whereabouts import node_of
from zcserve.errors import UsageError, reason_of
from zcserve.fleet import forms, http_own_line
from zcserve.fleet.agent import MEMORY, Agent
from zcserve.fleet.bus import NameTakenError, NodeBus
from zcserve.fleet.extra import require
from zcserve.fleet.folders import Folders
from zcserve.fleet.forms import FormError
from zcserve.fleet.http_listener import Listener
from zcserve.fleet.http_node import Desk, HttpNodeBus
from zcserve.fleet.http_peers import Peers
from zcserve.fleet.http_shelf import Shelf
from zcserve.fleet.keeping import Kept
from zcserve.fleet.local_server import LocalServer
from zcserve.fleet.node_list import Listed, read_nodes
from zcserve.fleet.node_memory import Memory
from zcserve.fleet.node_state import NodeState
from zcserve.fleet.obtaining import Obtaining
from zcserve.fleet.signing import Keyring
from zcserve.fleet.standby import Standby
from zcserve.supervisor import tell_supervisor

_log = log.Log(__name__)

PROGRAM = "zcserve node"
# Folders that stay beside those in use: a rollback finds its release without a fetch. For a week.
KEEP_COUNT = 3
KEEP_AGE_S = 7 * 86400.0
# A token of fewer characters can be guessed (admin/office.py has the same).
TOKEN_BYTES_MIN = 16
# What still runs when the agent is told to end has so long, in seconds.
END_WITHIN_S = 3.0

_NEEDED = ("site", "node", "server", "releases")
_USAGE = """\
usage: zcserve node --site NAME --node ID (--nats URL | --listen HOST:PORT) --server unix:PATH --releases DIR

brings releases of a site to the server beside it: fetches, has it prepare them, flips. It is a process of its own; the
server goes on without it. The server's root is DIR/current.

"""
_EXITS = """
exit codes:
  0  it was told to end (SIGTERM, SIGINT)
  1  it cannot go on: the log says why
  2  wrong use: nothing was begun; or another agent has the name of this node, and had it first
"""


class Plan(NamedTuple):
    """What the flags say, checked."""

    site: str
    node: str
    nats: str
    nats_more: Mapping[str, Any]
    listen: TcpAddress | None
    token: bytes
    nodes: tuple[Listed, ...]
    server: Node
    releases: str
    keys: tuple[str, ...]
    source: str
    keep_count: int
    keep_age_s: float
    drains_behind: bool
    rate: float | None
    log_level: str


def main(argv: Sequence[str]) -> int:
    """Do what the words behind `zcserve node` say, and return the exit code."""
    try:
        given, operands = arguments.read(argv, NODE)
        if given.get("help"):
            from zcserve.ctl.guide import rows

            say(_USAGE + rows(NODE) + _EXITS)
            return EXIT_DONE
        if operands:
            raise UsageError(f"unexpected argument {operands[0]!r}; accepted: flags (zcserve node --help)")
        plan = plan_of(given)
    except UsageError as error:
        return complain(PROGRAM, error, EXIT_WRONG_USE)
    with log.to_stderr(plan.log_level):
        try:
            return asyncio.run(_run(plan))
        except UsageError as error:
            _log.error("the agent cannot begin: %s", error)
            return EXIT_WRONG_USE
        except asyncio.CancelledError:  # it was told twice
            return EXIT_DONE
        except BaseExceptionGroup as group:
            if taken := group.subgroup(NameTakenError):
                _log.error("the agent ends: %s; accepted: a --node of its own for each", taken.exceptions[0])
                return EXIT_WRONG_USE
            _log.error("the agent cannot go on: %s", reason_of(group.exceptions[0]), exc_info=group)
            return EXIT_REFUSED


def plan_of(given: Mapping[str, Any]) -> Plan:
    """From the values of `commands.NODE`. Raises UsageError."""
    missing = [f"--{name}" for name in _NEEDED if not given.get(name)]
    if missing:
        raise UsageError(f"{' and '.join(missing)} {'is' if len(missing) == 1 else 'are'} needed (zcserve node --help)")
    try:
        site, node = forms.name(given["site"], "--site"), forms.name(given["node"], "--node")
    except FormError as error:
        raise UsageError(str(error)) from None
    nats, listen = given.get("nats", ""), given.get("listen", "")
    if bool(nats) == bool(listen):
        raise UsageError("one of --nats URL and --listen HOST:PORT says where commands come from")
    if nats and "token_file" in given:
        raise UsageError(
            "--token-file goes with --listen: over NATS it has no effect (--nats-password-file, --nats-creds)"
        )
    keep = given.get("keep", KEEP_COUNT)
    if keep < 0:
        raise UsageError(f"--keep {keep} is less than none")
    token = _token_of(given["token_file"]) if "token_file" in given else b""
    return Plan(
        site,
        node,
        nats,
        _nats_more(given),
        _listen_of(listen, token) if listen else None,
        token,
        _nodes_of(given, node),
        node_of({"admin": given["server"], "token_file": given.get("server_token_file", "")}, {}),
        given["releases"],
        tuple(given.get("keys", ())),
        given.get("source", ""),
        keep,
        parse_duration(given["keep_for"]) if "keep_for" in given else KEEP_AGE_S,
        given.get("behind", "unready") == "unready",
        float(parse_size(given["rate"])) or None if "rate" in given else None,
        given.get("log_level", "info"),
    )


def _nats_more(given: Mapping[str, Any]) -> dict[str, Any]:
    """What NatsPlace takes besides the URLs, of what is given. Raises UsageError."""
    names = [name for name in given if name.startswith("nats_")]
    if names and not given.get("nats"):
        raise UsageError(f"--{names[0].replace('_', '-')} goes with --nats URL")
    values = ((name, given[name]) for name in names)
    return {name[5:]: Path(value) if isinstance(value, str) else value for name, value in values}


def _nodes_of(given: Mapping[str, Any], node: str) -> tuple[Listed, ...]:
    """The operator's list, in which this node stands. Raises UsageError."""
    if "nodes" not in given:
        return ()
    if not given.get("listen"):
        raise UsageError("--nodes goes with --listen: NATS keeps what a node has missed")
    nodes = read_nodes(given["nodes"])
    if node not in (listed.name for listed in nodes):
        raise UsageError(f"--nodes {given['nodes']} does not name {node}; accepted: the operator's list of all nodes")
    return nodes


def _listen_of(text: str, token: bytes) -> TcpAddress:
    address = parse_listen(text)
    if not isinstance(address, TcpAddress):
        raise UsageError(f"--listen {text} is not for operators of other machines; accepted: HOST:PORT")
    if not token and not is_loopback(address.host):
        raise UsageError(f"--listen {text} can be reached from elsewhere; accepted: 127.0.0.1, or --token-file")
    return address


def _token_of(path: str) -> bytes:
    try:
        token = Path(path).read_bytes().split(b"\n")[0].strip()
    except OSError as error:
        raise UsageError(f"--token-file {path!r} cannot be read: {reason_of(error)}") from None
    if len(token) < TOKEN_BYTES_MIN or not token.isascii():
        raise UsageError(f"--token-file {path!r}: its first line must have {TOKEN_BYTES_MIN} ASCII characters or more")
    return token


async def _run(plan: Plan) -> int:
    """Raises UsageError, and BaseExceptionGroup where the agent fails."""
    supervisor = os.environ.get("NOTIFY_SOCKET", "")
    task = asyncio.current_task()
    assert task is not None
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    listener: Listener | None = None
    keyring = _keyring_of(plan.keys)
    folders = Folders(plan.releases)
    kept = Kept(folders.path)
    try:
        boot = secrets.token_hex(8)
        server = LocalServer(plan.server, plan.site)
        standby = Standby(folders, kept, server)
        memory = _memory_of(kept, plan.site)
        bus, listener = await _bus_of(plan, kept, boot)
        beside = [bus.keep()] if isinstance(bus, HttpNodeBus) else []
        if isinstance(bus, HttpNodeBus) and plan.nodes:
            peers = Peers(bus, plan.site, plan.node, plan.nodes, plan.token.decode())
            bus.others = peers.manifest
            beside.append(peers.follow())
            line = next(listed for listed in plan.nodes if listed.name == plan.node)
            beside.append(http_own_line.follow(line, boot, plan.token.decode()))
        elif isinstance(bus, HttpNodeBus):
            _log.warning(
                "no --nodes: what this node misses while it is away it hears with an operator's next command; and of a "
                "purge that it misses while its link is down it does not hear"
            )
        agent = Agent(
            NodeState(plan.site, plan.node, boot, memory),
            bus,
            server,
            Obtaining(plan.site, folders, keyring, plan.source, plan.rate),
            folders,
            kept,
            standby,
            keep_count=plan.keep_count,
            keep_age_s=plan.keep_age_s,
            drains_behind=plan.drains_behind,
            on_turn=partial(tell_supervisor, "WATCHDOG=1", supervisor),
            beside=beside,
        )
        _log.info("agent of node %s, site %s, releases in %s", plan.node, plan.site, folders.path)
        tell_supervisor("READY=1", supervisor, 0.5)
        await agent.run()
    except asyncio.CancelledError:
        _log.info("told to end; the server goes on")
    finally:
        tell_supervisor("STOPPING=1", supervisor)
        kept.close()
        if listener is not None:
            with suppress(TimeoutError):
                async with asyncio.timeout(END_WITHIN_S):
                    await listener.close()
    return EXIT_DONE


async def _bus_of(plan: Plan, kept: Kept, boot: str) -> tuple[NodeBus, Listener | None]:
    """Raises UsageError."""
    if plan.listen is None:
        require("nats", "commands over NATS")
        from zcserve.fleet.nats_bus import NatsNodeBus  # late, as all that only NATS needs
        from zcserve.fleet.nats_place import NatsPlace

        return NatsNodeBus(NatsPlace.of(plan.nats, **plan.nats_more), plan.site, plan.node), None
    try:
        http_bus = HttpNodeBus(Shelf(kept, plan.site, time.monotonic()))
    except OSError as error:
        raise UsageError(f"{kept.path} cannot be used: {reason_of(error)}") from None
    desk = Desk(http_bus, plan.site, plan.node, boot)
    listener = Listener(plan.listen, plan.token, desk.answer, desk.limit_of)
    await listener.start()
    return http_bus, listener


def _keyring_of(keys: Sequence[str]) -> Keyring | None:
    if keys:
        return Keyring.read(keys)
    _log.warning("no --keys: whatever has the token, or the rights at NATS, can release anything")
    return None


def _memory_of(kept: Kept, site: str) -> Memory | None:
    """What an earlier run has kept. Raises UsageError where that was an agent of another site."""
    try:
        data = kept.read(MEMORY)
        memory = Memory.parse(data) if data is not None else None
    except (OSError, FormError) as error:
        _log.error("what an earlier run has kept cannot be read, and begins anew: %s", reason_of(error))
        return None
    if memory and memory.desired and memory.desired.site != site:
        raise UsageError(f"{kept.path} is of site {memory.desired.site}, not {site}; accepted: a folder for each site")
    return memory
