"""Which bus a command talks over: its flags, and those that have no effect."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools.warm.status import told
from tools.warm_cache import main


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ([], "--nodes --nats is required"),
        (["--nodes", "{nodes}", "--nats", "nats://h"], "not allowed with"),
        (["--nodes", "{nodes}", "--public", "{nodes}"], "--public has no effect with --nodes"),
        (["--nodes", "{nodes}", "--nats-ca", "x"], "--nats-ca has no effect with --nodes"),
        (["--nats", "nats://h", "--token-file", "x"], "--token-file has no effect with --nats"),
        (["--nodes", "{nodes}", "--token-file", "/absent"], "/absent cannot be read"),
        (["--nodes", "/absent"], "/absent cannot be read"),
        (["--nodes", "{nodes}", "--site", "a/b"], "--site: 'a/b'; accepted"),
    ],
)
def test_wrong_flags_are_one_line_and_exit_code_2(
    flags: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    nodes = tmp_path / "nodes"
    nodes.write_text("n1 http://127.0.0.1:1\n")
    assert main(["status", *(flag.format(nodes=nodes) for flag in flags)]) == 2
    err = capsys.readouterr().err
    assert said in err
    assert err.count("\n") == 1


def test_nodes_that_are_not_reached_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    nodes = tmp_path / "nodes"
    nodes.write_text("n1 http://127.0.0.1:1\n")
    assert main(["status", "--nodes", str(nodes)]) == 1
    out = capsys.readouterr().out
    assert "0 of 1 nodes, and 1 are needed; n1: http://127.0.0.1:1 is not reached" in out
    assert "never  http://127.0.0.1:1 is not reached: Connection refused" in out
    assert main(["purge", "--tag", "x", "--nodes", str(nodes), "--deadline", "50ms"]) == 3
    assert "not done yet by n1" in capsys.readouterr().out


def test_a_site_of_which_no_node_has_reported_is_no_empty_table() -> None:
    assert told([], "") == [
        "no node is known: none has reported for this site (--site: is it the agents'?), and none is listed"
    ]
    assert told([], "NATS is away")[0].startswith("node  stage")
