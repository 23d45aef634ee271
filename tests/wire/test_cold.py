"""Cold files and all other clients: a file is read once however many ask for it, and a client that asks for what is
resident never waits for a thread or a disk.

A slow disk is a loader that waits for an event; that the loop's own thread makes no call that could wait is read from
its system calls.
"""

from __future__ import annotations

import errno
import os
import re
import resource
import shutil
import socket
import subprocess
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.support.client import Client
from tests.support.command import StartCommand
from tests.support.site import Serve, Site
from tests.support.waiting import WaitUntil
from zcserve import Server
from zcserve.cache import closing, opened
from zcserve.cache.entry import Entry, device_of, identity_of

LARGE = os.urandom(3_000_000)
WITHIN_S = 60.0


class Gate:
    """Loads from now on wait until it is opened; `loads` tells which began."""

    def __init__(self, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
        self.open = threading.Event()
        self.loads: list[bytes] = []
        load = server.loader.load

        def held(root: Any, entry: Entry) -> Any:
            self.loads.append(entry.key)
            assert self.open.wait(WITHIN_S)
            return load(root, entry)

        monkeypatch.setattr(server.loader, "load", held)


@pytest.fixture
def many_descriptors() -> Iterator[None]:
    """Enough for both ends of a thousand connections: a shell gives 1024."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < 4096:
        resource.setrlimit(resource.RLIMIT_NOFILE, (4096 if hard == resource.RLIM_INFINITY else min(4096, hard), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def request(target: str) -> bytes:
    return b"GET %b HTTP/1.1\r\nHost: test\r\n\r\n" % target.encode()


def is_asked(server: Server, count: int) -> bool:
    """Whether so many wait for results of the loader's threads."""
    return server.service.fetcher.waiting == count


@pytest.mark.usefixtures("many_descriptors")
@pytest.mark.parametrize("engine", ["python", "auto"])
@pytest.mark.parametrize(
    ("size", "memory"), [(9_000, 40_000), (100_000, "1M"), (100_000, 40_000)], ids=["packed", "paged", "from disk"]
)
def test_a_thousand_requests_for_one_cold_file_read_it_once(
    site: Site,
    serve: Serve,
    wait_until: WaitUntil,
    monkeypatch: pytest.MonkeyPatch,
    engine: str,
    size: int,
    memory: Any,
) -> None:
    site.write("warm", b"warm")
    server = serve(site.root, memory=memory, engine=engine, watch=False)
    site.write("file", LARGE[:size])  # in the index, but nothing preloaded it
    _index(server, wait_until)
    gate = Gate(server, monkeypatch)
    with ExitStack() as stack, Client(server.port) as other:
        waiting = [stack.enter_context(Client(server.port)) for _ in range(1000)]
        for client in waiting:
            client.send(request("/file"))
        wait_until(lambda: is_asked(server, len(waiting)))
        assert other.get("/warm").body == b"warm"
        gate.open.set()
        for client in waiting:
            assert client.read().body == LARGE[:size]
        assert other.get("/warm").body == b"warm"
    assert gate.loads == [b"/file"]


def _index(server: Server, wait_until: WaitUntil) -> None:
    """Have the server learn of new files, and forget the content of /file."""
    old = server.site.live
    server.reload()
    wait_until(lambda: server.site.live is not old)
    entry = server.site.live.resources[b"/file"]
    assert isinstance(entry, Entry)
    server.store.drop(entry)
    assert entry.body is None


@pytest.mark.parametrize("engine", ["python", "auto"])
def test_threads_that_all_wait_for_a_disk_keep_no_client_from_what_is_resident(
    site: Site, serve: Serve, wait_until: WaitUntil, monkeypatch: pytest.MonkeyPatch, engine: str
) -> None:
    site.write("warm", b"warm")
    for number in range(6):
        site.write(f"cold{number}", LARGE[number : number + 200_000])
    server = serve(site.root, memory="64K", loader_threads=3, engine=engine, watch=False)
    gate = Gate(server, monkeypatch)
    with ExitStack() as stack:
        waiting = [stack.enter_context(Client(server.port)) for _ in range(6)]
        for number, client in enumerate(waiting):
            client.send(request(f"/cold{number}"))
        wait_until(lambda: is_asked(server, 6))
        wait_until(lambda: len(gate.loads) == 3)  # as many as there are threads; the others queue
        for _ in range(3):
            with Client(server.port) as other:  # old connections and new ones
                assert [other.get("/warm").body for _ in range(3)] == [b"warm"] * 3
                assert other.get("/absent").status == 404
        assert len(gate.loads) == 3
        gate.open.set()
        for number, client in enumerate(waiting):
            assert client.read().body == LARGE[number : number + 200_000]


def test_a_file_system_without_nowait_is_read_in_threads(
    site: Site, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As NFS and FUSE are; whatever read could wait is made by a thread of the pool."""
    site.write("file", LARGE)
    server = serve(site.root, memory="64K", watch=False)
    real = os.preadv
    readers: Counter[str] = Counter()

    def without_nowait(fd: int, buffers: Any, offset: int, flags: int = 0) -> int:
        if flags & os.RWF_NOWAIT:
            raise OSError(errno.EOPNOTSUPP, "Operation not supported")
        readers[threading.current_thread().name.rpartition("_")[0]] += 1
        return real(fd, buffers, offset)

    monkeypatch.setattr(os, "preadv", without_nowait)
    with Client(server.port) as client:
        for _ in range(2):
            assert client.get("/file").body == LARGE
    assert set(readers) == {"zcserve-loader"}
    assert readers["zcserve-loader"] >= 2 * len(LARGE) // (128 * 1024)


def test_a_file_that_changes_while_a_thread_reads_it_ends_the_connection_early(
    site: Site, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = site.write("file", LARGE)
    server = serve(site.root, memory="64K", watch=False)
    real = os.preadv
    changed = threading.Event()

    def rewritten(fd: int, buffers: Any, offset: int, flags: int = 0) -> int:
        if flags & os.RWF_NOWAIT:
            raise BlockingIOError
        if offset > len(LARGE) // 2 and not changed.is_set():
            changed.set()
            os.truncate(path, len(LARGE) - 1)
        return real(fd, buffers, offset)

    with Client(server.port) as client:
        assert client.get("/file").body == LARGE  # its tag is known, so that nothing but the answer reads it
        monkeypatch.setattr(os, "preadv", rewritten)
        client.send(request("/file"))
        client.read_head()
        with pytest.raises(EOFError):
            client.read_exactly(len(LARGE))
        assert changed.is_set()
        assert LARGE.startswith(client.buffer)
        assert len(client.buffer) < len(LARGE)


# --- files that stay open -----------------------------------------------------------------------------------------

RANGE = b"GET /file HTTP/1.1\r\nHost: test\r\nRange: bytes=100-199\r\n\r\n"


@pytest.mark.parametrize("engine", ["python", "auto"])
def test_a_file_that_stays_on_disk_is_opened_once_for_many_requests(
    site: Site, serve: Serve, monkeypatch: pytest.MonkeyPatch, engine: str
) -> None:
    monkeypatch.setattr(opened, "KEPT_S", 600.0)
    path = site.write("file", LARGE)
    _skip_unless_kept(path)
    server = serve(site.root, memory="64K", engine=engine, watch=False)
    with Client(server.port) as client, Client(server.port) as other:
        assert client.get("/file").body == LARGE
        gate = Gate(server, monkeypatch)  # a load would wait
        for one in (client, other) * 3:
            assert one.get("/file").body == LARGE
            one.send(RANGE)
            assert one.read().body == LARGE[100:200]
    assert gate.loads == []


def _skip_unless_kept(path: Path) -> None:
    if closing.may_hang(device_of(identity_of(path.stat()))):
        pytest.skip("the files of this test lie on no disk")


def replaced(path: Path, content: bytes) -> None:
    other = path.with_name("other")
    other.write_bytes(content)
    other.rename(path)


def rewritten(path: Path, content: bytes) -> None:
    path.write_bytes(content)


def rewritten_behind_its_dates(path: Path, content: bytes) -> None:
    status = path.stat()
    with path.open("r+b") as file:
        file.write(content)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def removed(path: Path, content: bytes) -> None:
    path.unlink()


@pytest.mark.parametrize("engine", ["python", "auto"])
@pytest.mark.parametrize("in_memory", [True, False], ids=["in the page cache", "on the disk"])
@pytest.mark.parametrize("change", [replaced, rewritten, rewritten_behind_its_dates, removed])
def test_an_open_file_that_is_not_what_the_index_says_is_found_anew(
    site: Site,
    serve: Serve,
    monkeypatch: pytest.MonkeyPatch,
    engine: str,
    in_memory: bool,
    change: Callable[[Path, bytes], None],
) -> None:
    path = site.write("file", LARGE)
    server = serve(site.root, memory="64K", engine=engine, watch=False)
    real = os.preadv

    def without_cache(fd: int, buffers: Any, offset: int, flags: int = 0) -> int:
        if flags & os.RWF_NOWAIT:
            raise BlockingIOError
        return real(fd, buffers, offset)

    if not in_memory:
        monkeypatch.setattr(os, "preadv", without_cache)
    other = LARGE[::-1]
    with Client(server.port) as client:
        assert client.get("/file").body == LARGE
        assert client.get("/file").body == LARGE
        change(path, other)
        answer = client.get("/file")
        if change is removed:
            assert answer.status == 404
        else:
            assert answer.body == other
            client.send(RANGE)
            assert client.read().body == other[100:200]


@pytest.mark.parametrize("engine", ["python", "auto"])
@pytest.mark.parametrize("change", [replaced, rewritten, rewritten_behind_its_dates])
def test_an_open_file_that_changes_under_a_download_is_never_mixed(
    site: Site, serve: Serve, engine: str, change: Callable[[Path, bytes], None]
) -> None:
    content, other = LARGE * 3, LARGE[::-1] * 3  # more than a socket takes
    path = site.write("file", content)
    server = serve(site.root, memory="64K", engine=engine, watch=False)
    with Client(server.port) as client:
        assert client.get("/file").body == content
        with Client(server.port, receive_buffer=4096) as slow:
            slow.send(request("/file"))
            head = slow.read_head()
            assert b"\r\nContent-Length: %d\r\n" % len(content) in head
            change(path, other)
            assert client.get("/file").body == other
            slow.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
            try:
                body = slow.read_exactly(len(content))
            except EOFError:
                body = slow.buffer
                assert change is not replaced  # that leaves the old file as it was
                assert len(body) < len(content)
            assert content.startswith(body)
            assert (len(body) == len(content)) == (change is replaced)


@pytest.mark.parametrize("engine", ["python", "auto"])
def test_an_open_file_with_a_new_ctime_and_the_same_content_is_the_same(site: Site, serve: Serve, engine: str) -> None:
    path = site.write("file", LARGE)
    server = serve(site.root, memory="64K", engine=engine, watch=False)
    with Client(server.port) as client:
        tag = client.get("/file")["ETag"]
        for mode in (0o600, 0o644):
            path.chmod(mode)
            for _ in range(2):
                answer = client.get("/file")
                assert (answer.body, answer["ETag"]) == (LARGE, tag)


# --- system calls -------------------------------------------------------------------------------------------------

# What a disk can be waited for in, when it is of a file below the root.
CALLS = "openat,openat2,open,read,pread64,readv,preadv,preadv2,fstat,newfstatat,statx,getdents64,sendfile,readlink"


@pytest.mark.skipif(shutil.which("strace") is None, reason="no strace")
@pytest.mark.parametrize("engine", ["python", "auto"])
@pytest.mark.parametrize("in_place", [False, True])
def test_the_loops_thread_makes_no_call_that_waits_for_a_disk(
    site: Site, command: StartCommand, tmp_path: Path, wait_until: WaitUntil, engine: str, in_place: bool
) -> None:
    trace = tmp_path / "trace"
    files = {f"/file{number}": LARGE[number : number + size] for number, size in enumerate((500, 30_000, 2_000_000))}
    for target, content in files.items():
        site.write(target[1:], content)
    kept = ["--in-place"] if in_place else ["--memory", "80K"]
    server = command(site.root, *kept, "--engine", engine, "--no-watch")
    # -y: descriptors with their paths
    tracer = subprocess.Popen(
        ["strace", "-f", "-y", "-e", f"trace={CALLS}", "-o", str(trace), "-p", str(server.pid)],
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert tracer.stderr is not None
        said = tracer.stderr.readline()
        if "attached" not in said:
            pytest.skip(f"strace may not: {said.strip()}")
        with Client(server.port) as client:
            for _ in range(5):  # the kernel may keep pages that it is advised to drop
                for target, content in files.items():
                    with (site.root / target[1:]).open("rb") as file:
                        os.fsync(file.fileno())
                        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
                    assert client.get(target).body == content
            for target, content in files.items():  # by now all of it is in memory
                assert client.get(target).body == content
        server.end()
        tracer.wait(WITHIN_S)
    finally:
        if tracer.poll() is None:
            tracer.kill()
        tracer.wait()
        assert tracer.stderr is not None
        tracer.stderr.close()
    below = [line for line in trace.read_text().splitlines() if f"<{site.root}" in line]
    here = [line for line in below if line.startswith(f"{server.pid} ")]
    elsewhere = [line for line in below if not line.startswith(f"{server.pid} ")]
    assert any(re.search(r" (openat2?|open|preadv2?)\(", line) for line in elsewhere)  # the trace sees what threads do
    assert any(" preadv2(" in line and "RWF_NOWAIT" in line for line in here)
    # An open file's fstat asks the inode in memory; everything else must say that it does not wait.
    waits = [line for line in here if "RWF_NOWAIT" not in line and not re.search(r" (newfstatat|fstat)\(\d", line)]
    if in_place:
        sent = [place for place, line in enumerate(here) if " sendfile(" in line]
        assert sent
        for place in sent:  # what is sent without a copy was just seen to be in memory, to its last page
            count, seen = (int(re.findall(r"= (\d+)$", here[which])[0]) for which in (place, place - 1))
            assert "RWF_NOWAIT" in here[place - 1]
            assert seen >= count
            waits.remove(here[place])
    assert waits == []
