"""Edit and refresh: what a request meets after a servlet's file has changed; on both engines, over kept connections."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.site import Serve, Site
from tests.support.stage import EDIT, EVENTS, JOURNAL, WAIT_S, StageClient, write_editor, write_servlet, write_servlets
from tests.support.waiting import WaitUntil
from zcserve import Server
from zcserve.servlets.folder import Folder
from zcserve.servlets.folder_events import FolderEvents

TIMES = 3

Start = Callable[..., Server]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_servlets(tmp_path, page=answering("one"), other=answering("other", "/other"))


@pytest.fixture
def start(live: Serve, site: Site, folder: Path) -> Start:
    site.write("file", b"file")
    return lambda **config: live(site.root, servlets=str(folder), **config)


def answering(text: str, path: str = "/page") -> str:
    """A servlet that answers /csp?NAME and `path`."""
    return f"""
def get(request):
    return b"{text}"

@servlet("{path}")
def own(request):
    return b"{text}"
"""


TARGETS = ("/csp?page", "/page", "/csp?page&k=v", "/page?k=v")


def asked(client: StageClient, targets: tuple[str, ...] = TARGETS) -> set[bytes | int]:
    """What the targets are answered with: contents, or statuses of what is not 200."""
    answers = [client.get(target) for target in targets * TIMES]
    return {answer.body if answer.status == 200 else answer.status for answer in answers}


def errors(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


# --- changes --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("by", ["rewriting", "renaming"])
def test_a_changed_file_answers_the_next_request(start: Start, folder: Path, by: str) -> None:
    server = start()
    with StageClient(server.port) as client, StageClient(server.port) as another:
        assert asked(client) == {b"one"}
        assert asked(another) == {b"one"}
        for text in ("two", "six", "three"):  # of one length, too
            if by == "rewriting":
                write_servlet(folder, "page", answering(text))
            else:
                os.replace(write_servlet(folder.parent, "page", answering(text)), folder / "page.py")
            for target in TARGETS:
                assert client.get(target).body == text.encode()
            assert asked(client) == {text.encode()}
            assert asked(another) == {text.encode()}
            assert asked(client, ("/csp?other", "/other")) == {b"other"}


@pytest.mark.parametrize("target", TARGETS)
def test_whichever_is_asked_first_has_it_loaded(start: Start, folder: Path, target: str) -> None:
    server = start()
    with StageClient(server.port) as client:
        assert asked(client, (target,)) == {b"one"}
        write_servlet(folder, "page", answering("two"))
        assert client.get(target).body == b"two"


def test_a_changed_helper_is_a_changed_servlet(start: Start, folder: Path) -> None:
    helper = folder / "_shared.py"
    helper.write_text("TEXT = 'one'\n")
    write_servlet(folder, "page", "from _shared import TEXT\n\ndef get(request):\n    return TEXT\n")
    server = start()
    with StageClient(server.port) as client:
        assert asked(client, ("/csp?page",)) == {b"one"}
        helper.write_text("TEXT = 'two'\n")
        assert client.get("/csp?page").body == b"two"
        helper.write_text("TEXT = \n")
        assert asked(client, ("/csp?page",)) == {b"two"}
        helper.unlink()
        assert asked(client, ("/csp?page",)) == {b"two"}
        helper.write_text("TEXT = 'three'\n")
        assert client.get("/csp?page").body == b"three"


def test_what_was_removed_is_not_found_and_comes_back(start: Start, folder: Path) -> None:
    server = start()
    with StageClient(server.port) as client:
        for _ in range(2):
            assert asked(client) == {b"one"}
            (folder / "page.py").unlink()
            assert asked(client) == {404}
            assert asked(client, ("/csp?other",)) == {b"other"}
            write_servlet(folder, "page", answering("one"))


def test_a_new_file_is_served(start: Start, folder: Path) -> None:
    server = start()
    with StageClient(server.port) as client:
        assert asked(client, ("/csp?new", "/new")) == {404}
        write_servlet(folder, "new", answering("new", "/new"))
        assert asked(client, ("/csp?new", "/new")) == {b"new"}


def test_a_new_path_in_a_changed_file_is_served_and_an_old_one_no_more(start: Start, folder: Path) -> None:
    server = start()
    with StageClient(server.port) as client:
        assert asked(client, ("/moved",)) == {404}
        write_servlet(folder, "page", answering("two", "/moved"))
        assert client.get("/moved").body == b"two"
        assert asked(client, ("/moved", "/csp?page")) == {b"two"}
        assert asked(client, ("/page",)) == {404}


def test_a_path_may_move_to_another_file(start: Start, folder: Path) -> None:
    server = start()
    with StageClient(server.port) as client:
        assert asked(client, ("/page",)) == {b"one"}
        write_servlet(folder, "page", answering("one", "/elsewhere"))
        write_servlet(folder, "other", answering("other", "/page"))
        assert client.get("/page").body == b"other"
        assert asked(client, ("/page", "/csp?other")) == {b"other"}
        assert asked(client, ("/elsewhere", "/csp?page")) == {b"one"}


def test_a_body_is_not_lost_by_a_refresh(start: Start, folder: Path) -> None:
    server = start()
    echo = "def post(request):\n    return request.body + b'%s'\n"
    with StageClient(server.port) as client:
        for n in range(3):
            write_servlet(folder, "page", echo % f" {n}")
            client.ask("/csp?page", "Expect: 100-continue", method="POST", body=b"a body")
            response = client.read()
            if response.status == 100:
                response = client.read()
            assert response.body == b"a body %d" % n
            client.ask("/csp?page", method="PUT", body=b"unwanted")
            assert client.read().status == 405


def test_what_runs_goes_on_as_it_began(start: Start, folder: Path) -> None:
    stream = """
