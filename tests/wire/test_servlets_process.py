"""Servlets in a process of their own: its start, `--check`, what it says, its end, and upgrades; on both engines."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest

import zcserve
from tests.support.command import StartCommand
from tests.support.engines import ENGINES
from tests.support.processes import is_alive
from tests.support.site import Serve, Site
from tests.support.stage import StageClient
from tests.support.upgrades import Load, StartLine
from tests.support.waiting import WaitUntil
from zcserve import cli

CHECKOUT = Path(zcserve.__file__).parents[1]

HELLO = "def get(request):\n    return b'hello'\n"

LONG = """
import asyncio, os, threading, time
from pathlib import Path
from zcserve import servlet

HERE = Path(__file__).parent

def get(request):
    return str(os.getpid())

@servlet("/thread", thread=True)
def in_thread(request):
    return b"thread"

@servlet("/async")
async def in_task(request):
    await asyncio.sleep(0)
    return b"async"

@servlet("/kept", ttl=0.1, thread=True)
def kept(request):
    return b"kept"

def wait_for(name):
    while not (HERE / name).exists():
        time.sleep(0.005)

@servlet("/slow", thread=True)
def slow(request):
    (HERE / "slow-begun").touch()
    wait_for("go")
    return str(os.getpid())

@servlet("/stream", thread=True)
def stream(request):
    yield str(os.getpid())
    wait_for("go")
    yield ", still"

@servlet("/async-stream")
async def async_stream(request):
    yield str(os.getpid())
    while not (HERE / "go").exists():
        await asyncio.sleep(0.005)
    yield ", still"

@servlet("/stuck", thread=True)
def stuck(request):
    (HERE / "stuck-begun").touch()
    threading.Event().wait()

@servlet("/stuck-async")
async def stuck_async(request):
    (HERE / "stuck-async-begun").touch()
    while True:
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            (HERE / "cancelled").touch()

@servlet("/stuck-stream", thread=True)
def stuck_stream(request):
    yield b"first"
    threading.Event().wait()
"""

WSGI = """
def application(environ, start_response):
    start_response("200 OK", [])
    return [b"from wsgi"]

async def lifespan(scope, receive, send):
    if scope["type"] == "lifespan":
        await receive()
        await send({"type": "lifespan.startup.failed", "message": "no database"})
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "servlets"
    made.mkdir()
    (made / "hello.py").write_text(HELLO)
    return made


