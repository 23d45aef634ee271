"""A servlet that forks, and a child that lives on with copies of all descriptors.

What the server closes would stay open in the child, and what epoll watches of it would still be told, by the number
that the descriptor had. So the child gives up what the loop waits for (net/forks.py), and the server takes a descriptor
out of epoll before it closes it.
"""

from __future__ import annotations

import os
import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support.client import Client
from tests.support.command import StartCommand
from tests.support.site import Site
from tests.support.waiting import WaitUntil

GET = b"GET %b HTTP/1.1\r\nHost: test\r\n%b\r\n"

FORKS = """
import os, socket, time
from zcserve import servlet

@servlet("/fork")
def fork(request):
    parent = os.getpid()
    child = os.fork()
    if not child:
        while os.getppid() == parent:
            time.sleep(0.02)
        os._exit(0)
    return str(child)

def connections():
    found = []
    for number in os.listdir("/proc/self/fd"):
        try:
            with socket.socket(fileno=os.dup(int(number))) as one:
                found += [one] if one.family == socket.AF_INET else []
        except OSError:  # it is no socket
            pass
    return found

@servlet("/kept", thread=True)
def kept(request):
    read, write = os.pipe()
    child = os.fork()
    if not child:
        os.write(write, b"%d" % len(connections()))
        os._exit(0)
    os.close(write)
    os.waitpid(child, 0)
    with open(read, "rb") as file:
        return file.read()

@servlet("/come-back")
def come_back(request):
    return str(os.fork())

@servlet("/wait", thread=True)
def wait(request):
    time.sleep(0.3)
    return b"waited"
"""

# Clients that come and go while so many children are forked: of 30 to 100, one kept a connection before it looked at
# what it has.
COMING = 4
FORKED = 25

# Where no registration is left behind.
ENGINES = ["python", "native"]


@pytest.mark.parametrize("engine", ENGINES)
def test_what_a_forked_child_keeps_open_harms_no_newcomer(
    site: Site, command: StartCommand, tmp_path: Path, engine: str
) -> None:
    site.write("page", b"a page")
    (tmp_path / "servlets").mkdir()
    (tmp_path / "servlets" / "forks.py").write_text(FORKS)
    flags = ("--engine", engine, "--servlets", str(tmp_path / "servlets"), "--servlet-threads", "8")
    server = command(site.root, *flags)
    with Client(server.port) as client:
        assert client.get("/wait").body == b"waited"
        olds = [Client(server.port) for _ in range(6)]
        for old in olds:
            assert old.get("/page").status == 200
        child = int(client.get("/fork").body)
        try:
            for old in olds:  # the server closes them, and the child does not
                assert old.get("/page", "Connection: close").status == 200
            with ExitStack() as stack:
                newcomers = [stack.enter_context(Client(server.port)) for _ in range(6)]  # with the same numbers
                for newcomer in newcomers:
                    newcomer.send(GET % (b"/wait", b""))
                assert client.get("/page").body == b"a page"  # all of them are here
                for old in olds:
                    old.reset()
                assert [newcomer.read().body for newcomer in newcomers] == [b"waited"] * 6
        finally:
            os.kill(child, signal.SIGKILL)


@pytest.mark.parametrize("engine", ENGINES)
def test_a_forked_child_keeps_no_connection_and_no_port(
    site: Site, command: StartCommand, tmp_path: Path, engine: str
) -> None:
    site.write("page", b"a page")
    (tmp_path / "servlets").mkdir()
    (tmp_path / "servlets" / "forks.py").write_text(FORKS.replace("time.sleep(0.02)", "time.sleep(60)"))
    server = command(site.root, "--engine", engine, "--servlets", str(tmp_path / "servlets"), "--idle-timeout", "1s")
    with ExitStack() as stack:
        asks, idle, pythons, client = (stack.enter_context(Client(server.port)) for _ in range(4))
        for old in (asks, idle, client):
            assert old.get("/page").status == 200
        assert pythons.get("/missing").status == 404
        child = int(client.get("/fork").body)
        try:
            assert asks.get("/page", "Connection: close").status == 200
            for old in (asks, idle, pythons):  # the last two have nothing more to ask
                assert old.at_end()
            server.process.terminate()
            assert server.process.wait(10) == 0
            with pytest.raises(ConnectionRefusedError):
                Client(server.port)
        finally:
            os.kill(child, signal.SIGKILL)


@pytest.mark.parametrize("lanes", [0, 2])
def test_a_forked_child_keeps_no_connection_that_comes_while_it_is_forked(
    site: Site, command: StartCommand, tmp_path: Path, lanes: int
) -> None:
    if lanes:
        pytest.importorskip("zcserve.net._lane")
    site.write("page", b"a page")
    (tmp_path / "servlets").mkdir()
    (tmp_path / "servlets" / "forks.py").write_text(FORKS)
    engine = ("--engine", "native", "--lanes", str(lanes)) if lanes else ("--engine", "python")
    server = command(site.root, *engine, "--servlets", str(tmp_path / "servlets"))
    is_over = threading.Event()

    def come_and_go() -> None:
        while not is_over.is_set():
            with Client(server.port) as one:
                assert one.get("/page", "Connection: close").status == 200

    with ThreadPoolExecutor(COMING) as pool, Client(server.port) as client:
        coming = [pool.submit(come_and_go) for _ in range(COMING)]
        try:
            found = {client.get("/kept").body for _ in range(FORKED)}
        finally:
            is_over.set()
        for one in coming:
            one.result()
    assert found == {b"0"}


@pytest.mark.parametrize("engine", ENGINES)
def test_a_forked_child_that_comes_back_ends(
    site: Site, command: StartCommand, tmp_path: Path, wait_until: WaitUntil, engine: str
) -> None:
    (tmp_path / "servlets").mkdir()
    (tmp_path / "servlets" / "forks.py").write_text(FORKS)
    server = command(site.root, "--engine", engine, "--servlets", str(tmp_path / "servlets"))
    with Client(server.port) as client, Client(server.port) as other:
        other.send(b"GET /missing HTTP/1.1\r\n")  # which Python waits for
        child = int(client.get("/come-back").body)
        status = Path(f"/proc/{child}/stat")
        try:
            wait_until(lambda: status.read_text().rpartition(")")[2].split()[0] == "Z")  # nothing waits for it
        finally:
            os.kill(child, signal.SIGKILL)
        assert [client.get("/missing").status for _ in range(100)] == [404] * 100
        other.send(b"Host: test\r\n\r\n")
        assert other.read().status == 404
    assert any("came back from the servlet" in line for line in server.lines)
