"""deploy/compose.yaml: what its programs are told, as far as it can be tried where there are no containers."""

from __future__ import annotations

import re
import subprocess
import sys
from typing import Any

import pytest

from tests.support.command import CHECKOUT

yaml = pytest.importorskip("yaml")

DEPLOY = CHECKOUT / "deploy"
COMPOSE: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]


def address_of(name: str) -> str:
    """Where a service is in the network."""
    return str(SERVICES[name]["networks"]["fleet"]["ipv4_address"])


def words_of(name: str) -> list[str]:
    """The command line of a service of zcserve's."""
    return [*SERVICES[name]["entrypoint"], *SERVICES[name]["command"]]


def after(words: list[str], flag: str) -> str:
    """A flag's value."""
    return words[words.index(flag) + 1]


@pytest.mark.parametrize(("kind", "command"), [("node", ["--help"]), ("agent", ["node", "--help"])])
def test_every_flag_is_one_that_there_is(kind: str, command: list[str]) -> None:
    argv = [sys.executable, "-m", "zcserve", *command]
    told = subprocess.run(argv, capture_output=True, text=True, timeout=60, cwd=CHECKOUT, check=True).stdout
    for number in (1, 2, 3):
        for word in words_of(f"{kind}{number}"):
            assert not word.startswith("--") or re.search(rf"(?<!\S){word}\b", told), word


def test_an_agent_and_its_server_are_beside_each_other() -> None:
    for number in (1, 2, 3):
        server, agent = words_of(f"node{number}"), words_of(f"agent{number}")
        assert after(server, "--admin") == after(agent, "--server") == f"{address_of(f'node{number}')}:8081"
        assert after(server, "--root") == after(agent, "--releases") + "/current"
        assert after(agent, "--node") == f"node{number}"
        assert after(agent, "--nats") == f"nats://{address_of('nats')}:4222"
        assert after(server, "--proxy-headers") == address_of("front")
        mounts = {
            volume.split(":")[0] for name in ("node", "agent") for volume in SERVICES[f"{name}{number}"]["volumes"]
        }
        assert mounts == {f"releases{number}"} <= set(COMPOSE["volumes"])


def test_haproxy_has_what_the_sample_has_with_three_nodes() -> None:
    def lines(text: str) -> list[str]:
        return [
            line.strip() for line in text.splitlines() if line.strip() and not line.strip().startswith(("#", "server "))
        ]

    sample = (DEPLOY / "haproxy.cfg").read_text()
    sample = sample[sample.index("defaults\n") : sample.index("backend by_path")].replace("127.0.0.1:8080", ":8080")
    here = str(COMPOSE["configs"]["haproxy"]["content"])
    assert lines(here) == lines(sample)
    for number in (1, 2, 3):
        assert f"server node{number} {address_of(f'node{number}')}:8080 port 8081\n" in here
