"""However a connection ends, what was begun arrives: no answer is lost to a reset by input that nothing reads.

In each test the client has sent more than was read when the connection ends, or goes on sending, and reads slowly.
"""

from __future__ import annotations

import os
import resource
import signal
import socket
import textwrap
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tests.support.client import Client
from tests.support.command import StartCommand
from tests.support.site import Serve, Site
from tests.support.stage import EVENTS, JOURNAL, StageClient, write_servlets
from tests.support.waiting import WaitUntil, is_readable
from zcserve import Config, Server
from zcserve.config.table import Engine
from zcserve.net.states import FRESH_S

LARGE = 8 << 20  # more than any socket takes whose client does not read
CONTENT = bytes(range(256)) * (LARGE // 256)
GET = b"GET %b HTTP/1.1\r\nHost: test\r\n%b\r\n"

ENGINES = ["python", "native"]


@pytest.fixture
def root(site: Site) -> Path:
    """Files of four sizes."""
    site.write("page", b"a page")
    site.write("little", CONTENT[: 12 << 10])
    site.write("medium", CONTENT[: 200 << 10])
    site.write("large", CONTENT)
    assert isinstance(site.root, Path)
    return site.root


def read_slowly(client: Client, count: int) -> bytes:
    """Read so that the server is through with writing long before the client is with reading."""
    pieces = []
    while count > 0 and (data := client.socket.recv(min(count, 1 << 16))):
        pieces.append(data)
        count -= len(data)
        time.sleep(0.001)
    return b"".join(pieces)


def begin(port: int, more: bytes = b"") -> Client:
    """A client whose download is under way. The fast lane sends it, where there is one: it was taught before."""
    with Client(port) as taught:
        for target in ("/large", "/page"):
            assert taught.get(target, method="HEAD").status == 200
    client = Client(port, receive_buffer=1 << 16)
    client.send(GET % (b"/large", more))
    client.read_head()
    return client


def rest(client: Client) -> bytes:
    """What is left of the download that `begin` began."""
    return client.buffer + read_slowly(client, LARGE - len(client.buffer))


# --- draining -----------------------------------------------------------------------------------------------------


def end_successor(server: Any, wait_until: WaitUntil) -> None:
    """Upgrade, and end the new process when it serves."""
    served = wait_until(lambda: [line for line in server.lines if "serves now" in line])
    os.kill(int(served[0].split("process ")[1].split()[0]), signal.SIGTERM)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR2])
@pytest.mark.parametrize("engine", ENGINES)
def test_a_download_survives_the_end_though_the_next_request_lies_behind_it(
    root: Path, command: StartCommand, wait_until: WaitUntil, engine: str, number: int
) -> None:
    server = command(root, "--engine", engine)
    with begin(server.port) as client:
        client.send(GET % (b"/page", b""))
        os.kill(server.pid, number)
        if number == signal.SIGUSR2:
            end_successor(server, wait_until)
        assert rest(client) == CONTENT
        client.buffer = b""
        answer = client.read()  # it was sent before the end was known
        assert (answer.body, answer["Connection"]) == (b"a page", b"close")
        assert client.at_end()
    assert server.wait() == 0


@pytest.mark.parametrize("engine", ENGINES)
def test_a_download_survives_the_end_though_its_client_never_stops_sending(
    root: Path, command: StartCommand, engine: str
) -> None:
    server = command(root, "--engine", engine)
    with begin(server.port) as client:
        client.send(GET % (b"/page", b"") * 200)  # more than a `recv`
        os.kill(server.pid, signal.SIGTERM)
        assert rest(client) == CONTENT
        client.buffer = b""
        client.send(GET % (b"/page", b""))
        assert client.read()["Connection"] == b"close"
        client.send(GET % (b"/page", b""))
        assert client.at_end()
    assert server.wait() == 0


@pytest.mark.parametrize("engine", ENGINES)
def test_a_client_that_has_just_connected_has_a_second_to_ask(
    root: Path, command: StartCommand, wait_until: WaitUntil, engine: str
) -> None:
    server = command(root, "--engine", engine)
    with Client(server.port) as fresh, Client(server.port) as silent, Client(server.port) as last:
        assert last.get("/page").status == 200  # the kernel keeps the two back (deferral.py)
        began = time.monotonic()
        os.kill(server.pid, signal.SIGTERM)
        assert last.at_end()
        fresh.send(GET % (b"/page", b""))
        answer = fresh.read()
        assert (answer.body, answer["Connection"]) == (b"a page", b"close")
        assert silent.at_end()
        assert server.wait() == 0
        assert time.monotonic() - began < 10 * FRESH_S


@pytest.mark.parametrize("engine", ENGINES)
def test_a_client_that_has_said_nothing_is_accepted_when_it_asks(root: Path, serve: Serve, engine: str) -> None:
    server = serve(root, engine=engine)
    with Client(server.port) as other, Client(server.port) as silent:
        assert other.get("/page").status == 200
        assert server.service.count() == 1
        assert silent.get("/page").status == 200
        assert server.service.count() == 2


