"""What a client has sent is answered, whatever it does meanwhile: a machine drives some connections through all their
states, over real sockets, beside a model of what each of them is owed.

Requests come in pieces, pipelined, while an answer is blocked, behind what only Python can answer; clients read a
little, all, or nothing, end their output, or vanish. In the end everything that is owed arrives, in order, and nothing
else; when the clients are gone, no connection is left.
"""

from __future__ import annotations

import random
import socket
import time
from pathlib import Path
from typing import Any

import pytest

from tests.support.client import Client
from tests.support.site import Serve, Site
from tests.support.waiting import is_readable
from zcserve import Server
from zcserve.net.fastlane import FastLane

hypothesis = pytest.importorskip("hypothesis")
from hypothesis import Phase, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule, run_state_machine_as_test  # noqa: E402

ENGINES = ["python", "native"]
CLIENTS_MAX = 5
# One that is owed an answer gets a byte of it within this time. Nothing here takes longer than some milliseconds.
ANSWERED_WITHIN_S = 10.0

# Long enough to fill a socket.
BLOCKED_S = 0.01

CONTENT = {
    "/small": b"small",
    "/page": b"p" * 1000,
    "/middle": random.Random(1).randbytes(40_000),
    "/large": random.Random(2).randbytes(6 << 20),  # more than a socket takes that is not read from
}
SERVLETS = {
    "hello": "def get(request):\n    return b'hello'\n",
    "thread": "from zcserve import servlet\n@servlet(thread=True)\ndef get(request):\n    return b'thread'\n",
    "length": "def post(request):\n    return str(len(request.body))\n",
}


class Ask:
    """A request and its answer. `needs_client`: an application answers it later, so it is not for
    a client that has ended its output."""

    def __init__(self, data: bytes, status: int, body: bytes | None, *, needs_client: bool = False) -> None:
        self.data = data
        self.status = status
        self.body = body
        self.needs_client = needs_client

    def __repr__(self) -> str:
        return repr(self.data[:60])


def get(target: str, *lines: str) -> bytes:
    return "\r\n".join((f"GET {target} HTTP/1.1", "Host: test", *lines, "", "")).encode()


ASKS = [
    *(Ask(get(target), 200, content) for target, content in CONTENT.items()),
    Ask(get("/page", "Range: bytes=10-19"), 206, b"p" * 10),
    Ask(get("/large", "Range: bytes=-3000000"), 206, CONTENT["/large"][-3_000_000:]),
    Ask(get("/middle", "Range: bytes=100-4195"), 206, CONTENT["/middle"][100:4196]),
    Ask(get("/large", "Range: bytes=99999999-"), 416, None),
    Ask(get("/page?query"), 200, CONTENT["/page"]),
    Ask(get("/small", "X-Long: " + "x" * 3000), 200, CONTENT["/small"]),
    Ask(get("/page").replace(b"GET", b"HEAD"), 200, b""),
    Ask(get("/csp?hello"), 200, b"hello"),
    Ask(get("/csp?thread"), 200, b"thread", needs_client=True),
    Ask(b"POST /csp?length HTTP/1.1\r\nHost: test\r\nContent-Length: 5\r\n\r\n12345", 200, b"5"),
    Ask(b"POST /small HTTP/1.1\r\nHost: test\r\nContent-Length: 5\r\n\r\n12345", 405, None),
]

LARGE = ASKS[3]


class Peer:
    """One client, and what it is owed."""

    def __init__(self, port: int, receive_buffer: int | None) -> None:
        self.client = Client(port, receive_buffer=receive_buffer, timeout=ANSWERED_WITHIN_S)
        self.owed: list[Ask] = []
        self.unsent = b""
        self.ended = False

    def send(self, asks: list[Ask], held_back: int) -> None:
        """Send requests but for their last bytes, behind what was held back before."""
        data = self.unsent + b"".join(ask.data for ask in asks)
        cut = max(0, len(data) - held_back)
        if cut:
            self.client.send(data[:cut])
        self.unsent = data[cut:]
        self.owed += asks

    def read_some(self, most: int) -> None:
        if is_readable(self.client.socket):
            self.client.buffer += self.client.socket.recv(most)

    def settle(self) -> None:
        """Read all that is owed: just that."""
        self.send([], 0)
        for ask in self.owed:
            method = ask.data.partition(b" ")[0].decode()
            response = self.client.read(method=method)
            assert response.status == ask.status
            assert ask.body is None or response.body == ask.body
        self.owed = []
        assert not self.client.buffer
        if self.ended:
            assert self.client.at_end()


