"""Releases as they should go: under load, back again, by a canary, two at once; and a purge."""

from __future__ import annotations

from tools.fleet_demo.processes import StageError, wait_until
from tools.fleet_demo.stage import Stage
from tools.warm.arguments import EXIT_HELD, EXIT_RIGHT, EXIT_WRONG

CANARY = "n1"
BAKE = "2s"


def release(stage: Stage) -> str:
    """A release under load, with proofs of what each node serves."""
    build = stage.build()
    said = stage.release(build)
    stage.await_live(build.number)
    proofs = [line for line in said.lines if line.get("event") == "proof"]
    if len(proofs) != len(stage.nodes) or any(proof["wrong"] for proof in proofs):
        raise StageError(f"the proofs are not all right: {proofs}")
    sampled = sum(proof["sampled"] for proof in proofs)
    return f"build {build.number} is live on {len(proofs)} nodes after {said.took_s:.1f} s; {sampled} ETags proven"


def rollback(stage: Stage) -> str:
    """Back to the build before, which nodes have in memory, and forward again."""
    newest, before = stage.live, stage.before
    if not before:
        stage.release(stage.build())
        newest, before = stage.live, stage.before
    moved = stage.origin.moved()
    stage.opens(before)
    said = stage.command("rollback", "--quorum", "1").wait()
    if said.code:
        raise StageError(said.told)
    stage.settled(before, said)
    stage.await_live(before)
    if stage.origin.moved() != moved:
        raise StageError("a rollback has fetched files")
    return f"from build {newest} to build {before} after {said.took_s:.1f} s; no byte moved"


def canary(stage: Stage) -> str:
    """A canary that is not well: the rollout is aborted, and the canary goes back. The others hold the aborted build
    for as long as clients have pages of it."""
    build = stage.build()
    others = [node for node in stage.nodes if node != CANARY]
    stage.opens(build.number)
    stage.health.ill.clear()
    words = ("--canary", CANARY, "--bake", "60s", "--query", stage.health.url + "{node}")
    command = stage.command("release", *stage.words(build, *words))
    try:
        stage.watch.await_live(build.number, CANARY)
        stage.opens(stage.live, CANARY)
        stage.health.ill.add(CANARY)
    except StageError:
        command.kill()
        raise
    said = command.wait()
    end = said.event("end")
    if said.code != EXIT_WRONG or end["ending"] != "aborted" or CANARY not in end["why"]:
        raise StageError(f"it should be aborted because of {CANARY}: {said.told}")
    stage.await_live(stage.live)
    stage.withdraws(build.number, *others)
    stage.origin.publish(stage.live)
    return f"aborted ({end['why']}); {', '.join(others)} never served build {build.number}"


def two(stage: Stage) -> str:
    """Two releases at once: one wins, and the other says which."""
    builds = [stage.build(), stage.build()]
    stage.opens(builds[0].number)
    # The winner is not known before: a node may come to either of them.
    words = ("--canary", CANARY, "--bake", BAKE)
    commands = [stage.command("release", *stage.words(build, *words)) for build in builds]
    stage.opens(builds[1].number)
    try:
        # The relayed node fetches what is published: the origin has what has won.
        wait_until("one has won", lambda: stage.build_at(CANARY) in (builds[0].number, builds[1].number))
        stage.origin.publish(stage.build_at(CANARY))
    finally:
        said = [command.wait() for command in commands]
    codes = [one.code for one in said]
    if sorted(codes) != [EXIT_RIGHT, EXIT_HELD]:
        raise StageError(f"one should win: {said[0].told} | {said[1].told}")
    won, lost = codes.index(EXIT_RIGHT), codes.index(EXIT_HELD)
    stage.settled(builds[won].number, said[won])
    stage.await_live(builds[won].number)
    stage.withdraws(builds[1].number)
    stage.origin.publish(builds[won].number)
    holder, rollout = said[lost].event("end")["holder"], said[won].event("release")["rollout"]
    if holder != rollout:
        raise StageError(f"the loser names {holder!r}, and {rollout} has won")
    return f"build {builds[won].number} has won; the other: {said[lost].event('end')['text']}"


def purge(stage: Stage) -> str:
    """A purge by tag, on all nodes, hard: what is dropped is read again, and right."""
    said = stage.command("purge", "--tag", "pages", "--hard").wait()
    if said.code:
        raise StageError(said.told)
    done = said.lines[-1]["done"]
    if sorted(done) != sorted(stage.nodes):
        raise StageError(f"not done by all: {said.told}")
    counts = {}
    for name, node in stage.nodes.items():
        dropped = [line for line in node.server.log.read_text().splitlines() if "purged (hard)" in line]
        if not dropped:
            raise StageError(f"{name} says that it has done it, and its server has purged nothing")
        counts[name] = dropped[-1].partition("purged (hard): ")[2].partition(";")[0]
    return f"{counts['n1']} on each node; acknowledged after {1000 * max(done.values()):.0f} ms"
