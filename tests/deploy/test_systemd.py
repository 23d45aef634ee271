"""deploy/: the units as far as they can be tried without systemd as process 1. Its own checks find nothing, the
settings are understood, and a server needs no system call, no family of sockets and no writable code that the unit
refuses.

What systemd tells and is told: tests/test_supervisor.py, tests/test_activation.py."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.client import Client
from tests.support.command import CHECKOUT, Command
from tests.support.processes import started_by
from tests.support.site import Site
from tests.support.waiting import WaitUntil
from zcserve.config.sources import load
from zcserve.ctl import arguments
from zcserve.ctl.commands import NODE

DEPLOY = CHECKOUT / "deploy"
SERVICE = (DEPLOY / "zcserve.service").read_text()
TOML = DEPLOY / "zcserve.toml"
# Of 10, which is no restriction at all: `systemd-analyze security` said 1.2 when the unit was written.
EXPOSURE_MAX = 1.5

needs_systemd = pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd")


def run(*argv: str, **more: str) -> str:
    """What a program that succeeds says."""
    ended = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False, **more)  # type: ignore[call-overload]
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return str(ended.stdout + ended.stderr)


def setting(name: str) -> list[str]:
    """All values of a key of the service."""
    return re.findall(rf"^{name}=(.*)$", SERVICE, re.MULTILINE)


@pytest.fixture
def units(tmp_path: Path) -> Path:
    """The units in a folder; they start a program that is there."""
    folder = tmp_path / "units"
    folder.mkdir()
    (folder / "zcserve.service").write_text(SERVICE.replace("/opt/zcserve/bin/zcserve", sys.executable))
    shutil.copy(DEPLOY / "zcserve.socket", folder)
    agent = (DEPLOY / "zcserve-node.service").read_text()
    (folder / "zcserve-node.service").write_text(agent.replace("/opt/zcserve/bin/zcserve", sys.executable))
    return folder


def test_the_settings_are_understood_and_name_no_address() -> None:
    config = load({"root": "www"}, {}, str(TOML))
    assert config.admin == "unix:/run/zcserve/admin.sock"
    assert not config.listen
    every = re.sub(r"^# (?=\w+ = )", "", TOML.read_text(), flags=re.MULTILINE)
    assert every.count("\n#") < TOML.read_text().count("\n#")


def test_the_unit_waits_longer_than_the_grace_and_has_a_descriptor_for_each_client() -> None:
    config = load({"root": "www"}, {}, str(TOML))
    assert int(*setting("TimeoutStopSec")) > config.grace_s
    assert int(*setting("LimitNOFILE")) > 2 * config.connections_max
    assert set(setting("RuntimeDirectory") + setting("LogsDirectory") + setting("CacheDirectory")) == {"zcserve"}


@pytest.mark.peer
@needs_systemd
def test_systemd_finds_nothing_in_the_units_to_complain_of(units: Path) -> None:
    names = ("zcserve.service", "zcserve.socket", "zcserve-node.service")
    said = run("systemd-analyze", "verify", "--man=no", *(str(units / name) for name in names))
    assert said == ""


@pytest.mark.peer
@needs_systemd
@pytest.mark.parametrize("unit", ["zcserve.service", "zcserve-node.service"])
def test_the_unit_leaves_little_exposed(units: Path, unit: str) -> None:
    said = run("systemd-analyze", "security", "--offline=yes", "--no-pager", str(units / unit))
    level = re.search(rf"exposure level for {unit}: ([0-9.]+)", said)
    assert level is not None
    assert float(level[1]) <= EXPOSURE_MAX


def calls_of(group: str) -> set[str]:
    """The system calls of a filter's group."""
    found: set[str] = set()
    for line in run("systemd-analyze", "syscall-filter", "--no-pager", group).splitlines():
        word = line.strip()
        if word.startswith("@") and word != group:
            found |= calls_of(word)
        elif re.fullmatch(r"\w+", word):
            found.add(word)
    return found


def allowed_calls() -> set[str]:
    allowed: set[str] = set()
    for words in setting("SystemCallFilter"):
        for group in words.lstrip("~").split():
            allowed = allowed - calls_of(group) if words.startswith("~") else allowed | calls_of(group)
    return allowed


