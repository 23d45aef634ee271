"""deploy/: logs that are rotated, kernel settings, the image of a container and its health check, each as far as it can
be tried here."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.client import Client
from tests.support.command import CHECKOUT, StartCommand
from tests.support.site import Site
from tests.support.waiting import WaitUntil

DEPLOY = CHECKOUT / "deploy"
CONTAINER = (DEPLOY / "Containerfile").read_text()
LOGROTATE = (DEPLOY / "zcserve.logrotate").read_text()


def healthy(path: Path) -> int:
    """What the health check ends with."""
    argv = [sys.executable, str(DEPLOY / "healthy.py"), str(path)]
    return subprocess.run(argv, capture_output=True, timeout=20, check=False).returncode


def test_the_health_check_says_whether_the_node_is_ready(site: Site, command: StartCommand, tmp_path: Path) -> None:
    admin = tmp_path / "admin"
    assert healthy(admin) == 1
    server = command(site.root, "--admin", f"unix:{admin}")
    assert healthy(admin) == 0
    server.end()
    assert healthy(admin) == 1


def test_the_container_runs_what_it_checks_and_as_no_root() -> None:
    check = re.search(r"^HEALTHCHECK .*\\\n +CMD (\[.*\])$", CONTAINER, re.MULTILINE)
    entry = re.search(r"^ENTRYPOINT (\[.*\])$", CONTAINER, re.MULTILINE)
    assert check is not None
    assert entry is not None
    *_, script, path = json.loads(check[1])
    assert f"unix:{path}" in json.loads(entry[1])
    assert f"COPY deploy/{Path(script).name} {script}" in CONTAINER
    assert re.search(r"^USER \d+$", CONTAINER, re.MULTILINE)
    for copied in re.findall(r"^COPY (?!--from)(.+) \S+$", CONTAINER, re.MULTILINE):
        assert all((CHECKOUT / name).exists() for name in copied.split())


@pytest.mark.peer
@pytest.mark.skipif(shutil.which("hadolint") is None, reason="no hadolint")
def test_a_linter_finds_nothing_in_the_container_file() -> None:
    ended = subprocess.run(["hadolint", str(DEPLOY / "Containerfile")], capture_output=True, timeout=60, check=False)
    assert (ended.returncode, ended.stdout) == (0, b"")


def test_kernel_settings_have_a_reason_each_and_are_the_kernels() -> None:
    blocks = (DEPLOY / "90-zcserve.conf").read_text().strip().split("\n\n")[1:]
    assert len(blocks) >= 5
    for block in blocks:
        *reason, line = block.splitlines()
        assert reason
        assert all(one.startswith("# ") for one in reason)
        name, value = line.split(" = ")
        assert value.isdigit()
        file = Path("/proc/sys", *name.split("."))
        assert file.exists() or not file.parent.exists()  # a container may show some only


@pytest.mark.peer
@pytest.mark.skipif(shutil.which("logrotate") is None, reason="no logrotate")
def test_a_log_is_rotated_and_the_next_lines_are_in_a_new_one(
    site: Site, command: StartCommand, tmp_path: Path, wait_until: WaitUntil
) -> None:
    logs, conf = tmp_path / "logs", tmp_path / "conf"
    logs.mkdir(mode=0o750)
    log = logs / "access.log"
    server = command(site.root, "--access-log", str(log))
    signal = re.search(r"systemctl kill --kill-whom=main --signal=(\w+) zcserve.service", LOGROTATE)
    assert signal is not None
    text = LOGROTATE.replace("/var/log/zcserve", str(logs)).replace(signal[0], f"kill -{signal[1]} {server.pid}")
    conf.write_text(text)
    conf.chmod(0o644)

    def rotate(*flags: str) -> str:
        argv = ["logrotate", *flags, "-s", str(tmp_path / "state"), str(conf)]
        ended = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
        assert ended.returncode == 0, ended.stderr
        return ended.stderr

    with Client(server.port) as client:
        client.get("/first")
        wait_until(lambda: log.exists() and "/first" in log.read_text())
        assert "error" not in rotate("-d")
        rotate("-f")
        wait_until(log.exists)
        client.get("/second")
        wait_until(lambda: "/second" in log.read_text())
    assert "/first" in (logs / "access.log.1").read_text()
    assert "/first" not in log.read_text()