@pytest.mark.parametrize("engine", ENGINES)
def test_a_client_that_waits_to_be_accepted_at_the_end_is_answered(
    root: Path, command: StartCommand, tmp_path: Path, wait_until: WaitUntil, engine: str
) -> None:
    if engine == "native":
        pytest.importorskip("zcserve.net._lane")
    folder = write_servlets(tmp_path)
    held, go = tmp_path / "held", tmp_path / "go"
    source = f"""
    import pathlib
    def get(request):
        pathlib.Path({str(held)!r}).touch()
        while not pathlib.Path({str(go)!r}).exists():
            time.sleep(0.005)
        return b"slow"
    """
    (folder / "slow.py").write_text("import time\n" + textwrap.dedent(source))
    server = command(root, "--engine", engine, "--servlets", str(folder))
    with Client(server.port) as holder:
        holder.send(GET % (b"/csp?slow", b""))
        wait_until(held.exists)  # the loop is held
        os.kill(server.pid, signal.SIGTERM)
        queued = [Client(server.port) for _ in range(20)]
        for client in queued:
            client.send(GET % (b"/page", b""))
        go.touch()
        assert holder.read().body == b"slow"
        for client in queued:
            assert client.read().body == b"a page"
            client.close()
    assert server.wait() == 0


# --- ends of single connections -----------------------------------------------------------------------------------


@pytest.mark.parametrize("engine", ENGINES)
def test_the_last_answer_of_a_client_that_says_close_and_goes_on_sending_arrives(
    root: Path, serve: Serve, engine: str
) -> None:
    server = serve(root, engine=engine)
    for _ in range(3):
        with begin(server.port, b"Connection: close\r\n") as client:
            client.send(b"x" * 100_000)
            assert rest(client) == CONTENT
            assert not client.socket.recv(1)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("target", [b"/page", b"/medium"])
def test_clients_that_close_after_each_request_cost_no_lingering(
    root: Path, serve: Serve, wait_until: WaitUntil, engine: str, target: bytes
) -> None:
    """The server closes first, at once: the client still has its socket open, and says no more."""
    server = serve(root, engine=engine, linger_timeout_s=300)
    with Client(server.port) as taught:
        assert taught.get(target.decode(), method="HEAD").status == 200
    with Client(server.port) as client:
        client.send(GET % (target, b"Connection: close\r\n"))
        client.read()
        wait_until(lambda: server.service.count() == 0)


LAST = b"Connection: close\r\n"
# What a client asks before it says that it closes, and what it is answered.
PAGE, LITTLE, MEDIUM = b"a page", CONTENT[: 12 << 10], CONTENT[: 200 << 10]
LASTS: dict[bytes, list[bytes]] = {
    GET % (b"/little", LAST): [LITTLE],
    GET % (b"/medium", LAST): [MEDIUM],
    b"GET /medium HTTP/1.0\r\n\r\n": [MEDIUM],
    GET % (b"/little", b"") + GET % (b"/page", LAST): [LITTLE, PAGE],
    GET % (b"/medium", b"") + GET % (b"/page", LAST): [MEDIUM, PAGE],
    GET % (b"/medium", b"Range: bytes=0-8191\r\n") + b"GET /page HTTP/1.0\r\n\r\n": [MEDIUM[:8192], PAGE],
    b"GET /csp?pieces HTTP/1.0\r\n\r\n": [LITTLE],
}


@pytest.mark.parametrize("engine", ENGINES)
def test_the_last_answer_arrives_whatever_its_client_sends_behind_it(
    root: Path, serve: Serve, tmp_path: Path, engine: str
) -> None:
    """The client has said that it closes, so that the server may close at once; but a part waits until it reads."""
    folder = write_servlets(tmp_path)
    (folder / "pieces.py").write_text("def get(request):\n    yield from (bytes(range(256)) for _ in range(48))\n")
    server = serve(root, engine=engine, servlets=str(folder))
    with Client(server.port) as other:
        for target in ("/page", "/little", "/medium"):
            assert other.get(target, method="HEAD").status == 200
        for requests, contents in LASTS.items():
            with Client(server.port, receive_buffer=4096) as client:
                client.send(requests)
                is_readable(client.socket, 20)
                for _ in range(3):  # the loop's turns
                    assert other.get("/page").status == 200
                    with suppress(ConnectionError):
                        client.send(b"x")
                assert [client.read().body for _ in contents] == contents, requests


@pytest.mark.parametrize("engine", ENGINES)
def test_a_refusal_arrives_whole_while_the_client_goes_on_sending(site: Site, serve: Serve, engine: str) -> None:
    if engine == "native":
        pytest.importorskip("zcserve.net._lane")
    server = serve(site.root, engine=engine, body_bytes_max=1000)
    for _ in range(5):
        with Client(server.port) as client:
            client.send(b"POST /x HTTP/1.1\r\nHost: test\r\nContent-Length: 50000000\r\n\r\n")
            for _ in range(20):
                client.send(b"x" * 100_000)
            assert client.read().status == 413
            assert client.at_end()


