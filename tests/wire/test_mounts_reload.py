"""Mounted applications are loaded anew, on both engines: with real files, edited while they are served."""

from __future__ import annotations

import gc
import itertools
import json
import logging
import os
import shutil
import signal
import sys
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.client import Client
from tests.support.command import StartCommand
from tests.support.site import Serve, Site
from tests.support.stage import EVENTS, JOURNAL, StageClient
from tests.support.waiting import WaitUntil
from zcserve import Server
from zcserve.cache import inotify
from zcserve.servlets import remount

_numbers = itertools.count()

WSGI = """
from {name} import words

def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [words.SAID.encode()]
"""
ASGI = """
from tests.support.stage import EVENTS, JOURNAL
from {name} import words
import asyncio

async def application(scope, receive, send):
    if scope["type"] == "lifespan":
        while True:
            what = (await receive())["type"].removeprefix("lifespan.")
            JOURNAL.append(f"{{words.SAID}} {{what}}")
            if words.SAID == "no luck":
                return await send({{"type": "lifespan.startup.failed", "message": "no luck"}})
            await send({{"type": f"lifespan.{{what}}.complete"}})
            if what == "shutdown":
                return
    await send({{"type": "http.response.start", "status": 200}})
    if scope["path"].endswith("/slow"):
        await send({{"type": "http.response.body", "body": b"begun ", "more_body": True}})
        EVENTS["begun"].set()
        while not EVENTS["go on"].is_set():
            await asyncio.sleep(0.005)
    await send({{"type": "http.response.body", "body": words.SAID.encode()}})
    JOURNAL.append(f"{{words.SAID}} answered")
"""


class Project:
    """A package in the working directory, of a name that no other test has."""

    def __init__(self, here: Path) -> None:
        self.here = here
        self.name = f"reloaded_{next(_numbers)}"
        self.package = here / self.name
        self.package.mkdir()
        self.write("__init__.py", "")

    def write(self, path: str, source: str) -> Path:
        """Write a file of the package, as editors do: beside it, then over it."""
        file = self.package / path
        file.parent.mkdir(parents=True, exist_ok=True)
        fresh = file.with_name("written")
        fresh.write_text(source)
        fresh.rename(file)
        return file

    def say(self, said: str) -> None:
        """The word that the applications say. Always of one length: a .pyc would not tell one from the other."""
        self.write("words.py", f"SAID = {said!r}\n")


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Project]:
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    monkeypatch.setattr(sys, "path", sys.path[:])
    monkeypatch.setattr(remount, "GATHER_S", 0.02)
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    EVENTS.clear()
    JOURNAL.clear()
    made = Project(here)
    made.say("old")
    made.write("wsgi.py", WSGI.format(name=made.name))
    made.write("asgi.py", ASGI.format(name=made.name))
    before = set(sys.modules)
    yield made
    for name in set(sys.modules) - before:
        del sys.modules[name]


@pytest.fixture
def mounted(live: Serve, site: Site, project: Project) -> Callable[..., Server]:
    """`mounted("asgi", ...)`: a server that has those modules' applications at /asgi and so on."""

    def start(*modules: str, **config: Any) -> Server:
        texts = tuple(f"/{module}={project.name}.{module}:application" for module in modules)
        return live(site.root, mount=texts, **config)

    return start


@pytest.fixture
def records(caplog: pytest.LogCaptureFixture) -> Callable[[str], list[str]]:
    """`records(word)`: what the log says of mounts, with that word in it."""
    caplog.set_level(logging.INFO)
    return lambda word: [told for record in list(caplog.records) if word in (told := record.getMessage())]


def says(client: Client, target: str, said: str) -> Callable[[], bool]:
    return lambda: client.get(target).body == said.encode()


def test_an_edit_is_loaded_in_the_same_process(
    mounted: Callable[..., Server], project: Project, wait_until: WaitUntil
) -> None:
    with StageClient(mounted("wsgi", "asgi").port) as client:
        for said in ("old", "new", "NEW", "old"):
            project.say(said)
            wait_until(says(client, "/wsgi", said))
            wait_until(says(client, "/asgi", said))


