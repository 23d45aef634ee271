"""The access log of a site: its lines are in its own file, whichever engine and lane answers, over reloads, rotations
and upgrades, and what is wrong with one log touches no other."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support.client import Client
from tests.support.waiting import WaitUntil
from zcserve import Config, Server
from zcserve.config.sources import load

EACH = [("python", 1), ("native", 1), ("native", 2)]
HOSTS = ("www.example", "blog.example", "shop.example", "news.example", "dark.example")
LARGE = bytes(1 << 20)


class Node:
    """A server of a file that the test writes: `www` has the server's log, `blog` and `shop` share one, `news` has
    another, and `dark` none."""

    def __init__(self, path: Path, engine: str, lanes: int) -> None:
        self.path = path
        self.file = path / "web.toml"
        self.config = {"port": 0, "engine": engine, "lanes": lanes}
        self.root = path / "root"
        self.root.mkdir()
        (self.root / "page").write_bytes(b"page")
        (self.root / "large").write_bytes(LARGE)
        self.stack = ExitStack()
        self.server: Server

    def write(self, more: str = "", **logs: str) -> None:
        """Have sites log there."""
        text = f'root = "{self.root}"\naccess_log = "{self.path}/own"\n{more}'
        text += 'unknown_host = "421"\nhosts = ["www.example"]\n'
        for name, log in ({"blog": "ours", "shop": "./ours", "news": "news", "dark": "off"} | logs).items():
            path = log if log in ("off", "/dev/full") else f"{self.path}/{log}"
            text += f'[sites.{name}]\nroot = "{self.root}"\nhosts = ["{name}.example"]\naccess_log = "{path}"\n'
        self.file.write_text(text)

    def read(self) -> Config:
        return load(self.config, {}, self.file)

    def start(self, more: str = "", **logs: str) -> None:
        self.write(more, **logs)
        self.server = self.stack.enter_context(Server(self.read(), self.read))

    def lines(self, name: str) -> list[str]:
        path = self.path / name
        return path.read_text().splitlines() if path.exists() else []

    def targets(self, *names: str) -> Counter[str]:
        """What was asked for, by the lines of these files."""
        found: Counter[str] = Counter()
        for name in names:
            for line in self.lines(name):
                match = re.match(r'127\.0\.0\.1 - - \[[^]]+\] "(?:\w+ (\S+) HTTP/1\.1|-)" \d\d\d \d+ "', line)
                assert match is not None, line
                found[match[1] or "-"] += 1
        return found


@pytest.fixture(params=EACH, ids=["python", "one lane", "two lanes"])
def node(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Node]:
    engine, lanes = request.param
    if engine == "native":
        pytest.importorskip("zcserve.net._lane")
    made = Node(tmp_path, engine, lanes)
    with made.stack:
        yield made


def ask(client: Client, *asked: tuple[str, str], method: str = "GET", more: str = "") -> list[int]:
    """Ask hosts for targets, all in one pipe: the statuses."""
    heads = [f"{method} {target} HTTP/1.1\r\nHost: {host}\r\n{more}\r\n" for host, target in asked]
    client.send("".join(heads).encode())
    return [client.read(method=method).status for _ in asked]


def test_each_line_is_in_the_log_of_the_site_that_was_asked(node: Node, wait_until: WaitUntil) -> None:
    node.start()
    wanted: dict[str, Counter[str]] = {"own": Counter(), "ours": Counter(), "news": Counter()}
    logs = dict(zip(HOSTS, ("own", "ours", "ours", "news", ""), strict=True))
    with Client(node.server.port) as client:
        for turn in range(6):
            for kind, status in (("page", 200), ("absent", 404), ("large", 200), ("page", 200)):
                asked = [(host, f"/{kind}?{turn}-{host}") for host in HOSTS]
                assert ask(client, *asked) == [status] * len(asked)
                for host, target in asked:
                    if log := logs[host]:
                        wanted[log][target] += 1
        asked = [(HOSTS[turn % 5], "/page") for turn in range(40)]
        assert ask(client, *asked, method="HEAD", more='User-Agent: "quoted"\r\n') == [200] * 40  # Python writes these
        for host, target in asked:
            if log := logs[host]:
                wanted[log][target] += 1
        assert ask(client, ("nobody.example", "/nobody")) == [421]
        wanted["own"]["/nobody"] += 1
        client.send(b"GET / HTTP/1.1\r\n\r\n")
        assert client.read().status == 400
        wanted["own"]["-"] += 1
    wait_until(lambda: {name: node.targets(name) for name in wanted} == wanted)
    assert not (node.path / "off").exists()


def test_lines_that_say_more_or_stand_for_others_are_in_their_logs_and_slow_requests_are_told_of_each_site(
    node: Node, wait_until: WaitUntil, caplog: pytest.LogCaptureFixture
) -> None:
    node.start('access_log_fields = ["host", "duration"]\naccess_log_sample = 3\nslow_log = "0.0001ms"\n')
    counts = Counter({"own": 0, "ours": 0, "news": 0})
    with Client(node.server.port, receive_buffer=8192) as client:
        for _ in range(4):
            assert ask(client, *[(host, "/absent") for host in HOSTS]) == [404] * 5
            assert ask(client, *[(host, "/large") for host in HOSTS]) == [200] * 5
    counts.update({"own": 4, "ours": 8, "news": 4})
    logs = node.server.access_logs
    assert logs is not None

    def is_complete() -> bool:
        lines = {name: node.lines(name) for name in counts}
        errors = {name: sum(" 404 " in line for line in found) for name, found in lines.items()}
        return errors == counts and sum(map(len, lines.values())) + logs.left_out == 32

    wait_until(is_complete)
    for name, hosts in (("own", "www"), ("ours", "blog|shop"), ("news", "news")):
        for line in node.lines(name):
            assert re.fullmatch(
                rf'127.*"GET /(?:absent|large) HTTP/1\.1" .* "(?:{hosts})\.example" \d\.\d{{6}}', line
            ), line
    wait_until(lambda: "slow: GET /" in caplog.text)
    assert (node.server.loop.front.lines_lost, logs.lost) == (0, 0)


def test_logs_are_rotated_come_go_and_change_and_no_line_is_lost(node: Node, wait_until: WaitUntil) -> None:
    node.start()
    told: list[str] = []
    files = ["own", "ours", "news"]
    count = 0
    with Client(node.server.port) as client, Client(node.server.port) as other:

        def talk() -> None:
            nonlocal count
            for each in (client, other):
                count += 1
                asked = [(host, f"/page?{count}-{host}") for host in HOSTS[:4]] * 3
                assert ask(each, *asked) == [200] * 12

        def changed(**logs: str) -> None:
            before = len(told)
            node.write(**logs)
            talk()
            node.server.reload(told.append)
            while len(told) == before:
                talk()
            assert told[-1] == ""
            talk()

        changed(news="other")
        changed(news="own", shop="other")
        for name in ("own", "ours", "news", "other"):
            os.rename(node.path / name, node.path / f"{name}.1")
            files.append(f"{name}.1")
        node.server.loop.call_soon(lambda: reopen(node.server))
        wait_until(lambda: all((node.path / name).exists() for name in ("own", "ours", "other")))
        changed(news="news", shop="ours")
        changed(blog="new")
    files += ["other", "new"]
    wanted = Counter({f"/page?{number}-{host}": 3 for number in range(1, count + 1) for host in HOSTS[:4]})
    wait_until(lambda: node.targets(*filter(lambda name: (node.path / name).exists(), files)) == wanted)
    assert {target.partition("-")[2] for target in node.targets("new")} == {"blog.example"}
    assert {target.partition("-")[2] for target in node.targets("other.1")} == {"news.example", "shop.example"}


def reopen(server: Server) -> None:
    """As SIGUSR1 does."""
    logs = server.access_logs
    assert logs is not None
    server.loop.front.when_written(logs.reopen)


def test_a_full_disk_of_one_site_is_told_with_its_log_and_touches_no_other(
    node: Node, wait_until: WaitUntil, caplog: pytest.LogCaptureFixture
) -> None:
    node.start(news="/dev/full")
    with Client(node.server.port) as client:
        for _ in range(5):
            assert ask(client, *[(host, "/page") for host in HOSTS]) == [200] * 5
        wait_until(lambda: "access log /dev/full: No space left on device: records wait" in caplog.text)
        assert ask(client, *[(host, "/behind") for host in HOSTS]) == [404] * 5
        wait_until(lambda: node.targets("own") == {"/page": 5, "/behind": 1})
        wait_until(lambda: node.targets("ours") == {"/page": 10, "/behind": 2})


def test_a_reload_with_a_log_that_cannot_be_opened_leaves_the_site_and_its_log_as_they_are(
    node: Node, wait_until: WaitUntil, caplog: pytest.LogCaptureFixture
) -> None:
    node.start()
    told: list[str] = []
    node.write(news="absent/log")
    node.server.reload(told.append)
    wait_until(lambda: told)
    assert told == ["not all sites could be built, the log says why: news"]
    assert "reload: site news is as it was: access_log: " in caplog.text
    assert "cannot be opened: No such file or directory" in caplog.text
    with Client(node.server.port) as client:
        assert ask(client, ("news.example", "/page")) == [200]
    wait_until(lambda: node.targets("news") == {"/page": 1})


def test_the_first_log_of_a_server_takes_a_restart(
    tmp_path: Path, wait_until: WaitUntil, caplog: pytest.LogCaptureFixture
) -> None:
    node = Node(tmp_path, "python", 1)
    site = f'[sites.a]\nroot = "{node.root}"\nhosts = ["a.example"]\n'
    node.file.write_text(site)
    with Server(node.read(), node.read) as server:
        told: list[str] = []
        node.file.write_text(site + f'access_log = "{tmp_path}/log"\n')
        server.reload(told.append)
        wait_until(lambda: told)
    assert "it has an access log, the first one of this server: a restart or an upgrade" in caplog.text
