"""A node of a fleet as processes: a server, its agent, and what an operator does over plain HTTP."""

from __future__ import annotations

import http.client
import http.server
import json
import os
import re
import signal
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import closing, suppress
from pathlib import Path
from typing import Any
from urllib.parse import unquote_to_bytes

import pytest

from tests.support.command import Command as Process
from tests.support.releases import release_of
from tests.support.waiting import wait_until
from zcserve.config.addresses import TcpAddress, UnixAddress
from zcserve.ctl.client import Node, ask
from zcserve.fleet.manifest import Manifest
from zcserve.fleet.messages import Command, Desired, Release, State

TOKEN = "a token of the tests"
CLAIM = "the-claim"


def release(manifest: Manifest, source: Path | str = "") -> Release:
    """What a rollout says of a manifest."""
    return Release(f"r{manifest.sequence}", manifest.sequence, manifest.digest, manifest.tree, str(source))


def numbered(sequence: int) -> Release:
    """Some release of a number."""
    return Release(f"r{sequence}", sequence, f"{sequence:064x}", f"{sequence + 1000:064x}")


def build(where: Path, contents: Mapping[str, bytes], sequence: int, site: str = "www") -> Manifest:
    """A build's output, and its manifest."""
    for path, content in contents.items():
        file = where / os.fsdecode(unquote_to_bytes(path[1:]))
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
    return release_of(contents, site=site, sequence=sequence)


class Operator:
    """What an operator's program asks an agent."""

    def __init__(self, port: int, site: str = "www", token: str = TOKEN) -> None:
        self.port = port
        self.site = site
        self.token = token
        self.edition = 0

    def ask(self, method: str, path: str, body: bytes | None = None) -> tuple[int, bytes]:
        """One request below the site."""
        with closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)) as connection:
            fields = {"Content-Type": "application/json", "Authorization": f"Bearer {self.token}"}
            connection.request(method, f"/v1/{self.site}/{path}", body, fields)
            response = connection.getresponse()
            return response.status, response.read()

    def told(self, method: str, path: str, body: bytes | None = None) -> Any:
        """The JSON of an answer; None where it has none."""
        status, answer = self.ask(method, path, body)
        assert status in (200, 204), answer
        return json.loads(answer) if answer else None

    def claim(self) -> None:
        form = {"holder": "r", "token": CLAIM, "lasts_s": 60}
        self.told("PUT", "claim", json.dumps(form).encode())

    def desire(self, wanted: Release | None, **more: Any) -> int:
        """Put a release as what is desired; its edition."""
        self.claim()
        self.edition = max(self.edition, self.told("GET", "desired")["edition"]) + 1
        desired = Desired(self.site, self.edition, wanted, **more)
        self.told("PUT", f"desired?claim={CLAIM}", desired.dump())
        return self.edition

    def put(self, manifest: Manifest) -> None:
        """Give the node a manifest."""
        self.told("PUT", f"manifests/{manifest.digest}", manifest.to_bytes())

    def publish(self, command: Command) -> None:
        """Give the node a command."""
        self.told("POST", "commands", command.dump())

    def state(self, query: str = "") -> State | None:
        """How the node is."""
        status, answer = self.ask("GET", f"state{query}")
        assert status in (200, 204), answer
        return State.parse(answer) if status == 200 else None

    def wait(self, is_so: Callable[[State], object], within_s: float = 60.0) -> State:
        """The first state of which this is true, by long waits as an operator has them."""
        until, query = time.monotonic() + within_s, ""
        while (left_s := until - time.monotonic()) > 0:
            if state := self.state(query):
                if is_so(state):
                    return state
                query = f"?after={state.number}&boot={state.boot}&wait={left_s:.3f}"
            else:
                query = query or f"?after=0&wait={left_s:.3f}"
        pytest.fail(f"no such state within {within_s} s; the last one is {self.state()}")


