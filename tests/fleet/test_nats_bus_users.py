"""TLS, credentials and permissions: the bus with deploy/nats-server.conf, and what is said where NATS refuses."""

from __future__ import annotations

import asyncio
import logging
import os
import re
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

pytest.importorskip("nats")
pytest.importorskip("cryptography")

from tests.support.bus_promises import PROMISES, desired, eventually, gaps, has, hearing, names, purge
from tests.support.certificates import Authority
from tests.support.nats_keys import credentials
from tests.support.nats_server import NatsServer, nats_server
from tests.support.nats_wiring import NatsWiring
from zcserve.fleet import jetstream, nats_link
from zcserve.fleet.bus import BusError, Caught
from zcserve.fleet.nats_bus import NatsNodeBus, NatsOperatorBus
from zcserve.fleet.nats_place import NatsPlace

pytestmark = pytest.mark.peer

CONFIGURATION = Path(__file__).parents[2] / "deploy" / "nats-server.conf"
PASSWORDS = {"ZCSERVE_OPERATOR_PASSWORD": "o:p@ss", "ZCSERVE_NODES_PASSWORD": "n"}


def configured(folder: Path, authority: Authority) -> str:
    """deploy/nats-server.conf with files and an address of a test's own, and without its store."""
    certificate, key = authority.sign("localhost", "127.0.0.1")
    files = {"server.pem": certificate, "server.key": key, "ca.pem": authority.ca}
    text = re.sub(r"/etc/nats/([\w.]+)", lambda match: str(files[match[1]]), CONFIGURATION.read_text())
    text, count = re.subn(r"(?m)^listen: .*$", "", text.replace('"/var/lib/nats"', f'"{folder}"'))
    assert count == 1
    admin, mute = (
        '{ user: "admin", password: "admin" }',
        '{ user: "mute", password: "m", permissions: { publish: $may_mute } }',
    )
    may_mute = 'may_mute = [ "$JS.API.CONSUMER.CREATE.>", "$JS.API.STREAM.CREATE.>", "$JS.API.STREAM.INFO.>" ]'
    return may_mute + "\n" + text.replace("users: [", f"users: [ {admin}, {mute}, ")  # one may all, one may not ask


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ca"))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, authority: Authority) -> Iterator[NatsServer]:
    """By the file in deploy/."""
    folder = tmp_path_factory.mktemp("nats")
    with pytest.MonkeyPatch.context() as patch:
        for name, value in PASSWORDS.items():
            patch.setenv(name, value)
        with nats_server(folder, configured(folder / "store", authority), has_jetstream=False) as server:
            yield server


class WwwWiring(NatsWiring):
    """The site www, with a user for each side."""

    def __init__(self, server: NatsServer, authority: Authority) -> None:
        super().__init__(server)
        self.site = "www"
        host = f"@localhost:{server.port}"
        self.place = NatsPlace.of(f"tls://operator:o%3Ap%40ss{host}", ca=authority.ca)
        self.nodes = NatsPlace.of(f"tls://nodes:n{host}", ca=authority.ca)
        self.mute = NatsPlace.of(f"tls://mute:m{host}", ca=authority.ca)

    @asynccontextmanager
    async def node(self, name: str) -> AsyncIterator[NatsNodeBus]:
        bus = NatsNodeBus(self.nodes, self.site, name)
        try:
            yield bus
        finally:
            await bus.close()


@pytest.fixture
def wiring(server: NatsServer, authority: Authority) -> WwwWiring:
    return WwwWiring(server, authority)


def test_nats_server_finds_nothing_to_mend_in_the_configuration(
    server: NatsServer, tmp_path: Path, authority: Authority
) -> None:
    file = tmp_path / "nats-server.conf"
    file.write_text(configured(tmp_path, authority))
    done = subprocess.run(
        [server.program, "-t", "-c", file], capture_output=True, text=True, env=os.environ | PASSWORDS
    )
    assert done.returncode == 0, done.stderr
    assert "configuration" in done.stderr + done.stdout


def test_its_users_may_do_all_that_the_bus_does(wiring: WwwWiring) -> None:
    wanted = (
        "set_aside",
        "all_happens",
        "poisoned",
        "replaced",
        "forgotten",
        "repeated",
        "until_it_is_acknowledged",
        "ends_by",
    )
    chosen = [promise for promise in PROMISES if any(word in promise.__name__ for word in wanted)]
    assert len(chosen) == 7

    async def clear() -> None:
        admin = NatsPlace.of(f"tls://admin:admin@localhost:{wiring.server.port}", ca=wiring.place.ca)
        async with NatsWiring(wiring.server, admin).jetstream() as jetstream:
            for stream in (await jetstream.api("STREAM.NAMES"))["streams"] or []:
                await jetstream.api(f"STREAM.DELETE.{stream}")

    for promise in chosen:
        asyncio.run(promise(wiring))
        asyncio.run(clear())


