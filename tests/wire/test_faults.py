"""What the disk and the client may do to an answer under way, and what must come of it.

Resident content is ours: it arrives whole, whatever becomes of its file. Content sent from a descriptor arrives whole
or the connection ends before Content-Length. Whatever happens, the next client is answered.

A test knows that an answer is under way when its connection waits for the socket, or the lane sends its file;
`throttle` makes every body longer than what a socket takes.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import os
import random
import selectors
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest

from tests.support.client import Client, listening
from tests.support.command import StartCommand
from tests.support.connections import connections_of
from tests.support.site import Serve, Site
from tests.support.stage import EVENTS, write_servlets
from tests.support.waiting import WaitUntil
from zcserve import Config, Server
from zcserve.cache import opened
from zcserve.cache.entry import FIRST_PIECE_BYTES, DiskSpan, Entry, Span
from zcserve.net.connection import RECV_BYTES
from zcserve.net.output import Output
from zcserve.net.request import Parser
from zcserve.net.states import State
from zcserve.net.transport import Transport

SIZES = {"small": 12_000, "medium": 64 << 10, "large": 8 << 20}
RESIDENT = {"memory": "64M", "watch": False}
NOT_RESIDENT = {"memory": "4K"}
BOTH = pytest.mark.parametrize("kept", [RESIDENT, NOT_RESIDENT], ids=["resident", "not resident"])
EVERY_SIZE = pytest.mark.parametrize("size", SIZES.values(), ids=SIZES)

GET_FILE = b"GET /file HTTP/1.1\r\nHost: test\r\n\r\n"


@functools.cache
def content_of(size: int) -> bytes:
    """Bytes without a pattern: what is shifted, or of another page, is seen."""
    return random.Random(size).randbytes(size)


def inverted(content: bytes) -> bytes:
    """As long, and different everywhere."""
    return content.translate(bytes(255 - byte for byte in range(256)))


def throttle(server: Server, size: int) -> None:
    """Let connections to come take less than `size` bytes at a time: they inherit the listener's send buffer. Eight
    MiB are more than any socket takes whose client reads nothing."""
    if size >= SIZES["large"]:
        return
    with listening(server.port) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)


def hurry(client: Client) -> Client:
    """Let a slow client read as fast as others from now on."""
    client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
    return client


def states(server: Server) -> list[State]:
    """What each connection waits for."""
    return [connection.clock.state for connection in connections_of(server.service)]


def state_of(server: Server, client: Client) -> State | None:
    """What the connection of this client waits for; others have their answers before the server knows it."""
    address = client.socket.getsockname()
    for connection in connections_of(server.service):
        with contextlib.suppress(OSError):  # it is being closed
            if connection.transport.addresses()[0] == address:
                return connection.clock.state
    return None


def entry_of(server: Server, key: bytes) -> Entry:
    """What the index holds for a file."""
    entry = server.site.live.resources[key]
    assert isinstance(entry, Entry)
    return entry


def is_open(path: Path) -> bool:
    """Whether this process, the server's too, has a descriptor of the file."""
    for fd in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):
            if os.readlink(f"/proc/self/fd/{fd}") == str(path):
                return True
    return False


@pytest.fixture
def begin(wait_until: WaitUntil) -> Callable[..., Client]:
    """`begin(server)`: a client whose answer is under way: it asked for /file and has not read a byte."""

    def start(server: Server, request: bytes = GET_FILE) -> Client:
        client = Client(server.port, receive_buffer=2048)
        entry = entry_of(server, request.split()[1])
        client.send(request)
        wait_until(lambda: state_of(server, client) is State.WRITE or server.store.is_sending(entry))
        return client

    return start


def read_what_comes(client: Client) -> tuple[int, bytes]:
    """Content-Length, and the bytes that came before the end."""
    hurry(client)
    head = client.read_head()
    lengths = [line for line in head.split(b"\r\n") if line.startswith(b"Content-Length: ")]
    length = int(lengths[0].partition(b": ")[2])
    try:
        return length, client.read_exactly(length)
    except EOFError:
        return length, client.buffer


# --- files that change under an answer ------------------------------------------------------------------------


