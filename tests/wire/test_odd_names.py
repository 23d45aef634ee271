"""Names that are no UTF-8: bytes on disk, and percent-encoded in URLs, by either engine."""

from __future__ import annotations

import gzip
import logging
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.client import Client
from tests.support.command import StartCommand
from tests.support.following import Becomes, tag_of
from tests.support.site import Serve, Site
from tests.support.waiting import WaitUntil

LATIN = os.fsdecode(b"caf\xe9")
CHECKOUT = Path(__file__).resolve().parent.parent.parent
MIXED = b"\xff \xc0\xae.txt"


def test_a_name_is_its_bytes(site: Site, live: Serve, becomes: Becomes, wait_until: WaitUntil) -> None:
    site.write(f"{LATIN}.html", b"latin")
    site.write(f"{LATIN}.html.gz", gzip.compress(b"latin"))
    site.write(f"{LATIN}/index.html", b"an index")
    site.write("caf\xe9.html", b"utf-8")
    server = live(site.root)
    with Client(server.port) as client:
        for _ in range(3):
            assert client.get("/caf%e9.html").body == client.get("/caf%E9.html").body == b"latin"
            assert client.get("/caf%C3%A9.html").body == b"utf-8"
            packed = client.get("/caf%E9.html", "Accept-Encoding: gzip, identity;q=0")
            assert packed["ETag"] == tag_of(gzip.compress(b"latin")) or gzip.decompress(packed.body) == b"latin"
            redirect = client.get("/caf%e9")
            assert (redirect.status, redirect["Location"]) == (301, b"/caf%E9/")
            assert client.get("/caf%e9/").body == b"an index"
            assert client.get("/%c0%ae%c0%ae/caf%e9.html").status == 404  # no dots
        # Live: a file comes, its directory is renamed, both go.
        site.write(os.fsdecode(b"d\xfe/" + MIXED), b"mixed")
        becomes(client, "/d%FE/%FF%20%C0%AE.txt", b"mixed")
        (site.root / os.fsdecode(b"d\xfe")).rename(site.root / os.fsdecode(b"d\xfd"))
        becomes(client, "/d%FD/%FF%20%C0%AE.txt", b"mixed")
        wait_until(lambda: client.get("/d%FE/%FF%20%C0%AE.txt").status == 404)  # its going may be news of its own
        shutil.rmtree(site.root / os.fsdecode(b"d\xfd"))
        becomes(client, "/d%FD/%FF%20%C0%AE.txt", None)
        old = server.site.live
        server.reload()
        wait_until(lambda: server.site.live is not old)
        assert client.get("/caf%e9.html").body == b"latin"


def test_a_cold_one_is_told_of_without_harm(
    site: Site, live: Serve, becomes: Becomes, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    file = site.write(f"{LATIN}.bin", b"x" * 9000)
    with Client(live(site.root, memory="4K", watch=False).port) as client:
        assert client.get("/caf%E9.bin").body == b"x" * 9000
        file.write_bytes(b"y" * 9001)
        becomes(client, "/caf%E9.bin", b"y" * 9001)
    assert [line for line in caplog.messages if line.startswith("caf\\xe9.bin ")]


def test_an_index_may_have_such_a_name(site: Site, command: StartCommand) -> None:
    site.write(f"{LATIN}.html", b"an index")
    process = command(site.root, "--index", f"{LATIN}.html", "--pin", f"{LATIN}.*")
    with Client(process.port) as client:
        assert client.get("/").body == b"an index"


def test_programs_agree(site: Site, command: StartCommand, tmp_path: Path) -> None:
    root = tmp_path / os.fsdecode(b"root\xe9")
    (root / LATIN).mkdir(parents=True)
    (root / LATIN / "index.html").write_bytes(b"an index")
    (root / f"{LATIN}.txt").write_bytes(b"latin")
    process = command(root)

    def said(*words: str) -> str:
        done = subprocess.run(
            [sys.executable, *words, "--root", str(root)], capture_output=True, text=True, timeout=60, cwd=CHECKOUT
        )
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout

    assert "all right" in said("tools/warm_cache.py", "--url", process.url)
    assert "not served as it lies there" not in said("tools/warm_cache.py")
    assert "2 files" in said("-m", "zcserve", "--check")