def test_requests_in_flight_finish_on_the_old_one_and_then_it_ends(
    mounted: Callable[..., Server], project: Project, wait_until: WaitUntil
) -> None:
    server = mounted("asgi")
    with StageClient(server.port) as slow, StageClient(server.port) as other:
        slow.ask("/asgi/slow")
        assert EVENTS["begun"].wait(20)
        project.say("new")
        wait_until(says(other, "/asgi", "new"))
        project.say("now")
        wait_until(says(other, "/asgi", "now"))
        wait_until(lambda: "new shutdown" in JOURNAL)
        assert "old shutdown" not in JOURNAL
        EVENTS["go on"].set()
        assert slow.read().body == b"begun old"
        wait_until(lambda: "old shutdown" in JOURNAL)
    order = [JOURNAL.index(f"old {what}") for what in ("startup", "answered", "shutdown")]
    assert order == sorted(order)
    assert JOURNAL.index("new startup") < JOURNAL.index("new shutdown")


def test_a_request_whose_body_was_on_its_way_goes_to_the_new_one(
    mounted: Callable[..., Server], project: Project, wait_until: WaitUntil
) -> None:
    server = mounted("asgi")
    with StageClient(server.port) as posting, StageClient(server.port) as other:
        posting.send(b"POST /asgi HTTP/1.1\r\nHost: test\r\nContent-Length: 4\r\n\r\nab")
        wait_until(says(other, "/asgi", "old"))
        project.say("new")
        wait_until(says(other, "/asgi", "new"))
        wait_until(lambda: "old shutdown" in JOURNAL)
        posting.send(b"cd")
        assert posting.read().body == b"new"


# What is written into which file, and what the log says then.
BROKEN = [
    ("words.py", "SAID =\n", 'words.py", line 1\n', "SyntaxError"),
    ("words.py", "x = 1\nx / 0\n", 'words.py", line 2, in <module>\n', "\n    x / 0\n", "ZeroDivisionError"),
    ("words.py", "raise SystemExit(3)\n", 'words.py", line 1, in <module>\n', "SystemExit: 3"),
    ("wsgi.py", "", "has no application"),
    ("wsgi.py", "application = 5\n", "int, which cannot be called"),
    ("words.py", "SAID = 'no luck'\n", "could not start: no luck"),
]


def test_what_does_not_load_leaves_the_last_good_one_and_says_why(
    mounted: Callable[..., Server],
    project: Project,
    wait_until: WaitUntil,
    records: Callable[[str], list[str]],
    caplog: pytest.LogCaptureFixture,
) -> None:
    server = mounted("asgi", "wsgi")
    names = {f"{project.name}.{name}" for name in ("words", "wsgi", "asgi")} | {project.name}
    said = "old"
    with StageClient(server.port) as client:
        for number, (path, source, *told) in enumerate(BROKEN):
            before = {name: sys.modules[name] for name in names}
            good = (project.package / path).read_text()
            project.write(path, source)
            failed = wait_until(lambda: records("the last good version goes on"))
            assert all(each in failed[0] for each in told), told
            assert "importlib" not in failed[0]
            assert "zcserve/servlets" not in failed[0]
            assert {name: sys.modules.get(name) for name in names} == before
            for target in ("/wsgi", "/asgi"):
                assert client.get(target).body == said.encode()
            said = f"{number:03}"
            caplog.clear()
            project.write(path, good)
            project.say(said)
            for target in ("/wsgi", "/asgi"):
                wait_until(says(client, target, said))
            assert all(sys.modules[name] is not before[name] for name in names)
            caplog.clear()


