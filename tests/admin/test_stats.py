"""The routes: what a snapshot is shown as, to whom."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.support.client import Client, Response
from zcserve import Config, Server

TOKEN = "a token of some length"


def test_stats_is_json_with_a_version_and_counts_no_request_of_the_operator(
    node: Server, ask: Callable[..., Response]
) -> None:
    for _ in range(2):
        answer = ask("/stats")
        told = json.loads(answer.body)
        assert (answer.status, answer["Content-Type"], answer["Cache-Control"]) == (
            200,
            b"application/json",
            b"no-store",
        )
        assert told["version"] == 1
        assert told["engine"] == node.loop.front.engine
        assert told["ready"]["is_ready"] is True
        assert told["requests"]["total"] == told["connections"]["open"] == 0


def test_a_program_that_asks_for_ever_has_no_files_walked(node: Server, ask: Callable[..., Response]) -> None:
    for _ in range(2):
        told = json.loads(ask("/stats?survey=0").body)
        assert (told["version"], told["survey_age_s"]) == (1, None)


def test_a_head_has_no_content(node: Server, ask: Callable[..., Response]) -> None:
    for target in ("/stats", "/metrics"):
        answer = ask(target, method="HEAD")
        assert (answer.status, answer.body) == (200, b"")


def test_figures_are_for_those_who_have_the_token_and_are_in_no_log(page_root: Path, tmp_path: Path) -> None:
    log = tmp_path / "access.log"
    (tmp_path / "token").write_text(TOKEN)
    settings: dict[str, Any] = {
        "admin": "127.0.0.1:0",
        "admin_token_file": str(tmp_path / "token"),
        "access_log": str(log),
    }
    with Server(Config(root=page_root, port=0, **settings)) as server:
        with Client(server.admin_port) as client:
            for target in ("/stats", "/metrics"):
                assert client.get(target).status == 401
                assert client.get(target, f"Authorization: Bearer {TOKEN}").status == 200
        with Client(server.port) as client:
            client.get("/page")
    assert [line.split('"')[1] for line in log.read_text().splitlines()] == ["GET /page HTTP/1.1"]