@pytest.mark.peer
@needs_systemd
@pytest.mark.skipif(shutil.which("strace") is None, reason="no strace")
def test_a_server_that_compresses_calls_servlets_and_is_upgraded_does_nothing_that_the_unit_refuses(
    site: Site, tmp_path: Path, wait_until: WaitUntil
) -> None:
    site.write("page.txt", b"a page " * 500)
    site.write("large", bytes(3_000_000))
    (tmp_path / "servlets").mkdir()
    (tmp_path / "servlets" / "hello.py").write_text("def get(request):\n    return 'hello'\n")
    trace = tmp_path / "trace"
    flags = (
        "--root", str(site.root), "--port", "0", "--compress", "--servlets", str(tmp_path / "servlets"),
        "--admin", f"unix:{tmp_path / 'admin'}", "--access-log", str(tmp_path / "log"),
    )  # fmt: skip
    server = Command(flags, {}, tmp_path / "stdout", before=("strace", "-f", "-qq", "-o", str(trace)))
    try:
        server.wait_ready()
        (first,) = started_by(Path(f"/proc/{server.pid}/task/{server.pid}"))
        use(server.port)
        (site.root / "page.txt").write_bytes(b"another")
        os.kill(first, signal.SIGHUP)
        wait_until(lambda: any("reloaded: " in line for line in server.lines))
        os.kill(first, signal.SIGUSR2)
        (second,) = wait_until(lambda: re.findall(r"process (\d+) serves now", "\n".join(server.lines)), 60.0)
        use(server.port)
        os.kill(int(second), signal.SIGTERM)
        assert server.wait() == 0
    finally:
        server.end()
    lines = trace.read_text(errors="replace")
    called = set(re.findall(r"^\d+ +(?:<\.\.\. )?(\w+)(?:\(| resumed>)", lines, re.MULTILINE))
    assert {"epoll_wait", "memfd_create", "execve"} <= called
    assert called <= allowed_calls(), called - allowed_calls()
    families = set(re.findall(r"\bsocket\((AF_\w+)", lines))
    assert families <= set(setting("RestrictAddressFamilies")[0].split())
    assert not re.search(r"\bmmap\([^)]*PROT_WRITE\|PROT_EXEC", lines)
    assert not re.search(r"\b(?:pkey_)?mprotect\([^)]*PROT_EXEC", lines)  # MemoryDenyWriteExecute=


def use(port: int) -> None:
    with Client(port) as client:
        assert client.get("/page.txt", "Accept-Encoding: gzip").status == 200
        assert len(client.get("/large").body) == 3_000_000
        assert client.get("/csp?hello").status == 200


@pytest.mark.peer
@needs_systemd
def test_the_user_and_the_folders_are_made(tmp_path: Path) -> None:
    root = tmp_path / "root"
    (root / "etc").mkdir(parents=True)
    run("systemd-sysusers", f"--root={root}", str(DEPLOY / "zcserve.sysusers.conf"))
    assert re.search(r"^zcserve:.*:/:\S*nologin$", (root / "etc/passwd").read_text(), re.MULTILINE)
    run("systemd-tmpfiles", "--create", f"--root={root}", str(DEPLOY / "zcserve.tmpfiles.conf"))
    for folder in ("srv/www", "run/zcserve", "var/log/zcserve", "var/cache/zcserve"):
        assert (root / folder).is_dir()
    assert (root / "run/zcserve").stat().st_mode & 0o777 == 0o750


def test_the_unit_of_an_agent_has_flags_that_there_are() -> None:
    unit = (DEPLOY / "zcserve-node.service").read_text()
    start = re.search(r"^ExecStart=\S+ node (.*) \$FLAGS$", unit, re.MULTILINE)
    flags = re.search(r"^# FLAGS=(.*)$", unit, re.MULTILINE)
    assert start is not None
    assert flags is not None
    given, operands = arguments.read([*start[1].split(), *flags[1].split()], NODE)
    assert {"site", "node", "nats", "server", "releases", "keys"} <= given.keys()
    assert operands == []
