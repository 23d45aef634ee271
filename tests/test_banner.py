"""zcserve.banner: what a server says when it serves, with what it has and what is amiss."""

from __future__ import annotations

import errno
import logging
import os
import re
import resource
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path
from typing import Any

import pytest

import zcserve
from tests.support.command import StartCommand
from tests.support.site import Site
from tests.support.waiting import WaitUntil
from zcserve import Config, Server, banner
from zcserve.cache.budget import Budget

CHECKOUT = Path(zcserve.__file__).parents[1]
CACHE_TAG = sys.implementation.cache_tag


def test_the_banner_says_what_was_done(site: Site, command: StartCommand) -> None:
    site.write("index.html", bytes(1000))
    site.write("page.html", bytes(3096))
    server = command(site.root)
    banner = "\n".join(server.lines)
    assert str(site.root) in banner
    assert re.search(r"files: +2\b", banner)
    assert "4.0 KiB" in banner
    assert re.search(r"ready in \d+\.\d\d s", banner)
    assert re.search(r"^engine: (python( \(native is not built here: .*\))?|native, 1 lane)$", banner, re.MULTILINE)
    assert server.lines[-1] == f"serving {server.url}"
    assert len(server.lines) <= 6
    assert server.stdout.read_text() == ""


def test_the_banner_says_how_much_stayed_out(site: Site, command: StartCommand) -> None:
    site.write("small", bytes(1000))
    site.write("large", bytes(4 << 20))
    server = command(site.root, "--memory", "1M")
    banner = "\n".join(server.lines)
    assert "1 resident" in banner
    assert re.search(r"1 stay on disk until asked for \(4\.0 MiB\)", banner)


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
    shutil.copytree(package, tmp_path / "copy" / "zcserve", ignore=shutil.ignore_patterns("*.so", "*.c"))
    if file is not None:
        (tmp_path / "copy/zcserve/net" / file).write_bytes(b"")
    here: dict[str, Any] = {"cwd": tmp_path / "copy", "environ": {"PYTHONPATH": str(tmp_path / "copy")}}
    server = command(site.root, **here)
    (line,) = [line for line in server.lines if line.startswith("engine: ")]
    assert re.fullmatch(rf"engine: python \(native is not built here: {told}; have a C compiler .*\)", line), line
    server = command(site.root, "--engine", "python", **here)
    assert "engine: python" in server.lines


# --- the lines, without a process -------------------------------------------------------------------------------------


class Ready:
    """A server that is open, and what it would say."""

    def __init__(self, root: Path, **settings: Any) -> None:
        self.server = Server(Config(root=root, port=0, **settings))
        self.server.open()

    def say(self, **more: Any) -> None:
        server = self.server
        given: dict[str, Any] = {
            "engine": "python",
            "lanes": 1,
            "servlets": "",
            "addresses": ["http://a:1", "unix:/b"],
            "ready_after_s": 0.25,
        }
        budget = more.pop("budget", Budget(server.config.memory))
        banner.say_ready(server.config, server.contents, server.store, budget, **given | more)


@pytest.fixture
def ready(site: Site, caplog: pytest.LogCaptureFixture) -> Iterator[Callable[..., Ready]]:
    """`ready(**settings)`, where the log's level is that of a server."""
    caplog.set_level(logging.INFO)
    with ExitStack() as stack:

        def start(**settings: Any) -> Ready:
            made = Ready(site.root, **settings)
            stack.callback(made.server.close)
            return made

        yield start


def test_each_line_has_its_place_and_an_address_has_one_of_its_own(
    ready: Callable[..., Ready], site: Site, capfd: pytest.CaptureFixture[str]
) -> None:
    site.write("page", bytes(1000))
    one = ready(engine="python")
    one.say(servlets="3 servlets", budget=Budget(1 << 20, note="a quarter of the machine's memory"))
    assert re.sub(r"memory: .*, ready", "memory: M, ready", capfd.readouterr().err).splitlines()[-8:] == [
        f"root: {site.root}",
        "files: 1, 1 resident (1000 B)",
        "memory: M, ready in 0.25 s",
        "budget: a quarter of the machine's memory",
        "engine: python",
        "servlets: 3 servlets",
        "serving http://a:1",
        "serving unix:/b",
    ]


def test_a_quiet_log_has_warnings_alone(
    ready: Callable[..., Ready], site: Site, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    os.mkfifo(site.root / "pipe")
    one = ready()
    caplog.clear()
    capfd.readouterr()
    caplog.set_level(logging.WARNING)
    one.say()
    assert "pipe: is not a regular file" in caplog.messages
    assert "serving" not in capfd.readouterr().err


def test_more_connections_than_descriptors_are_told_of(
    ready: Callable[..., Ready], caplog: pytest.LogCaptureFixture
) -> None:
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    one = ready(connections_max=limit)
    one.say()
    (told,) = [message for message in caplog.messages if message.startswith("descriptors: ")]
    assert f"may have {limit}, and --connections-max {limit} needs " in told
    caplog.clear()
    few = ready(connections_max=10)
    few.say()
    assert not [message for message in caplog.messages if message.startswith("descriptors: ")]


def test_where_no_descriptor_is_left_to_count_them_that_is_told_of(
    ready: Callable[..., Ready], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(path: str) -> list[str]:
        raise OSError(errno.EMFILE, "Too many open files")

    one = ready(connections_max=10)
    monkeypatch.setattr("os.listdir", fail)
    one.say()
    assert [message for message in caplog.messages if message.startswith("descriptors: ")]


def test_a_setting_that_changes_nothing_is_told_of(
    ready: Callable[..., Ready], site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    ready(compress_dir=str(site.root.parent / "kept")).say()
    assert "--compress-dir is of no use without --compress" in caplog.messages


@pytest.mark.parametrize(
    ("family", "address", "told"),
    [
        (socket.AF_INET, ("127.0.0.1", 0), r"http://127\.0\.0\.1:\d+"),
        (socket.AF_INET6, ("::1", 0), r"http://\[::1\]:\d+"),
        (socket.AF_UNIX, "\0zcserve-test-banner", r"unix:.*zcserve-test-banner'?"),
    ],
    ids=["IPv4", "IPv6", "unix"],
)
def test_an_address_is_told_as_a_browser_wants_it(family: int, address: Any, told: str) -> None:
    with socket.socket(family) as sock:
        sock.bind(address)
        assert re.fullmatch(told, banner.url(sock))
