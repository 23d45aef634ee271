"""`--compress` beside serving: files first, variants as they are made, and what becomes of them when files change."""

from __future__ import annotations

import gzip
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import zcserve.cache.codings
import zcserve.cache.variants
from tests.support.client import Client, Response
from tests.support.command import StartCommand
from tests.support.eviction import entry_of
from tests.support.following import Becomes
from tests.support.site import Serve, Site
from tests.support.waiting import WaitUntil, is_readable
from zcserve import Server

TEXT = b"let x = 1; // and so on\n" * 400
OTHER = b"let y = 2; // and so forth\n" * 500
NEAR_S = 5.0  # "at once", on a busy machine

# gzip takes as long as it is let: this is found by the process as sitecustomize.
SLOW = """
import gzip, time
gzip.compress = lambda content, *_, **__: time.sleep({seconds}) or b"made"
"""


class Gate:
    """gzip that waits to be let go."""

    def __init__(self) -> None:
        self.begun = threading.Event()
        self.open = threading.Event()

    def __call__(self, content: bytes) -> bytes:
        self.begun.set()
        assert self.open.wait(60)
        return gzip.compress(content, mtime=0)


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Iterator[Gate]:
    """What all loaders compress with."""
    made = Gate()
    monkeypatch.setattr(zcserve.cache.codings, "codecs", lambda: {b"gzip": made})
    yield made
    made.open.set()


@pytest.fixture
def waiting(live: Serve, site: Site, gate: Gate) -> Server:
    """A server with /app.js, of which a variant is being made."""
    site.write("app.js", TEXT)
    server = live(site.root, compress=True, compress_wait_s=0)
    assert gate.begun.wait(20)
    return server


def ask(client: Client, target: str = "/app.js") -> Response:
    return client.get(target, "Accept-Encoding: gzip")


def held(server: Server) -> int:
    """How many representations the index leads to that are resident."""
    entries = list(server.site.live.entries())
    return sum(one.body is not None for entry in entries for one in (entry, *entry.variants))


def becomes_coded(client: Client, wait_until: WaitUntil, text: bytes) -> Response:
    answer = wait_until(lambda: got if (got := ask(client))["Content-Encoding"] == b"gzip" else None)
    assert gzip.decompress(answer.body) == text
    return answer


def test_files_are_served_before_their_variants_are_made(waiting: Server, gate: Gate, wait_until: WaitUntil) -> None:
    with Client(waiting.port) as client:
        for _ in range(5):  # the fast lane has learnt it by then
            plain = ask(client)
            assert (plain.status, plain["Content-Encoding"], plain.body) == (200, None, TEXT)
            assert plain["Vary"] == b"Accept-Encoding"
        gate.open.set()
        coded = becomes_coded(client, wait_until, TEXT)
        assert coded["Vary"] == b"Accept-Encoding"
        assert coded["ETag"] != plain["ETag"]
        again = client.get("/app.js")
        assert (again.body, again["ETag"]) == (TEXT, plain["ETag"])
        assert client.get("/app.js", "Accept-Encoding: gzip", f"If-None-Match: {coded['ETag'].decode()}").status == 304


def test_a_file_that_changes_meanwhile_gets_the_variant_of_its_new_content(
    waiting: Server, site: Site, gate: Gate, becomes: Becomes, wait_until: WaitUntil
) -> None:
    with Client(waiting.port) as client:
        site.write("new", OTHER)
        os.rename(site.root / "new", site.root / "app.js")
        becomes(client, "/app.js", OTHER)
        gate.open.set()
        becomes_coded(client, wait_until, OTHER)
        wait_until(lambda: waiting.store.resident == held(waiting) == 2)


def test_a_file_that_goes_meanwhile_leaves_nothing(
    waiting: Server, site: Site, gate: Gate, becomes: Becomes, wait_until: WaitUntil
) -> None:
    with Client(waiting.port) as client:
        (site.root / "app.js").unlink()
        becomes(client, "/app.js", None)
        gate.open.set()
        wait_until(lambda: not waiting.loader.variants.at_work)
        wait_until(lambda: waiting.store.resident == held(waiting) == 0)