def run(*argv: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """`python -m zcserve` that ends by itself."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("ZCSERVE_")}
    return subprocess.run(
        [sys.executable, "-m", "zcserve", *argv],
        cwd=cwd,
        env=clean | {"PYTHONPATH": str(CHECKOUT)},
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=60,
        check=False,
    )


# --- the start --------------------------------------------------------------------------------------------


NOT_LOADED = [
    (["--mount", "/a=absent_module:application"], "absent_module cannot be imported: ModuleNotFoundError: "),
    (["--mount", "/a=hello_wsgi:absent"], "hello_wsgi has no absent"),
    (["--mount", "/a=hello_wsgi:__name__"], "hello_wsgi:__name__ is str, which cannot be called"),
    (["--mount", "/a=broken_module:application"], r"ZeroDivisionError: .*broken_module.py:1\)"),
    (["--mount", "/a=half_a_module:application"], r"SyntaxError: .*half_a_module.py, line 2\)"),
    (["--mount", "/a=imports_broken:application"], r"ZeroDivisionError: .*broken_module.py:1\)"),
]
WRONG = [
    (["--servlets", "absent"], "'absent' is not a directory"),
    (["--servlets", "site/page"], "'site/page' is not a directory"),
    (["--mount", "/app"], "'/app' is not a mount; accepted: "),
    (["--mount", "app=hello_wsgi:application"], "'app' is not a path: .*; accepted: "),
    (["--mount", "/a=hello_wsgi"], "is not a mount; accepted: "),
    (["--mount", "/a=hello_wsgi:"], "is not a mount; accepted: "),
    (["--mount", "/%00=hello_wsgi:application"], "NUL in the path; accepted: "),
    (
        ["--mount", "/a=hello_wsgi:application", "--mount", "/a/=hello_wsgi:application"],
        "mount /a=hello_wsgi:application and mount /a/=hello_wsgi:application are for the same path",
    ),
]


@pytest.fixture
def modules(site: Site, tmp_path: Path) -> Path:
    """The working directory, with a site and modules that load and that do not."""
    site.write("page", b"a page")
    (tmp_path / "hello_wsgi.py").write_text(WSGI)
    (tmp_path / "broken_module.py").write_text("1 / 0\n")
    (tmp_path / "half_a_module.py").write_text("\ndef application(\n")
    (tmp_path / "imports_broken.py").write_text("\nimport broken_module\n")
    return tmp_path


@pytest.mark.parametrize("flags", [["--port", "0"], ["--check"]], ids=["serve", "check"])
@pytest.mark.parametrize(("argv", "said"), WRONG)
def test_what_cannot_be_meant_is_one_line_and_exit_code_2(
    modules: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    flags: list[str],
    argv: list[str],
    said: str,
) -> None:
    monkeypatch.chdir(modules)
    for name in [name for name in os.environ if name.startswith("ZCSERVE_")]:
        monkeypatch.delenv(name)
    assert cli.main(["--root", "site", *flags, *argv]) == 2
    err = capfd.readouterr().err
    (line,) = [line for line in err.splitlines() if line.startswith("zcserve: ")]
    assert re.search(said, line), line
    assert "Traceback" not in err


@pytest.mark.parametrize(("argv", "said"), [WRONG[0], *NOT_LOADED])
def test_what_cannot_be_is_one_line_and_exit_code_2(modules: Path, argv: list[str], said: str) -> None:
    done = run("--root", "site", "--port", "0", *argv, cwd=modules)
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("zcserve: ")]
    assert re.search(said, line), line
    assert done.returncode == 2
    assert "Traceback" not in done.stderr


def test_check_names_each_mount_that_does_not_load_and_fails(modules: Path) -> None:
    mounts = [f"/{number}{argv[1][2:]}" for number, (argv, _) in enumerate(NOT_LOADED)]
    flags = [flag for mount in mounts for flag in ("--mount", mount)]
    done = run("--root", "site", "--check", *flags, "--mount", "/good=hello_wsgi:application", cwd=modules)
    assert done.returncode == 1
    lines = done.stdout.splitlines()
    assert lines[-1] == "configuration is not valid"
    for line, mount, (_, said) in zip(lines[-len(mounts) - 1 :], mounts, NOT_LOADED, strict=False):
        assert line.startswith(f"does not load: mount {mount}: ")
        assert re.search(said, line), line
    assert "Traceback" not in done.stderr


def test_an_application_that_cannot_start_is_one_line_and_exit_code_2(site: Site, tmp_path: Path) -> None:
    (tmp_path / "hello_wsgi.py").write_text(WSGI)
    done = run("--root", "site", "--port", "0", "--mount", "/a=hello_wsgi:lifespan", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1] == "zcserve: mount /a=hello_wsgi:lifespan could not start: no database"


def test_check_counts_servlets_and_the_broken_ones(site: Site, tmp_path: Path, folder: Path) -> None:
    site.write("page", b"a page")
    (tmp_path / "hello_wsgi.py").write_text(WSGI)
    (folder / "broken.py").write_text("def get(request:\n")
    (folder / "exits.py").write_text("raise SystemExit(1)\n")
    (folder / "says_much.py").write_text("raise ValueError('1 error:\\nport\\n  see http://e.com')\n")
    (folder / "_helper.py").write_text("def f():\n    raise ValueError('none')\n")
    (folder / "helped.py").write_text("import _helper\n_helper.f()\n")
    argv = ("--root", "site", "--check", "--servlets", "servlets")
    done = run(*argv, "--mount", "/a=hello_wsgi:application", cwd=tmp_path)
    lines = done.stdout.splitlines()
    assert "servlets: 5 in servlets, 4 of them broken; mounted /a=hello_wsgi:application" in lines
    assert lines[-1] == "configuration is not valid"
    assert "does not load: servlets/broken.py:1: SyntaxError: '(' was never closed" in lines
    assert "does not load: servlets/_helper.py:2: ValueError: none" in lines  # the innermost place in the folder
    assert "does not load: servlets/exits.py:1: SystemExit: 1" in lines
    assert "does not load: servlets/says_much.py:1: ValueError: 1 error: port see http://e.com" in lines
    assert done.returncode == 1
    for name in ("broken.py", "exits.py", "helped.py"):
        assert f"servlets/{name} does not load, it is not served:" in done.stderr
    (folder / "broken.py").unlink()
    (folder / "exits.py").unlink()
    (folder / "says_much.py").unlink()
    (folder / "helped.py").unlink()
    done = run(*argv, cwd=tmp_path)
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "configuration is valid")
    assert "servlets: 1 in servlets\n" in done.stdout


def test_the_banner_says_which_servlets_there_are(
    site: Site, tmp_path: Path, folder: Path, command: StartCommand
) -> None:
    (tmp_path / "hello_wsgi.py").write_text(WSGI)
    (folder / "broken.py").write_text("1 / 0\n")
    server = command(site.root, "--servlets", "servlets", "--mount", "/a=hello_wsgi:application", cwd=str(tmp_path))
    assert "servlets: 2 in servlets, 1 of them broken; mounted /a=hello_wsgi:application" in server.lines
    with StageClient(server.port) as client:
        assert client.get("/csp?hello").body == b"hello"
        assert client.get("/a/").body == b"from wsgi"
        assert client.get("/csp?broken").status == 500


# --- the access log ---------------------------------------------------------------------------------------


def test_each_answer_is_a_line_of_json(
    live: Serve, site: Site, tmp_path: Path, folder: Path, wait_until: WaitUntil
) -> None:
    site.write("page", b"a page")
    (folder / "long.py").write_text(
        LONG + "\n@servlet('/fails/{name}')\ndef fails(request, name):\n    raise ValueError(name)\n"
    )
    log = tmp_path / "access.log"
    server = live(site.root, servlets=str(folder), access_log=str(log), access_log_format="json")
    targets = ["/csp?hello", '/csp?hello&a="b\\c"', "/thread", "/async", "/kept", "/fails/x", "/csp?nobody", "/page"]
    expected: list[tuple[str, str, int, int | None]] = []
    with StageClient(server.port) as client:
        for target in targets * 3:
            for method in ("GET", "HEAD"):
                response = client.get(target, 'User-Agent: a "b"', "Referer: r", method=method)
                expected.append((method, target, response.status, len(response.body)))
        (folder / "go").touch()
        for target in ("/stream", "/async-stream") * 2:
            client.ask(target)
            expected.append(("GET", target, 200, len(client.read().body)))
        client.ask("/csp?hello", method="POST", body=b"x")
        expected.append(("POST", "/csp?hello", client.read().status, None))
    wait_until(lambda: log.read_text().count("\n") >= len(expected))
    said = [json.loads(line) for line in log.read_text().splitlines()]
    assert len(said) == len(expected)
    known = sorted((each["method"], each["target"], each["status"]) for each in said)
    assert known == sorted(each[:3] for each in expected)
    sizes = sorted((each["target"], each["bytes"]) for each in said if each["method"] != "POST")
    assert sizes == sorted((target, size) for method, target, _, size in expected if method != "POST")
    assert {(each["peer"], each["version"]) for each in said} == {("127.0.0.1", "HTTP/1.1")}
    assert {each["user_agent"] for each in said} == {'a "b"', ""}
    assert all(set(each) == set(said[0]) for each in said)


# --- the end ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("engine", ENGINES)
def test_a_server_ends_in_its_grace_whatever_hangs(
    site: Site, folder: Path, command: StartCommand, wait_until: WaitUntil, engine: str
) -> None:
    (folder / "long.py").write_text(LONG)
    server = command(site.root, "--servlets", str(folder), "--engine", engine, "--grace", "0.2")
    with ExitStack() as stack:
        thread, task, stream, idle = (stack.enter_context(StageClient(server.port)) for _ in range(4))
        thread.ask("/stuck")
        task.ask("/stuck-async")
        stream.ask("/stuck-stream")
        stream.read_head()
        assert idle.get("/csp?hello").body == b"hello"
        wait_until(lambda: (folder / "stuck-begun").exists() and (folder / "stuck-async-begun").exists())
        os.kill(server.pid, signal.SIGTERM)
        assert server.wait() == 0
        assert thread.read_to_end() == task.read_to_end() == idle.read_to_end() == b""
        assert b"0\r\n\r\n" not in stream.read_to_end()
    assert (folder / "cancelled").exists()
    assert not [line for line in server.lines if "Traceback" in line]


# --- upgrades ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("engine", ENGINES)
def test_an_upgrade_loses_no_request_of_a_servlet(
    site: Site,
    folder: Path,
    line: StartLine,
    wait_until: WaitUntil,
    engine: str,
) -> None:
    site.write("page", b"a page")
    (folder / "long.py").write_text(LONG)
    server = line(site.root, "--servlets", str(folder), "--engine", engine, "--grace", "0.5")
    expected = {"/csp?hello": b"hello", "/thread": b"thread", "/async": b"async", "/kept": b"kept", "/page": b"a page"}
    with Load(server.port, expected) as load:
        for _ in range(2):
            before = min(load.counts)
            wait_until(lambda before=before: min(load.counts) > before + 3 or load.faults)
            server.await_end(server.upgrade())
        before = min(load.counts)
        wait_until(lambda before=before: min(load.counts) > before + 3 or load.faults)
    assert load.faults == []
    assert is_alive(server.pid)


@pytest.mark.parametrize("engine", ENGINES)
def test_what_runs_is_finished_by_the_old_process_and_what_hangs_does_not_keep_it(
    site: Site,
    folder: Path,
    line: StartLine,
    wait_until: WaitUntil,
    engine: str,
) -> None:
    (folder / "long.py").write_text(LONG)
    server = line(site.root, "--servlets", str(folder), "--engine", engine, "--grace", "0.5")
    with ExitStack() as stack:
        slow, stream, async_stream, stuck, stuck_async = (
            stack.enter_context(StageClient(server.port)) for _ in range(5)
        )
        slow.ask("/slow")
        for client, target in ((stream, "/stream"), (async_stream, "/async-stream")):
            client.ask(target)
            client.read_head()
            assert client.read_chunk() == b"%d" % server.pid
        stuck.ask("/stuck")
        stuck_async.ask("/stuck-async")
        for name in ("slow", "stuck", "stuck-async"):
            wait_until((folder / f"{name}-begun").exists)
        old = server.upgrade()
        assert server.pid != old

        def is_answered_by_the_new_one() -> bool:  # a lane of the old one may have taken a client meanwhile
            with StageClient(server.port) as client:
                return bool(client.get("/csp?long").body == b"%d" % server.pid)

        wait_until(is_answered_by_the_new_one)
        (folder / "go").touch()
        answer = slow.read()
        assert (answer.body, answer["Connection"]) == (b"%d" % old, b"close")
        for client in (stream, async_stream):
            assert list(iter(client.read_chunk, b"")) == [b", still"]
            assert client.at_end()
        server.await_end(old)
        assert server.first.process.wait() == 0
        assert stuck.read_to_end() == stuck_async.read_to_end() == b""
    assert not [said for said in server.first.lines if "Traceback" in said]
