"""Servers that are asked for a whole tree: the same, a changed one, and a server that stops answering."""

from __future__ import annotations

import json
from pathlib import Path

from tests.support.lying import PAGE, RIGHT, lying_server
from tools.warm.comparing import UNANSWERED_MAX, compare
from zcserve import Config, Server


def test_what_is_listed_is_asked_for_first(tree: Path, tmp_path: Path) -> None:
    log = tmp_path / "log"
    with Server(Config(root=tree, port=0, access_log=str(log), access_log_format="json")) as server:
        listed = [b"large.bin", b"style.css", b"empty.json"]
        report = compare(Config(root=tree), server.url, listed, connections=1)
    assert report.right
    targets = [json.loads(line)["target"] for line in log.read_text().splitlines()]
    assert targets[:5] == ["/", "/large.bin", "/style.css", "/style.css", "/empty.json"]  # "/" is the probe


def test_a_server_that_stops_answering_is_not_asked_for_ever(tmp_path: Path) -> None:
    for number in range(100):
        (tmp_path / f"{number:02}.html").write_bytes(PAGE)
    with lying_server(RIGHT, answers_max=30) as url:
        report = compare(Config(root=tmp_path), url, [], connections=1)
    assert not report.right
    assert len(report.faults) == UNANSWERED_MAX
    assert report.not_asked == 100 - 30 - UNANSWERED_MAX
