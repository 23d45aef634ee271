"""An agent as a process beside a server: a release comes live whatever ends in the middle; what is wrong is named."""

from __future__ import annotations

import asyncio
import os
import resource
import signal
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.support import fleet_http
from tests.support.fleet import CLAIM, FakeServer, FleetNode, HeldOrigin, Operator, build, numbered, release
from tests.support.waiting import wait_until
from zcserve.fleet import backoff, lookout
from zcserve.fleet.agent import Agent
from zcserve.fleet.folders import Folders
from zcserve.fleet.http_listener import CONNECTIONS_MAX
from zcserve.fleet.http_node import HttpNodeBus
from zcserve.fleet.http_shelf import Shelf
from zcserve.fleet.keeping import Kept
from zcserve.fleet.local_server import LocalServer
from zcserve.fleet.manifest import Manifest
from zcserve.fleet.messages import Command, Desired, State, Trial
from zcserve.fleet.node_state import NodeState
from zcserve.fleet.obtaining import Obtaining
from zcserve.fleet.standby import Standby

HEADERS = b"/a.css\n  Cache-Tag: style\n"
# What is told to end ends within this, whatever it does: it takes 0.1 s.
ENDS_WITHIN_S = 10.0


@pytest.fixture
def node(tmp_path: Path) -> Iterator[FleetNode]:
    made = FleetNode(tmp_path / "node")
    yield made
    made.close()


def contents(number: int) -> dict[str, bytes]:
    return {"/index.html": b"page %d" % number, "/a.css": b"style", f"/{number}.js": b"script %d" % number}


def is_live(sequence: int) -> Callable[[State], bool]:
    return lambda state: state.stage == "live" and state.live is not None and state.live.sequence == sequence


def is_live_beside(sequence: int) -> Callable[[State], bool]:
    """It is served, whatever the node works on."""
    return lambda state: state.live is not None and state.live.sequence == sequence


def has_failed(edition: int) -> Callable[[State], bool]:
    return lambda state: state.stage == "failed" and state.edition == edition


def is_prepared(state: State) -> bool:
    return state.stage == "prepared"


def test_a_release_goes_live_and_what_is_told_is_acknowledged(node: FleetNode, tmp_path: Path) -> None:
    operator = node.start_agent()
    node.heard("no --nodes: what this node misses")
    node.start_server()
    operator.wait(lambda state: state.stage == "empty")
    wait_until(lambda: node.stats()["ready"]["phase"] == "draining")
    first = build(tmp_path / "1", contents(1), 1)
    operator.put(first)
    operator.desire(release(first, tmp_path / "1"))
    state = operator.wait(is_live(1))
    assert (state.share, state.error) == (1.0, "")
    assert node.get("/") == (200, b"page 1")
    assert (node.releases / "current").readlink() == Path(first.tree)
    wait_until(lambda: node.stats()["ready"]["is_ready"])

    operator.publish(Command("purge-1", "purge", "www", paths=("/a.css",)))
    operator.publish(Command("purge-2", "purge", "www", tags=("style", "other"), is_hard=True))
    operator.publish(Command("warm-1", "warm", "www", paths=("/a.css",)))
    operator.told("POST", "commands", b'{"version": 1, "id": "odd-1", "op": "dance", "site": "www"}')
    operator.told("POST", "commands", b"no JSON")
    done = {"purge-1", "purge-2", "warm-1"}
    state = operator.wait(lambda state: done <= {*state.done} and len(state.aside) == 2)
    assert state.aside[0] == "odd-1"
    assert state.aside[1].startswith("sha256:")
    aside = operator.told("GET", "aside")["aside"]
    assert [one["message"] for one in aside] == [
        '{"version": 1, "id": "odd-1", "op": "dance", "site": "www"}',
        "no JSON",
    ]
    assert "dance" in aside[0]["reason"]

    second = build(tmp_path / "2", contents(2), 2)
    operator.put(second)
    operator.desire(release(first), trial=Trial(release(second, tmp_path / "2")))
    operator.wait(is_prepared)
    assert node.get("/") == (200, b"page 1")
    assert node.get("/2.js") == (200, b"script 2")
    node.kill(node.server)
    node.heard("the agent cannot reach its server, and asks it again: nobody listens")
    operator.publish(Command("purge-3", "purge", "www", prefix="/"))
    operator.wait(lambda state: state.error.startswith("purge-3: "))
    node.start_server()
    operator.wait(lambda state: "purge-3" in state.done)
    assert node.agent is not None
    assert not [line for line in node.agent.lines if "purge-3" in line]  # that of the server says it for all
    assert node.get("/") == (200, b"page 1")
    wait_until(lambda: node.get("/2.js") == (200, b"script 2"))
    operator.desire(release(second))
    operator.wait(is_live(2))
    assert node.get("/") == (200, b"page 2")
    _flood_is_borne(operator)
    _full_disk_is_told(
        node, operator, build(tmp_path / "3", contents(3) | {"/large": bytes(1 << 20)}, 3), tmp_path / "3"
    )
    _one_that_is_behind_is_not_ready(node, operator, tmp_path)


