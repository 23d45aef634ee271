"""What the miss-ratio curve is told, by both engines, about real requests."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.client import Client
from tests.support.site import Serve, Site
from tests.support.waiting import WaitUntil
from zcserve import Server
from zcserve.cache.heads import HEAD_BYTES
from zcserve.config.sources import load
from zcserve.net.sampler import Sampler

ENGINES = pytest.mark.parametrize("engine", ["python", "native"])
FILES = 60
SIZE = 3000
REQUESTS = 1500


@pytest.fixture
def thrash(site: Site, serve: Serve, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Server]:
    """`thrash(engine)`: a server that cannot keep all its files and measures every use."""
    monkeypatch.setattr("zcserve.net.sampler.EVERY", 1)
    for number in range(FILES):
        site.write(f"{number}", bytes([number]) * SIZE)

    def start(engine: str, memory: str = "128K") -> Server:
        if engine == "native":
            pytest.importorskip("zcserve.net._lane")
        server = serve(site.root, engine=engine, memory=memory)
        assert isinstance(server, Server)
        return server

    return start


def stack_distances(targets: list[int]) -> list[float]:
    """How many other files were asked for since the last time, by brute force; inf for the first time."""
    order: list[int] = []
    distances = []
    for target in targets:
        if target in order:
            distances.append(float(order.index(target)))
            order.remove(target)
        else:
            distances.append(float("inf"))
        order.insert(0, target)
    return distances


@ENGINES
def test_the_curve_agrees_with_a_simulation_of_the_same_requests(
    thrash: Callable[..., Server], wait_until: WaitUntil, engine: str
) -> None:
    server = thrash(engine)
    with Client(server.port) as client:
        # It begins with the next second, and the loop turns when there is something to do.
        wait_until(lambda: client.get("/absent") and server.site.sampler)
    rng = random.Random(engine)
    targets = [min(int(rng.paretovariate(0.9)) - 1, FILES - 1) for _ in range(REQUESTS)]
    with Client(server.port) as client:
        for target in targets:
            assert client.get(f"/{target}").body == bytes([target]) * SIZE
    sampler = server.site.sampler
    assert isinstance(sampler, Sampler)
    with Client(server.port) as client:
        wait_until(lambda: client.get("/absent") and sampler.curve.accesses >= REQUESTS)  # told once a second
    distances = stack_distances(targets)
    for kept in (5, 10, 20, 40):
        expected = sum(distance < kept for distance in distances) / REQUESTS
        assert sampler.curve.hit_ratio(kept * (SIZE + HEAD_BYTES)) == pytest.approx(expected, abs=0.04)


@ENGINES
def test_nothing_is_sampled_while_everything_fits(
    thrash: Callable[..., Server], wait_until: WaitUntil, engine: str
) -> None:
    server = thrash(engine, memory="16M")
    with Client(server.port) as client:
        dates = {client.get("/1")["Date"]}

        def two_seconds_later() -> bool:
            dates.add(client.get("/1")["Date"])
            return len(dates) > 2

        wait_until(two_seconds_later)
    assert server.site.sampler is None


def test_the_log_says_what_more_memory_would_give(
    thrash: Callable[..., Server],
    wait_until: WaitUntil,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr("zcserve.foresight.MEMORY_TOLD_EVERY_S", 0.0)
    caplog.set_level("INFO")
    server = thrash("python")
    with Client(server.port) as client:

        def told() -> bool:
            client.get("/1")
            return "finds content resident would be" in caplog.text

        wait_until(told)
    assert "with 64.0 KiB" in caplog.text
    assert "with 256.0 KiB" in caplog.text


@ENGINES
def test_one_path_of_two_sites_is_two_resources(
    engine: str, tmp_path: Path, wait_until: WaitUntil, monkeypatch: pytest.MonkeyPatch
) -> None:
    if engine == "native":
        pytest.importorskip("zcserve.net._lane")
    monkeypatch.setattr("zcserve.net.sampler.EVERY", 1)
    text = 'port = 0\nmemory = "64K"\n'
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        for number in range(FILES):
            (tmp_path / name / f"{number}").write_bytes(bytes([number]) * SIZE)
        text += f'[sites.{name}]\nroot = "{tmp_path / name}"\nhosts = ["{name}.example"]\n'
    (tmp_path / "web.toml").write_text(text)
    with Server(load({"engine": engine}, {}, tmp_path / "web.toml")) as server, Client(server.port) as client:

        def ask(name: str, path: str) -> int:
            client.send(f"GET {path} HTTP/1.1\r\nHost: {name}.example\r\n\r\n".encode())
            return client.read().status

        wait_until(lambda: ask("one", "/absent") and server.site.sampler)
        sampler = server.site.sampler
        assert isinstance(sampler, Sampler)
        for name in ("one", "two"):
            assert [ask(name, f"/{number}") for number in range(10)] == [200] * 10
        wait_until(lambda: ask("one", "/absent") and sampler.curve.accesses >= 20)
        assert sampler.curve.samples == 20
