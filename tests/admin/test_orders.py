"""What a node can be told."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.client import Client
from tests.support.command import StartCommand
from tests.support.engines import ENGINES
from tests.support.site import Serve, Site
from tests.support.waiting import WaitUntil
from zcserve import Server
from zcserve.config.site import SiteTable

NONE: dict[str, Any] = {"failed": [], "failed_total": 0}


def test_reload_reads_the_root_again(node: Server, tell: Any, wait_until: WaitUntil) -> None:
    assert tell("reload") == (200, {"reloading": True})
    wait_until(lambda: node.content.counters.flips > 0)


def test_a_reload_that_is_waited_for_is_answered_with_how_it_ended(node: Server, site: Site, tell: Any) -> None:
    site.write("another", b"another")
    done = {"reloaded": True, "generation": 2, "files": 2, "problems": 0}
    assert tell("reload", wait=True) == (200, done)
    with Client(node.port) as client:
        assert client.get("/another").body == b"another"
    away = site.root.rename(site.root.with_name("away"))
    status, told = tell("reload", wait=True)
    assert (status, list(told)) == (500, ["error"])
    assert told["error"].startswith(f"the reload failed, the old content goes on: root '{site.root}' does not exist")
    away.rename(site.root)
    assert tell("reload", wait=True) == (200, done | {"generation": node.content.counters.flips + 1})


def test_a_word_that_a_verb_does_not_have_is_refused(node: Server, tell: Any) -> None:
    status, told = tell("undrain", now=True)
    assert (status, told["error"]) == (400, '"now" is no word of undrain, which takes none')


def test_what_utf_8_has_no_form_for_is_answered_as_json_has_it(node: Server, tell: Any) -> None:
    for glob in ("\ud800", "a\udcff*"):
        pins = {"pins": [glob]}
        assert tell("pin", add=[glob]) == (200, pins | dict.fromkeys(("files", "resident", "resident_bytes"), 0) | NONE)
        assert tell("pin") == (200, pins)
        assert tell("pin", remove=[glob])[1]["pins"] == []


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


@pytest.mark.parametrize("engine", ENGINES)
def test_an_upgrade_that_is_waited_for_is_answered_with_how_it_ended(
    page_root: Path, tmp_path: Path, command: StartCommand, socket_path: str, tell: Any, ask: Any, engine: str
) -> None:
    settings = tmp_path / "settings.toml"
    settings.write_text("")
    server = command(page_root, "--engine", engine, "--admin", f"unix:{socket_path}", "--config", str(settings))
    before = json.loads(ask("/stats").body)["pid"]
    settings.write_text("nonsense = 1\n")
    status, told = tell("upgrade", wait=True)
    assert status == 500
    assert "the new program does not serve, this process goes on: " in told["error"]
    assert "exit code 2" in told["error"]
    settings.write_text("")
    status, told = tell("upgrade", wait=True)
    assert (status, told["upgraded"]) == (200, True)
    assert json.loads(ask("/stats").body)["pid"] == told["pid"] != before
    with Client(server.port) as client:
        assert client.get("/page").body == b"a page"


# --- what content is told, and who drains it; in each lane ------------------------------------------------------------

LAYOUTS: list[dict[str, Any]] = [
    {"engine": "python"},
    {"engine": "native", "lanes": 1},
    {"engine": "native", "lanes": 2},
]


@pytest.fixture(params=LAYOUTS[: 2 * len(ENGINES) - 1], ids=lambda layout: " ".join(map(str, layout.values())))
def laid_out(request: pytest.FixtureRequest, page_root: Path, site: Site, serve: Serve, socket_path: str) -> Server:
    """A server in each layout, with a page and two styles."""
    site.write("assets/a b.css", b"a style")
    site.write("assets/c.css", b"another")
    return serve(page_root, admin=f"unix:{socket_path}", **request.param)


def test_a_purge_tells_what_it_did_and_what_it_cannot_be(laid_out: Server, tell: Any) -> None:
    done = {"how": "soft", "matched": 2, "purged": 2, "results": 0, "bytes": 14}
    with Client(laid_out.port) as client:
        for _ in range(2):
            assert tell("purge", prefix="/assets/") == (200, done)
            assert client.get("/assets/a%20b.css").body == b"a style"
            assert tell("purge", path="/assets/%61 b.css")[0] == 400
        hard = done | {"how": "hard"}
        assert tell("purge", glob="*.css", hard=True) == (200, hard)
        assert tell("purge", glob="*.css", hard=True) == (200, hard | {"purged": 0, "bytes": 0})
        assert client.get("/assets/a%20b.css").body == b"a style"
        both = tell("purge", paths=["/assets/%61%20b.css", "/assets/c.css"], hard=True)
        assert both == (200, hard | {"purged": 1, "bytes": 7})
    for words in ({}, {"path": "/", "glob": "*"}, {"glob": ""}, {"prefix": "assets"}, {"path": "/\ud800"}):
        status, told = tell("purge", **words)
        assert (status, bool(told["error"])) == (400, True)
    assert "did you mean prefix?" in tell("purge", prefx="/")[1]["error"]


@pytest.mark.parametrize("engine", ENGINES)
def test_files_of_a_tag_are_purged_together_and_what_is_none_has_the_nearest_told(
    site: Site, serve: Serve, socket_path: str, tell: Any, engine: str
) -> None:
    site.write("assets/a.css", b"a style")
    site.write("assets/a.js", b"a script")
    site.write("b.css", b"another")
    site.write("blog/a", b"a page")
    rules = ({"path": "*.css", "tags": ["css"]}, {"path": "/assets/", "tags": ["assets", "css-js"]})
    blog = SiteTable(name="blog", hosts=("blog.example",), values={"root": site.root / "blog", "tag_header": "none"})
    admin = f"unix:{socket_path}"
    server = serve(site.root, engine=engine, admin=admin, rules=rules, tag_header="Cache-Tag", sites=(blog,))
    done = {"how": "soft", "matched": 2, "purged": 2, "results": 0, "bytes": 14}
    with Client(server.port) as client:
        for _ in range(2):
            assert client.get("/assets/a.css")["Cache-Tag"] == b"css,assets,css-js"
            assert tell("purge", tag="css") == (200, done)
        assert client.get("/assets/a.js")["Cache-Tag"] == b"assets,css-js"
        assert tell("purge", tag="assets", hard=True) == (200, done | {"how": "hard", "bytes": 15})
        assert client.get("/assets/a.js").body == b"a script"
    nothing = done | {"matched": 0, "purged": 0, "bytes": 0}
    assert tell("purge", tag="cs") == (200, nothing | {"nearest_tag": "css"})
    assert tell("purge", tag="css", site="blog") == (200, nothing | {"nearest_tag": None})
    assert tell("purge", tag="css", site="")[1]["error"].startswith("there is no site ''; the nearest known is ")
    assert tell("purge", tag="a b")[0] == tell("purge", tag="css", path="/a")[0] == 400


def test_a_release_of_each_site_is_prepared_by_itself(
    page_root: Path, site: Site, serve: Serve, socket_path: str, tell: Any, ask: Callable[..., Any], tmp_path: Path
) -> None:
    site.write("blog/a", b"a page")
    following = Site(tmp_path / "next")
    following.write("b", b"another page")
    blog = SiteTable(name="blog", hosts=("blog.example",), values={"root": site.root / "blog"})
    serve(page_root, admin=f"unix:{socket_path}", sites=(blog,))
    root = str(following.root)
    status, told = tell("prepare", root=root, site="blog")
    assert (status, told) == (
        200,
        {
            "site": "blog",
            "root": root,
            "is_live": False,
            "files": 1,
            "bytes": 12,
            "resident_bytes": 12,
            "share": 1.0,
            "shared_files": 0,
            "problems": 0,
            "problems_named": [],
        },
    )
    assert [one["prepared"] and one["prepared"]["root"] for one in json.loads(ask("/stats").body)["sites"]] == [
        None,
        root,
    ]
    assert tell("prepare", root=None, site="blog")[1]["root"] is None
    assert tell("prepare", root=root, site="b")[1]["error"].startswith("there is no site 'b'; the nearest known is ")
    assert tell("prepare", root=1)[1]["error"] == "root must be a text or null, not 1"


def test_a_list_is_warmed_and_patterns_are_pinned_until_the_process_ends(laid_out: Server, tell: Any) -> None:
    tell("purge", prefix="/", hard=True)
    status, told = tell("warm", paths=["/assets/c.css", "/nowhere", "/page"])
    assert (status, told["resident"], told["resident_bytes"], told["failed_total"]) == (200, 2, 13, 1)
    assert told["failed"] == [{"path": "/nowhere", "why": "there is no such file"}]
    assert tell("warm")[0] == 400
    assert tell("pin") == (200, {"pins": []})
    for _ in range(2):
        status, told = tell("pin", add=["*.css"])
        assert (status, told["pins"], told["files"], told["resident"]) == (200, ["*.css"], 2, 2)
    assert tell("pin", add=["*.css", ""])[0] == 400
    flips = laid_out.content.counters.flips
    tell("reload")
    while laid_out.content.counters.flips == flips:
        assert tell("pin")[1] == {"pins": ["*.css"]}
    tell("purge", prefix="/", hard=True)
    assert len(laid_out.store.held) == 2  # loaded again at once
    assert tell("pin", remove=["*.css"])[1]["pins"] == []


def test_while_another_process_takes_over_nothing_of_drains_changes(laid_out: Server, tell: Any) -> None:
    laid_out.store.freeze()
    assert [tell(verb)[0] for verb in ("drain", "undrain")] == [409, 409]
    laid_out.store.thaw()
    assert tell("undrain")[1]["changed"] is False


def test_a_node_that_is_drained_is_not_ready_and_answers_until_it_is_undrained(
    laid_out: Server, tell: Any, ask: Any, wait_until: WaitUntil
) -> None:
    def is_last(client: Client) -> bool:
        answer = client.get("/page")
        assert answer.body == b"a page"
        return bool(answer["Connection"] == b"close")

    def come() -> bool:
        with Client(laid_out.port) as client:
            return is_last(client)

    with Client(laid_out.port) as old, Client(laid_out.port) as stays:
        assert (is_last(old), is_last(stays)) == (False, False)
        status, told = tell("drain")
        assert (status, told["draining"], told["changed"]) == (200, True, True)
        assert tell("drain")[1]["changed"] is False
        answer = ask("/readyz")
        readiness = json.loads(answer.body)
        assert (answer.status, readiness["phase"], readiness["why"]) == (503, "draining", "it is drained")
        wait_until(come)
        wait_until(lambda: is_last(old))
        assert old.at_end()
        assert tell("undrain")[1]["draining"] is False
        assert tell("undrain")[1]["changed"] is False
        assert ask("/readyz").status == 200
        wait_until(lambda: not come())
        assert not is_last(stays)
    tell("drain", why="a new disk")
    assert json.loads(ask("/readyz").body)["why"] == "it is drained: a new disk"
    tell("undrain")
    tell("drain")
    assert json.loads(ask("/readyz").body)["why"] == "it is drained"
    tell("undrain")


def test_a_node_is_ready_when_what_is_pinned_is_there(
    page_root: Path, site: Site, serve: Serve, socket_path: str, tell: Any, ask: Callable[..., Any]
) -> None:
    site.write("large.css", bytes(700_000))
    serve(page_root, admin=f"unix:{socket_path}", memory=1 << 20)
    assert ask("/readyz").status == 200
    tell("pin", add=["*.css"])
    answer = ask("/readyz")
    told = json.loads(answer.body)
    assert (answer.status, told["phase"]) == (503, "incomplete")
    assert (told["missing_total"], told["wanted_bytes"]) == (1, 700_006)
    assert "waiting is of no use, there is no room for 1 wanted file, 683.6 KiB" in told["why"]
    assert [(one["path"], one["bytes"]) for one in told["missing"]] == [("/large.css", 700_000)]
    tell("pin", remove=["*.css"])
    assert ask("/readyz").status == 200


def test_the_least_level_that_is_logged_may_be_told(
    page_root: Path, command: StartCommand, socket_path: str, tell: Any, wait_until: WaitUntil
) -> None:
    server = command(page_root, "--admin", f"unix:{socket_path}")
    assert tell("loglevel") == (200, {"level": "info", "before": "info"})
    for before in ("info", "error"):
        assert tell("loglevel", level="error") == (200, {"level": "error", "before": before})
    tell("purge", path="/page")
    assert tell("loglevel", level="debug") == (200, {"level": "debug", "before": "error"})
    tell("purge", path="/page", hard=True)
    wait_until(lambda: any("purged (hard)" in line for line in server.lines))
    assert not any("purged (soft)" in line for line in server.lines)
    assert "did you mean debug?" in tell("loglevel", level="debugg")[1]["error"]
