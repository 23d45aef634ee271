"""A flood on a server process: `python -m tests.support.flood --seconds 20 --lanes 3`.

All that several lanes do beside each other, at once: hits, conditions, ranges, pipelines, misses, servlets, what rules
lead to, files that change, come and go, flips, evictions (less memory than content), new connections, clients that
abort, stop reading, or stay silent in their hundreds; and a log. In the end the server is told to go while they ask on.

A client's law: what comes is whole, and is one version of one file; on one connection no version is older than the one
before. A connection may be closed between two answers. `tools/sanitize.py --threads` runs this on a server of
ThreadSanitizer's build, which finds what the law does not show.
"""

from __future__ import annotations

import argparse
import os
import random
import re
import signal
import socket
import struct
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from tests.support.client import Client, Response
from tests.support.command import Command
from tests.support.following import asking, checked, publish

MEMORY = "4M"
STEADY, STEADY_BYTES = 120, 60_000  # more than the memory holds
CHANGED = {f"changed/{number}": size for number, size in enumerate((40, 1000, 3000, 20_000, 50_000, 90_000, 400_000))}
COMES, COMES_BYTES = 8, 500
# What rules lead to: before any servlet is asked.
RULES = b"/led/* /changed/2 200!\n/moved/* /changed/1 302!\n"
LED = 300  # paths that are asked for
CONNECTIONS_MAX = 200
CROWD = 150  # silent clients: with the others more than the server keeps
CLIENTS = 24
REQUESTS = 30  # of one connection
RELOADED_EVERY = 40  # changes
SERVLETS = {
    "hello": 'def get(request):\n    return "hello " + request.query.get("n", "")\n',
    "slow": 'import time\n\ndef get(request):\n    time.sleep(0.02)\n    return "slow"\n',
}
_ABORTED = struct.pack("ii", 1, 0)  # SO_LINGER: close with a reset
_CLOSED = (ConnectionError, EOFError, TimeoutError)