def _one_that_is_behind_is_not_ready(node: FleetNode, operator: Operator, where: Path) -> None:
    """Until it has caught up; it answers all the while."""
    fifth = build(where / "held", contents(5), 5)
    operator.put(fifth)
    operator.desire(release(fifth, where / "5"), earlier=(numbered(4),))
    told = "it is drained: release 3 is served, more than one behind 5, which is desired"
    wait_until(lambda: node.stats()["ready"]["why"] == told)
    assert node.get("/") == (200, b"page 3")
    os.rename(where / "held", where / "5")
    operator.wait(is_live(5))
    wait_until(lambda: node.stats()["ready"]["is_ready"])


def _full_disk_is_told(node: FleetNode, operator: Operator, large: Manifest, source: Path) -> None:
    """And the node goes on when there is room."""
    assert node.agent is not None
    resource.prlimit(node.agent.pid, resource.RLIMIT_FSIZE, (1 << 18, resource.RLIM_INFINITY))
    operator.put(large)
    operator.desire(release(large, source))
    state = operator.wait(lambda state: "File too large" in state.error)
    assert state.live is not None
    assert state.live.sequence == 2
    assert not (node.releases / large.tree).exists()
    resource.prlimit(node.agent.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    operator.wait(is_live(3))
    assert node.get("/large") == (200, bytes(1 << 20))


def _flood_is_borne(operator: Operator) -> None:
    """A crowd without the token takes no place from a bystander that has it."""
    with ExitStack() as stack:
        for number in range(CONNECTIONS_MAX * 2):
            client = stack.enter_context(socket.create_connection(("127.0.0.1", operator.port)))
            client.sendall(
                (b"", b"GET /v1/www/state HT", b"PUT /v1/www/desired HTTP/1.1\r\nContent-Length: 9\r\n\r\n")[number % 3]
            )
        for _ in range(5):
            assert operator.state() is not None


def test_a_node_that_was_away_catches_up_from_the_other_nodes_and_no_operator_comes(tmp_path: Path) -> None:
    manifest = build(tmp_path / "1", contents(1), 1)
    wanted = Desired("www", 1, release(manifest, tmp_path / "1"))
    node = FleetNode(tmp_path / "node", "--nodes", str(tmp_path / "nodes"), node="n3")
    (node.where / "token").write_text(fleet_http.TOKEN)

    def story() -> None:
        node.begin_agent()
        node.heard("edition 1 of what is desired: it is taken")
        node.start_server()
        node.heard("release 1 is live")
        assert node.get("/") == (200, b"page 1")

    async def beside() -> None:
        async with fleet_http.nodes(tmp_path / "others", 2) as others:
            lines = [f"{one.name} {one.agent}\n" for one in fleet_http.listed(others)]
            (tmp_path / "nodes").write_text("".join([*lines, "n3 http://127.0.0.1:9\n"]))
            for one in others:
                one.shelf.give("r", "1", 60.0, time.monotonic())
                one.shelf.put_desired(wanted, "1", time.monotonic())
            others[1].shelf.put_manifest(manifest.digest, manifest.to_bytes())
            await asyncio.to_thread(story)

    try:
        asyncio.run(beside())
    finally:
        node.close()


def test_what_is_wrong_is_refused_and_named(tmp_path: Path) -> None:
    pytest.importorskip("cryptography")
    from zcserve.fleet.signing import Signer, make_key

    make_key(tmp_path / "right")
    make_key(tmp_path / "other")
    signer = Signer.read(tmp_path / "right")
    node = FleetNode(tmp_path / "node", "--keys", str(tmp_path / "right.pub"))
    try:
        operator = node.start_agent()
        node.start_server()
        first = signer.sign(build(tmp_path / "5", contents(5), 5))
        operator.put(first)
        operator.desire(release(first, tmp_path / "5"))
        operator.wait(is_live(5))
        bare = build(tmp_path / "6", contents(6), 6)
        wanted = release(bare, tmp_path / "6")
        changed = signer.sign(bare).signatures[0]._replace(ed25519=first.signatures[0].ed25519)
        cases = (
            (bare, wanted, "is not signed"),
            (Signer.read(tmp_path / "other").sign(bare), wanted, "signed by unknown keys alone"),
            (bare.with_signatures(changed), wanted, "the signature of key right.pub"),
            (signer.sign(bare), replace(wanted, sequence=7), "its sequence is 6, not 7"),
            (signer.sign(bare), replace(wanted, tree="0" * 64), f"its tree is {bare.tree}, not 000"),
            (signer.sign(build(tmp_path / "6", contents(6), 6, "blog")), wanted, "its site is blog, not www"),
            (signer.sign(bare), replace(wanted, manifest="1" * 64), f"its digest is {bare.digest}, not 111"),
        )
        for manifest, desired, why in cases:
            at = desired.manifest if manifest.site == "www" else release(manifest).manifest
            operator.told("PUT", f"manifests/{at}", manifest.to_bytes())
            edition = operator.desire(replace(desired, manifest=at))
            state = operator.wait(has_failed(edition))
            assert why in state.error
            assert node.get("/") == (200, b"page 5")
        operator.desire(release(first))
        operator.wait(lambda state: state.stage == "live" and not state.error)
        operator.desire(replace(release(first), sequence=4))
        state = operator.wait(lambda state: state.error)
        assert state.error == "sequence 4 is older than 5, which was live"
        assert state.live is not None
        assert state.live.sequence == 5
    finally:
        node.close()


def test_an_agent_that_is_killed_at_any_stage_goes_on(node: FleetNode, tmp_path: Path) -> None:
    pytest.importorskip("urllib3")
    first, second = (build(tmp_path / str(number), contents(number), number) for number in (1, 2))
    origin = HeldOrigin(tmp_path / "2")
    operator = node.start_agent()
    node.start_server()
    assert node.server is not None
    try:
        for manifest in (first, second):
            operator.put(manifest)
        operator.desire(release(first, tmp_path / "1"))
        operator.wait(is_live(1))
        operator.publish(Command("purge-1", "purge", "www", prefix="/"))
        operator.desire(release(first), trial=Trial(release(second, origin.url)))
        wait_until(lambda: origin.asked)
        assert operator.wait(lambda state: state.stage == "fetching")
        assert node.agent is not None
        began = time.monotonic()
        node.agent.process.terminate()
        assert node.agent.wait(ENDS_WITHIN_S) == 0
        assert time.monotonic() - began < ENDS_WITHIN_S
        operator = node.start_agent()
        asked = len(origin.asked)
        wait_until(lambda: len(origin.asked) > asked)
        node.kill(node.agent)  # while it fetches

        operator = node.start_agent()
        operator.wait(lambda state: state.stage == "fetching")
        node.server.process.send_signal(signal.SIGSTOP)
        origin.go.set()
        operator.wait(lambda state: state.stage == "preparing")
        node.kill(node.agent)  # while the server prepares
        node.server.process.send_signal(signal.SIGCONT)

        operator = node.start_agent()
        operator.wait(is_prepared)
        node.kill(node.agent)  # while it is prepared

        operator = node.start_agent()
        operator.wait(is_prepared)
        node.server.process.send_signal(signal.SIGSTOP)
        operator.desire(release(second, origin.url))
        wait_until(lambda: (node.releases / "current").readlink() == Path(second.tree))
        node.kill(node.agent)  # in the middle of the flip
        node.server.process.send_signal(signal.SIGCONT)
        operator = node.start_agent()
        assert operator.told("GET", "desired")["sequence"] == 2
        operator.wait(is_live(2))
        assert node.get("/") == (200, b"page 2")
        assert node.get("/1.js")[0] == 404
    finally:
        origin.close()


def test_a_flip_that_is_refused_is_put_back_and_a_server_that_is_away_serves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And one that it refuses to prepare is given up, in its words, and is tried again when it may be right."""
    monkeypatch.setattr(backoff, "REFUSED_FIRST_S", 1.0)
    monkeypatch.setattr(lookout, "AWAY_S", 0.0)
    monkeypatch.setattr(lookout, "LOOK_EVERY_S", 0.02)
    monkeypatch.setattr(lookout, "LOOK_SOON_S", 0.02)
    fake = FakeServer()
    releases = tmp_path / "releases"
    first, second, third = (build(tmp_path / str(number), contents(number), number) for number in (1, 2, 3))
    paths = [str(releases.resolve() / manifest.tree) for manifest in (first, second)]

    def reload(words: Any) -> tuple[int, Any]:
        current = str((releases / "current").resolve())
        if current == paths[1]:
            return 500, {"error": "the reload failed, the old content goes on: line 3"}
        fake.serve(current)
        return 500, {"error": "the reload failed, the old content goes on: site blog: root does not exist"}

    async def run() -> State:
        folders, kept = Folders(releases), Kept(str(releases))
        server = LocalServer(fake.node, "www")
        standby = Standby(folders, kept, server)
        shelf = Shelf(kept, "www", 0.0)
        bus = HttpNodeBus(shelf)
        obtaining = Obtaining("www", folders, None)
        machine = NodeState("www", "n1", "the-boot")
        one = Agent(machine, bus, server, obtaining, folders, kept, standby, keep_count=0, keep_age_s=0.0)
        fake.serve(str((releases / "current").resolve()))
        task = asyncio.create_task(one.run())
        shelf.give("r", CLAIM, 60.0, 0.0, renew=False)

        async def desire(edition: int, manifest: Manifest, is_so: Callable[[State], object]) -> State:
            shelf.put_manifest(manifest.digest, manifest.to_bytes())
            where = tmp_path / str(manifest.sequence)
            await bus.put_desired(Desired("www", edition, release(manifest, where)), CLAIM)
            return await told(is_so)

        async def told(is_so: Callable[[State], object]) -> State:
            while bus.state is None or not is_so(bus.state):
                await bus.has_state.wait()
            return bus.state

        async with asyncio.timeout(60):
            state = await desire(1, first, lambda state: is_live(1)(state) or "reload" in state.error)
            assert is_live(1)(state)  # that another site's part of it failed is no matter
            state = await desire(2, second, lambda state: "the reload failed" in state.error)
            served = fake.answers["/stats"]
            fake.answers["/stats"] = (200, {"sites": []})
            await told(lambda state: state.live is None)
            fake.answers["/stats"] = served
            await told(is_live_beside(1))
            fake.answers["/prepare"] = (400, {"error": "_redirects:1: not served"})
            assert os.path.realpath(releases / "current") == paths[0]
            refused = await desire(3, third, lambda state: state.stage == "failed" and "_redirects:1" in state.error)
            assert refused.retry_s > 0
            fake.answers["/prepare"] = (200, {"share": 1.0, "problems": 0})
            await told(is_live(3))
            task.cancel()
            await asyncio.wait((task,))
        kept.close()
        return state

    try:
        fake.answers = {
            verb: (200, {"share": 1.0, "problems": 0}) for verb in ("/prepare", "/drain", "/undrain", "/purge")
        }
        fake.answers["/reload"] = reload
        state = asyncio.run(run())
    finally:
        fake.close()
    assert "the reload failed" in state.error
    assert (state.live and state.live.sequence, state.stage) == (1, "preparing")
