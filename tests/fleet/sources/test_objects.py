"""An object store of NATS: objects in chunks, a server that goes and comes back."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import threading
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.support.listed import Listing, on_disk, read_files
from tools.ports import free_port
from zcserve.fleet.fetching import Fetch
from zcserve.fleet.folders import Folders
from zcserve.fleet.sources.source import SourceError

nats = pytest.importorskip("nats")

from tests.support.nats_server import NatsServer, nats_server  # noqa: E402
from zcserve.fleet import nats_link  # noqa: E402
from zcserve.fleet.sources.objects import ObjectsSource  # noqa: E402


def test_a_server_that_is_not_there_may_come_and_no_thread_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nats_link, "WAITS_S", 0.2)
    source = ObjectsSource(f"nats://127.0.0.1:{free_port()}/releases")
    for _ in range(2):
        with pytest.raises(SourceError, match="NATS is away: ") as caught:
            source.open("/a", 0, "")
        assert caught.value.retry
    source.close()
    assert not [thread for thread in threading.enumerate() if thread.name == "nats"]
    source.close()
    with pytest.raises(SourceError, match="the source is closed") as caught:
        source.open("/a", 0, "")
    assert not caught.value.retry


async def put(server: NatsServer, contents: Mapping[str, bytes]) -> None:
    """All at the same time, so that chunks of one lie between those of others."""
    connection = await nats.connect(server.url)
    store = await connection.jetstream().create_object_store("releases")
    await asyncio.gather(*[store.put(path[1:], what) for path, what in contents.items()])
    await store.put("gone", b"x")
    await store.delete("gone")
    await connection.close()


async def write(server: NatsServer, name: str, record: bytes, *, is_rolled: bool = True) -> None:
    """The record of an object, by hand."""
    connection = await nats.connect(server.url)
    token = base64.urlsafe_b64encode(name.encode()).decode()
    headers = {"Nats-Rollup": "sub"} if is_rolled else {}
    await connection.jetstream().publish(f"$O.releases.M.{token}", record, headers=headers)
    await connection.close()


BIG = os.urandom(1_300_000)


@pytest.mark.peer
def test_a_release_comes_from_an_object_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    contents = {"/a%20b/100%25": b"percent", "/%FF": b"not UTF-8", "/big": BIG, "/other": BIG[::-1], "/empty": b""}
    with nats_server(tmp_path / "nats") as server:
        source = ObjectsSource(f"{server.url}/releases")
        asyncio.run(put(server, contents))
        done = Fetch(Listing.of(contents), source, Folders(tmp_path / "r"), read=Listing.parse).run()
        assert read_files(tmp_path / "r" / done.release.tree) == on_disk(contents)
        for path in ("/none", "/gone"):
            with pytest.raises(SourceError, match=r"^is not there$") as caught:
                source.open(path, 0, "")
            assert not caught.value.retry
        other = ObjectsSource(f"{server.url}/none")
        with pytest.raises(SourceError, match=r"^is not there$"):
            other.open("/a", 0, "")
        other.close()
        opened = source.open("/big", 0, "")
        first = next(opened.pieces)
        server.end()  # in the middle
        with monkeypatch.context() as impatient:
            impatient.setattr(nats_link, "WAITS_S", 0.2)
            with pytest.raises(SourceError) as caught:
                b"".join(opened.pieces)
            assert caught.value.retry
        server.start()
        opened = source.open("/big", len(first), opened.version)
        assert (opened.start, b"".join(opened.pieces)) == (len(first), BIG[len(first) :])
        source.close()


@pytest.mark.peer
def test_an_object_goes_on_where_it_was_if_it_still_is_the_same(tmp_path: Path) -> None:
    with nats_server(tmp_path / "nats") as server:
        source = ObjectsSource(f"{server.url}/releases")
        asyncio.run(put(server, {"/big": BIG, "/other": BIG[::-1]}))
        version = source.open("/big", 0, "").version
        for start in (1, 131_071, 131_072, 131_073, 700_000, len(BIG) - 1, len(BIG)):
            opened = source.open("/big", start, version)
            assert (opened.start, b"".join(opened.pieces)) == (start, BIG[start:])
        for start, known in ((len(BIG) + 1, version), (1, "another")):
            opened = source.open("/big", start, known)
            assert (opened.start, b"".join(opened.pieces)) == (0, BIG)
        opened = source.open("/big", 0, "")
        next(opened.pieces)
        asyncio.run(put(server, {"/big": BIG[:9]}))
        with pytest.raises(SourceError, match="is not there any more") as caught:
            b"".join(opened.pieces)
        assert caught.value.retry
        source.close()


@pytest.mark.peer
def test_the_last_record_of_an_object_counts_and_what_is_none_is_told(tmp_path: Path) -> None:
    link = {"name": "linked", "nuid": "n", "size": 0, "options": {"link": {"bucket": "other"}}}
    cases = {"linked": (json.dumps(link), "is a link"), "broken": ("{", "none of an object"), "list": ("[]", "none of")}
    with nats_server(tmp_path / "nats") as server:
        source = ObjectsSource(f"{server.url}/releases")
        asyncio.run(put(server, {}))
        for name, (record, why) in cases.items():
            asyncio.run(write(server, name, record.encode()))
            with pytest.raises(SourceError, match=why) as caught:
                source.open(f"/{name}", 0, "")
            assert not caught.value.retry
        for size in (5, 0):
            twice = {"name": "twice", "nuid": "n", "size": size}
            asyncio.run(write(server, "twice", json.dumps(twice).encode(), is_rolled=False))
        assert source.open("/twice", 0, "").size == 0
        source.close()
