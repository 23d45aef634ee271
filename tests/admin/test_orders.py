"""What a node can be told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.support.client import Client
from tests.support.command import StartCommand
from tests.support.waiting import WaitUntil
from zcserve import Server


def test_reload_reads_the_root_again(node: Server, tell: Any, wait_until: WaitUntil) -> None:
    assert tell("reload") == (200, {"reloading": True})
    wait_until(lambda: node.content.counters.flips > 0)


def test_a_word_that_a_verb_does_not_have_is_refused(node: Server, tell: Any) -> None:
    status, told = tell("reload", now=True)
    assert (status, told["error"]) == (400, '"now" is no word of reload, which takes none')


def test_upgrade_starts_the_program_anew_which_answers_at_the_same_socket(
    page_root: Path, command: StartCommand, socket_path: str, tell: Any, ask: Any, wait_until: WaitUntil
) -> None:
    server = command(page_root, "--admin", f"unix:{socket_path}")
    assert tell("upgrade") == (200, {"upgrading": True})
    wait_until(lambda: any("serves now" in line for line in server.lines))
    wait_until(lambda: any("has ended" in line for line in server.lines))
    assert ask("/readyz").status == 200
    with Client(server.port) as client:
        assert client.get("/page").body == b"a page"