def content(name: str, version: int, size: int) -> bytes:
    """One version of a file: so many bytes, and none of another version is the same in its first ones."""
    stamp = b"%08d %b\n" % (version, name.encode())
    return (stamp * (size // len(stamp) + 1))[:size]


class Tree:
    """What is served, and what becomes of it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._version = 0
        for folder in ("steady", "changed", "comes"):
            (root / folder).mkdir(parents=True)
        for number in range(STEADY):
            (root / f"steady/{number}").write_bytes(content(f"steady/{number}", 0, STEADY_BYTES))
        for name, size in CHANGED.items():
            (root / name).write_bytes(content(name, 0, size))
        (root / "_redirects").write_bytes(RULES)

    def change(self) -> None:
        """Replace some files, and have one come or go."""
        self._version += 1
        for name in random.sample(sorted(CHANGED), 3):
            publish(self.root / name, content(name, self._version, CHANGED[name]))
        came = self.root / f"comes/{self._version % COMES}"
        if came.exists():
            came.unlink()
        else:
            publish(came, content("comes", self._version, COMES_BYTES))


class Asked:
    """One connection, and the versions that it has seen."""

    def __init__(self, client: Client, told: Counter[str]) -> None:
        self.client = client
        self._told = told
        self._seen: dict[str, int] = {}

    def get(self, target: str, *lines: str, method: str = "GET") -> Response:
        """Ask, and count the answer; again where it is 503: the loader's threads have too much to do."""
        while True:
            answer = self.client.get(target, *lines, method=method)
            self._told[str(answer.status)] += 1
            if answer.status != 503:
                return answer
            assert answer["Retry-After"]

    def look(self, name: str, size: int) -> Response:
        """Ask for a file and judge the answer."""
        return self.judged(name, size, self.get(f"/{name}"))

    def judged(self, name: str, size: int, answer: Response) -> Response:
        """An answer with a whole file, not older than the last one; or 503, as in `get`."""
        if answer.status == 503:
            return answer
        checked(answer)
        version = int(answer.body[:8])
        assert answer.body == content(name, version, size), f"mixed: {name} {version}"
        assert version >= self._seen.get(name, 0), f"{name}: {version} after {self._seen[name]}"
        self._seen[name] = version
        return answer


def any_changed() -> tuple[str, int]:
    return random.choice(sorted(CHANGED.items()))


def ask_in_turn(asked: Asked) -> None:
    """Hits: plain, with a condition, with a range, HEAD; files that were evicted, and those that are absent."""
    for _ in range(REQUESTS):
        name, size = any_changed()
        tag = asked.look(name, size)["ETag"].decode()
        assert asked.get(f"/{name}", f"If-None-Match: {tag}").status in (200, 304)
        part = asked.get(f"/{name}", "Range: bytes=0-19", f"If-Range: {tag}")
        assert part.status in (200, 206)
        assert asked.get(f"/{name}", method="HEAD").status == 200
        asked.look(f"steady/{random.randrange(STEADY)}", STEADY_BYTES)
        assert asked.get(f"/nothing/{random.random()}").status == 404
        asked.judged("changed/2", CHANGED["changed/2"], asked.get(f"/led/{random.randrange(LED)}"))
        assert asked.get("/moved/x?y")["Location"] == b"/changed/1?y"
        comes = asked.get(f"/comes/{random.randrange(COMES)}")
        if comes.status != 404:
            assert comes.body == content("comes", int(comes.body[:8]), COMES_BYTES)


def ask_servlets(asked: Asked) -> None:
    """Servlets, and a file between them."""
    for number in range(REQUESTS):
        assert asked.get(f"/csp?hello&n={number}").body == b"hello %d" % number
        asked.look(*any_changed())
    assert asked.get("/csp?slow").body == b"slow"


def ask_at_once(asked: Asked) -> None:
    """A pipeline: its answers come in order."""
    names = [any_changed() for _ in range(REQUESTS)]
    asked.client.send(b"".join(b"GET /%b HTTP/1.1\r\nHost: test\r\n\r\n" % name.encode() for name, _ in names))
    for name, size in names:
        asked.judged(name, size, asked.client.read())


def ask_once(asked: Asked) -> None:
    """A connection for one answer."""
    name, size = any_changed()
    asked.judged(name, size, asked.get(f"/{name}", "Connection: close"))


def abort(asked: Asked) -> None:
    """Ask for much, read little, and go: with a reset or without."""
    name, _ = any_changed()
    asked.client.send(b"GET /%b HTTP/1.1\r\nHost: test\r\n\r\n" % name.encode() * REQUESTS)
    if random.random() < 0.5:
        asked.client.socket.recv(1000)
    if random.random() < 0.5:
        asked.client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _ABORTED)


def stop_reading(asked: Asked) -> None:
    """Ask, read nothing while the files change, and then all."""
    name, size = "changed/6", CHANGED["changed/6"]
    asked.client.send(b"GET /%b HTTP/1.1\r\nHost: test\r\n\r\n" % name.encode() * 3)
    time.sleep(0.3)
    for _ in range(3):
        asked.judged(name, size, asked.client.read())


KINDS = (ask_in_turn, ask_in_turn, ask_servlets, ask_at_once, ask_once, abort, stop_reading)


class Flood:
    """Clients of all kinds, until they are told to stop. `told` counts what came of them."""

    def __init__(self, port: int) -> None:
        self.told: Counter[str] = Counter()
        self.ending = threading.Event()
        self._port = port

    def ask(self, number: int) -> None:
        """One connection of one kind. Raises AssertionError where an answer breaks the law."""
        kind = KINDS[number % len(KINDS)]
        try:
            client = Client(self._port, receive_buffer=4096 if kind is stop_reading else None, timeout=60)
        except _CLOSED:
            assert self.ending.is_set(), "no connection"
            time.sleep(0.02)
            return
        with client:
            try:
                kind(Asked(client, self.told))
                self.told[kind.__name__] += 1
            except _CLOSED:
                self.told["closed"] += 1

    def crowd(self) -> None:
        """Silent clients that come at once, and stay for a moment."""
        clients = []
        try:
            for _ in range(CROWD):
                clients.append(Client(self._port))
                clients[-1].send(b"GET /changed/1 HTTP/1.1\r\nHost: test\r\n\r\n")
            time.sleep(0.2)
        finally:
            for client in clients:
                client.close()


def run(command: Callable[[Path, Path], Command], where: Path, seconds: float) -> Counter[str]:
    """Flood a server of `command` (its root, the folder of its servlets) for a while, and end it. Raises AssertionError
    where an answer is wrong, or the server does not end well."""
    tree, folder = Tree(where / "root"), where / "servlets"
    folder.mkdir()
    for name, source in SERVLETS.items():
        (folder / f"{name}.py").write_text(source)
    server = command(tree.root, folder)
    try:
        server.wait_ready()
        flood = Flood(server.port)
        with asking(CLIENTS, flood.ask):
            until, changes = time.monotonic() + seconds, 0
            while time.monotonic() < until:
                tree.change()
                changes += 1
                if changes % RELOADED_EVERY == 0:
                    os.kill(server.pid, signal.SIGHUP)
                    flood.crowd()
                time.sleep(0.02)
            flood.ending.set()
            os.kill(server.pid, signal.SIGTERM)
            code = server.wait()
        wrong = [line for line in server.lines if re.search("Traceback|Error|error", line)]
        assert (code, wrong) == (0, []), "\n".join(server.lines)
        return flood.told
    finally:
        server.end()


def main() -> int:
    """The command line; the exit code is 0 where all went well."""
    options = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    options.add_argument("--seconds", type=float, default=20)
    options.add_argument("--lanes", type=int, default=1)
    options.add_argument("--log-format", default="combined")
    options.add_argument("--environ", action="append", default=[], metavar="NAME=VALUE", help="what the server has")
    chosen = options.parse_args()
    environ = dict(one.split("=", 1) for one in chosen.environ)
    with tempfile.TemporaryDirectory(prefix="zcserve-flood-") as directory:
        where = Path(directory)

        def command(root: Path, servlets: Path) -> Command:
            flags = ["--root", str(root), "--port", "0", "--engine", "native", "--servlets", str(servlets)]
            flags += ["--memory", MEMORY, "--connections-max", str(CONNECTIONS_MAX), "--grace", "5"]
            flags += ["--access-log", str(where / "log"), "--access-log-format", chosen.log_format]
            if chosen.lanes != 1:
                flags += ["--lanes", str(chosen.lanes)]
            return Command(tuple(flags), environ, where / "stdout")

        told = run(command, where, chosen.seconds)
        told["log lines"] = sum(1 for _ in (where / "log").open("rb"))
    print(", ".join(f"{count} {what}" for what, count in sorted(told.items())))
    return 0


if __name__ == "__main__":
    sys.exit(main())
