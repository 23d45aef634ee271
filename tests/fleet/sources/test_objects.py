"""An object store of NATS: objects in chunks, a server that goes and comes back."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.listed import Listing, on_disk, read_files
from tools.ports import free_port
from zcserve.fleet.fetching import Fetch
from zcserve.fleet.folders import Folders
from zcserve.fleet.sources.source import SourceError

nats = pytest.importorskip("nats")

from zcserve.fleet.sources.objects import ObjectsSource  # noqa: E402


def test_a_server_that_is_not_there_may_come_and_no_thread_is_left() -> None:
    source = ObjectsSource(f"nats://127.0.0.1:{free_port()}/releases")
    for _ in range(2):
        with pytest.raises(SourceError, match="NATS: ") as caught:
            source.open("/a", 0, "")
        assert caught.value.retry
    source.close()
    assert not [thread for thread in threading.enumerate() if thread.name == "nats"]
    source.close()


@contextmanager
def running(port: int, folder: Path) -> Iterator[None]:
    program = shutil.which("nats-server") or "/usr/sbin/nats-server"
    if not Path(program).exists():
        pytest.skip("needs nats-server")
    command = [program, "-js", "-a", "127.0.0.1", "-p", str(port), "-sd", str(folder)]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
        try:
            for _ in range(300):
                try:
                    socket.create_connection(("127.0.0.1", port), 1).close()
                    break
                except OSError:
                    time.sleep(0.05)
            yield
        finally:
            process.terminate()


async def put(port: int, contents: dict[str, bytes]) -> None:
    connection = await nats.connect(f"nats://127.0.0.1:{port}")
    store = await connection.jetstream().create_object_store("releases")
    for path, what in contents.items():
        await store.put(path[1:], what)
    await store.put("gone", b"x")
    await store.delete("gone")
    await connection.close()


@pytest.mark.peer
def test_a_release_comes_from_an_object_store(tmp_path: Path) -> None:
    port = free_port()
    contents = {"/a%20b/100%25": b"percent", "/%FF": b"not UTF-8", "/big": os.urandom(1 << 20), "/empty": b""}
    source = ObjectsSource(f"nats://127.0.0.1:{port}/releases")
    with running(port, tmp_path / "js"):
        asyncio.run(put(port, contents))
        done = Fetch(Listing.of(contents), source, Folders(tmp_path / "r"), read=Listing.parse).run()
        assert read_files(tmp_path / "r" / done.release.tree) == on_disk(contents)
        for path in ("/none", "/gone"):
            with pytest.raises(SourceError, match=r"^is not there$") as caught:
                source.open(path, 0, "")
            assert not caught.value.retry
        other = ObjectsSource(f"nats://127.0.0.1:{port}/none")
        with pytest.raises(SourceError, match=r"^is not there$"):
            other.open("/a", 0, "")
        other.close()
        opened = source.open("/big", 70_000, "")
        pieces = opened.pieces
        first = next(pieces)
    with pytest.raises(SourceError) as caught:  # the server went in the middle
        b"".join(pieces)
    assert caught.value.retry
    with running(port, tmp_path / "js"):
        opened = source.open("/big", len(first), opened.version)
        assert (opened.start, b"".join(opened.pieces)) == (0, contents["/big"])
    source.close()