def test_a_reload_does_not_lose_what_is_to_come(waiting: Server, site: Site, gate: Gate, wait_until: WaitUntil) -> None:
    site.write("more.js", OTHER)
    waiting.reload()
    wait_until(lambda: waiting.content.counters.flips)
    with Client(waiting.port) as client:
        assert client.get("/more.js").body == OTHER
        gate.open.set()
        becomes_coded(client, wait_until, TEXT)
        wait_until(lambda: ask(client, "/more.js")["Content-Encoding"] == b"gzip")
        wait_until(lambda: waiting.store.resident == held(waiting) == 4)


def test_a_release_that_shares_files_gets_their_variants_when_the_one_before_is_deleted(
    site: Site, live: Serve, gate: Gate, wait_until: WaitUntil, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(zcserve.cache.variants, "threads_max", lambda: 1)
    names = [f"{number}.js" for number in range(3)]
    for name in names:
        site.write(name, TEXT + name.encode())
    current, aside = tmp_path / "current", tmp_path / "aside"
    current.symlink_to(site.root)
    server = live(current, compress=True, compress_wait_s=0)
    assert gate.begun.wait(20)
    shutil.copytree(site.root, tmp_path / "next", copy_function=os.link)  # as `cp -al` does
    aside.symlink_to(tmp_path / "next")
    aside.rename(current)
    wait_until(lambda: server.content.counters.flips)
    shutil.rmtree(site.root)
    gate.open.set()
    with Client(server.port) as client:
        for name in names:
            wait_until(lambda name=name: ask(client, f"/{name}")["Content-Encoding"] == b"gzip")


def test_a_sibling_in_a_coding_that_cannot_be_made_here_is_no_reason_to_make_none(
    site: Site, live: Serve, gate: Gate, wait_until: WaitUntil
) -> None:
    site.write("app.js", TEXT)
    site.write("app.js.br", b"its bytes in br")
    gate.open.set()
    with Client(live(site.root, compress=True, trust_siblings=True).port) as client:
        assert client.get("/app.js", "Accept-Encoding: br").body == b"its bytes in br"
        becomes_coded(client, wait_until, TEXT)


def test_a_file_that_a_request_finds_changed_gets_its_variants(
    site: Site, live: Serve, gate: Gate, becomes: Becomes, wait_until: WaitUntil
) -> None:
    site.write("app.js", TEXT)
    server = live(site.root, compress=True, compress_wait_s=0, watch=False)
    gate.open.set()
    with Client(server.port) as client:
        becomes_coded(client, wait_until, TEXT)
        server.loader.forget(entry_of(server, "/app.js"))  # nothing of it is in memory
        site.write("new", OTHER)
        os.rename(site.root / "new", site.root / "app.js")
        becomes(client, "/app.js", OTHER)
        becomes_coded(client, wait_until, OTHER)


@pytest.mark.parametrize("engine", ["python", "native"])
def test_a_server_ends_while_something_is_compressed(site: Site, gate: Gate, serve: Serve, engine: str) -> None:
    site.write("app.js", TEXT)
    server = serve(site.root, engine=engine, compress=True, compress_wait_s=0)
    assert gate.begun.wait(20)
    began = time.monotonic()
    server.__exit__(None, None, None)
    assert time.monotonic() - began < NEAR_S
    server.__enter__()  # the fixture ends it once more
    gate.open.set()


# --- as a process -------------------------------------------------------------------------------------------------


@pytest.fixture
def slowly(site: Site, tmp_path: Path) -> Callable[[float], dict[str, str]]:
    """`slowly(seconds)`: the environment of a process whose gzip takes so long, and which can make nothing else."""
    site.write("app.js", TEXT)
    site.write("b.js", OTHER)
    site.write("index.html", b"short")
    aside = tmp_path / "aside"
    aside.mkdir()
    for name in ("brotli", "backports"):
        (aside / f"{name}.py").write_text("raise ImportError\n")

    def environ(seconds: float) -> dict[str, str]:
        (aside / "sitecustomize.py").write_text(SLOW.format(seconds=seconds))
        return {"PYTHONPATH": os.pathsep.join((str(aside), str(Path(zcserve.__file__).parents[1])))}

    return environ


@pytest.mark.parametrize("engine", ["python", "native"])
def test_sigterm_ends_it_while_variants_follow(
    site: Site, command: StartCommand, slowly: Callable[[float], dict[str, str]], engine: str
) -> None:
    server = command(site.root, "--engine", engine, "--compress", "--compress-wait", "0", environ=slowly(60))
    assert "compress: the variants of 2 files follow" in server.lines
    assert "files: 3, 3 resident (22.6 KiB)" in server.lines
    with Client(server.port) as client:
        assert ask(client).body == TEXT
    began = time.monotonic()
    server.process.send_signal(signal.SIGTERM)
    assert server.wait() == 0
    assert time.monotonic() - began < NEAR_S


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_start_that_waits_for_variants_says_so_and_ends_when_it_is_told_to(
    site: Site, slowly: Callable[[float], dict[str, str]], number: int
) -> None:
    argv = [sys.executable, "-m", "zcserve", "--root", str(site.root), "--port", "0"]
    flags = ["--compress", "--compress-wait", "60s"]
    environ = os.environ | slowly(60)
    with subprocess.Popen([*argv, *flags], env=environ, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr is not None
            assert re.search("INFO compress: 2 files, .* KiB, by [0-9]+ threads", process.stderr.readline())
            began = time.monotonic()
            process.send_signal(number)
            process.wait(20)
            assert time.monotonic() - began < NEAR_S
            assert "serving" not in process.stderr.read()
        finally:
            process.kill()


def test_systemd_waits_for_variants_and_files_are_counted(
    site: Site, command: StartCommand, slowly: Callable[[float], dict[str, str]], tmp_path: Path
) -> None:
    path = tmp_path / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notified:
        notified.bind(str(path))
        server = command(site.root, "--compress", environ={"NOTIFY_SOCKET": str(path)} | slowly(0.1))
        words: list[bytes] = []
        while is_readable(notified, 0.2):
            words.append(notified.recv(4096))
    ready = words.index(b"READY=1")
    assert all(word.startswith(b"EXTEND_TIMEOUT_USEC=30000000\nSTATUS=") for word in words[:ready])
    told = b"\n".join(words[:ready])
    assert re.search(rb"STATUS=compress: 2 files, .* KiB, by \d+ threads", told)
    assert words[ready + 1] == b"STATUS=serving: 5 files and variants in memory"
    assert any(line.startswith("files: 3, 3 resident with 2 variants (") for line in server.lines)


def test_kept_variants_of_what_is_gone_are_removed(
    live: Serve, site: Site, tmp_path: Path, wait_until: WaitUntil
) -> None:
    kept = tmp_path / "kept"

    def names() -> set[str]:
        return {name.partition(".")[0] for _, _, names in os.walk(kept) for name in names}

    site.write("app.js", TEXT)
    site.write("b.js", OTHER)
    server = live(site.root, compress=True, compress_dir=str(kept))
    wait_until(lambda: len(names()) == 2)
    (site.root / "b.js").unlink()
    wait_until(lambda: server.content.counters.patches)
    server.reload()
    wait_until(lambda: len(names()) == 1)
    (kept / "aa").mkdir(exist_ok=True)
    (kept / "aa" / f"aa{'0' * 30}.gzip-1").write_bytes(b"of last year")
    again = live(site.root, compress=True, compress_dir=str(kept))
    wait_until(lambda: len(names()) == 1)
    with Client(again.port) as client:
        assert gzip.decompress(ask(client).body) == TEXT