def machine(server: Any) -> type[RuleBasedStateMachine]:
    """The machine that drives this server."""

    asks = st.sampled_from(ASKS)

    class Machine(RuleBasedStateMachine):
        def __init__(self) -> None:
            super().__init__()
            self.peers: list[Peer] = []

        @precondition(lambda self: len(self.peers) < CLIENTS_MAX)
        @rule(receive_buffer=st.sampled_from((None, 65536)))
        def connect(self, receive_buffer: int | None) -> None:
            self.peers.append(Peer(server.port, receive_buffer))

        @precondition(lambda self: self.open())
        @rule(data=st.data(), asks=st.lists(asks, min_size=1, max_size=8), held_back=st.sampled_from((0, 0, 0, 1, 30)))
        def send(self, data: Any, asks: list[Ask], held_back: int) -> None:
            data.draw(st.sampled_from(self.open())).send(asks, held_back)

        @precondition(lambda self: self.open())
        @rule(data=st.data(), behind=st.lists(asks, max_size=3), later=st.lists(asks, min_size=1, max_size=3))
        def send_while_blocked(self, data: Any, behind: list[Ask], later: list[Ask]) -> None:
            peer = data.draw(st.sampled_from(self.open()))
            peer.send([LARGE, *behind], 0)
            time.sleep(BLOCKED_S)
            peer.send(later, 0)

        @precondition(lambda self: self.peers)
        @rule(data=st.data(), most=st.sampled_from((1, 1000, 100_000, 1 << 20)))
        def read_some(self, data: Any, most: int) -> None:
            data.draw(st.sampled_from(self.peers)).read_some(most)

        @precondition(lambda self: self.peers)
        @rule(data=st.data())
        def read_all(self, data: Any) -> None:
            data.draw(st.sampled_from(self.peers)).settle()

        @precondition(lambda self: any(not any(ask.needs_client for ask in peer.owed) for peer in self.open()))
        @rule(data=st.data())
        def end_output(self, data: Any) -> None:
            fit = [peer for peer in self.open() if not any(ask.needs_client for ask in peer.owed)]
            peer = data.draw(st.sampled_from(fit))
            peer.send([], 0)
            peer.client.socket.shutdown(socket.SHUT_WR)
            peer.ended = True

        @precondition(lambda self: self.peers)
        @rule(data=st.data(), reset=st.booleans())
        def vanish(self, data: Any, reset: bool) -> None:
            peer = data.draw(st.sampled_from(self.peers))
            self.peers.remove(peer)
            if reset:
                peer.client.reset()
            else:
                peer.client.close()

        def open(self) -> list[Peer]:
            return [peer for peer in self.peers if not peer.ended]

        def teardown(self) -> None:
            try:
                for peer in self.peers:
                    peer.settle()
            finally:
                for peer in self.peers:
                    peer.client.close()
            deadline = time.monotonic() + ANSWERED_WITHIN_S
            while server.service.count():
                assert time.monotonic() < deadline, f"{server.service.count()} connections are left"
                time.sleep(0.001)
            if isinstance(server.loop.front, FastLane):
                assert server.loop.front.lane.inboxes == 0

    return Machine


@pytest.fixture(params=ENGINES)
def server(request: pytest.FixtureRequest, site: Site, serve: Serve, tmp_path: Path) -> Server:
    """One of each engine, whose turns are short."""
    if request.param == "native":
        pytest.importorskip("zcserve.net._lane")
    for target, content in CONTENT.items():
        site.write(target[1:], content)
    servlets = tmp_path / "servlets"
    servlets.mkdir()
    for name, text in SERVLETS.items():
        (servlets / f"{name}.py").write_text(text)
    return serve(site.root, engine=request.param, servlets=str(servlets), pipeline_max=4, turn_bytes_max=1 << 24)


def test_what_is_sent_while_an_answer_is_blocked_is_answered_behind_it(server: Server) -> None:
    small = ASKS[0]
    for behind in range(3):
        peer = Peer(server.port, 4096)
        peer.send([LARGE, *[small] * behind], 0)
        time.sleep(BLOCKED_S)
        peer.send([small], 0)
        time.sleep(BLOCKED_S)
        peer.settle()
        peer.client.close()


def test_everything_that_is_asked_for_is_answered(server: Server) -> None:
    # A failure waits for an answer that never comes: to make it smaller would take minutes.
    few = settings(max_examples=40, stateful_step_count=20, deadline=None, phases=(Phase.generate,))
    run_state_machine_as_test(machine(server), settings=few)
