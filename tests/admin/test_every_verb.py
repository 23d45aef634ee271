"""Every verb is said to a node under load, and said twice: clients get what is right, and nothing else, on each engine
and in each lane."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from tests.support.command import StartCommand
from tests.support.engines import ENGINES
from tests.support.site import Site
from tests.support.upgrades import Line, Load
from tests.support.waiting import WaitUntil
from zcserve.admin.words import WORDINGS

Tell: TypeAlias = Callable[..., tuple[int, Any]]  # the fixture `tell`
# What of an answer tells how things are now, and not what was done for that.
LASTING = {
    "level",
    "how",
    "matched",
    "paths",
    "resident_bytes",
    "pins",
    "reloading",
    "draining",
    "upgrading",
    "reloaded",
    "root",
    "share",
}
BODIES = {"/page": b"a page", "/a.css": b"a style", "/large": b"large " * 50_000}
LAYOUTS = (("--engine", "python"), ("--engine", "native", "--lanes", "1"), ("--engine", "native", "--lanes", "2"))
# What each is told, in the order in which it is said.
TOLD: Mapping[str, tuple[dict[str, Any], ...]] = {
    "loglevel": ({}, {"level": "warning"}, {"level": "info"}),
    "purge": (
        {"path": "/page"},
        {"path": "/page", "hard": True},
        {"paths": ["/page", "/large"], "hard": True},
        {"prefix": "/", "hard": True},
        {"prefix": "/"},
        {"prefix": "/", "early": True},
        {"glob": "*.css"},
    ),
    "warm": ({"paths": list(BODIES)},),
    "pin": ({"add": ["*.css"]}, {}, {"remove": ["*.css"]}),
    "prepare": ({"root": str(Path(__file__).parent)}, {"root": None}),
    "reload": ({}, {"wait": True}),
    "drain": ({},),
    "undrain": ({},),
    "upgrade": ({},),
}


def test_every_verb_is_told() -> None:
    assert TOLD.keys() == {wording.name for wording in WORDINGS}


@pytest.mark.parametrize("layout", LAYOUTS[: 2 * len(ENGINES) - 1], ids=" ".join)
def test_clients_see_nothing_of_what_a_node_is_told_twice(
    layout: tuple[str, ...],
    site: Site,
    command: StartCommand,
    socket_path: str,
    tell: Tell,
    wait_until: WaitUntil,
) -> None:
    for target, body in BODIES.items():
        site.write(target[1:], body)
    node = Line(command(site.root, "--admin", f"unix:{socket_path}", *layout), wait_until)
    try:
        with Load(node.port, BODIES) as load:
            old = node.pid
            _say_all(tell, lambda: _await_more(load, wait_until))
            node.await_successor(0)
            node.await_end(old)
            _await_more(load, wait_until)
            assert tell("undrain")[1]["changed"] is False
        assert load.faults == []
    finally:
        node.end()


def _say_all(tell: Tell, await_more: Callable[[], object]) -> None:
    """Each verb twice: how things are then is the same."""
    for verb, tellings in TOLD.items():
        for words in tellings:
            first, again = tell(verb, **words), tell(verb, **words)
            assert first[0] == 200, first
            assert again[0] == 200, again
            now, then = ({key: told[key] for key in LASTING & told.keys()} for told in (first[1], again[1]))
            assert now == then != {}
            await_more()


def _await_more(load: Load, wait_until: WaitUntil) -> None:
    """Wait until each client has got something, or a fault has stopped one."""
    before = list(load.counts)
    wait_until(lambda: load.faults or all(now > then for now, then in zip(load.counts, before, strict=True)))
