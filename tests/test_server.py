"""The server as a whole: from Python, and as the command with its banner, its check and its words."""

from __future__ import annotations

import gc
import http.client
import os
import re
import stat
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import zcserve
from tests.support.client import fetched
from tests.support.command import StartCommand
from tests.support.engines import ENGINES
from tests.support.site import Serve, Site
from tests.support.waiting import WaitUntil
from zcserve import Config, Server
from zcserve.cache import closing
from zcserve.content.builder import Builder, Built
from zcserve.errors import UsageError

CHECKOUT = Path(zcserve.__file__).parents[1]
CACHE_TAG = sys.implementation.cache_tag


def run(*argv: str, **popen: Any) -> subprocess.CompletedProcess[str]:
    """The command, when it is expected to end by itself."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith("ZCSERVE_")}
    return subprocess.run(
        [sys.executable, "-m", "zcserve", *argv],
        env=environ | {"PYTHONPATH": str(CHECKOUT)},
        capture_output=True,
        text=True,
        timeout=60,
        **popen,
    )


@pytest.fixture
def respecting_modes() -> Callable[[], None]:
    """A `preexec_fn` after which file modes count for root, too: exec gives no capability that is not in the bounding
    set (capabilities(7))."""
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    drop, override, search = 24, 1, 2  # PR_CAPBSET_DROP, CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH

    def preexec() -> None:
        if os.geteuid() == 0 and (libc.prctl(drop, override, 0, 0, 0) or libc.prctl(drop, search, 0, 0, 0)):
            raise OSError(ctypes.get_errno(), "root cannot be made to respect file modes here")

    return preexec


# --- from Python ----------------------------------------------------------------------------------------------


def test_a_server_is_a_context_manager_that_knows_its_port(site: Site) -> None:
    site.write("index.html", b"hello")
    with Server(Config(root=site.root, port=0)) as server:
        assert server.url == f"http://127.0.0.1:{server.port}"
        assert fetched(server.port, "/") == (200, b"hello")
        report = server.content.report
        assert (report.files, report.resident_files, report.bytes) == (1, 1, 5)
    with pytest.raises(ConnectionRefusedError):
        fetched(server.port, "/")


def test_the_package_offers_what_its_users_import() -> None:
    offered = {"Config", "HttpError", "Request", "Response", "Server", "__version__", "servlet"}
    assert set(zcserve.__all__) == offered
    assert all(hasattr(zcserve, name) for name in offered)
    with pytest.raises(AttributeError, match="nothing"):
        _ = zcserve.nothing


def test_two_servers_in_one_process_do_not_know_each_other(site: Site, serve: Serve) -> None:
    site.write("one/page", b"one")
    site.write("two/page", b"two")
    one, two = serve(site.root / "one"), serve(site.root / "two")
    assert fetched(one.port, "/page") == (200, b"one")
    assert fetched(two.port, "/page") == (200, b"two")


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"root": "absent"}, "does not exist"),
        ({"root": "file"}, "is not a directory"),
        ({"root": ".", "access_log": "absent/log"}, "access_log: .* cannot be opened"),
        ({"root": ".", "engine": "native"}, "not built"),
    ],
)
def test_a_server_that_cannot_start_says_why_and_leaves_nothing_open(
    site: Site, monkeypatch: pytest.MonkeyPatch, config: dict[str, Any], expected: str
) -> None:
    site.write("file")
    monkeypatch.chdir(site.root)
    monkeypatch.setitem(sys.modules, "zcserve.net._lane", None)  # as where it is not built
    closing.start()  # its threads are the process's
    _collect()
    before, threads = _descriptors(), threading.active_count()
    with pytest.raises(UsageError, match=expected), Server(Config(port=0, **config)):
        pass
    _collect()
    assert _descriptors() == before
    assert threading.active_count() == threads


def _collect() -> None:
    """Twice: a block of memory that dies in a cycle notes that it is free in the slab that dies with it."""
    gc.collect()
    gc.collect()


def _descriptors() -> dict[str, str]:
    """What this process has open, by number."""
    found = {}
    for fd in os.listdir("/proc/self/fd"):
        try:
            found[fd] = os.readlink(f"/proc/self/fd/{fd}")
        except FileNotFoundError:  # the listing's own
            continue
    return found


def _reload(server: Server, wait_until: WaitUntil) -> None:
    """Until it is done: a thread that builds is not waited for long at the end."""
    last = server.site.live
    server.reload()
    wait_until(lambda: server.site.live is not last)


def test_a_server_that_ended_leaves_nothing_behind(site: Site, tmp_path: Path, wait_until: WaitUntil) -> None:
    site.write("small", b"small")
    site.write("medium", bytes(100_000))
    site.write("large", bytes(3_000_000))
    site.write("404.html", b"absent")
    with Server(Config(root=site.root, port=0)):
        pass  # what a process has once, as the thread of its log, is there from now on
    _collect()
    before, threads = _descriptors(), threading.active_count()
    listen = ("127.0.0.1:0", "[::1]:0", f"unix:{tmp_path / 'socket'}")
    options: dict[str, Any] = {"memory": "1M", "listen": listen, "access_log": str(tmp_path / "log"), "compress": True}
    with Server(Config(root=site.root, **options)) as server:
        for _ in range(3):
            for target in ("/small", "/medium", "/large", "/absent"):
                assert fetched(server.port, target)[0] in (200, 404)
        site.write("small", b"changed")
        _reload(server, wait_until)
        port = server.port
        wait_until(lambda: fetched(port, "/small") == (200, b"changed"))
    gone = weakref.ref(server)
    del server

    def is_all_given_back() -> bool:  # at once, but for a thread that the end has not waited for
        _collect()
        return gone() is None and _descriptors() == before and threading.active_count() == threads

    wait_until(is_all_given_back)


@pytest.mark.parametrize("engine", ENGINES)
def test_the_loop_turns_while_the_content_is_built(site: Site, monkeypatch: pytest.MonkeyPatch, engine: Any) -> None:
    """What listens by then is answered, and told how far it is."""
    site.write("page", b"a page")
    server = Server(Config(root=site.root, port=0, engine=engine))
    build, turned = Builder.build, threading.Event()
    progress: list[tuple[int, int]] = []

    def build_slowly(self: Builder, **given: Any) -> Built:
        self.progress.subscribe(lambda done, total: progress.append((done, total)))
        server.loop.call_soon(turned.set)
        assert turned.wait(20)
        return build(self, **given)

    monkeypatch.setattr(Builder, "build", build_slowly)
    with server:
        assert fetched(server.port, "/page") == (200, b"a page")
    assert progress[-1] == (1, 1)


def test_clients_of_a_server_that_ends_are_not_left_waiting(site: Site) -> None:
    site.write("large", bytes(8 << 20))
    with Server(Config(root=site.root, port=0)) as server:
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
        connection.request("GET", "/large")
        answer = connection.getresponse()
        assert answer.status == 200
    with pytest.raises(http.client.IncompleteRead):
        answer.read()
    connection.close()


# --- the command ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("check", [[], ["--check"]])
def test_a_root_that_is_missing_is_one_line_and_exit_code_2(tmp_path: Path, check: list[str]) -> None:
    ended = run("--root", str(tmp_path / "absent"), "--port", "0", *check)
    assert ended.returncode == 2
    assert ended.stdout == ""
    assert len(ended.stderr.splitlines()) == 1
    assert "does not exist" in ended.stderr


def test_a_root_that_cannot_be_read_is_one_line_and_exit_code_2(
    site: Site, respecting_modes: Callable[[], None]
) -> None:
    site.root.chmod(0)
    try:
        ended = run("--root", str(site.root), "--port", "0", preexec_fn=respecting_modes)
    finally:
        site.root.chmod(0o755)
    assert ended.returncode == 2
    assert len(ended.stderr.splitlines()) == 1
    assert "Permission denied" in ended.stderr


@pytest.mark.parametrize("memory", ["512M", "4K"], ids=["resident", "not resident"])
def test_what_cannot_be_read_is_named_skipped_and_counted(
    site: Site, command: StartCommand, respecting_modes: Callable[[], None], memory: str
) -> None:
    site.write("page", bytes(9000))
    site.write("secret", bytes(9000)).chmod(0)
    site.write("dir/page", bytes(9000)).parent.chmod(0)
    os.mkfifo(site.root / "pipe")
    try:
        server = command(site.root, "--memory", memory, preexec_fn=respecting_modes)
        said = "\n".join(server.lines)
        for name, why in (("secret", "Permission denied"), ("dir", "Permission denied"), ("pipe", "not a regular")):
            assert re.search(rf"\b{name}\b.*: .*{why}", said), said
        assert re.search(r"not served as they lie there: 3 files", said)
        assert re.search(r"files: +1\b", said)
        assert fetched(server.port, "/page") == (200, bytes(9000))
        absent = fetched(server.port, "/absent")
        for target in ("/secret", "/dir/page", "/pipe"):
            assert fetched(server.port, target) == absent
    finally:
        (site.root / "dir").chmod(0o755)


def test_of_many_problems_the_first_are_named_and_all_counted(site: Site, command: StartCommand) -> None:
    for number in range(50):
        os.mkfifo(site.root / f"pipe{number}")
    said = command(site.root).lines
    named = [line for line in said if re.search(r"pipe\d+: is not a regular file", line)]
    assert 0 < len(named) < 50
    assert any(f"and {50 - len(named)} more" in line for line in said)
    assert any("not served as they lie there: 50 files" in line for line in said)
    assert stat.S_ISFIFO((site.root / "pipe0").stat().st_mode)