def test_what_was_missing_may_come_later(
    mounted: Callable[..., Server], project: Project, wait_until: WaitUntil, records: Callable[[str], list[str]]
) -> None:
    with StageClient(mounted("wsgi").port) as client:
        project.write("words.py", f"from {project.name}.deep.down import SAID\n")
        wait_until(lambda: records("No module named"))
        project.write("deep/down.py", "SAID = 'new'\n")
        wait_until(says(client, "/wsgi", "new"))
        project.write("deep/down.py", "SAID = 'now'\n")
        wait_until(says(client, "/wsgi", "now"))


def test_what_is_missing_may_come_to_a_directory_that_is_made_first(
    mounted: Callable[..., Server], project: Project, wait_until: WaitUntil, records: Callable[[str], list[str]]
) -> None:
    server = mounted("wsgi")
    with StageClient(server.port) as client:
        for number in (1, 2):
            project.write("wsgi.py", WSGI.format(name=f"{project.name}.sub{number}"))
            wait_until(lambda number=number: f"sub{number}" in "".join(records("last good")))
            (project.package / f"sub{number}").mkdir()
            wait_until(lambda number=number: "cannot import name 'words'" in records("last good")[-1])
            (project.package / f"sub{number}" / "words.py").write_text(f"SAID = 'in {number}'\n")
            wait_until(says(client, "/wsgi", f"in {number}"))


def test_a_package_that_is_a_symlink_may_be_pointed_elsewhere(
    mounted: Callable[..., Server], project: Project, wait_until: WaitUntil
) -> None:
    for said in ("old", "new"):
        shutil.copytree(project.package, project.here / said)
        (project.here / said / "words.py").write_text(f"SAID = {said!r}\n")
    shutil.rmtree(project.package)
    project.package.symlink_to("old")
    server = mounted("wsgi")
    with StageClient(server.port) as client:
        assert client.get("/wsgi").body == b"old"
        (project.here / "next").symlink_to("new")
        (project.here / "next").rename(project.package)
        wait_until(says(client, "/wsgi", "new"))


def test_many_edits_are_few_loads(
    mounted: Callable[..., Server], project: Project, wait_until: WaitUntil, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remount, "GATHER_S", 0.15)
    with StageClient(mounted("asgi").port) as client:
        for n in range(50):
            project.say(f"{n:03}")
            project.write(f"other_{n}.py", "")
        wait_until(says(client, "/asgi", "049"))
        # One load, and some more where the machine is so busy that edits seem to come one by one.
        assert len([what for what in JOURNAL if what.endswith("startup")]) <= 10


def test_half_an_edit_is_not_loaded(
    mounted: Callable[..., Server], project: Project, wait_until: WaitUntil, records: Callable[[str], list[str]]
) -> None:
    """A file is written while it, or another, is loaded: here the import itself waits until it has been."""
    server = mounted("asgi")
    web = ASGI.format(name=project.name)
    project.say("one")
    with StageClient(server.port) as client:
        wait_until(says(client, "/asgi", "one"))
        (project.package / "words.py").write_text("SAID = 'half'\n")
        held = "from tests.support.stage import EVENTS, wait_for\nEVENTS['loading'].set()\nwait_for('written')\n"
        project.write("asgi.py", web + held)
        assert EVENTS["loading"].wait(20)
        project.say("all")
        EVENTS["written"].set()
        wait_until(says(client, "/asgi", "all"))
    assert [what for what in JOURNAL if what.endswith("startup")] == ["old startup", "one startup", "all startup"]
    assert not records("the last good version goes on")


def test_files_that_no_application_imports_change_nothing(
    mounted: Callable[..., Server], project: Project, wait_until: WaitUntil, records: Callable[[str], list[str]]
) -> None:
    (project.here / "site-packages").mkdir()
    (project.here / "site-packages" / "installed_beside.py").write_text("N = 1\n")
    project.write("wsgi.py", "import sys\nsys.path.append('site-packages')\nimport installed_beside\n"
                  + WSGI.format(name=project.name))  # fmt: skip
    with StageClient(mounted("wsgi").port) as client:
        project.write("nobody.py", "")
        project.write("notes.txt", "")
        project.say("old")
        (project.here / "site-packages" / "installed_beside.py").write_text("N = 2\n")
        project.write(".words.py", "")
        project.say("new")
        wait_until(says(client, "/wsgi", "new"))
        assert sys.modules["installed_beside"].N == 1
    assert len(records("loaded again")) == 1


