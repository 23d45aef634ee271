"""The server as a whole: from Python, and as the command with its banner, its check and its words."""

from __future__ import annotations

import gc
import http.client
import os
import re
import select
import shutil
import socket
import stat
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path
from typing import Any

import pytest

import zcserve
from tests.support.command import StartCommand
from tests.support.site import Serve, Site
from tests.support.waiting import WaitUntil
from zcserve import Config, Server
from zcserve.cache import closing
from zcserve.check import check
from zcserve.errors import UsageError

CHECKOUT = Path(zcserve.__file__).parents[1]
CACHE_TAG = sys.implementation.cache_tag


def get(port: int, target: str) -> tuple[int, bytes]:
    """Status and body."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    try:
        connection.request("GET", target)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


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
        assert get(server.port, "/") == (200, b"hello")
        report = server.content.report
        assert (report.files, report.resident_files, report.bytes) == (1, 1, 5)
    with pytest.raises(ConnectionRefusedError):
        get(server.port, "/")


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
    assert get(one.port, "/page") == (200, b"one")
    assert get(two.port, "/page") == (200, b"two")


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
    _collect()
    before, threads = _descriptors(), threading.active_count()
    listen = ("127.0.0.1:0", "[::1]:0", f"unix:{tmp_path / 'socket'}")
    options: dict[str, Any] = {"memory": "1M", "listen": listen, "access_log": str(tmp_path / "log"), "compress": True}
    with Server(Config(root=site.root, **options)) as server:
        for _ in range(3):
            for target in ("/small", "/medium", "/large", "/absent"):
                assert get(server.port, target)[0] in (200, 404)
        site.write("small", b"changed")
        _reload(server, wait_until)
        port = server.port
        wait_until(lambda: get(port, "/small") == (200, b"changed"))
    gone = weakref.ref(server)
    del server
    _collect()
    assert gone() is None
    assert _descriptors() == before
    wait_until(lambda: threading.active_count() == threads)


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


def test_the_banner_says_what_was_done(site: Site, command: StartCommand) -> None:
    site.write("index.html", bytes(1000))
    site.write("page.html", bytes(3096))
    server = command(site.root)
    banner = "\n".join(server.lines)
    assert str(site.root) in banner
    assert re.search(r"files: +2\b", banner)
    assert "4.0 KiB" in banner
    assert re.search(r"ready in \d+\.\d\d s", banner)
    assert re.search(r"^engine: (python( \(native is not built here: .*\))?|native)$", banner, re.MULTILINE)
    assert server.lines[-1] == f"serving {server.url}"
    assert len(server.lines) <= 6
    assert get(server.port, "/")[0] == 200
    assert server.stdout.read_text() == ""


def test_the_banner_says_how_much_stayed_out(site: Site, command: StartCommand) -> None:
    site.write("small", bytes(1000))
    site.write("large", bytes(4 << 20))
    server = command(site.root, "--memory", "1M")
    banner = "\n".join(server.lines)
    assert "1 resident" in banner
    assert re.search(r"1 stay on disk until asked for \(4\.0 MiB\)", banner)
    assert len(get(server.port, "/large")[1]) == 4 << 20


def test_a_quiet_server_says_nothing(site: Site, tmp_path: Path, wait_until: WaitUntil) -> None:
    site.write("page", b"a page")
    path = tmp_path / "socket"
    process = subprocess.Popen(
        [sys.executable, "-m", "zcserve", str(site.root), "--listen", f"unix:{path}", "--log-level", "error"],
        env={**os.environ, "PYTHONPATH": str(CHECKOUT)},
        stderr=subprocess.PIPE,
    )
    assert process.stderr is not None
    try:
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(20)
            wait_until(lambda: client.connect_ex(str(path)) == 0)
            client.sendall(b"GET /page HTTP/1.0\r\n\r\n")
            assert client.recv(1 << 16).startswith(b"HTTP/1.1 200 ")  # so it is past its banner
    finally:
        process.kill()
    assert process.stderr.read() == b""
    process.wait()
    process.stderr.close()


@pytest.mark.parametrize(
    ("file", "told"),
    [
        (None, "there was no C compiler when zcserve was installed, or it is a checkout that was not installed"),
        ("_lane.cpython-12-none.so", f"_lane.cpython-12-none.so is for another Python, this is {CACHE_TAG}"),
        (f"_lane{EXTENSION_SUFFIXES[0]}", rf"_lane{re.escape(EXTENSION_SUFFIXES[0])} cannot be loaded \(.*too short\)"),
    ],
)
def test_the_banner_says_why_there_is_no_fast_lane(
    site: Site, command: StartCommand, tmp_path: Path, file: str | None, told: str
) -> None:
    package = Path(zcserve.__file__).parent
    shutil.copytree(package, tmp_path / "copy" / "zcserve", ignore=shutil.ignore_patterns("*.so", "*.c", "__pycache__"))
    if file is not None:
        (tmp_path / "copy/zcserve/net" / file).write_bytes(b"")
    here: dict[str, Any] = {"cwd": tmp_path / "copy", "environ": {"PYTHONPATH": str(tmp_path / "copy")}}
    server = command(site.root, **here)
    (line,) = [line for line in server.lines if line.startswith("engine: ")]
    assert re.fullmatch(rf"engine: python \(native is not built here: {told}; have a C compiler .*\)", line), line
    server = command(site.root, "--engine", "python", **here)
    assert "engine: python" in server.lines


def test_check_says_what_would_be_resident_and_serves_nothing(site: Site) -> None:
    site.write("small", bytes(1000))
    site.write("large", bytes(4 << 20))
    (site.root / "out").symlink_to("/")
    ended = run("--root", str(site.root), "--memory", "1M", "--check")
    assert ended.returncode == 0
    assert str(site.root) in ended.stdout
    assert re.search(r"would be resident: 1 files, 1000 B .*1\.0 MiB; 1 stay out", ended.stdout)
    assert "not served as they lie there: 1" in ended.stdout
    assert "out: is a symlink that leads outside the root" in ended.stderr


def test_check_counts_what_is_pinned_first_as_a_start_does(
    site: Site, serve: Serve, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    for number in range(40):
        site.write(f"s{number}", bytes(10_000))
    site.write("video.bin", bytes(240_000))
    flags: dict[str, Any] = {"memory": 600 << 10, "slab_bytes": 64 << 10, "pin": ("/video.bin", "/nothing/*")}
    assert check(Config(root=site.root, **flags)) == 0
    assert "--pin /nothing/* matches no file" in caplog.messages
    told = re.search(r"would be resident: (\d+) files", capsys.readouterr().out)
    assert told is not None
    report = serve(site.root, **flags).content.report
    assert abs(int(told[1]) - report.resident_files) <= 2  # without the pin it is 40
    assert report.resident_files < 38


def test_check_refuses_an_engine_that_is_not_built(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "zcserve.net._lane", None)
    with pytest.raises(UsageError, match="native is not built here"):
        check(Config(root=site.root, engine="native"))
    assert check(Config(root=site.root, engine="auto")) == 0


@pytest.mark.parametrize(
    ("log", "why"),
    [
        ("absent/access.log", "No such file or directory"),
        (".", "Is a directory"),
        ("file/access.log", "Not a directory"),
        ("to-nowhere", "No such file or directory"),
        ("n" * 300, "File name too long"),
    ],
)
def test_check_says_that_the_access_log_cannot_be_written(
    site: Site, tmp_path: Path, log: str, why: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "to-nowhere").symlink_to(tmp_path / "nowhere/access.log")
    before = sorted(tmp_path.rglob("*"))
    path = str(tmp_path / log)
    assert check(Config(root=site.root, access_log=path)) == 1
    *_, told, last = capsys.readouterr().out.splitlines()
    assert told == f"access_log: {path!r} cannot be opened: {why}"
    assert last == "configuration is not valid"
    assert sorted(tmp_path.rglob("*")) == before


def test_check_leaves_no_trace_of_an_access_log_that_can_be_written(
    site: Site, tmp_path: Path, wait_until: WaitUntil
) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "there").write_bytes(b"a line\n")
    (tmp_path / "to-new").symlink_to(tmp_path / "new")
    before = {path: path.lstat().st_mtime_ns for path in [tmp_path, *tmp_path.rglob("*")]}
    reader = os.open(tmp_path / "fifo", os.O_RDONLY | os.O_NONBLOCK)
    for log in ("fresh", "fifo", "there", "to-new"):
        assert check(Config(root=site.root, access_log=str(tmp_path / log))) == 0
    poll = select.poll()
    poll.register(reader, select.POLLIN)
    assert not poll.poll(0)  # no HANG_UP: no writer has come and gone
    os.close(reader)
    assert {path: path.lstat().st_mtime_ns for path in [tmp_path, *tmp_path.rglob("*")]} == before


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
        assert re.search(r"\b3 files are not served", said)
        assert re.search(r"files: +1\b", said)
        assert get(server.port, "/page") == (200, bytes(9000))
        absent = get(server.port, "/absent")
        for target in ("/secret", "/dir/page", "/pipe"):
            assert get(server.port, target) == absent
    finally:
        (site.root / "dir").chmod(0o755)


def test_of_many_problems_the_first_are_named_and_all_counted(site: Site, command: StartCommand) -> None:
    for number in range(50):
        os.mkfifo(site.root / f"pipe{number}")
    said = command(site.root).lines
    named = [line for line in said if re.search(r"pipe\d+: is not a regular file", line)]
    assert 0 < len(named) < 50
    assert any(f"and {50 - len(named)} more" in line for line in said)
    assert any("50 files are not served" in line for line in said)
    assert stat.S_ISFIFO((site.root / "pipe0").stat().st_mode)
