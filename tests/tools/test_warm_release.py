"""release, rollback, purge, status and nodes as commands, over a bus in memory: exit codes, what is said, and again."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from tests.support.fleet_bus import MemoryBus
from tests.support.warm_commands import Command, commands_in_memory, ending
from tools.warm_cache import main
from zcserve.fleet.bus import BusError
from zcserve.fleet.manifest import Manifest
from zcserve.fleet.messages import Desired
from zcserve.fleet.node_words import Flip, Prepare, Purge


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    return commands_in_memory(tmp_path, monkeypatch, capsys)


def test_releases_come_one_after_the_other_and_one_that_stands_is_not_made_again(command: Command) -> None:
    code, events = command.release("one")
    assert (code, ending(events)["ending"], command.served()) == (0, "live", [1, 1, 1])
    phases = [event["phase"] for event in events if event["event"] == "phase"]
    assert (phases[0], phases[-1]) == ("claiming", "ended")
    assert {event["node"] for event in events if event["event"] == "node"} == {"n1", "n2", "n3"}
    assert command.release("two")[0] == 0
    puts = len(command.hub.puts)
    assert command.release("two")[0] == 0
    assert (command.served(), len(command.hub.puts)) == ([2, 2, 2], puts)
    manifest = Manifest.parse(command.hub.manifests[command.hub.desired.release.manifest])  # type: ignore[union-attr]
    assert (manifest.site, manifest.sequence) == ("www", 2)


def test_a_rollback_is_a_new_sequence_and_given_again_no_toggle(command: Command) -> None:
    for page in ("one", "two"):
        command.release(page)
    for _ in range(2):
        assert command("rollback")[0] == 0
        assert command.served() == [3, 3, 3]
    now = command.hub.desired
    assert now.release is not None
    assert (now.release.tree, [one.sequence for one in now.earlier]) == (now.earlier[1].tree, [2, 1])
    assert command("rollback", "--to", 2)[0] == 0
    assert command.served() == [4, 4, 4]
    assert command("rollback", "--to", 9)[0] == 2


def test_a_release_that_no_node_can_prepare_is_aborted_and_the_next_one_comes(command: Command) -> None:
    command.release("one")

    def broken() -> None:
        for node in command.hub.nodes.values():
            node.fails[Prepare] = "the disk is full"

    command.before = broken
    code, events = command.release("two")
    assert (code, ending(events)["ending"], command.served()) == (1, "aborted", [1, 1, 1])
    assert "have given up on it" in ending(events)["why"]
    assert "the disk is full" in str(ending(events)["late"])
    command.before = lambda: [node.fails.clear() for node in command.hub.nodes.values()]
    assert command.release("three")[0] == 0
    assert command.served() == [2, 2, 2]  # what was aborted was never desired of all


def test_why_a_node_tells_nothing_stands_in_the_table_of_a_release_as_of_status(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    command.listed, command.trouble = frozenset(("n1", "n2", "n3", "n4")), {"n4": "http://n4 is not reached"}
    monkeypatch.setattr("tools.warm.rolling.LIVE_S", 0.1)
    code, events = command.release("one", "--quorum", "0.7")
    assert (code, command.served()) == (3, [1, 1, 1])
    rows = [event for event in events if event["event"] == "node"]
    assert {row["error"] for row in rows if row["node"] == "n4"} == {"http://n4 is not reached"}
    assert ending(events)["late"] == {"n4": "unknown: http://n4 is not reached"}
    code, (status,) = command("status")
    assert (code, status["nodes"][3]["error"]) == (3, "http://n4 is not reached")


def test_a_node_that_is_away_is_late_and_named(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    command.release("one")
    command.before = lambda: command.hub.nodes["n3"].stop()
    monkeypatch.setattr("tools.warm.rolling.LIVE_S", 0.5)
    code, events = command.release("two", "--quorum", "60%")
    assert (code, list(ending(events)["late"]), command.served()) == (3, ["n3"], [2, 2, 1])
    code, (status,) = command("status")
    assert (code, status["late"]) == (3, ["n3"])
    command.before = lambda: None
    assert command("status")[0] == 3  # it looks, and the node has only begun
    assert command.release("two")[0] == 0
    code, (status,) = command("status")
    assert (code, status["late"], status["desired"]["sequence"]) == (0, [], 2)
    assert [node["sequence"] for node in status["nodes"]] == [2, 2, 2]


def test_a_status_says_what_it_knows_where_the_bus_does_not_say_all(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    command.release("one")

    async def away(self: MemoryBus) -> Desired:
        raise BusError("1 of 3 nodes, and 2 are needed")

    monkeypatch.setattr(MemoryBus, "desired", away)
    code, (status,) = command("status")
    assert (code, status["desired"], status["trouble"]) == (1, None, "1 of 3 nodes, and 2 are needed")
    assert [node["sequence"] for node in status["nodes"]] == [1, 1, 1]
    assert command.release("two")[0] == 1


def test_canaries_are_named_or_a_share(command: Command) -> None:
    command.release("one")
    flips: list[str] = []

    def watched() -> None:
        for node in command.hub.nodes.values():
            node.on_flip = lambda release, node=node: flips.append(node.name)  # type: ignore[misc]

    command.before = watched
    assert command.release("two", "--canary", "n2", "--bake", "20ms")[0] == 0
    assert flips[0] == "n2"
    assert command.release("three", "--canary", "30%", "--bake", "20ms")[0] == 0
    assert any(len(put.trial.canaries) == 1 for put in command.hub.puts[-3:] if put.trial)
    assert command.release("four", "--canary", "n9")[0] == 1
    for wrong in (["--canary", "0%"], ["--canary", "10%", "--canary", "20%"], ["--canary", "n1", "--canary", "10%"]):
        assert command.release("four", *wrong)[0] == 2


def test_while_another_rollout_has_the_site_it_is_named(command: Command) -> None:
    command.before = lambda: asyncio.get_running_loop().call_soon(take)

    def take() -> None:
        command.hub.holder, command.hub.until = "www.8.abc", asyncio.get_running_loop().time() + 60

    code, events = command.release("one")
    assert (code, ending(events)["ending"], ending(events)["holder"]) == (4, "refused", "www.8.abc")
    assert command.served() == [0, 0, 0]


def test_interrupted_it_leaves_all_as_it_is_and_the_same_command_goes_on(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    def held() -> None:
        for node in command.hub.nodes.values():
            node.holds = {Flip}
            node.on_flip = lambda release: None
        task = asyncio.current_task()
        assert task is not None
        asyncio.get_running_loop().call_later(0.3, task.cancel)

    command.before = held
    with pytest.raises(asyncio.CancelledError):  # as Ctrl-C, but for the exit code
        command.release("one")
    assert (command.served(), command.hub.holder) == ([0, 0, 0], "")
    command.before = lambda: [node.holds.clear() for node in command.hub.nodes.values()]
    puts = len(command.hub.puts)
    assert command.release("one")[0] == 0
    assert (command.served(), len(command.hub.puts)) == ([1, 1, 1], puts)


def test_a_purge_is_done_by_all_and_each_is_named(command: Command) -> None:
    code, (report,) = command("purge", "--tag", "news", "--id", "p1")
    assert (code, sorted(report["done"]), report["missing"]) == (0, ["n1", "n2", "n3"], [])
    code, _ = command("purge", "--tag", "news", "--id", "p1")
    assert code == 0
    command.before = lambda: command.hub.nodes["n2"].stop()
    code, (report,) = command("purge", "--prefix", "/a", "--deadline", "300ms")
    assert (code, report["missing"]) == (3, ["n2"])

    def refuses() -> None:
        command.hub.nodes["n3"].fails[Purge] = "no such tag"

    command.before = refuses
    code, (report,) = command("purge", "--glob", "*.css", "--hard")
    assert (code, list(report["aside"])) == (1, ["n3"])
    for wrong in (["--path", "a"], ["--path", ""], *[["--path", "/a", "--tag", "b"]], []):
        assert command("purge", *wrong)[0] == 2


def test_a_node_that_is_gone_is_forgotten(command: Command) -> None:
    command.release("one")
    command.names = []
    del command.hub.nodes["n3"]
    assert command("status")[1][0]["nodes"][2]["node"] == "n3"
    assert main(["nodes", "forget", "n3", "--site", "www", "--nats", "nats://memory"]) == 0
    assert command.capsys.readouterr().out == "n3 is forgotten\n"
    assert [node["node"] for node in command("status")[1][0]["nodes"]] == ["n1", "n2"]
    assert main(["nodes", "forget", "n 3", "--site", "www", "--nats", "nats://memory"]) == 2


def test_a_release_that_would_lack_something_is_refused_before_anything_is_brought(command: Command) -> None:
    assert command.release("one")[0] == 0
    puts = len(command.hub.puts)
    os.mkfifo(command.root / "pipe")
    assert command.release("two") == (1, [])
    assert (command.served(), len(command.hub.puts)) == ([1, 1, 1], puts)
    assert command.release("two", "--leave-out")[0] == 0
    assert command.served() == [2, 2, 2]


def test_a_manifest_in_a_file_has_its_own_sequence(command: Command, tmp_path: Path) -> None:
    command.release("one")
    (command.root / "index.html").write_text("two")
    main(["manifest", str(command.root), "--site", "www", "--sequence", "9"])
    file = tmp_path / "release.json"
    file.write_text(command.capsys.readouterr().out)
    assert command("release", file, "--source", "https://origin.example")[0] == 0
    assert command.served() == [9, 9, 9]
