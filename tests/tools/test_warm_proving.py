"""Proof of a release at nodes, and the health of canaries: asked over HTTP, and what is wrong is named."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.support.fleet_bus import Hub, MemoryBus
from tests.support.releases import release_of
from tools.warm.buses import Fleet
from tools.warm.proving import Doctor, Proof, prove, sample_of
from zcserve import Config, Server
from zcserve.errors import UsageError

FILES = {"/a.html": b"one", "/b.html": b"two", "/c%20d.txt": b"three"}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name, content in (("a.html", b"one"), ("b.html", b"two"), ("c d.txt", b"three")):
        (tmp_path / name).write_bytes(content)
    return tmp_path


def test_a_sample_is_the_same_for_one_release_and_no_larger_than_it() -> None:
    manifest = release_of(FILES)
    assert sample_of(manifest, 9) == {path: manifest.files[path].etag for path in FILES}
    assert len(sample_of(manifest, 2)) == 2
    assert sample_of(manifest, 2) == sample_of(manifest, 2)


def test_what_nodes_serve_is_compared_with_the_manifest_and_canaries_are_asked(root: Path) -> None:
    async def scene(url: str) -> None:
        sample = sample_of(release_of(FILES), 9)
        assert await prove({"n1": url, "n2": url}, sample) == {"n1": Proof(3, {}), "n2": Proof(3, {})}
        wrong = {"/a.html": '"0"', "/absent": '"1"'}
        (proof,) = (await prove({"n1": url}, wrong, host="www.example")).values()
        assert proof.wrong["/a.html"].endswith('and the manifest says "0"')
        assert proof.wrong["/absent"] == "status 404"
        away = (await prove({"n1": "http://127.0.0.1:1"}, sample))["n1"]
        assert "is not reached" in away.wrong["/a.html"]

        fleet = Fleet(MemoryBus(Hub()), "www", frozenset(), {"n1": url})
        assert (await Doctor(fleet, "").ask("n9")).is_well
        assert (await Doctor(fleet, "/a.html?x=1", "www.example").ask("n1")).is_well
        assert (await Doctor(fleet, f"{url}/{{node}}.html").ask("a")).is_well
        for query, node, why in (
            ("/absent", "n1", "/absent gave status 404"),
            ("/a.html", "n9", "no public URL is known"),
            ("http://127.0.0.1:1/", "n1", "http://127.0.0.1:1 is not reached"),
        ):
            health = await Doctor(fleet, query).ask(node)
            assert not health.is_well
            assert health.why.startswith(why)

    with Server(Config(root=root, port=0)) as server:
        asyncio.run(scene(server.url.rstrip("/")))


def test_a_query_that_cannot_be_asked_is_refused_before_anything_begins() -> None:
    fleet = Fleet(MemoryBus(Hub()), "www", frozenset({"n1", "n2"}), {"n1": "http://h"})
    with pytest.raises(UsageError, match="no public URL is known of n2"):
        Doctor(fleet, "/health")
    with pytest.raises(UsageError, match="accepted: /PATH"):
        Doctor(fleet, "health")
