"""The demo's fleet: its builds, its relay, HAProxy's file, and a short run of it with real programs."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

import pytest

from tools.fleet_demo import __main__ as demo
from tools.fleet_demo import content
from tools.fleet_demo.content import Shape
from tools.fleet_demo.front import SAMPLE, filled_in
from tools.fleet_demo.node import Node
from tools.fleet_demo.processes import SERVERS_PATH, missing
from tools.fleet_demo.relay import Relay
from tools.fleet_demo.scenes.programme import SCENES
from tools.fleet_demo.stage import PROGRAMS

CHECKOUT = Path(__file__).parents[2]
PROGRAM = (sys.executable, "-m", "tools.fleet_demo")


def test_contents_of_builds_are_told_apart_and_a_page_names_its_assets(tmp_path: Path) -> None:
    first, second = (content.write(tmp_path / str(build), build, Shape(4, 1, 1)) for build in (1, 2))
    assert first[content.INDEX] != second[content.INDEX]
    assert {path for path in first if first[path] == second.get(path)} >= {"/bulk/00001.html", "/bulk/00003.html"}
    assert first["/bulk/00000.html"] != second["/bulk/00000.html"]
    named = content.assets_named((tmp_path / "1/index.html").read_bytes())
    assert len(named) == 3
    assert set(named) <= first.keys()
    assert len(set(named) & second.keys()) == 1  # the one that never changes
    for path, digest in first.items():
        assert content.digest_of(Path(f"{tmp_path}/1{path}").read_bytes()) == digest


def test_haproxy_gets_the_nodes_of_the_demo_in_both_backends(tmp_path: Path) -> None:
    nodes = [Node(f"n{n}", f"127.0.0.1{n}", (8000 + n, 8100 + n, 8200 + n), tmp_path / str(n), []) for n in (1, 2, 3)]
    text = filled_in(SAMPLE.read_text(), nodes, 8080, tmp_path / "stats")
    assert re.findall(r"^    server (n\d .*)", text, re.MULTILINE) == [
        *(f"n{n} 127.0.0.1{n}:800{n} port 810{n}" for n in (1, 2, 3)),
        *(f"n{n} 127.0.0.1{n}:800{n} track nodes/n{n}" for n in (1, 2, 3)),
    ]


@pytest.fixture
def relay() -> Iterator[Relay]:
    relay = Relay()
    yield relay
    relay.close()


def test_a_relay_carries_stalls_and_resets(relay: Relay) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as target:
        port = relay.listen("127.0.0.1", target.getsockname())
        with closing(socket.create_connection(("127.0.0.1", port), 10)) as near:
            far, _ = target.accept()
            with closing(far):
                near.sendall(b"one")
                assert far.recv(10) == b"one"
                relay.stall()
                near.sendall(b"two")
                far.settimeout(0.05)
                with pytest.raises(TimeoutError):
                    far.recv(10)
                relay.cut()
                near.settimeout(10)
                with pytest.raises(ConnectionResetError):
                    near.recv(10)
        relay.restore()
        with closing(socket.create_connection(("127.0.0.1", port), 10)) as near:
            far, _ = target.accept()
            with closing(far):
                far.sendall(b"three")
                assert near.recv(10) == b"three"


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    """For a run; what it needs is there."""
    for module in ("cryptography", "nats", "urllib3"):
        pytest.importorskip(module)
    for program in missing(PROGRAMS["nats"]):
        pytest.skip(f"{program} is not installed")
    return {"PATH": f"/usr/local/bin:/usr/bin:/bin:{SERVERS_PATH}", "TMPDIR": str(tmp_path)}


def started_in(folder: Path) -> list[bytes]:
    """Command lines of processes that name a folder."""
    lines = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            lines.append(file.read_bytes())
    return [line for line in lines if os.fsencode(folder) in line]


@pytest.mark.peer
@pytest.mark.parametrize("bus", ["nats", "http"])
def test_scenes_of_a_short_run_are_ok(bus: str, tmp_path: Path, environ: dict[str, str]) -> None:
    scenes = ("release", "rollback", "forged") if bus == "nats" else ("release", "purge")
    argv = ["--short", "--bus", bus, "--svg", str(tmp_path / "run.svg"), *(f"--only={scene}" for scene in scenes)]
    ended = subprocess.run(
        [*PROGRAM, *argv], cwd=CHECKOUT, env=environ, capture_output=True, text=True, timeout=240, check=False
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    lines = [line.split()[:2] for line in ended.stdout.splitlines()]
    assert lines[:-1] == [["ok", scene] for scene in scenes]
    assert "0 faults" in ended.stdout.splitlines()[-1]
    assert "</svg>" in (tmp_path / "run.svg").read_text()
    assert list(tmp_path.glob("fleet-demo-*")) == []


@pytest.mark.peer
def test_a_run_that_is_interrupted_leaves_nothing(tmp_path: Path, environ: dict[str, str]) -> None:
    argv = [*PROGRAM, "--only=release", "--only=canary"]
    with subprocess.Popen(argv, cwd=CHECKOUT, env=environ, stdout=subprocess.PIPE, text=True) as run:
        assert run.stdout is not None
        try:
            assert run.stdout.readline().startswith("ok")
            assert started_in(tmp_path)
        finally:
            run.send_signal(signal.SIGINT)
        assert run.wait(120) == 130
    assert started_in(tmp_path) == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("flags", "needed"),
    [
        ("--only clock", ["nats-server", "nginx", "haproxy", "faketime"]),
        ("--only clock --bus http", ["nginx", "haproxy", "faketime"]),
        ("--only release", ["nats-server", "nginx", "haproxy"]),
    ],
)
def test_what_is_missing_is_said_before_anything_starts_with_the_command_that_installs_it(
    flags: str, needed: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("shutil.which", lambda name, path=None: None)
    monkeypatch.setattr(demo, "MODULES", ("no_such_module",))
    assert demo.main(flags.split()) == 2
    assert capsys.readouterr().err.splitlines() == [
        *(f"fleet_demo: no program {name}: apt-get install {name}" for name in needed),
        "fleet_demo: no module no_such_module: pip install 'zcserve[fleet]'",
    ]


def test_the_page_lists_all_programs_that_a_run_starts() -> None:
    page = (CHECKOUT / "docs" / "fleet-demo.md").read_text()
    needed = {*PROGRAMS["nats"], *(name for scene in SCENES for name in scene.programs)}
    listed = re.search(r"apt-get install (.*)", page)
    assert listed is not None
    assert set(listed[1].split()) == needed


def test_a_scene_that_is_not_there_is_wrong_use() -> None:
    ended = subprocess.run(
        [*PROGRAM, "--only", "none"], cwd=CHECKOUT, capture_output=True, text=True, timeout=60, check=False
    )
    assert ended.returncode == 2
    assert "release" in ended.stderr


def test_an_agent_waits_in_no_way_that_the_faked_clock_of_a_scene_refuses() -> None:
    """`time.sleep` is clock_nanosleep(2) to a time of the monotonic clock, which libfaketime answers with EINVAL."""
    files = list((CHECKOUT / "zcserve" / "fleet").rglob("*.py"))
    assert files
    assert [file.name for file in files if "time.sleep(" in file.read_text()] == []