def test_what_is_imported_inside_a_function_is_followed(
    mounted: Callable[..., Server], project: Project, wait_until: WaitUntil
) -> None:
    project.write("late/part.py", "SAID = 'old'\n")
    project.write(
        "wsgi.py",
        f"""
def application(environ, start_response):
    from {project.name}.late.part import SAID
    start_response("200 OK", [])
    return [SAID.encode()]
""",
    )
    with StageClient(mounted("wsgi").port) as client:
        assert client.get("/wsgi").body == b"old"
        for said in ("new", "now"):
            project.write("late/part.py", f"SAID = {said!r}\n")
            wait_until(says(client, "/wsgi", said))


def test_what_is_imported_inside_a_function_fails_before_it_is_asked_for(
    mounted: Callable[..., Server], project: Project, wait_until: WaitUntil, records: Callable[[str], list[str]]
) -> None:
    late = WSGI.format(name=project.name).replace(
        "environ, start_response):", "environ, start_response):\n    from . import late"
    )
    project.write("wsgi.py", late.replace("words.SAID", "late.SAID"))
    project.write("late.py", "SAID = 'late'\n")
    server = mounted("wsgi")
    with StageClient(server.port) as client:
        assert client.get("/wsgi").body == b"late"
        project.write("late.py", "SAID = =\n")
        wait_until(lambda: any("late.py, line 1)" in told and "last good" in told for told in records("")))
        assert client.get("/wsgi").body == b"late"
        project.write("late.py", "SAID = 'later'\n")
        wait_until(says(client, "/wsgi", "later"))
        project.write("wsgi.py", WSGI.format(name=project.name))
        (project.package / "late.py").unlink()
        wait_until(says(client, "/wsgi", "old"))


