"""What no event tells of is found by a slow look at everything (`--recheck`), by either engine."""

from __future__ import annotations

import gzip
import mmap
import os
import random
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.client import Client
from tests.support.following import Becomes
from tests.support.hanging import Hanging
from tests.support.site import Serve, Site
from tests.support.waiting import WaitUntil
from zcserve.cache import pairing, reread
from zcserve.cache.recheck import Recheck

RECHECK = {"recheck_s": 0.05}


@pytest.fixture(params=["64M", "4K"], ids=["resident", "cold"])
def memory(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_a_write_through_another_hard_link(
    site: Site, live: Serve, becomes: Becomes, tmp_path: Path, memory: str
) -> None:
    site.write("page", b"one" * 3000)
    os.link(site.root / "page", tmp_path / "other")
    with Client(live(site.root, memory=memory, **RECHECK).port) as client:
        old = client.get("/page")
        assert old.body == b"one" * 3000
        (tmp_path / "other").write_bytes(b"two" * 3000)
        becomes(client, "/page", b"two" * 3000)
        assert client.get("/page", f"If-None-Match: {old['ETag'].decode()}").status == 200


def test_a_write_through_a_mapping(site: Site, live: Serve, wait_until: WaitUntil) -> None:
    file = site.write("page", b"one")
    with Client(live(site.root, **RECHECK).port) as client:
        assert client.get("/page").body == b"one"
        fd = os.open(file, os.O_RDWR)
        try:
            with mmap.mmap(fd, 3) as mapping:
                mapping[:] = b"two"
                mapping.flush()
                wait_until(lambda: client.get("/page").body == b"two")
        finally:
            os.close(fd)


def test_a_mount_over_a_directory(site: Site, live: Serve, becomes: Becomes, tmp_path: Path) -> None:
    (site.root / "empty/below").mkdir(parents=True)
    source = tmp_path / "source"
    (source / "e").mkdir(parents=True)
    (source / "page").write_bytes(b"mounted")
    (source / "e/more").write_bytes(b"mounted")
    with Client(live(site.root, **RECHECK).port) as client:
        with Hanging(source, site.root / "empty/below"):
            becomes(client, "/empty/below/page", b"mounted")
            becomes(client, "/empty/below/e/more", b"mounted")
        becomes(client, "/empty/below/page", None)
        site.write("empty/below/page", b"below")
        becomes(client, "/empty/below/page", b"below")


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """When names were compared."""
    made: list[float] = []
    step = Recheck.step

    def counted(self: Recheck, now: float) -> float:
        made.append(now)
        return step(self, now)

    monkeypatch.setattr(Recheck, "step", counted)
    return made


def test_after_a_flip_the_next_generation_is_looked_at(
    site: Site, live: Serve, becomes: Becomes, wait_until: WaitUntil, steps: list[float], tmp_path: Path
) -> None:
    site.write("page", b"one")
    os.link(site.root / "page", tmp_path / "other")
    server = live(site.root, **RECHECK)
    with Client(server.port) as client:
        server.reload()
        wait_until(lambda: server.content.counters.flips == 1)
        with (tmp_path / "other").open("r+b", buffering=0) as other:
            other.write(b"two")  # one step: it is never empty
        becomes(client, "/page", b"two")
        wait_until(lambda: server.content.counters.patches == 1)
        steps.clear()
        wait_until(lambda: len(steps) >= 3)  # it goes on, and finds nothing more
        assert server.content.counters.patches == 1


@pytest.mark.parametrize("off", [{"recheck_s": 0}, {"watch": False, "recheck_s": 0.01}])
def test_it_can_be_off(site: Site, live: Serve, off: dict[str, Any]) -> None:
    site.write("page", b"one")
    server = live(site.root, **off)
    with Client(server.port) as client:
        assert client.get("/page").body == b"one"
        assert server.content.due > server.loop.now + 1e9  # nothing is to be done without an event


@pytest.fixture(params=["disk", "tmpfs"])
def other_root(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    """A root on a file system that writes dirty pages back, and on one that does not."""
    if request.param == "disk":
        yield tmp_path / "mapped"
        return
    if not os.access("/dev/shm", os.W_OK):
        pytest.skip("there is no /dev/shm")
    with tempfile.TemporaryDirectory(dir="/dev/shm") as shared:
        yield Path(shared, "mapped")


def map_dirty(file: Path, content: bytes) -> mmap.mmap:
    """A mapping of a new file, written as a whole: no further write gives the file another time."""
    file.write_bytes(b"\0" * len(content))
    with file.open("r+b") as opened:
        mapping = mmap.mmap(opened.fileno(), len(content))
    mapping[:] = content
    return mapping


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Content is read again as fast as it comes."""
    monkeypatch.setattr(reread, "READ_BYTES_PER_S", 1 << 30)


def follow_mapping(client: Client, mapping: mmap.mmap, places: tuple[int, ...], wait_until: WaitUntil) -> None:
    """Write to a mapping, a byte at a time: each version is served, under an ETag of its own."""
    etags = [client.get("/page")["ETag"]]
    for number, place in enumerate(places):
        mapping[place : place + 1] = b"%d" % number

        def is_new() -> bool:
            answer = client.get("/page", f"If-None-Match: {etags[-1].decode()}")
            return answer.status == 200 and answer.body == mapping[:]

        wait_until(is_new)
        etags.append(client.get("/page")["ETag"])
    assert len(set(etags)) == len(places) + 1


def test_a_mapping_that_is_written_while_its_page_is_dirty(
    live: Serve, other_root: Path, wait_until: WaitUntil
) -> None:
    other_root.mkdir()
    with map_dirty(other_root / "page", b"one") as mapping, Client(live(other_root, **RECHECK).port) as client:
        follow_mapping(client, mapping, (0, 2, 1), wait_until)


@pytest.mark.parametrize(
    "config",
    [{}, {"memory": "64K"}, {"hash_bytes_max": 1000}, {"in_place": True}],
    ids=["pages", "cold", "tagged-by-identity", "in-place"],
)
@pytest.mark.usefixtures("hurried")
def test_a_large_file_that_is_mapped(site: Site, live: Serve, config: dict[str, Any], wait_until: WaitUntil) -> None:
    content = b"o" * 300_000  # more than is read at once
    page = site.root / "page"
    with map_dirty(page, content) as mapping, Client(live(site.root, **RECHECK | config).port) as client:
        assert client.get("/page").body == content
        page.chmod(0o600)  # its ctime alone is another: it is compared, and known under this one
        assert client.get("/page").body == content
        follow_mapping(client, mapping, (0, 299_999), wait_until)


@pytest.mark.usefixtures("hurried")
@pytest.mark.parametrize("size", [100, 100_000])
def test_a_sibling_that_is_mapped(site: Site, live: Serve, size: int, wait_until: WaitUntil) -> None:
    """Its own name and its base's variant have the new content, or none that does not decode."""
    page = random.Random(1).randbytes(size).hex().encode()
    site.write("page.txt", page, mtime=1e9)
    packed = gzip.compress(page, mtime=0)
    with map_dirty(site.root / "page.txt.gz", packed) as mapping, Client(live(site.root, **RECHECK).port) as client:
        assert client.get("/page.txt", "Accept-Encoding: gzip").body == packed
        assert client.get("/page.txt.gz").body == packed
        mapping[4:8] = b"1234"  # the header's date: it decodes to the same
        wait_until(lambda: client.get("/page.txt", "Accept-Encoding: gzip").body == mapping[:])
        wait_until(lambda: client.get("/page.txt.gz").body == mapping[:])
        mapping[20:21] = bytes([mapping[20] ^ 1])
        wait_until(lambda: client.get("/page.txt", "Accept-Encoding: gzip").body == page)
        wait_until(lambda: client.get("/page.txt.gz").body == mapping[:])


def test_what_begins_to_be_written_while_a_request_finds_a_change_is_not_sent_by_halves(
    site: Site, live: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = site.write("page", b"one" * 3000)
    os.link(page, tmp_path / "other")
    server = live(site.root, memory="4K")
    look = pairing.entry_at
    with page.open("r+b") as writer, Client(server.port) as client:

        def half_written(*of: Any) -> Any:
            if not writer.tell():
                writer.write(b"six" * 1500)
                writer.flush()
            return look(*of)

        monkeypatch.setattr("zcserve.content.content.entry_at", half_written)
        (tmp_path / "other").write_bytes(b"two" * 3000)  # no event tells of it
        answer = client.get("/page")
        assert (answer.status, answer["Retry-After"]) == (503, b"1")
