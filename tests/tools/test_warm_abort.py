"""What a rollout has left in the middle is taken back; what is committed is not."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.warm_commands import Command, commands_in_memory, ending
from zcserve.fleet.node_words import Flip


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    return commands_in_memory(tmp_path, monkeypatch, capsys)


def leave(command: Command, is_time: Callable[[], bool], *words: object) -> None:
    """Begin a release, and interrupt it when it is time."""

    def before() -> None:
        task, loop = asyncio.current_task(), asyncio.get_running_loop()
        assert task is not None

        def look() -> None:
            if is_time():
                task.cancel()
            else:
                loop.call_later(0.005, look)

        look()

    command.before = before
    with pytest.raises(asyncio.CancelledError):
        command.release("left", *words)
    command.before = lambda: None


def test_canaries_go_back_and_nodes_let_go_of_what_they_have_prepared(command: Command) -> None:
    code, events = command("abort")
    assert (code, "nothing was ever released" in ending(events)["why"]) == (1, True)
    command.release("one")
    leave(command, lambda: command.served() == [1, 2, 1], "--canary", "n2")
    code, events = command("abort")
    assert (code, ending(events)["ending"], ending(events)["late"]) == (0, "aborted", {})
    assert (command.served(), command.hub.desired.trial, command.hub.holder) == ([1, 1, 1], None, "")
    code, events = command("abort")  # given again
    assert (code, ending(events)["ending"]) == (1, "refused")
    assert "`rollback`" in ending(events)["why"]
    assert command.release("left")[0] == 0
    assert command.served() == [2, 2, 2]


def test_of_one_id_it_is_done_once_and_leaves_every_other_rollout_alone(command: Command) -> None:
    _, events = command.release("one")
    first = events[0]["rollout"]
    leave(command, lambda: command.served() == [1, 2, 1], "--canary", "n2")
    trial = command.hub.desired.trial
    assert trial
    code, events = command("abort", "--id", first)
    assert (code, ending(events)["ending"]) == (1, "refused")  # it is committed
    assert command.hub.desired.trial == trial
    for _ in range(2):
        code, events = command("abort", "--id", trial.release.rollout)
        assert (code, ending(events)["ending"], ending(events)["late"]) == (0, "aborted", {})
        assert command.served() == [1, 1, 1]
    assert ending(events)["why"] == "it was taken back, or was never begun"
    leave(command, lambda: command.served() == [1, 2, 1], "--canary", "n2", "--quorum", "0.5")
    assert command("abort", "--id", "www.9.another")[0] == 0
    assert command.hub.desired.trial


def test_canaries_that_do_not_go_back_are_named(command: Command) -> None:
    command.release("one")
    leave(command, lambda: command.served() == [1, 2, 1], "--canary", "n2")

    def stuck() -> None:
        command.hub.nodes["n2"].holds = {Flip}

    command.before = stuck
    code, events = command("abort", "--deadline", "100ms")
    assert (code, list(ending(events)["late"])) == (3, ["n2"])
    assert command.hub.desired.trial is None


def test_while_another_rollout_has_the_site_nothing_is_taken_back(command: Command) -> None:
    command.release("one")
    leave(command, lambda: command.hub.desired.trial is not None, "--canary", "n2")
    hub = command.hub

    def held() -> None:
        hub.holder, hub.until = "www.9.abc", asyncio.get_running_loop().time() + 60

    command.before = held
    code, events = command("abort")
    assert (code, ending(events)["holder"], hub.desired.trial is not None) == (4, "www.9.abc", True)