def cut_short(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def rewrite_in_place(path: Path) -> None:
    content = path.read_bytes()
    with path.open("r+b") as file:
        file.write(inverted(content))


def replace_by_rename(path: Path) -> None:
    fresh = path.with_name("fresh")
    fresh.write_bytes(inverted(path.read_bytes()))
    fresh.rename(path)


def delete(path: Path) -> None:
    path.unlink()


EVERY_HARM = pytest.mark.parametrize("harm", [cut_short, rewrite_in_place, replace_by_rename, delete])


@EVERY_SIZE
@EVERY_HARM
def test_resident_content_arrives_whole_and_unchanged(
    site: Site, live: Serve, begin: Callable[..., Client], harm: Callable[[Path], None], size: int
) -> None:
    content = content_of(size)
    path = site.write("file", content)
    server = live(site.root, **RESIDENT)
    throttle(server, size)
    with begin(server) as slow, Client(server.port) as other:
        harm(path)
        assert hurry(slow).read().body == content
        assert other.get("/file").body == content


@EVERY_SIZE
@EVERY_HARM
def test_content_from_a_descriptor_arrives_whole_or_the_connection_ends_early(
    site: Site,
    serve: Serve,
    begin: Callable[..., Client],
    wait_until: WaitUntil,
    harm: Callable[[Path], None],
    size: int,
) -> None:
    content = content_of(size)
    path = site.write("file", content)
    server = serve(site.root, **NOT_RESIDENT)
    throttle(server, size)
    with Client(server.port) as other:
        before = other.get("/file")
        with begin(server) as slow:
            harm(path)
            length, body = read_what_comes(slow)
        assert length == size
        assert content.startswith(body)
        if harm in (cut_short, rewrite_in_place):
            assert len(body) < size
        elif len(body) < size:
            assert harm in (replace_by_rename, delete)
        # While it may be still being written, the client is asked to come again.
        after = wait_until(lambda: (answer := other.get("/file")).status != 503 and answer)
    if harm is delete:
        assert after.status == 404
    else:
        assert (after.status, after.body) == (200, path.read_bytes())
        assert after["ETag"] != before["ETag"]


def test_a_file_sent_in_place_and_cut_short_ends_the_connection_early(
    site: Site, serve: Serve, begin: Callable[..., Client]
) -> None:
    path = site.write("file", content_of(SIZES["large"]))
    site.write("other", b"alive")
    server = serve(site.root, in_place=True)
    with begin(server) as slow:
        os.truncate(path, 4096)
        length, body = read_what_comes(slow)
    assert length == SIZES["large"]
    assert len(body) < length
    with Client(server.port) as other:
        assert other.get("/other").body == b"alive"


def test_content_that_left_the_page_cache_arrives(site: Site, serve: Serve) -> None:
    content = content_of(SIZES["large"])
    path = site.write("file", content)
    server = serve(site.root, **NOT_RESIDENT)
    with Client(server.port) as client:
        assert client.get("/file").body == content  # from now on its tag is known, so that nothing reads it ahead
        with path.open("rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        assert client.get("/file").body == content


def test_a_disk_that_fails_under_an_answer_ends_the_connection_early(
    site: Site, serve: Serve, begin: Callable[..., Client], monkeypatch: pytest.MonkeyPatch
) -> None:
    site.write("file", content_of(SIZES["large"]))
    server = serve(site.root, **NOT_RESIDENT)
    with begin(server) as slow:
        pread = os.preadv

        def broken(fd: int, buffers: Any, offset: int, flags: int = 0) -> int:
            if flags == os.RWF_NOWAIT:
                raise BlockingIOError
            raise OSError(5, "Input/output error")

        monkeypatch.setattr(os, "preadv", broken)
        length, body = read_what_comes(slow)
        monkeypatch.setattr(os, "preadv", pread)
    assert len(body) < length
    with Client(server.port) as other:
        assert len(other.get("/file").body) == length


# --- memory used again --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [12_000, 64 << 10, 512 << 10], ids=["small", "medium", "large"])
def test_bytes_already_in_the_socket_outlive_eviction(
    site: Site, serve: Serve, wait_until: WaitUntil, size: int
) -> None:
    content = content_of(size)
    site.write("file", content)
    others = {f"/other{number}": bytes([number]) * size for number in range(10)}
    for target, other in others.items():
        site.write(target[1:], other)
    server = serve(site.root, memory=5 * size + 30_000, engine="python")  # whose states can be looked at
    with Client(server.port) as client, Client(server.port, receive_buffer=2048) as slow:
        assert client.get("/file").body == content
        entry = entry_of(server, b"/file")
        assert entry.body is not None
        slow.send(GET_FILE)
        wait_until(lambda: sorted(states(server)) == [State.IDLE, State.IDLE])  # all of it is in the socket
        evictions = server.store.evictions
        for _ in range(2):
            for target, other in others.items():
                assert client.get(target).body == other
        assert entry.body is None
        assert server.store.evictions - evictions > len(others)
        assert hurry(slow).read().body == content


@EVERY_SIZE
def test_an_answer_under_way_outlives_its_entry(
    site: Site, live: Serve, begin: Callable[..., Client], wait_until: WaitUntil, size: int
) -> None:
    content = content_of(size)
    path = site.write("file", content)
    server = live(site.root, **RESIDENT)
    throttle(server, size)
    with begin(server) as slow, Client(server.port) as client:
        old = server.site.live
        path.write_bytes(inverted(content))
        server.reload()
        wait_until(lambda: server.site.live is not old)
        assert client.get("/file").body == inverted(content)
        for number in range(4):  # where the old bytes lay, were they free
            site.write(f"other{number}", bytes([number]) * size)
        between = server.site.live
        server.reload()
        wait_until(lambda: server.site.live is not between)
        for number in range(4):
            assert client.get(f"/other{number}").body == bytes([number]) * size
        assert hurry(slow).read().body == content


def test_everything_in_flight_at_once_leaves_the_server_answering(
    site: Site, live: Serve, begin: Callable[..., Client]
) -> None:
    files = {f"/file{number}": bytes([number]) * 100_000 for number in range(12)}
    for target, content in files.items():
        site.write(target[1:], content)
    server = live(site.root, memory="512K")  # of 1.2 MB, and what is being sent cannot go
    throttle(server, 100_000)
    slow = {target: begin(server, b"GET %b HTTP/1.1\r\nHost: test\r\n\r\n" % target.encode()) for target in files}
    with Client(server.port) as client:
        for target, content in files.items():
            assert client.get(target).body == content
    for target, content in files.items():
        assert hurry(slow[target]).read().body == content
        slow[target].close()


# --- changes found when a file is opened again --------------------------------------------------------------------


@pytest.mark.parametrize("found_by", ["reload", "request"])
def test_an_edit_of_the_same_size_within_the_same_second_has_another_etag(
    site: Site, serve: Serve, wait_until: WaitUntil, found_by: str
) -> None:
    path = site.write("file", b"a" * 3000, mtime=1_700_000_000)
    site.write("other", b"o" * 3000)
    server = serve(site.root, memory="7K")  # for one of the two
    with Client(server.port) as client:
        first = client.get("/file")
        assert client.get("/other").body == b"o" * 3000
        path.write_bytes(b"b" * 3000)
        os.utime(path, (1_700_000_000, 1_700_000_000))
        if found_by == "reload":
            old = server.site.live
            server.reload()
            wait_until(lambda: server.site.live is not old)
        else:
            assert entry_of(server, b"/file").body is None
        second = client.get("/file")
    assert first["Last-Modified"] == second["Last-Modified"]
    assert (first.body, second.body) == (b"a" * 3000, b"b" * 3000)
    assert first["ETag"] != second["ETag"]


@pytest.mark.parametrize("target", ["/link", "/dir/file"])
def test_what_a_swapped_symlink_leads_out_to_is_as_absent_as_anything(
    site: Site,
    serve: Serve,
    tmp_path: Path,
    wait_until: WaitUntil,
    monkeypatch: pytest.MonkeyPatch,
    target: str,
) -> None:
    monkeypatch.setattr(opened, "KEPT_S", 0.05)
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "file").write_bytes(b"a secret")
    inside = site.write("real/file", content_of(5000))
    (site.root / "link").symlink_to(inside)
    (site.root / "dir").symlink_to(inside.parent)
    server = serve(site.root, **NOT_RESIDENT)
    with Client(server.port) as client:
        assert client.get(target).body == content_of(5000)
        for name, where in (("link", outside / "file"), ("dir", outside)):
            (site.root / name).unlink()
            (site.root / name).symlink_to(where)
        wait_until(lambda: client.get(target).status != 200)
        refused, absent = client.get(target), client.get("/absent")
    assert refused.status == absent.status == 404
    assert [field for field in refused.fields if field[0] != b"date"] == [
        field for field in absent.fields if field[0] != b"date"
    ]
    assert refused.body == absent.body


def test_a_file_that_went_away_and_came_back_is_served_after_a_reload(
    site: Site, serve: Serve, wait_until: WaitUntil
) -> None:
    path = site.write("file", content_of(5000))
    server = serve(site.root, **NOT_RESIDENT)
    with Client(server.port) as client:
        assert client.get("/file").body == content_of(5000)
        path.unlink()
        assert client.get("/file").status == 404
        path.write_bytes(content_of(5000)[::-1])
        old = server.site.live
        server.reload()
        wait_until(lambda: server.site.live is not old)
        assert client.get("/file").body == content_of(5000)[::-1]


# --- clients --------------------------------------------------------------------------------------------------


@BOTH
@EVERY_SIZE
def test_a_client_that_resets_leaves_nothing_behind(
    site: Site, live: Serve, begin: Callable[..., Client], wait_until: WaitUntil, kept: dict[str, Any], size: int
) -> None:
    path = site.write("file", content_of(size))
    server = live(site.root, **kept)
    throttle(server, size)
    client = begin(server)
    assert is_open(path) == (kept is NOT_RESIDENT)
    client.reset()
    wait_until(lambda: server.service.count() == 0)
    server.store.opened.close()  # what the next request would find open
    wait_until(lambda: not is_open(path))
    with Client(server.port) as client:
        assert client.get("/file").body == content_of(size)


def test_a_client_that_resets_while_its_file_is_loaded_leaves_nothing_behind(
    site: Site, wait_until: WaitUntil, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = site.write("file", content_of(SIZES["large"]))
    loads: list[Entry] = []
    with Server(Config(root=site.root, port=0, memory=4096)) as server:
        go = _hold_loads(server, monkeypatch, loads)
        client = Client(server.port)
        client.send(GET_FILE)
        wait_until(lambda: loads)
        client.reset()
        wait_until(lambda: not states(server))
        go.set()
    # The thread that loads is waited for.
    assert len(loads) == 1
    assert not is_open(path)


def _hold_loads(server: Server, monkeypatch: pytest.MonkeyPatch, loads: list[Entry]) -> threading.Event:
    """Loads from now on wait for the event, and are noted in `loads`."""
    go = threading.Event()
    load = server.loader.load

    def held(root: Any, entry: Entry) -> Any:
        loads.append(entry)
        assert go.wait(60)
        return load(root, entry)

    monkeypatch.setattr(server.loader, "load", held)
    return go


class _Raises:
    """A parser that fails at one request."""

    def __init__(self, parser: Parser) -> None:
        self._parser = parser

    def parse(self, data: bytes, start: int) -> Any:
        if data.startswith(b"GET /raises", start):
            raise RuntimeError("made by a test")
        return self._parser.parse(data, start)


def test_what_fails_behind_a_file_that_was_waited_for_ends_its_connection(
    site: Site, live: Serve, wait_until: WaitUntil, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [f"file{number}" for number in range(60)]
    for name in names:
        site.write(name, content_of(5000))
    server = live(site.root, memory="200K", linger_timeout_s=0.1)
    cold = next(b"/" + name.encode() for name in names if entry_of(server, b"/" + name.encode()).body is None)
    go = _hold_loads(server, monkeypatch, [])
    monkeypatch.setattr(server.service, "parser", _Raises(server.service.parser))
    with Client(server.port) as client:
        client.send(GET_FILE.replace(b"/file", cold) + GET_FILE.replace(b"/file", b"/raises"))
        wait_until(lambda: states(server) == [State.WAIT])
        go.set()
        wait_until(lambda: not server.service.connections)
        wait_until(lambda: server.service.count() == 0)


STREAM = """
@servlet("/stream", thread=True)
def stream(request):
    yield b"piece"
    assert EVENTS["last"].wait(WAIT_S)
"""


def test_what_fails_behind_the_last_piece_of_a_stream_ends_its_connection(
    site: Site, live: Serve, wait_until: WaitUntil, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What made the piece calls, and knows no connection."""
    server = live(site.root, servlets=str(write_servlets(site.root.parent, stream=STREAM)))

    def log(*facts: object) -> None:
        raise RuntimeError("made by a test")

    with Client(server.port) as client:
        client.send(GET_FILE.replace(b"/file", b"/stream"))
        client.read_head()
        monkeypatch.setattr(server.service, "log", log)
        EVENTS["last"].set()
        wait_until(lambda: server.service.count() == 0)


@pytest.mark.parametrize("size", SIZES.values(), ids=SIZES)
def test_many_that_wait_for_one_cold_file_load_it_once_and_no_other_waits(
    site: Site, serve: Serve, wait_until: WaitUntil, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    content = content_of(size)
    site.write("file", content)
    site.write("warm", b"warm")
    server = serve(site.root, memory="10K")
    with Client(server.port) as other:
        assert other.get("/warm").body == b"warm"
        loads: list[Entry] = []
        go = _hold_loads(server, monkeypatch, loads)
        waiting = [Client(server.port) for _ in range(20)]
        for client in waiting:
            client.send(GET_FILE)
        wait_until(lambda: states(server).count(State.WAIT) == len(waiting))
        assert other.get("/warm").body == b"warm"
        go.set()
        for client in waiting:
            assert client.read().body == content
            client.close()
    assert len(loads) == 1


def test_requests_whose_answers_are_not_read_cost_no_memory(site: Site, command: StartCommand) -> None:
    from tools.bench.proc import memory_bytes

    content = content_of(10_000)
    site.write("file", content)
    server = command(site.root)
    with Client(server.port) as client:
        assert client.get("/file").body == content
    before = memory_bytes(server.pid)
    clients = [Client(server.port) for _ in range(8)]
    sent = _send_until_nobody_takes_more([client.socket for client in clients], GET_FILE * 2000, 64 << 20)
    assert memory_bytes(server.pid) - before < 4 << 20
    for client, count in zip(clients, sent, strict=True):
        assert len(GET_FILE) < count < 64 << 20
        client.socket.setblocking(True)
        client.socket.settimeout(60)
    for _ in range(min(sent[0] // len(GET_FILE), 1000)):
        assert clients[0].read().body == content
    for client in clients:
        client.close()


def _send_until_nobody_takes_more(sockets: list[socket.socket], data: bytes, bytes_max: int) -> list[int]:
    """Send `data` over and over to each; the bytes that went to each before all were full."""
    sent = dict.fromkeys(sockets, 0)
    for sock in sockets:
        sock.setblocking(False)
    with selectors.PollSelector() as writable:
        for sock in sockets:
            writable.register(sock, selectors.EVENT_WRITE)
        while writable.get_map() and (ready := writable.select(1.0)):
            for key, _ in ready:
                sock = cast(socket.socket, key.fileobj)
                sent[sock] += sock.send(data[sent[sock] % len(data) :])
                if sent[sock] >= bytes_max:
                    writable.unregister(sock)
    return list(sent.values())


# A client in a process of its own, that sends a request over and over as fast as the server's answers are read.
FLOOD = """
import socket, sys, threading
sock = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
request = b"GET /file HTTP/1.1\\r\\nHost: test\\r\\nX-Padding: %b\\r\\n\\r\\n" % (b"x" * int(sys.argv[2]))
def read():
    buffer = bytearray(1 << 20)
    while sock.recv_into(buffer):
        pass
threading.Thread(target=read, daemon=True).start()
while True:
    sock.sendall(request * 1000)
"""


# Long heads fill a `recv` with a few requests, short ones with more than a turn's share.
@pytest.mark.parametrize("padding", [0, 1000], ids=["short heads", "long heads"])
def test_a_flood_of_requests_is_answered_in_bounded_turns(site: Site, serve: Serve, padding: int) -> None:
    site.write("file", b"x" * 10)
    site.write("other", b"for the quiet one")
    server = serve(site.root, engine="python")  # whose turns can be counted
    answered: list[int] = []  # at the beginning of each turn
    server.loop.each_turn.subscribe(lambda: answered.append(server.service.requests))
    flood = subprocess.Popen([sys.executable, "-c", FLOOD, str(server.port), str(padding)], stderr=subprocess.DEVNULL)
    try:
        with Client(server.port) as quiet:
            deadline = time.monotonic() + 60
            count = 0
            while server.service.requests < 20_000 and time.monotonic() < deadline:
                assert quiet.get("/other").body == b"for the quiet one"
                count += 1
        assert flood.poll() is None
    finally:
        flood.kill()
        flood.wait()
    assert answered[-1] >= 10_000 + count
    assert count
    head_bytes = len("GET /file HTTP/1.1\r\nHost: test\r\nX-Padding: \r\n\r\n") + padding
    turns = [after - before for before, after in itertools.pairwise(answered)]
    # A turn answers an event, and reads once more. The last 1 is the quiet one's.
    assert max(turns) <= min(server.config.pipeline_max, 2 * RECV_BYTES // head_bytes + 1) + 1


@pytest.mark.parametrize("kept", [RESIDENT, NOT_RESIDENT], ids=["resident", "not resident"])
def test_a_turn_sends_a_bounded_share_to_each_connection(
    site: Site, serve: Serve, monkeypatch: pytest.MonkeyPatch, kept: dict[str, Any]
) -> None:
    content = content_of(SIZES["large"])
    site.write("file", content)
    server = serve(site.root, engine="python", turn_bytes_max=256 << 10, **kept)
    sent: dict[tuple[int, int], int] = {}  # by turn and socket
    flush = Output.flush

    def size(segments: list[Any]) -> int:
        return sum(one.length if isinstance(one, (Span, DiskSpan)) else len(one) for one in segments)

    def counted(output: Output, transport: Transport, share: int) -> Any:
        before = size(output.segments)
        try:
            return flush(output, transport, share)
        finally:
            key = (server.loop.rounds, transport.fd)
            sent[key] = sent.get(key, 0) + before - size(output.segments)

    monkeypatch.setattr(Output, "flush", counted)
    with Client(server.port) as first, Client(server.port) as second:
        for client in (first, second):
            client.send(GET_FILE * 4)
        for client in (first, second) * 4:
            assert client.read().body == content
    # The last piece may begin below the share: a piece of a file that is not resident, or the head.
    assert max(sent.values()) <= server.config.turn_bytes_max + FIRST_PIECE_BYTES
    assert len(sent) >= 8 * SIZES["large"] // (server.config.turn_bytes_max + FIRST_PIECE_BYTES)


@pytest.mark.parametrize("engine", ["python", "native"])
def test_a_request_that_comes_while_an_answer_is_blocked_is_answered_after_it(
    site: Site, serve: Serve, wait_until: WaitUntil, engine: str
) -> None:
    """Its edge comes while nothing is read, and is not told again."""
    content = content_of(SIZES["large"])
    site.write("file", content)
    site.write("small", b"small")
    server = serve(site.root, engine=engine)
    small = b"GET /small HTTP/1.1\r\nHost: test\r\n\r\n"
    with Client(server.port) as client:  # from now on the fast lane knows both
        assert (client.get("/file").status, client.get("/small").status) == (200, 200)
    for behind in (b"", small):
        with Client(server.port, receive_buffer=4096) as client:
            client.send(GET_FILE + behind)
            client.read_head()
            client.socket.recv(1)
            time.sleep(0.1)  # its socket is full
            client.send(small)
            time.sleep(0.05)
            hurry(client)
            client.read_exactly(SIZES["large"] - 1)
            for _ in range(2 if behind else 1):
                assert client.read().body == b"small"