def test_without_inotify_it_is_said_and_a_signal_loads_anew(
    mounted: Callable[..., Server],
    project: Project,
    wait_until: WaitUntil,
    records: Callable[[str], list[str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse() -> int:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(inotify, "start", refuse)
    server = mounted("wsgi")
    wait_until(lambda: records("edits are not seen (Too many open files)"))
    with StageClient(server.port) as client:
        project.say("new")
        server.reload()
        wait_until(says(client, "/wsgi", "new"))


def test_what_has_no_file_goes_on(
    live: Serve, site: Site, project: Project, wait_until: WaitUntil, records: Callable[[str], list[str]]
) -> None:
    """An application that was there before the server, and one that is loaded anew, side by side."""
    module = type(sys)(f"{project.name}_made")

    async def application(scope: Any, receive: Any, send: Any) -> None:
        while scope["type"] == "lifespan":
            what = (await receive())["type"]
            JOURNAL.append(f"made {what}")
            await send({"type": f"{what}.complete"})
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": b"made"})

    vars(module)["application"] = application
    sys.modules[module.__name__] = module
    texts = (f"/made={module.__name__}:application", f"/wsgi={project.name}.wsgi:application")
    with StageClient(live(site.root, mount=texts).port) as client:
        project.say("new")
        wait_until(says(client, "/wsgi", "new"))
        assert client.get("/made").body == b"made"
        assert JOURNAL == ["made lifespan.startup"]
    assert len(records("loaded again")) == 1


def test_nothing_is_kept_of_what_was_replaced(
    mounted: Callable[..., Server],
    project: Project,
    wait_until: WaitUntil,
    request: pytest.FixtureRequest,
    caplog: pytest.LogCaptureFixture,
) -> None:
    server = mounted("asgi", "wsgi")
    old = []
    gc.disable()
    request.addfinalizer(gc.enable)
    with StageClient(server.port) as client:
        for number in range(5):
            for module in ("asgi", "wsgi"):
                assert client.get(f"/{module}").status == 200
                old.append(weakref.ref(sys.modules[f"{project.name}.{module}"].application))
            project.say(f"{number:03}")
            project.write("asgi.py", ASGI.format(name=project.name) + ")" * (number == 3))  # once it fails
            if number == 3:
                wait_until(lambda: "the last good version goes on" in caplog.text)
                project.write("asgi.py", ASGI.format(name=project.name))
            wait_until(says(client, "/asgi", f"{number:03}"))
        wait_until(lambda: JOURNAL.count("003 shutdown") == 1)

        wait_until(lambda: not any(application() for application in old))


FLASK = """
from flask import Flask
from {name} import words
application = Flask(__name__)

@application.get("/")
def index():
    return {{"said": words.SAID, "of": __name__}}
"""
STARLETTE = """
import contextlib
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route
from tests.support.stage import JOURNAL
from {name} import words

async def index(request):
    return JSONResponse({{"said": words.SAID, "state": request.state.number}})

@contextlib.asynccontextmanager
async def lifespan(app):
    JOURNAL.append(f"{{words.SAID}} in")
    yield {{"number": len(JOURNAL)}}
    JOURNAL.append(f"{{words.SAID}} out")

application = Starlette(routes=[Route("/", index)], lifespan=lifespan)
"""


@pytest.mark.parametrize("framework", ["flask", "starlette"])
def test_frameworks(mounted: Callable[..., Server], project: Project, wait_until: WaitUntil, framework: str) -> None:
    pytest.importorskip(framework)
    project.write("made.py", {"flask": FLASK, "starlette": STARLETTE}[framework].format(name=project.name))
    server = mounted("made")
    with StageClient(server.port) as client:
        for said in ("old", "new", "now"):
            project.say(said)
            wait_until(lambda said=said: json.loads(client.get("/made/").body)["said"] == said)
        if framework == "starlette":
            wait_until(lambda: {"old out", "new out"} <= set(JOURNAL))
            assert [what for what in JOURNAL if what.endswith("in")] == ["old in", "new in", "now in"]
            assert all(
                JOURNAL.index(f"{new} in") < JOURNAL.index(f"{old} out")
                for old, new in (("old", "new"), ("new", "now"))
            )


DJANGO = """
import os
from django.conf import settings
if not settings.configured:
    settings.configure(SECRET_KEY="x", ALLOWED_HOSTS=["*"], ROOT_URLCONF="{name}.urls", MIDDLEWARE=[])
from django.core.wsgi import get_wsgi_application
application = get_wsgi_application()
"""
URLS = """
from django.http import HttpResponse
from django.urls import path
from {name} import words
urlpatterns = [path("", lambda request: HttpResponse(words.SAID))]
"""


def test_views_of_django_are_new(command: StartCommand, site: Site, project: Project, wait_until: WaitUntil) -> None:
    pytest.importorskip("django")  # in a process of its own: its settings are the process's
    project.write("made.py", DJANGO.format(name=project.name))
    project.write("urls.py", URLS.format(name=project.name))
    process = command(site.root, "--mount", f"/made={project.name}.made:application", cwd=project.here)
    with StageClient(process.port) as client:
        for said in ("old", "new", "now"):
            project.say(said)
            wait_until(says(client, "/made/", said))


@pytest.mark.parametrize("engine", ["python", "native"])
def test_without_mount_reload_only_a_signal_loads_anew(
    command: StartCommand, site: Site, project: Project, wait_until: WaitUntil, engine: str
) -> None:
    text = f"/wsgi={project.name}.wsgi:application"
    process = command(site.root, "--mount", text, "--no-mount-reload", "--engine", engine, cwd=project.here)
    with StageClient(process.port) as client:
        project.say("new")
        assert client.get("/wsgi").body == b"old"
        os.kill(process.pid, signal.SIGHUP)
        wait_until(says(client, "/wsgi", "new"))
        wait_until(lambda: [line for line in process.lines if "loaded again" in line])
