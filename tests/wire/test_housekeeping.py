"""What happens to an inode is not what happens to its content: links made and removed, modes set, with both engines.

All of it changes ctime alone, and so does a program that writes a file in place and puts its date back. The first must
cut no download and read nothing into memory again; the second must be told all the same.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.client import Client
from tests.support.following import Becomes, tag_of
from tests.support.site import Site
from tests.support.waiting import WaitUntil
from zcserve import Server
from zcserve.cache.entry import Body, Entry

LARGE = os.urandom(12_000_000)  # more than any socket takes whose client does not read
FILES = {f"/{number}": os.urandom(size) for number, size in enumerate((300, 3_000, 30_000, 300_000))}

Live = Callable[..., Server]


def entry_of(server: Server, key: str) -> Entry:
    entry = server.site.live.resources[key.encode()]
    assert isinstance(entry, Entry)
    return entry


def bodies(server: Server) -> dict[str, Body | None]:
    return {key: entry_of(server, key).body for key in FILES}


def rewrite_dated_back(path: Path, content: bytes) -> None:
    """Write a file in place, and put back its date: as `cp` and `touch -r` do. ctime alone tells."""
    before = path.stat()
    while path.stat().st_ctime_ns == before.st_ctime_ns:
        with path.open("r+b") as file:
            file.write(content)
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


# --- downloads --------------------------------------------------------------------------------------------------


def link_release(releases: Path) -> None:
    subprocess.run(["cp", "-al", releases / "1", releases / "2"], check=True)


def flip(releases: Path) -> None:
    link_release(releases)
    (releases / "next").symlink_to("2")
    (releases / "next").rename(releases / "current")


def set_mode(releases: Path) -> None:
    (releases / "1" / "large").chmod(0o640)
    (releases / "1" / "large").chmod(0o644)


@pytest.mark.parametrize("kept", [{"memory": "64K"}, {"in_place": True}, {"memory": "64K", "hash_bytes_max": "1M"}])
@pytest.mark.parametrize("happens", [link_release, flip, set_mode])
def test_a_download_goes_on_while_its_inode_gets_names_and_modes(
    site: Site, live: Live, wait_until: WaitUntil, happens: Callable[[Path], None], kept: dict[str, Any]
) -> None:
    site.write("1/large", LARGE)
    (site.root / "current").symlink_to("1")
    server = live(site.root / "current", **kept)
    with Client(server.port) as client:
        head = b"GET /large HTTP/1.1\r\nHost: test\r\n\r\n"
        client.send(head * 2)  # the second one begins when all is done
        client.read_head()
        body = client.read_exactly(2_000_000)
        old = server.site.live
        happens(site.root)
        if happens is flip:
            wait_until(lambda: server.site.live is not old)
            shutil.rmtree(site.root / "1")
        body += client.read_exactly(len(LARGE) - 2_000_000)
        assert body == LARGE
        assert client.read().body == LARGE


@pytest.mark.parametrize("kept", [{"memory": "64K"}, {"memory": "64K", "hash_bytes_max": "1M"}])
def test_a_download_ends_early_when_its_file_is_rewritten_and_dated_back(
    site: Site, live: Live, kept: dict[str, Any]
) -> None:
    path = site.write("large", LARGE)
    server = live(site.root, watch=False, **kept)
    with Client(server.port) as client:
        assert client.get("/large").body == LARGE
        client.send(b"GET /large HTTP/1.1\r\nHost: test\r\n\r\n")
        client.read_head()
        body = client.read_exactly(1_000_000)
        rewrite_dated_back(path, LARGE[::-1])
        body += client.read_to_end()
        assert len(body) < len(LARGE)
        assert LARGE.startswith(body)


# --- what is in memory ------------------------------------------------------------------------------------------


def touch_all(root: Path) -> None:
    """New names, modes, and names removed: for every file."""
    (root / ".other").mkdir()
    for key in FILES:
        path = root / key[1:]
        os.link(path, root / ".other" / key[1:])
        path.chmod(0o640)
    shutil.rmtree(root / ".other")


@pytest.mark.parametrize("watch", [True, False])
def test_nothing_is_loaded_again_for_a_new_name_or_mode(
    site: Site, live: Live, wait_until: WaitUntil, watch: bool
) -> None:
    for key, content in FILES.items():
        site.write(key[1:], content)
    server = live(site.root, watch=watch)
    before = bodies(server)
    entries = [entry_of(server, key) for key in FILES]
    tags = [entry.etag for entry in entries]
    touch_all(site.root)
    old = server.site.live
    server.reload()
    wait_until(lambda: server.site.live is not old)
    site.write("last", b"last")  # what came before it in the watcher's queue is done with when it is served
    if watch:
        with Client(server.port) as client:
            wait_until(lambda: client.get("/last").status == 200)
    assert bodies(server) == before
    assert [entry_of(server, key) for key in FILES] == entries
    assert [entry.etag for entry in entries] == tags
    with Client(server.port) as client:
        for key, content in FILES.items():
            assert client.get(key).body == content


@pytest.mark.parametrize("watch", [True, False])
@pytest.mark.parametrize("key", FILES)
def test_what_is_rewritten_and_dated_back_is_served_anew(
    site: Site, live: Live, becomes: Becomes, key: str, watch: bool
) -> None:
    path = site.write(key[1:], FILES[key])
    server = live(site.root, watch=watch)
    with Client(server.port) as client:
        old = client.get(key)
        rewrite_dated_back(path, FILES[key][::-1])
        if not watch:
            server.reload()
        new = becomes(client, key, FILES[key][::-1])
        assert new["Last-Modified"] == old["Last-Modified"]
        assert (old["ETag"], new["ETag"]) == (tag_of(FILES[key]), tag_of(FILES[key][::-1]))


def test_an_inode_used_again_for_a_file_of_the_same_size_and_date_is_another_file(
    site: Site, live: Live, becomes: Becomes
) -> None:
    """Some programs give every file one date. What a new file's inode number was before is chance: here it is made to
    be the same by writing in place; what the walk sees is the same."""
    for number in range(20):
        site.write(f"all/{number}", b"old %02d" % number, mtime=1)
    server = live(site.root, watch=False)
    with Client(server.port) as client:
        for number in range(20):
            rewrite_dated_back(site.root / f"all/{number}", b"new %02d" % number)
        server.reload()
        becomes(client, "/all/19", b"new 19")
        assert [client.get(f"/all/{number}").body for number in range(20)] == [b"new %02d" % n for n in range(20)]


def test_a_tag_made_of_an_identity_outlives_new_names_and_modes(site: Site, live: Live, wait_until: WaitUntil) -> None:
    path = site.write("file", FILES["/3"])
    server = live(site.root, hash_bytes_max="1K", watch=False)
    with Client(server.port) as client:
        tag = client.get("/file")["ETag"]
        assert tag.startswith(b'"id-')
        body = entry_of(server, "/file").body
        os.link(path, site.root / ".other")
        path.chmod(0o640)
        old = server.site.live
        server.reload()
        wait_until(lambda: server.site.live is not old)
        assert client.get("/file")["ETag"] == tag
        assert entry_of(server, "/file").body is body
        rewrite_dated_back(path, FILES["/3"][::-1])
        old = server.site.live
        server.reload()
        wait_until(lambda: server.site.live is not old)
        fresh = client.get("/file")
        assert fresh.body == FILES["/3"][::-1]
        assert fresh["ETag"] != tag  # of one identity, but for ctime


def test_a_variant_beside_its_file_is_compared_as_well(site: Site, live: Live, becomes: Becomes) -> None:
    site.write("a.css", b"a" * 3_000, mtime=1)
    path = site.write("a.css.gz", b"packed one", mtime=1)
    server = live(site.root, watch=False, trust_siblings=True)
    with Client(server.port) as client:
        assert client.get("/a.css", "Accept-Encoding: gzip").body == b"packed one"
        (site.root / "a.css").chmod(0o640)
        rewrite_dated_back(path, b"packed two")
        old = server.site.live
        server.reload()
        while server.site.live is old or client.get("/a.css", "Accept-Encoding: gzip").body != b"packed two":
            assert client.get("/a.css").body == b"a" * 3_000


def test_a_small_file_that_is_read_during_an_upgrade_is_what_was_read(
    site: Site, live: Live, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The store is frozen then: it makes no room. What happens to the file behind the reading is no matter."""
    path = site.write("file", FILES["/1"])
    server = live(site.root, watch=False)
    server.store.drop(entry_of(server, "/file"))
    load = server.loader.load

    def load_and_cut(*arguments: Any, **settings: Any) -> Body:
        body = load(*arguments, **settings)
        os.truncate(path, 1)
        return body

    monkeypatch.setattr(server.loader, "load", load_and_cut)
    server.store.freeze()
    with Client(server.port) as client:
        answer = client.get("/file")
    assert (answer.body, answer["ETag"]) == (FILES["/1"], tag_of(FILES["/1"]))
    server.store.thaw()
