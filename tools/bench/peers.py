"""The servers under test: how each is started, how one knows it is ready, and how it is always ended.

A peer is a row of PEERS; whatever serves a directory on a port can be one. Nothing here knows the load.
Every server runs in a session of its own: Ctrl-C reaches the benchmark alone, which ends them by process id.
"""

from __future__ import annotations

import contextlib
import functools
import http.client
import os
import re
import resource
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tools.bench.errors import BenchError
from tools.bench.proc import session_members

INSTALL = "apt-get install nginx wrk apache2-utils"
START_TIMEOUT_S = 30.0
STOP_TIMEOUT_S = 10.0
ANSWER_TIMEOUT_S = 30.0
RETRY_PAUSE_S = 0.001
DESCRIPTORS = 65_536

# (root, port, a directory of the peer's own) -> the command line that serves root on 127.0.0.1:port
Command = Callable[[Path, int, Path], list[str]]


@dataclass(frozen=True)
class Peer:
    """A server as a command line; `version_option` makes the program print its version."""

    program: str
    command: Command
    version_option: tuple[str, ...] = ("-v",)


@dataclass(frozen=True)
class Server:
    """A peer that runs; `ready_s` is the time from starting it to its first complete answer."""

    name: str
    pid: int
    port: int
    ready_s: float


def zcserve(*options: str) -> Peer:
    """zcserve as this interpreter finds it, with further command line options."""

    def command(root: Path, port: int, _own: Path) -> list[str]:
        where = ["--root", str(root), "--port", str(port)]
        return [sys.executable, "-m", "zcserve", *where, "--log-level", "warning", *options]

    return Peer(sys.executable, command, ("-m", "zcserve", "-V"))


# tcp_nopush on: measured 1.2 us a request cheaper than off on the 1000-byte page (one segment, not two), and
# 8 us with 16 pipelined requests, whose requests/s, however, then wait for delayed acknowledgements (40 ms).
NGINX_CONFIG = """\
{user}
worker_processes 1;
daemon off;
pid "{own}/nginx.pid";
error_log stderr crit;
events {{ worker_connections 16384; }}
http {{
    types {{
        text/html html; text/css css; text/javascript js; application/json json; image/svg+xml svg;
    }}
    access_log off;
    sendfile on;
    tcp_nopush on;
    keepalive_requests 1000000000;
    open_file_cache max=10000 inactive=60s;
    client_body_temp_path "{own}/body";
    proxy_temp_path "{own}/proxy";
    fastcgi_temp_path "{own}/fastcgi";
    uwsgi_temp_path "{own}/uwsgi";
    scgi_temp_path "{own}/scgi";
    server {{ listen 127.0.0.1:{port}; root "{root}"; }}
}}
"""


def _nginx(root: Path, port: int, own: Path) -> list[str]:
    # A master that is root would give its worker to `nobody`, who cannot read a temporary directory.
    user = "user root;" if os.geteuid() == 0 else ""
    config = own / "nginx.conf"
    config.write_text(NGINX_CONFIG.format(user=user, own=own, port=port, root=root))
    return [find_program("nginx"), "-p", str(own), "-c", str(config)]


PEERS = {
    "zcserve": zcserve("--engine", "python"),
    "nginx": Peer("nginx", _nginx),
}


def find_program(name: str) -> str:
    """The program's path; Debian keeps servers in /usr/sbin, which is not on everybody's PATH.

    Raises BenchError, with the line that installs it, when there is none.
    """
    found = shutil.which(name, path=os.environ.get("PATH", os.defpath) + ":/usr/sbin:/sbin")
    if found is None:
        raise BenchError(f"{name} is not installed ({INSTALL})")
    return found


def version(program: str, *options: str) -> str:
    """The first dotted number that a program prints about itself, on whichever stream."""
    argv = [find_program(program), *options]
    run = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=30)
    found = re.search(r"\d+\.\d[\w.+-]*", run.stdout + run.stderr)
    return found[0] if found else "unknown"


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nobody listens on just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def answer(connection: http.client.HTTPConnection, path: str, headers: dict[str, str]) -> tuple[int, bytes]:
    """Status and body of one GET."""
    connection.request("GET", path, headers=headers)
    response = connection.getresponse()
    return response.status, response.read()


def prepare(core: int | None) -> None:
    """Called in a new process before its program: one core (None: all), and descriptors enough.

    nginx's open_file_cache holds a descriptor per file, more than the 1024 that a shell usually gives.
    """
    if core is not None:
        os.sched_setaffinity(0, {core})
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    soft = DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, DESCRIPTORS)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def launch(argv: list[str], core: int | None, log: Path) -> subprocess.Popen[bytes]:
    """Start a program on one core (None: on all), both its streams going to `log`."""
    with log.open("wb") as out:
        return subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            start_new_session=True,
            preexec_fn=functools.partial(prepare, core),
        )


def end(process: subprocess.Popen[bytes]) -> None:
    """End a launched program and its children: asked first, killed when not gone in time."""
    try:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(STOP_TIMEOUT_S)
    finally:  # also on a second Ctrl-C
        for pid in session_members(process.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        process.wait()


def _wait_ready(process: subprocess.Popen[bytes], port: int, path: str, deadline: float) -> None:
    """Return once `path` has been answered, with whatever status; raise TimeoutError or ChildProcessError."""
    while True:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=ANSWER_TIMEOUT_S)
        try:
            answer(connection, path, {})
            return
        except (OSError, http.client.HTTPException):
            if process.poll() is not None:
                raise ChildProcessError(f"exit code {process.returncode}") from None
            if time.perf_counter() > deadline:
                raise TimeoutError("no answer") from None
        finally:
            connection.close()
        time.sleep(RETRY_PAUSE_S)


@contextlib.contextmanager
def running(
    name: str,
    peer: Peer,
    root: Path,
    workdir: Path,
    *,
    core: int | None = None,
    ready_path: str = "/",
    start_timeout_s: float = START_TIMEOUT_S,
) -> Iterator[Server]:
    """Run a peer over `root` and end it afterwards, whatever happens.

    Raises BenchError, with the last line that the server wrote, when it ends or stays silent at its start.
    """
    own = workdir / name
    own.mkdir(exist_ok=True)
    port = free_port()
    argv = peer.command(root, port, own)
    log = own / "log.txt"
    started = time.perf_counter()
    process = launch(argv, core, log)
    try:
        try:
            _wait_ready(process, port, ready_path, started + start_timeout_s)
        except OSError as failure:
            lines = log.read_text(errors="replace").strip().splitlines()
            said = f": {lines[-1]}" if lines else ""
            raise BenchError(f"{name} did not start ({failure}){said}") from None
        yield Server(name, process.pid, port, time.perf_counter() - started)
    finally:
        end(process)
