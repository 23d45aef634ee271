"""A servlet that forks, and a child that lives on with copies of all descriptors.

What the server closes then stays open in the child, and what epoll watches of it is still told, by the number that the
descriptor had. So the server takes a descriptor out of epoll before it closes it.
"""

from __future__ import annotations

import os
import signal
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from wire.client import Client

GET = b"GET %b HTTP/1.1\r\nHost: test\r\n%b\r\n"

FORKS = """
import os, time
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

@servlet("/wait", thread=True)
def wait(request):
    time.sleep(0.3)
    return b"waited"
"""

# Where no registration is left behind.
ENGINES = ["python", "native"]


@pytest.mark.parametrize("engine", ENGINES)
def test_what_a_forked_child_keeps_open_harms_no_newcomer(site: Any, command: Any, tmp_path: Path, engine: str) -> None:
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