class FleetNode:
    """A server and its agent, each a process. To be closed.

    flags  of the agent besides those that it needs
    """

    def __init__(self, where: Path, *flags: str, node: str = "n1") -> None:
        where.mkdir(parents=True, exist_ok=True)
        self.where = where
        self.releases = where / "releases"
        self.socket = where / "admin"
        (where / "token").write_text(TOKEN + "\n")
        self.flags: tuple[str, ...] = ("node", "--site", "www", "--node", node, "--listen", "127.0.0.1:0")
        self.flags += ("--token-file", str(where / "token"), "--server", f"unix:{self.socket}")
        self.flags += ("--releases", str(self.releases), *flags)
        self.server: Process | None = None
        self.agent: Process | None = None
        self._count = 0

    def begin_agent(self) -> None:
        """Start it, and wait for nothing."""
        self._count += 1
        self.agent = Process(self.flags, {}, self.where / f"out-{self._count}")

    def start_agent(self) -> Operator:
        """Start it, and what it is asked by."""
        self.begin_agent()
        return Operator(int(self.heard(r"is heard at 127\.0\.0\.1:(\d+)")))

    def heard(self, pattern: str) -> str:
        """What the pattern's group matches in the agent's log, once it is there."""
        agent = self.agent
        assert agent is not None
        found = wait_until(lambda: next((m for line in agent.lines if (m := re.search(pattern, line))), None), 60.0)
        return found[1] if found.groups() else found[0]

    def start_server(self) -> None:
        """Start it, and wait until it serves; `releases/current` leads somewhere by then."""
        self._count += 1
        argv = ("--root", str(self.releases / "current"), "--port", "0", "--admin", f"unix:{self.socket}")
        self.server = Process(argv, {}, self.where / f"out-{self._count}")
        self.server.wait_ready()

    def get(self, path: str) -> tuple[int, bytes]:
        """What a client gets of the server."""
        assert self.server is not None
        with closing(http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=60)) as connection:
            connection.request("GET", path)
            response = connection.getresponse()
            return response.status, response.read()

    def stats(self) -> Any:
        """What the server tells."""
        return json.loads(ask(Node(UnixAddress(str(self.socket)), timeout_s=60.0), "/stats").body)

    def kill(self, process: Process | None) -> None:
        """SIGKILL, and nothing else."""
        assert process is not None
        process.process.kill()
        process.wait()
        process.end()

    def close(self) -> None:
        for process in (self.agent, self.server):
            if process is not None:
                with suppress(ProcessLookupError):
                    process.process.send_signal(signal.SIGCONT)
                process.end()


class HeldOrigin:
    """An origin that holds back each file until it is let go, and then gives files of a directory."""

    def __init__(self, root: Path) -> None:
        self.go = threading.Event()
        self.asked: list[str] = []
        origin = self

        class Handler(http.server.SimpleHTTPRequestHandler):
            def __init__(self, *args: Any) -> None:
                super().__init__(*args, directory=str(root))

            def do_GET(self) -> None:
                origin.asked.append(self.path)
                origin.go.wait(60)
                with suppress(OSError):
                    super().do_GET()

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/"
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    def close(self) -> None:
        self.go.set()
        self._server.shutdown()
        self._server.server_close()


class FakeServer:
    """An admin listener that answers what a test says: by path a status and an object, or what makes them of words."""

    def __init__(self) -> None:
        self.told: list[tuple[str, Any]] = []
        self.answers: dict[str, Any] = {}
        fake = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self._answer(None)

            def do_POST(self) -> None:
                self._answer(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

            def _answer(self, words: Any) -> None:
                path = self.path.partition("?")[0]
                fake.told.append((path, words))
                answer = fake.answers.get(path, (404, {"error": "no such path"}))
                status, body = answer(words) if callable(answer) else answer
                data = body if isinstance(body, bytes) else json.dumps(body).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.port = self._server.server_address[1]
        self.node = Node(TcpAddress("127.0.0.1", self.port))
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    def serve(self, directory: str, *, pid: int = 0, prepared: str | None = None, files: int = 0) -> None:
        """Have /stats say that it serves a directory."""
        site: dict[str, Any] = {"name": "default", "directory": directory, "generation": {"kept": 0}, "files": files}
        site["prepared"] = prepared and {"root": prepared}
        stats = {"pid": pid, "process": {"start_time": 5.0}, "ready": {"share": 0.5}, "sites": [site]}
        self.answers["/stats"] = (200, stats)

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
