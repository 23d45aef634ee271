"""The server beside an agent: what is read of it, what it is told, and its failures in words."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.fleet import FakeServer
from zcserve.config.addresses import UnixAddress
from zcserve.ctl.client import Node
from zcserve.fleet.local_server import LocalServer, Seen, ServerError
from zcserve.fleet.messages import Command


@pytest.fixture
def fake() -> Iterator[FakeServer]:
    made = FakeServer()
    yield made
    made.close()


def test_a_look_says_what_is_served_and_prepared(fake: FakeServer, tmp_path: Path) -> None:
    server = LocalServer(fake.node, "www")
    (tmp_path / "link").symlink_to("there")
    fake.serve("/releases/a", pid=7, prepared=str(tmp_path / "link"))
    assert server.look() == Seen((7, 5.0), None, "/releases/a", str(tmp_path.resolve() / "there"), 0.5)
    sites = fake.answers["/stats"][1]["sites"]
    sites += [sites[0] | {"name": "www", "directory": "/releases/b", "prepared": None}]
    sites[1]["generation"] = {"kept": 2}
    assert server.look() == Seen((7, 5.0), "www", "/releases/b", "", 0.5, 2)
    sites[0]["files"], sites[1]["files"] = 3, 0
    assert server.look().others
    assert (server.look().has_files, server.look().is_drained) == (False, False)
    sites[0]["files"], sites[1]["files"] = 0, 3
    fake.answers["/stats"][1]["ready"]["draining"] = True
    assert not server.look().others
    assert (server.look().has_files, server.look().is_drained) == (True, True)
    fake.answers["/prepare"] = (200, {"share": 0.25, "problems": 0})
    assert server.prepare("/releases/c") == 0.25
    assert fake.told[-1] == ("/prepare", {"root": "/releases/c", "site": "www"})
    sites[1]["name"] = "blog"
    with pytest.raises(ServerError, match="has no site www; it has default, blog"):
        server.look()


def test_verbs_are_told(fake: FakeServer) -> None:
    fake.answers = {f"/{verb}": (200, {}) for verb in ("purge", "warm", "reload", "drain", "undrain", "prepare")}
    server = LocalServer(fake.node, "www")
    fake.answers["/purge"] = (200, {"matched": 5, "purged": 3, "results": 1})
    assert server.purge(Command("a", "purge", "www", tags=("x", "y"), is_hard=True)) == 8
    server.purge(Command("a", "purge", "www", prefix="/p/"))
    server.purge(Command("a", "purge", "www", glob="*.css"))
    server.purge(Command("a", "purge", "www", paths=("/a", "/b"), waits=True))
    server.warm(Command("a", "warm", "www", paths=("/a",)))
    server.reload()
    server.drop()
    server.drain("it has no release yet")
    server.undrain()
    assert fake.told == [
        ("/purge", {"tag": "x", "hard": True}),
        ("/purge", {"tag": "y", "hard": True}),
        ("/purge", {"prefix": "/p/", "hard": False, "early": True}),
        ("/purge", {"glob": "*.css", "hard": False, "early": True}),
        ("/purge", {"paths": ["/a", "/b"], "hard": False}),
        ("/warm", {"paths": ["/a"]}),
        ("/reload", {"wait": True}),
        ("/prepare", {"root": None}),
        ("/drain", {"why": "it has no release yet"}),
        ("/undrain", {}),
    ]


def test_a_program_that_takes_no_reason_for_a_drain_is_drained_without(fake: FakeServer) -> None:
    fake.answers["/drain"] = lambda words: (400, {"error": "no such word"}) if words else (200, {})
    LocalServer(fake.node, "www").drain("it is behind")
    assert [words for _, words in fake.told] == [{"why": "it is behind"}, {}]
    fake.answers["/drain"] = (409, {"error": "an upgrade is under way"})
    with pytest.raises(ServerError, match="an upgrade is under way"):
        LocalServer(fake.node, "www").drain("it is behind")


STARTS = {"pid": 1, "process": {"start_time": 5.0}, "ready": {"share": None}, "sites": []}


@pytest.mark.parametrize(
    ("answer", "words", "is_early", "is_final"),
    [
        ((200, STARTS), "the server starts", True, False),
        (
            (200, {"sites": [{"name": "default"}]}),
            "does not tell what an agent needs: KeyError: 'pid'",
            False,
            False,
        ),
        ((200, b"<html>"), "answers /stats?survey=0 with 200: is it an admin listener?", False, False),
        ((409, {"error": "an upgrade is under way"}), "says to /stats?survey=0: an upgrade is under way", True, False),
        ((401, {"error": "a token is wanted"}), "wanted (the agent's --server-token-file)", False, False),
        ((400, {"error": "the path is none"}), "the path is none", False, True),
        ((503, {"error": "it cannot be read"}), "it cannot be read", False, False),
        ((500, {"error": "the old content goes on"}), "the old content goes on", False, False),
    ],
)
def test_a_failure_says_whether_it_is_worth_another_try(
    fake: FakeServer, answer: Any, words: str, is_early: bool, is_final: bool
) -> None:
    fake.answers["/stats"] = answer
    with pytest.raises(ServerError) as raised:
        LocalServer(fake.node, "www").look()
    assert words in str(raised.value)
    assert (raised.value.is_early, raised.value.is_final) == (is_early, is_final)


def test_a_server_that_is_away_and_a_purge_that_is_not_whole(fake: FakeServer, tmp_path: Path) -> None:
    with pytest.raises(ServerError, match="there is no socket") as raised:
        LocalServer(Node(UnixAddress(str(tmp_path / "none"))), "www").look()
    assert raised.value.is_early
    fake.answers["/purge"] = (200, {"matched": 1, "error": "the site goes"})
    with pytest.raises(ServerError, match="the site goes"):
        LocalServer(fake.node, "www").purge(Command("a", "purge", "www", prefix="/"))


def test_files_that_are_not_served_as_they_lie_there_are_told(
    fake: FakeServer, caplog: pytest.LogCaptureFixture
) -> None:
    named = [{"path": "/a.br", "why": "does not decode"}]
    fake.answers["/prepare"] = (200, {"share": 1.0, "problems": 1, "problems_named": named})
    assert LocalServer(fake.node, "www").prepare("/releases/c") == 1.0
    assert "1 files of /releases/c are not served as they lie there: /a.br (does not decode)" in caplog.text


def test_a_server_that_does_not_know_early_is_told_without_it(fake: FakeServer) -> None:
    fake.answers["/purge"] = (400, {"error": '"early" is no word of purge'})
    with pytest.raises(ServerError) as raised:
        LocalServer(fake.node, "www").purge(Command("a", "purge", "www", prefix="/"))
    assert raised.value.is_final
    assert fake.told == [
        ("/purge", {"prefix": "/", "hard": False, "early": True}),
        ("/purge", {"prefix": "/", "hard": False}),
    ]
