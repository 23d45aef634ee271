"""What the admin listener knows while the server starts."""

from __future__ import annotations

from pathlib import Path

from zcserve import Config
from zcserve.admin.node import Node
from zcserve.net.loop import Loop
from zcserve.net.poller import Poller


def test_a_node_without_content_starts(tmp_path: Path) -> None:
    loop = Loop(Poller())
    node = Node(Config(root=tmp_path), loop, lambda told: None, lambda told: "")
    assert node.readiness() == {"is_ready": False, "phase": "starting"}
    loop.close()