def test_a_node_may_not_say_what_is_desired_and_hears_so_at_once(wiring: WwwWiring) -> None:
    async def run() -> None:
        bus = NatsOperatorBus(wiring.nodes, "www")
        began = time.monotonic()
        for action in (
            bus.put_desired(desired(wiring, 99), (await bus.desired()).edition),
            bus.publish(purge(wiring, "c1")),
            bus.claim("www-1"),
            bus.put_manifest("0" * 64, b"x"),
        ):
            with pytest.raises(BusError, match="NATS refuses this user: permissions violation for publish"):
                await action
        other = NatsNodeBus(wiring.nodes, "blog", "n1")
        with pytest.raises(BusError, match="NATS refuses this user"):
            await other.manifest("0" * 64)
        assert time.monotonic() - began < nats_link.ANSWER_S
        await bus.close()
        await other.close()

    asyncio.run(run())


@pytest.mark.parametrize(
    ("url", "more", "said"),
    [
        ("tls://operator:wrong@localhost", {}, "NATS refuses the credentials: .*[Aa]uthorization"),
        ("tls://localhost", {}, "NATS refuses the credentials: .*[Aa]uthorization"),
        ("tls://operator:o%3Ap%40ss@localhost", {"ca": None}, "certificate verify failed"),
        ("nats://operator:o%3Ap%40ss@localhost", {"ca": None}, "certificate verify failed"),
    ],
)
def test_what_is_refused_is_said_and_told_once(
    server: NatsServer,
    authority: Authority,
    url: str,
    more: dict[str, Path | None],
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(nats_link, "WAITS_S", 0.2)
    monkeypatch.setattr(nats_link, "PAUSE_REFUSED_S", 0.05)
    monkeypatch.setattr(nats_link, "LEAVES_S", 0.1)

    async def run() -> None:
        bus = NatsNodeBus(NatsPlace.of(f"{url}:{server.port}", **{"ca": authority.ca} | more), "www", "n1")
        async with asyncio.timeout(30):
            while True:  # NATS may end the connection before it says why
                with pytest.raises(BusError) as refused:
                    await bus.read_desired()
                if re.search(said, str(refused.value)):
                    break
        with pytest.raises(BusError, match=said):
            await bus.read_desired()
        await bus.close()

    asyncio.run(run())
    lines = [record.getMessage() for record in caplog.records if "NATS" in record.getMessage()]
    assert len(lines) <= 2, lines
    assert re.search(said, lines[-1])
    assert "wrong" not in "".join(lines)


def test_where_tls_is_wanted_nothing_is_sent_without(
    tmp_path: Path, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nats_link, "WAITS_S", 0.2)

    async def run(port: int) -> None:
        for user in ("", "operator:secret@", "token@"):
            bus = NatsNodeBus(NatsPlace.of(f"tls://{user}localhost:{port}", ca=authority.ca), "www", "n1")
            with pytest.raises(BusError, match="offers no TLS"):
                await bus.read_desired()
            await bus.close()

    with nats_server(tmp_path / "nats", "trace: true\ndebug: true\n") as server:
        asyncio.run(run(server.port))
        assert "secret" not in server.log
        assert "operator" not in server.log


def test_a_reader_that_may_not_ask_is_told(
    wiring: WwwWiring, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """All that precedes the asking is permitted."""
    monkeypatch.setattr(jetstream, "SILENT_S", 0.2)
    monkeypatch.setattr(nats_link, "TOLD_AFTER_S", 0.5)

    def told() -> list[str]:
        return [record.getMessage() for record in caplog.records if record.name == nats_link.__name__]

    async def run() -> None:
        async with NatsWiring(wiring.server, wiring.mute).operator() as operator, hearing(operator.states()) as states:
            async with asyncio.timeout(30):
                while not told():
                    await asyncio.sleep(0.01)
            assert all(one == Caught() for one in states.heard)

    asyncio.run(run())
    (line,) = told()
    assert line.startswith(
        "states do not come from NATS; it is tried again until they do: NATS: nothing is heard of KV_"
    )
    assert "permissions violation for publish to" in line


def test_a_file_of_credentials_is_enough(tmp_path: Path) -> None:
    file = tmp_path / "user.creds"
    with nats_server(tmp_path / "nats", credentials(file)) as server:
        wiring = NatsWiring(server, NatsPlace.of(server.url, creds=file))

        async def run() -> None:
            async with wiring.operator() as operator, wiring.node("n1") as node, hearing(node.deliveries()) as commands:
                await commands.until(gaps)
                await operator.publish(purge(wiring, "c1"))
                assert names(await commands.until(has("c1"))) == ["c1"]
                await asyncio.to_thread(server.end)
                await asyncio.to_thread(server.start)
                await eventually(lambda: operator.publish(purge(wiring, "c2")))
                await commands.until(has("c2"))

        asyncio.run(run())
