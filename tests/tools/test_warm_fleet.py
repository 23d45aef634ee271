"""The commands of a fleet as an operator gives them: real agents and servers, signed manifests, an origin over HTTP."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support.fleet import TOKEN, FleetNode, HeldOrigin
from tests.support.waiting import wait_until
from tools import warm_cache
from tools.warm_cache import main

CHECKOUT = Path(warm_cache.__file__).parent.parent


def test_two_nodes_from_nothing_to_a_rollback(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("cryptography")
    pytest.importorskip("urllib3")
    assert main(["keygen", str(tmp_path / "key")]) == 0
    root = tmp_path / "root"
    root.mkdir()
    (root / "_headers").write_text("/*.css\n  Cache-Tag: style\n")
    (root / "a.css").write_text("p {}")
    (root / "index.html").write_text("one")
    origin = HeldOrigin(root)
    nodes = [FleetNode(tmp_path / name, "--keys", str(tmp_path / "key.pub"), node=name) for name in ("n1", "n2")]
    (tmp_path / "token").write_text(TOKEN + "\n")
    try:
        lines = []
        for node in nodes:
            agent = node.start_agent()
            node.start_server()
            assert node.server is not None
            name = node.where.name
            lines.append(f"{name} http://127.0.0.1:{agent.port} http://127.0.0.1:{node.server.port}")
        (tmp_path / "nodes").write_text("\n".join(lines))
        _story(tmp_path, nodes, origin, capsys)
    finally:
        for node in nodes:
            node.close()


def _story(tmp_path: Path, nodes: list[FleetNode], origin: HeldOrigin, capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["--site", "www", "--nodes", str(tmp_path / "nodes"), "--token-file", str(tmp_path / "token"), "--json"]
    key = ["--key", str(tmp_path / "key")]
    root = tmp_path / "root"
    release = ["release", str(root), "--source", origin.url, *key]

    def said(*words: str) -> tuple[int, list[dict[str, Any]]]:
        capsys.readouterr()
        code = main([*words, *flags])
        return code, [json.loads(line) for line in capsys.readouterr().out.splitlines()]

    command = [sys.executable, str(CHECKOUT / "tools" / "warm_cache.py"), *release, *flags]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            wait_until(lambda: origin.asked)
            process.send_signal(signal.SIGINT)
            out, _ = process.communicate(timeout=60)
        finally:
            process.kill()
        assert process.returncode == 130
    assert json.loads(out.splitlines()[-1])["event"] == "left"
    origin.go.set()

    code, events = said(*release)  # goes on, as the same release
    assert code == 0, events
    assert {event["sequence"] for event in events if event["event"] == "release"} == {1}
    proofs = {event["node"]: (event["sampled"], event["wrong"]) for event in events if event["event"] == "proof"}
    assert proofs == {"n1": (2, {}), "n2": (2, {})}

    (root / "index.html").write_text("two")
    code, events = said(*release, "--canary", "n2", "--bake", "200ms", "--query", "/a.css")
    assert code == 0, events
    assert [node.get("/") for node in nodes] == [(200, b"two")] * 2

    (root / "index.html").write_text("three")
    code, events = said(*release, "--canary", "n1", "--bake", "10s", "--query", "/absent")
    assert code == 1, events
    assert [node.get("/") for node in nodes] == [(200, b"two")] * 2

    code, (purged,) = said("purge", "--tag", "style")
    assert (code, sorted(purged["done"])) == (0, ["n1", "n2"])
    code, events = said("rollback", *key)
    assert code == 0, events
    assert [node.get("/") for node in nodes] == [(200, b"one")] * 2
    code, (status,) = said("status")
    assert (code, status["late"], [node["stage"] for node in status["nodes"]]) == (0, [], ["live", "live"])
    code, events = said("release", str(root), "--source", origin.url)  # not signed
    assert code == 1, events
    assert "not signed" in str(events[-1])