@servlet("/stream", thread=True)
def stream(request):
    yield b"{text}"
    assert EVENTS["{text}"].wait(WAIT_S)
    yield last()

def last():
    return b"of {text}"
"""
    write_servlet(folder, "stream", stream.format(text="one"))
    server = start()
    with StageClient(server.port) as old, StageClient(server.port) as new:
        old.ask("/stream")
        old.read_head()
        assert old.read_chunk() == b"one"
        write_servlet(folder, "stream", stream.format(text="two"))
        new.ask("/stream")
        new.read_head()
        assert new.read_chunk() == b"two"
        EVENTS["one"].set()
        assert list(iter(old.read_chunk, b"")) == [b"of one"]
        EVENTS["two"].set()
        assert list(iter(new.read_chunk, b"")) == [b"of two"]


# --- what does not load ---------------------------------------------------------------------------------------

BROKEN = {
    "syntax": ("def get(request)\n    return b'x'\n", "SyntaxError"),
    "exception": ("1 / 0\n", "ZeroDivisionError"),
    "exit": ("sys.exit(1)\n", "SystemExit"),
    "import": ("import nothing_of_that_name\n", "ModuleNotFoundError"),
    "nothing": ("x = 1\n", "has no function of its own named get"),
    "conflict": (answering("two", "/other"), "ConflictError"),
    "not text": ("\udcff", "SyntaxError"),
}


def write_broken(folder: Path, what: str) -> None:
    if what == "not text":
        (folder / "page.py").write_bytes(b"x = '\xff'\n")
    else:
        write_servlet(folder, "page", BROKEN[what][0])


@pytest.mark.parametrize("what", BROKEN)
def test_what_does_not_load_leaves_the_last_good_version(
    start: Start, folder: Path, caplog: pytest.LogCaptureFixture, what: str
) -> None:
    server = start()
    with StageClient(server.port) as client:
        assert asked(client) == {b"one"}
        write_broken(folder, what)
        assert asked(client) == {b"one"}
        assert asked(client, ("/csp?other", "/other")) == {b"other"}
        assert len(errors(caplog)) == 1  # though asked again and again
        assert "servlets/page.py does not load, the last good version goes on" in errors(caplog)[0]
        assert BROKEN[what][1] in errors(caplog)[0]
        write_servlet(folder, "page", answering("two"))
        assert client.get("/csp?page").body == b"two"
        assert asked(client) == {b"two"}
        assert len(errors(caplog)) == 1


@pytest.mark.parametrize("what", BROKEN)
def test_in_development_the_page_shows_why(start: Start, folder: Path, what: str) -> None:
    server = start(dev=True)
    with StageClient(server.port) as client:
        assert asked(client) == {b"one"}
        write_broken(folder, what)
        for target in TARGETS * TIMES:
            response = client.get(target)
            assert (response.status, response["Connection"]) == (500, None)
            assert BROKEN[what][1].encode() in response.body
        assert asked(client, ("/csp?other", "/other")) == {b"other"}
        write_servlet(folder, "page", answering("two"))
        assert asked(client) == {b"two"}


@pytest.mark.parametrize("dev", [False, True])
def test_what_never_loaded_says_so_until_it_does(
    start: Start, folder: Path, caplog: pytest.LogCaptureFixture, dev: bool
) -> None:
    write_servlet(folder, "page", "1 / 0\n")
    server = start(dev=dev)
    assert "servlets/page.py does not load, it is not served" in caplog.text
    with StageClient(server.port) as client:
        for _ in range(TIMES):
            response = client.get("/csp?page")
            assert response.status == 500
            assert (b"ZeroDivisionError" in response.body) == dev
            assert client.get("/page").status == 404  # no version of it has named the path
        write_servlet(folder, "page", answering("one"))
        assert client.get("/page").body == b"one"
        assert asked(client) == {b"one"}
    assert len(errors(caplog)) == 1


# --- while it loads -------------------------------------------------------------------------------------------

SLOW = """
JOURNAL.append("loading")
assert EVENTS["loaded"].wait(WAIT_S)
"""


@pytest.mark.parametrize("target", TARGETS)
def test_a_request_for_what_loads_waits_and_no_other_does(
    start: Start, folder: Path, wait_until: WaitUntil, target: str
) -> None:
    server = start()
    with StageClient(server.port) as first, StageClient(server.port) as second, StageClient(server.port) as other:
        assert asked(first, (target,)) == asked(second, (target,)) == {b"one"}
        assert asked(other, ("/csp?other",)) == {b"other"}
        write_servlet(folder, "page", SLOW + answering("two"))
        first.send(f"GET {target} HTTP/1.1\r\nHost: test\r\n\r\nGET /file HTTP/1.1\r\nHost: test\r\n\r\n".encode())
        wait_until(lambda: JOURNAL == ["loading"])
        second.ask(target)
        for _ in range(TIMES):
            assert asked(other, ("/file", "/csp?other", "/other")) == {b"file", b"other"}
        assert JOURNAL == ["loading"]
        EVENTS["loaded"].set()
        assert [first.read().body, first.read().body, second.read().body] == [b"two", b"file", b"two"]
        assert asked(first, (target,)) == {b"two"}
    assert JOURNAL == ["loading"]  # once for both


def test_a_client_that_leaves_while_it_loads_harms_no_other(
    start: Start, folder: Path, wait_until: WaitUntil, caplog: pytest.LogCaptureFixture
) -> None:
    server = start()
    write_servlet(folder, "page", SLOW + answering("two"))
    with StageClient(server.port) as client, StageClient(server.port) as other:
        client.ask("/page")
        wait_until(lambda: JOURNAL == ["loading"])
        client.reset()
        other.ask("/page")
        EVENTS["loaded"].set()
        assert other.read().body == b"two"
    assert not errors(caplog)


def test_what_changes_while_it_loads_is_loaded_again(start: Start, folder: Path, wait_until: WaitUntil) -> None:
    server = start()
    write_servlet(folder, "page", SLOW + answering("two"))
    with StageClient(server.port) as client:
        client.ask("/page")
        wait_until(lambda: JOURNAL == ["loading"])
        write_servlet(folder, "page", answering("three"))
        EVENTS["loaded"].set()
        assert client.read().body == b"three"


def test_a_path_is_not_absent_while_the_servlet_that_is_to_own_it_loads(
    start: Start, folder: Path, wait_until: WaitUntil
) -> None:
    server = start()
    with StageClient(server.port) as first, StageClient(server.port) as second:
        assert first.get("/absent").status == second.get("/absent").status == 404
        write_servlet(folder, "late", SLOW + answering("late", "/late"))
        first.send(b"GET /absent HTTP/1.1\r\nHost: test\r\n\r\n")  # hears of the change, and waits for the load
        wait_until(lambda: JOURNAL == ["loading"])
        second.send(b"GET /late HTTP/1.1\r\nHost: test\r\n\r\n")
        assert not second.has_bytes(0.1)
        EVENTS["loaded"].set()
        assert second.read().body == b"late"
        assert first.read().status == 404


def test_what_follows_an_edit_on_its_own_connection_knows_of_it(start: Start, folder: Path) -> None:
    """All come in one packet: what was looked at before the edit is looked at anew."""
    write_editor(folder, page=answering("at TEXT"), more=answering("more", "/moreTEXT"))
    server = start()
    with StageClient(server.port) as client:
        for number in range(5):
            more, before = b"/more%d" % number, b"/more%d" % (number - 1)
            requests = [
                b"GET %b HTTP/1.1\r\nHost: test\r\n\r\n" % path for path in (b"/page", more, b"/page", more, before)
            ]
            requests[2:2] = [EDIT]
            client.send(b"".join(requests))
            assert client.read().body == (b"at %d" % (number - 1) if number else b"one")
            assert client.read().status == 404
            assert client.read().body == b"%d" % number
            assert client.read().body == b"at %d" % number
            assert client.read().body == b"more"
            assert client.read().status == 404


@pytest.mark.parametrize("target", TARGETS)
def test_an_edit_that_a_load_takes_up_while_a_request_looks_for_its_servlet_is_answered(
    start: Start, folder: Path, wait_until: WaitUntil, monkeypatch: pytest.MonkeyPatch, target: str
) -> None:
    refresh, take = Folder.refresh, FolderEvents.take

    def refreshed_meanwhile(loads: Folder, *, everything: bool = False) -> None:
        JOURNAL.append("loading")
        assert EVENTS["a request looks"].wait(WAIT_S)
        refresh(loads, everything=everything)
        EVENTS["loaded"].set()

    def taken_slowly(events: FolderEvents) -> bool:
        if EVENTS["edited"].is_set():
            EVENTS["a request looks"].set()
            assert EVENTS["loaded"].wait(WAIT_S)
        return take(events)

    server = start()
    with StageClient(server.port) as client:
        assert asked(client, (target,)) == {b"one"}
        monkeypatch.setattr(Folder, "refresh", refreshed_meanwhile)
        monkeypatch.setattr(FolderEvents, "take", taken_slowly)
        server.reload()
        wait_until(lambda: JOURNAL == ["loading"])
        EVENTS["edited"].set()
        write_servlet(folder, "page", answering("two"))
        assert client.get(target).body == b"two"


def test_a_file_that_never_rests_is_answered_by_a_version_of_it(start: Start, folder: Path) -> None:
    server = start()
    restless = """
import pathlib
file = pathlib.Path({file!r})
file.write_text(file.read_text() + "# again\\n")
""".format(file=str(folder / "page.py"))
    write_servlet(folder, "page", restless + answering("two"))
    with StageClient(server.port) as client:
        assert client.get("/page").body == b"two"
        assert client.get("/csp?other").body == b"other"


def test_a_reload_loads_servlets_anew_for_what_they_import_from_elsewhere(
    start: Start, folder: Path, tmp_path: Path, wait_until: WaitUntil
) -> None:
    elsewhere = tmp_path / "elsewhere.txt"
    elsewhere.write_text("old")
    write_servlet(folder, "page", f"TEXT = open({str(elsewhere)!r}).read()\n\ndef get(request):\n    return TEXT\n")
    server = start()
    with StageClient(server.port) as client:
        assert client.get("/csp?page").body == b"old"
        elsewhere.write_text("new")
        assert client.get("/csp?page").body == b"old"
        server.reload()
        wait_until(lambda: client.get("/csp?page").body == b"new")
