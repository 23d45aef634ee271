"""`zcserve node` as a command line: flags, what is wrong with them, exit codes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.fleet import FakeServer
from zcserve import command
from zcserve.config.addresses import TcpAddress, UnixAddress
from zcserve.ctl import arguments
from zcserve.ctl.commands import NODE
from zcserve.errors import UsageError
from zcserve.fleet.bus import NameTakenError
from zcserve.fleet.http_node import HttpNodeBus
from zcserve.fleet.keeping import Kept
from zcserve.fleet.messages import Desired, State
from zcserve.fleet.node_command import KEEP_AGE_S, Plan, main, plan_of
from zcserve.fleet.node_memory import Memory

NEEDED = ("--site", "www", "--node", "n1", "--server", "unix:/run/admin", "--releases", "/releases")
HERE = (*NEEDED, "--listen", "127.0.0.1:0")


def plan(*argv: str) -> Plan:
    given, _ = arguments.read(argv, NODE)
    return plan_of(given)


def test_flags_are_read_with_their_units(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("a token of some length\nand more")
    found = plan(*HERE)
    assert (found.site, found.node, found.releases) == ("www", "n1", "/releases")
    assert (found.server.address, found.listen) == (UnixAddress("/run/admin"), TcpAddress("127.0.0.1", 0))
    assert (found.keep_count, found.keep_age_s, found.rate, found.keys) == (3, KEEP_AGE_S, None, ())
    more = ("--keep", "1", "--keep-for", "2h", "--rate", "10M", "--keys", "/a", "--keys", "/b", "--source", "/s")
    found = plan(*NEEDED, "--listen", ":8090", "--token-file", str(tmp_path / "token"), *more)
    assert (found.keep_count, found.keep_age_s, found.rate) == (1, 7200.0, 10 << 20)
    assert (found.keys, found.source, found.token) == (("/a", "/b"), "/s", b"a token of some length")
    (tmp_path / "nodes").write_text("n1 http://10.0.0.1:8090\nn2 http://10.0.0.2:8090\n")
    assert [listed.name for listed in plan(*HERE, "--nodes", str(tmp_path / "nodes")).nodes] == ["n1", "n2"]
    with pytest.raises(UsageError, match="does not name n3"):
        plan(*HERE[:3], "n3", *HERE[4:], "--nodes", str(tmp_path / "nodes"))
    assert [plan(*HERE, *more).drains_behind for more in ((), ("--behind", "ready"))] == [True, False]
    found = plan(*NEEDED, "--nats", "nats://a,nats://b", "--nats-creds", "/creds", "--nats-replicas", "3")
    assert (found.nats, found.nats_more) == ("nats://a,nats://b", {"creds": Path("/creds"), "replicas": 3})


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        ((), "--site and --node and --server and --releases are needed"),
        (HERE[2:], "--site is needed"),
        (NEEDED, "one of --nats URL and --listen HOST:PORT"),
        ((*HERE, "--nats", "nats://a"), "one of --nats URL and --listen HOST:PORT"),
        ((*HERE, "--nats-ca", "/a"), "--nats-ca goes with --nats URL"),
        ((*NEEDED, "--nats", "nats://a", "--nodes", "/a"), "--nodes goes with --listen"),
        ((*NEEDED, "--nats", "nats://a", "--token-file", __file__), "--token-file goes with --listen"),
        ((*NEEDED, "--listen", "0.0.0.0:80"), "can be reached from elsewhere; accepted: 127.0.0.1, or --token-file"),
        ((*NEEDED, "--listen", "unix:/a"), "accepted: HOST:PORT"),
        ((*HERE, "--token-file", "/none"), "cannot be read"),
        ((*HERE, "--token-file", os.devnull), "must have 16 ASCII characters or more"),
        ((*HERE, "--keep", "-1"), "--keep -1 is less than none"),
        ((*HERE, "--keep", "x"), "is not a whole number"),
        ((*HERE, "--rate", "x"), "is not a size"),
        ((*HERE, "--keep-for", "x"), "is not a duration"),
        ((*HERE, "--behind", "x"), "accepted: one of unready, ready"),
        (("--site", "a/b", *HERE[2:]), "--site"),
        ((*HERE, "--sit", "a"), "the nearest known is --site"),
    ],
)
def test_wrong_use_is_named(argv: tuple[str, ...], words: str) -> None:
    with pytest.raises(UsageError) as raised:
        plan(*argv)
    assert words in str(raised.value)


def test_help_and_wrong_use_have_their_exit_codes(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(("node", "--help")) == 0
    said = capsys.readouterr().out
    assert all(flag.flag in said for flag in NODE)
    assert "exit codes:" in said
    assert command.main(("node", "operand", *HERE)) == 2
    assert "unexpected argument 'operand'" in capsys.readouterr().err


def test_what_cannot_be_begun_is_wrong_use(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    def begin(*flags: str) -> str:
        argv = ("--site", "www", "--node", "n1", "--server", "unix:/none", "--releases", str(tmp_path / "r"), *flags)
        assert main(argv) == 2
        return capfd.readouterr().err

    assert "cannot be read" in begin("--listen", "127.0.0.1:0", "--keys", str(tmp_path / "none"))
    kept = Kept(str(tmp_path / "r"))
    assert "another agent has these releases" in begin("--listen", "127.0.0.1:0")
    kept.write("memory.json", Memory(Desired("blog", 1)).dump())
    del kept
    assert "is of site blog, not www" in begin("--listen", "127.0.0.1:0")


def test_an_agent_whose_name_another_one_has_ends_and_says_so(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def report(bus: HttpNodeBus, state: State) -> None:
        raise NameTakenError("another agent is node n1")

    monkeypatch.setattr(HttpNodeBus, "report", report)
    fake, releases = FakeServer(), tmp_path / "r"
    fake.serve(str(releases / "none"))
    try:
        argv = ("--site", "www", "--node", "n1", "--listen", "127.0.0.1:0", "--releases", str(releases))
        assert main((*argv, "--server", f"127.0.0.1:{fake.port}")) == 2
    finally:
        fake.close()
    assert "the agent ends: another agent is node n1; accepted: a --node of its own for each" in capfd.readouterr().err


def test_importing_the_server_loads_nothing_of_the_fleet() -> None:
    program = "import sys, zcserve, zcserve.cli, zcserve.command, zcserve.ctl.shell\n"
    program += "print([name for name in sys.modules if name.startswith('zcserve.fleet') or name == 'asyncio'])"
    environ = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run([sys.executable, "-c", program], env=environ, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
