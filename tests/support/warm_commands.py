"""Commands of an operator over a bus in memory: exit codes, and what is said."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.fleet_bus import Hub, MemoryBus
from tools.warm import driving
from tools.warm.buses import Fleet
from tools.warm_cache import main
from zcserve.fleet import node_state

Said = tuple[int, list[dict[str, Any]]]


class Command:
    """Runs a command, and has its events. The hub and what its nodes serve outlive a command."""

    def __init__(self, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.hub, self.root, self.capsys = Hub(), root, capsys
        self.names = ["n1", "n2", "n3"]
        self.before: Callable[[], object] = lambda: None
        self.listed: frozenset[str] = frozenset()
        self.trouble: dict[str, str] = {}

    async def opened(self, arguments: argparse.Namespace) -> Fleet:
        self.hub.add(*(name for name in self.names if name not in self.hub.nodes))
        for node in self.hub.nodes.values():
            node.restart()
        self.before()
        return Fleet(MemoryBus(self.hub), "www", self.listed, {}, self.trouble)

    def __call__(self, *words: object) -> Said:
        code = main([*map(str, words), "--site", "www", "--nats", "nats://memory", "--json"])
        return code, [json.loads(line) for line in self.capsys.readouterr().out.splitlines()]

    def release(self, page: str, *words: object) -> Said:
        (self.root / "index.html").write_text(page)
        return self("release", self.root, "--source", "https://origin.example", *words)

    def served(self) -> list[int]:
        return [node.live.sequence if node.live else 0 for node in self.hub.nodes.values()]


def commands_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """To run commands against a hub that is theirs."""
    (tmp_path / "root").mkdir()
    made = Command(tmp_path / "root", capsys)
    monkeypatch.setattr("tools.warm.buses.over_nats", made.opened)
    monkeypatch.setattr("tools.warm.purge.go_ahead", lambda *_: False)
    monkeypatch.setattr(driving, "RETRY_S", 0.01)
    monkeypatch.setattr(node_state, "REPORT_GAP_S", 0.001)
    return made


def ending(events: list[dict[str, Any]]) -> dict[str, Any]:
    """The event that says how it ended."""
    (end,) = (event for event in events if event["event"] == "end")
    return end