STREAMS = """
@servlet("/cut", thread=True)
def cut(request):
    for n in range(30):
        yield b"%05d" % n * 2000
    raise ValueError("on purpose")

@servlet("/never", thread=True)
def never(request):
    JOURNAL.append("begun")
    EVENTS["go"].wait(WAIT_S)
"""


@pytest.mark.parametrize("engine", ENGINES)
def test_the_pieces_of_a_stream_that_fails_arrive(site: Site, serve: Serve, tmp_path: Path, engine: str) -> None:
    if engine == "native":
        pytest.importorskip("zcserve.net._lane")
    server = serve(site.root, engine=engine, servlets=str(write_servlets(tmp_path, streams=STREAMS)))
    with StageClient(server.port, receive_buffer=8192) as client:
        client.ask("/cut")
        client.read_head()
        client.send(GET % (b"/cut", b"") * 100)
        for n in range(30):
            assert client.read_chunk() == b"%05d" % n * 2000
            time.sleep(0.005)
        with pytest.raises(EOFError):
            client.read_chunk()


@pytest.mark.parametrize("engine", ENGINES)
def test_an_answer_in_the_kernels_queue_survives_the_end_of_grace(
    root: Path, tmp_path: Path, wait_until: WaitUntil, engine: Engine
) -> None:
    """It is complete; behind it is a request that is never answered, and one that nothing reads."""
    if engine == "native":
        pytest.importorskip("zcserve.net._lane")
    folder = str(write_servlets(tmp_path, streams=STREAMS))
    with Server(Config(root=root, port=0, engine=engine, servlets=folder, watch=False)) as server:
        client = StageClient(server.port, receive_buffer=4096)
        client.send(GET % (b"/medium", b"") + GET % (b"/never", b""))
        wait_until(lambda: JOURNAL == ["begun"])  # the file is in the kernel's queue
        client.send(GET % (b"/medium", b"") * 10)
    with client:
        assert client.read().body == CONTENT[: 200 << 10]
        assert client.at_end()
    EVENTS["go"].set()


def is_refused(port: int) -> bool:
    """Whether nothing listens any more."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


@pytest.mark.parametrize("engine", ENGINES)
def test_a_last_answer_survives_the_end_of_grace_whatever_is_sent_behind_it(
    root: Path, command: StartCommand, wait_until: WaitUntil, engine: str
) -> None:
    server = command(root, "--engine", engine, "--grace", "0s")
    with Client(server.port) as taught:
        assert taught.get("/little", method="HEAD").status == 200
    with Client(server.port, receive_buffer=4096) as client:
        client.send(GET % (b"/little", b""))
        is_readable(client.socket, 20)  # the rest is in the kernel's queue
        os.kill(server.pid, signal.SIGTERM)
        wait_until(lambda: is_refused(server.port))
        with suppress(ConnectionError):
            for _ in range(20):
                client.send(b"x")
                time.sleep(0.01)
        assert client.read().body == LITTLE
    assert server.wait() == 0


def test_an_ending_lasts_while_the_client_reads_and_no_longer(root: Path, serve: Serve, wait_until: WaitUntil) -> None:
    """`linger` counts from when everything has arrived, `write` from the last progress."""
    server = serve(root, engine="python", linger_timeout_s=0.1, write_timeout_s=1.0)
    junk = GET % (b"/page", b"") * 3
    with begin(server.port, b"Connection: close\r\n") as client:
        client.send(junk)
        pieces = [client.buffer]
        while sum(map(len, pieces)) < LARGE:  # longer than either timeout
            pieces.append(client.socket.recv(1 << 17))
            time.sleep(0.02)
        assert b"".join(pieces) == CONTENT
        wait_until(lambda: server.service.count() == 0)  # though the client does not close
    with begin(server.port, b"Connection: close\r\n") as client:
        client.send(junk)
        wait_until(lambda: server.service.count() == 0)  # nothing is read


# --- no room ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("engine", ENGINES)
def test_a_client_that_is_refused_for_want_of_descriptors_reads_why(
    root: Path, command: StartCommand, wait_until: WaitUntil, engine: str
) -> None:
    """Its request was sent and is not read."""
    if engine == "native":
        pytest.importorskip("zcserve.net._lane")
    server = command(root, "--engine", engine, "--lanes", "1")  # another would serve by the descriptor in reserve
    limit = len(os.listdir(f"/proc/{server.pid}/fd")) + 3
    hard = resource.prlimit(server.pid, resource.RLIMIT_NOFILE)[1]
    resource.prlimit(server.pid, resource.RLIMIT_NOFILE, (limit, hard))
    busy = [begin(server.port) for _ in range(3)]
    for _ in range(10):
        with socket.create_connection(("127.0.0.1", server.port)) as sock:
            sock.sendall(GET % (b"/page", b"") * 2000)
            client = Client.__new__(Client)
            client.socket, client.buffer = sock, b""
            sock.settimeout(20)
            answer = client.read()
            assert (answer.status, answer["Retry-After"]) == (503, b"1")
            assert client.at_end()
    for client in busy:
        client.reset()

    def is_served() -> bool:
        with Client(server.port) as client:
            return bool(client.get("/page").status == 200)

    wait_until(is_served)
