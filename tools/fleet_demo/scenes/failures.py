"""What goes away, and comes again: a node, a link, NATS, the room on a disk, the right time."""

from __future__ import annotations

import time

from tools.fleet_demo.commands import Said
from tools.fleet_demo.processes import StageError, program, wait_until
from tools.fleet_demo.stage import RELAYED, Build, Stage
from tools.warm.arguments import EXIT_LATE

# Two of three nodes are enough where the third is away.
TWO_OF_THREE = ("--quorum", "0.6", "--deadline", "8s")
HOUR_S = 3600.0


def killed(stage: Stage) -> str:
    """A node is killed in the middle of a rollout, server and agent: it comes back, and catches up by itself."""
    build, node = stage.build(), stage.nodes["n2"]
    stage.court.apart.add("n2")
    stage.opens(build.number)
    command = stage.command("release", *stage.words(build, *TWO_OF_THREE, "--canary", "n1", "--bake", "3s"))
    try:
        stage.watch.await_live(build.number, "n1")
        stage.kill(node)
    except StageError:
        command.kill()
        raise
    said = command.wait()
    _is_late(stage, said, build, "n2")
    began = time.monotonic()
    stage.revive(node)
    stage.watch.await_live(build.number, "n2")
    took_s = time.monotonic() - began
    stage.front.await_status("n2", "UP")
    stage.await_live(build.number)
    return f"build {build.number} is live without it; started again, it serves it after {took_s:.1f} s"


def link(stage: Stage) -> str:
    """The link of a node's agent is down: it stalls, then all is reset; the node serves, and catches up."""
    build, wait_s = stage.build(), stage.waits.link_s
    stage.court.apart.add(RELAYED)
    stage.record.add(RELAYED, "cut", "its link stalls")
    stage.relay.stall()
    began = time.monotonic()
    stage.opens(build.number)
    said = stage.command("release", *stage.words(build, *TWO_OF_THREE)).wait()
    _is_late(stage, said, build, RELAYED)
    time.sleep(max(0.0, wait_s / 2 - (time.monotonic() - began)))
    stage.relay.cut()
    time.sleep(max(0.0, wait_s - (time.monotonic() - began)))
    if stage.watch.live(RELAYED) == build.number:
        raise StageError(f"{RELAYED} has a release without a link")
    stage.relay.restore()
    away_s, began = time.monotonic() - began, time.monotonic()
    stage.record.add(RELAYED, "restored", "its link is there again")
    stage.await_live(build.number)
    took_s = time.monotonic() - began
    return f"away for {away_s:.0f} s, it served build {stage.before}; then build {build.number} after {took_s:.1f} s"


def _is_late(stage: Stage, said: Said, build: Build, node: str) -> None:
    """A rollout has ended well, but for this node. Raises StageError."""
    end = said.event("end")
    if said.code != EXIT_LATE or list(end["late"]) != [node]:
        raise StageError(f"{node} alone should be late: {said.told}")
    stage.settled(build.number, said)


def nats_restart(stage: Stage) -> str:
    """nats-server is started anew in the middle of a rollout."""
    build = stage.build()
    stage.opens(build.number)
    command = stage.command("release", *stage.words(build, "--canary", "n1", "--bake", "3s"))
    try:
        stage.watch.await_live(build.number, "n1")
        stage.record.add("nats", "down", "it is ended")
        stage.nats.end()
        stage.start_nats()
        stage.record.add("nats", "up", "it is started anew")
    except StageError:
        command.kill()
        raise
    said = command.wait()
    if said.code:
        raise StageError(said.told)
    stage.settled(build.number, said)
    stage.await_live(build.number)
    return f"build {build.number} is live after {said.took_s:.1f} s all the same"


def nats_gone(stage: Stage) -> str:
    """nats-server is gone for a while: nodes serve, and take the next release when it is there again."""
    wait_s, before = stage.waits.nats_s, dict(stage.court.counts)
    stage.record.add("nats", "down", "it is killed")
    stage.nats.kill()
    time.sleep(wait_s)
    answered = sum(stage.court.counts.values()) - sum(before.values())
    stage.start_nats()
    stage.record.add("nats", "up", "it is there again")
    build = stage.build()
    said = stage.release(build)
    stage.await_live(build.number)
    return f"{answered:,} answers in {wait_s:.0f} s without it; then build {build.number} after {said.took_s:.1f} s"


def disk(stage: Stage) -> str:
    """A node's disk is full: it says so and serves; there is room again, and it catches up by itself."""
    build, node = stage.build(), stage.nodes["n2"]
    stage.court.apart.add("n2")
    how = stage.full.fill(node)
    stage.record.add("n2", "cut", f"its disk is full ({how})")
    try:
        stage.opens(build.number)
        said = stage.command("release", *stage.words(build, *TWO_OF_THREE)).wait()
        _is_late(stage, said, build, "n2")
        error = stage.watch.states["n2"].error
        if not error:
            raise StageError("n2 reports no error")
    finally:
        stage.full.empty(node)
    began = time.monotonic()
    stage.record.add("n2", "restored", "there is room")
    stage.await_live(build.number)
    return f"{how}: {error!r}; with room, live after {time.monotonic() - began:.1f} s"


def clock(stage: Stage) -> str:
    """A node's clock is wrong by an hour: its agent runs under faketime. Time that only goes forward is not faked.

    With that, libfaketime has CPython spin while it waits for its own lock: the agent takes 6 to 10% of a core;
    0.3% where all time is faked."""
    node, build = stage.nodes["n1"], stage.build()
    node.agent.end()
    node.before = [program("faketime"), "--exclude-monotonic", "-f", "+1h"]
    try:
        node.start_agent()
        wait_until("n1 has another time", lambda: stage.watch.states["n1"].at > time.time() + HOUR_S / 2)
        said = stage.release(build)
        stage.await_live(build.number)
        purge = stage.command("purge", "--tag", "pages").wait()
        if purge.code:
            raise StageError(purge.told)
        ahead_s = stage.watch.states["n1"].at - time.time()
    finally:
        node.agent.end()
        node.before = []
        node.start_agent()
    wait_until("n1 has the right time", lambda: stage.watch.states["n1"].at < time.time() + HOUR_S / 2)
    return f"n1 is {ahead_s / 60:.0f} min ahead; build {build.number} after {said.took_s:.1f} s, and a purge"
