"""What a process may be given by its environment: standard error that takes nothing, readers that stop, a full disk, no
/proc, signals while it loads, and an application that switches `logging` off. Real processes, each engine."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import resource
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import pytest

import zcserve
from tests.support.client import Client
from tests.support.command import StartCommand
from tests.support.site import Site
from tests.support.waiting import WaitUntil

CHECKOUT = Path(zcserve.__file__).parents[1]
WITHIN_S = 60.0
F_SETPIPE_SZ = 1031

Start = Callable[..., "subprocess.Popen[bytes]"]


@pytest.fixture
def start(site: Site) -> Iterator[Start]:
    """`start(*flags, before=(), **popen)`: a process of the command, behind the words of another command."""
    site.write("page", b"a page")
    clean = {name: value for name, value in os.environ.items() if not name.startswith("ZCSERVE_")}
    with ExitStack() as stack:

        def begin(*flags: str, before: tuple[str, ...] = (), **popen: Any) -> subprocess.Popen[bytes]:
            options: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stderr": subprocess.PIPE} | popen
            process = subprocess.Popen(
                [*before, sys.executable, "-m", "zcserve", "--root", str(site.root), *flags],
                env=clean | {"PYTHONPATH": str(CHECKOUT)},
                **options,
            )
            stack.callback(end, process)
            return process

        yield begin


def end(process: subprocess.Popen[bytes]) -> None:
    """Whatever became of it."""
    process.kill()
    process.wait()
    for stream in (process.stdout, process.stderr):
        if stream is not None:
            stream.close()


@pytest.fixture
def place() -> Iterator[str]:
    """The path of a unix socket to listen on: a process that cannot say its port has that."""
    with tempfile.TemporaryDirectory() as directory:  # pytest's own are too long for one
        yield f"{directory}/socket"


def ask(place: str, target: str = "/page") -> bytes:
    """A whole answer of the server at this unix socket; b"" while there is none."""
    with socket.socket(socket.AF_UNIX) as sock, suppress(OSError):
        sock.settimeout(WITHIN_S)
        sock.connect(place)
        sock.sendall(b"GET %s HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n" % target.encode())
        return b"".join(iter(lambda: sock.recv(1 << 16), b""))
    return b""


def serves(place: str, content: bytes = b"a page") -> bool:
    """Whether the page is answered with this content."""
    return ask(place).endswith(b"\r\n\r\n" + content)


def read_to(process: subprocess.Popen[bytes], words: bytes) -> bytes:
    """What it says on standard error, to the line with these words."""
    said = b""
    assert process.stderr is not None
    while words not in said and (line := process.stderr.readline()):
        said += line
    assert words in said, said
    return said


# --- standard error -------------------------------------------------------------------------------------------


def test_it_serves_whatever_standard_error_takes(start: Start, wait_until: WaitUntil) -> None:
    with tempfile.TemporaryDirectory() as directory, open("/dev/full", "wb") as full:
        reader, writer = os.pipe()
        os.close(reader)
        ways: dict[str, dict[str, Any]] = {
            "closed": {"preexec_fn": lambda: os.closerange(0, 3), "stderr": None},
            "full": {"stderr": full},
            "unread": {"stderr": writer},
        }
        processes = {name: start("--listen", f"unix:{directory}/{name}", **popen) for name, popen in ways.items()}
        os.close(writer)
        for name, process in processes.items():
            wait_until(lambda name=name: serves(f"{directory}/{name}"))
            process.send_signal(signal.SIGTERM)
        assert [process.wait(WITHIN_S) for process in processes.values()] == [0, 0, 0]


def stopped(kind: str) -> tuple[int, int]:
    """A pipe or a terminal that takes 4 KB, and that nothing reads."""
    reader, writer = os.pipe() if kind == "pipe" else pty.openpty()
    if kind == "pipe":
        fcntl.fcntl(writer, F_SETPIPE_SZ, 4096)
    return reader, writer


@pytest.mark.parametrize(("engine", "kind"), [("python", "terminal"), ("native", "pipe")])
def test_a_standard_error_that_is_not_read_any_more_stops_nothing(
    start: Start, site: Site, place: str, engine: str, kind: str, tmp_path: Path, wait_until: WaitUntil
) -> None:
    """Nor does a FIFO that nothing reads."""
    reader, stderr = stopped(kind)
    fifo = tmp_path / "access"
    os.mkfifo(fifo)
    flags = ("--engine", engine, "--listen", f"unix:{place}", "--access-log", str(fifo), "--grace", "1s")
    process = start(*flags, stderr=stderr)
    wait_until(lambda: serves(place))
    aside = tmp_path / "aside"
    target = "n" * 240  # named in a line of the log for each update
    for number in range(30):
        aside.write_bytes(b"%d" % number)
        aside.rename(site.root / target)
        wait_until(lambda number=number: ask(place, f"/{target}").endswith(b"\r\n\r\n%d" % number))
    process.send_signal(signal.SIGTERM)
    assert process.wait(20) == 0  # measured: 0.7 s
    assert b"no program reads this FIFO yet" in os.read(reader, 4096)
    os.close(reader)
    os.close(stderr)


def test_an_access_log_that_is_not_read_any_more_stops_nothing_and_its_records_are_counted(
    start: Start, place: str, engine: str, wait_until: WaitUntil
) -> None:
    reader, stdout = stopped("pipe")
    process = start(
        "--engine", engine, "--listen", f"unix:{place}", "--access-log", "-", "--grace", "1s", stdout=stdout
    )
    os.close(stdout)
    wait_until(lambda: os.path.exists(place))
    wait_until(lambda: serves(place))
    count = 500
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(WITHIN_S)
        sock.connect(place)
        for _ in range(count // 10):
            sock.sendall(b"GET /page?counted HTTP/1.1\r\nHost: test\r\n\r\n" * 10)
            got = b""
            while got.count(b"a page") < 10:
                got += sock.recv(1 << 16)
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=20)  # measured: 0.5 s
    assert process.returncode == 0
    dropped = sum(map(int, re.findall(rb"(\d+) records dropped", said)))
    with open(reader, "rb") as file:
        lines = file.read().splitlines(keepends=True)
    assert 0 < len(lines) < count
    assert all(line.endswith(b'"-"\n') for line in lines)
    assert len(lines) + dropped == count + 1


# --- full -----------------------------------------------------------------------------------------------------


def test_where_files_may_not_grow_content_is_sent_from_disk_and_the_log_has_whole_lines(
    start: Start, site: Site, place: str, engine: str, tmp_path: Path, wait_until: WaitUntil
) -> None:
    """RLIMIT_FSIZE counts for the log, and for memory as well."""
    limit = 1 << 20
    log = tmp_path / "access.log"
    old = b"a line of the access log of yesterday\n"
    log.write_bytes(old * ((limit - 500) // len(old)))
    asked = 0

    def get(target: str) -> bytes:
        nonlocal asked
        answer = ask(place, target)
        asked += bool(answer)
        return answer.partition(b"\r\n\r\n")[2]

    flags = ("--engine", engine, "--listen", f"unix:{place}", "--slab-bytes", "64K", "--access-log", str(log))
    process = start(
        *flags, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    )
    wait_until(lambda: os.path.exists(place) and get("/page"))
    aside = tmp_path / "aside"
    for _ in range(6):
        content = os.urandom(400_000)
        aside.write_bytes(content)
        aside.rename(site.root / "large")
        wait_until(lambda content=content: get("/large") == content)
        assert get("/page") == b"a page"
    said = read_to(process, b"records wait")
    assert b"sent from disk: the process may have files of 1.0 MiB" in said
    assert b"access.log: File too large: records wait" in said
    full = log.read_bytes()
    assert limit - 200 < len(full) < limit
    assert full.endswith(b"\n")
    os.truncate(log, 0)  # there is room
    read_to(process, b"it is written again, 0 records dropped")
    process.send_signal(signal.SIGTERM)
    assert process.wait(WITHIN_S) == 0
    written = full[full.rindex(old) + len(old) :] + log.read_bytes()
    assert written.count(b"\n") == asked
    assert len([line for line in written.splitlines() if b'"GET /' in line and line.endswith(b'"-"')]) == asked


# --- at the start ---------------------------------------------------------------------------------------------


def limited(kind: int, limit: int) -> Callable[[], None]:
    """A preexec_fn."""
    return lambda: resource.setrlimit(kind, (limit, limit))


def bare(command: str) -> tuple[str, ...]:
    """The words before a command that is run where something is not mounted."""
    return ("unshare", "-m", "sh", "-c", f'{command} && exec "$@"', "-")


def can_unshare(*flags: str) -> bool:
    """Whether there may be namespaces here."""
    program = shutil.which("unshare")
    return program is not None and not subprocess.call([program, *flags, "true"], stderr=subprocess.DEVNULL)


def test_what_is_missing_is_named_in_one_line(start: Start, tmp_path: Path) -> None:
    log = tmp_path / "log"
    with socket.socket(socket.AF_UNIX) as sock, tempfile.TemporaryDirectory() as directory:
        sock.bind(f"{directory}/socket")
        cases: list[tuple[bytes, Any]] = [
            (b"may have 12 descriptors", start("--port", "0", preexec_fn=limited(resource.RLIMIT_NOFILE, 12))),
            (b"needs 39 and one", start("--lanes", "4", preexec_fn=limited(resource.RLIMIT_NOFILE, 30))),
            (b"may have files of 1.0 MiB", start("--port", "0", preexec_fn=limited(resource.RLIMIT_FSIZE, 1 << 20))),
            (b"it is a socket", start("--port", "0", "--access-log", f"{directory}/socket")),
            (b"Is a directory", start("--port", "0", "--access-log", directory)),
        ]
        if can_unshare("-m"):
            cases.append((b"there is no /proc", start("--port", "0", before=bare("umount -l /proc"))))
        for expected, process in cases:
            _, said = process.communicate(timeout=WITHIN_S)
            assert (process.returncode, said.count(b"\n")) == (2, 1), said
            assert said.startswith(b"zcserve: ")
            assert expected in said
    assert not log.exists()


@pytest.mark.parametrize("engine", ["python", "native"])
def test_a_process_that_may_have_few_addresses_serves(
    start: Start, place: str, wait_until: WaitUntil, engine: str
) -> None:
    """Threads take them for stacks: what is taken in advance leaves room for these."""
    limit = limited(resource.RLIMIT_AS, 3 << 29)
    process = start("--listen", f"unix:{place}", "--engine", engine, "--compress", preexec_fn=limit)
    wait_until(lambda: serves(place))
    process.send_signal(signal.SIGTERM)
    assert process.wait(WITHIN_S) == 0


@pytest.mark.parametrize("engine", ["python", "native"])
def test_a_process_without_memory_says_so_in_one_line(start: Start, engine: str) -> None:
    process = start("--port", "0", "--engine", engine, preexec_fn=limited(resource.RLIMIT_AS, 80 << 20))
    _, said = process.communicate(timeout=WITHIN_S)
    assert (process.returncode, said.count(b"\n")) == (2, 1), said
    assert b"memory" in said or b"ulimit -v" in said


@pytest.mark.skipif(not can_unshare("-m"), reason="needs mount namespaces")
def test_it_serves_without_dev_null(start: Start, place: str, wait_until: WaitUntil) -> None:
    process = start("--listen", f"unix:{place}", before=bare("mount -t tmpfs none /dev"))
    wait_until(lambda: serves(place))
    process.send_signal(signal.SIGTERM)
    assert process.wait(WITHIN_S) == 0


# --- signals --------------------------------------------------------------------------------------------------

AS_PROCESS_1 = ("unshare", "--pid", "--fork", "--kill-child", "--mount-proc")
# It catches whatever it can.
HANGS = """
import pathlib, time
pathlib.Path("begun").touch()
while True:
    try:
        time.sleep(60)
    except BaseException:
        pass
"""


def child_of(pid: int) -> int:
    """The process that `unshare` has started."""
    return int(Path(f"/proc/{pid}/task/{pid}/children").read_text())


@pytest.mark.parametrize(
    ("number", "before"),
    [
        (signal.SIGINT, ()),
        pytest.param(
            signal.SIGTERM,
            AS_PROCESS_1,
            marks=pytest.mark.skipif(not can_unshare(*AS_PROCESS_1[1:]), reason="needs PID namespaces"),
        ),
    ],
)
def test_a_signal_ends_it_while_an_application_is_imported(
    start: Start, tmp_path: Path, wait_until: WaitUntil, number: int, before: tuple[str, ...]
) -> None:
    (tmp_path / "hanging.py").write_text(HANGS)
    process = start("--port", "0", "--mount", "/app=hanging:app", before=before, cwd=tmp_path)
    wait_until((tmp_path / "begun").exists)
    os.kill(child_of(process.pid) if before else process.pid, number)
    assert process.wait(10) == 128 + number  # measured: 0.05 s


def test_a_signal_ends_it_while_it_compresses(start: Start, site: Site, place: str, wait_until: WaitUntil) -> None:
    words = b" ".join(b"%x" % (number * 2654435761 % 2**32) for number in range(30_000))
    for number in range(60):
        site.write(f"{number}.txt", b"%d" % number + words)
    process = start("--compress", "--listen", f"unix:{place}")
    wait_until(lambda: os.path.exists(place))  # bound, and nothing is loaded yet
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=10)
    assert process.returncode == 128 + signal.SIGTERM
    assert b"INFO compress: 60 files" in said or not said
    assert b"Traceback" not in said


BLOCKS_SIGNALS = """
import os, signal, sys
signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
os.execv(sys.argv[1], sys.argv[1:])
"""


def test_signals_that_are_blocked_at_the_start_are_heard(
    start: Start, place: str, engine: str, wait_until: WaitUntil
) -> None:
    process = start("--engine", engine, "--listen", f"unix:{place}", before=(sys.executable, "-c", BLOCKS_SIGNALS))
    wait_until(lambda: serves(place))
    process.send_signal(signal.SIGTERM)
    assert process.wait(WITHIN_S) == 0


HEARS_ITSELF = """
import asyncio, signal

async def hear():
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, print)
    loop.remove_signal_handler(signal.SIGTERM)

asyncio.run(hear())

def application(environ, start_response):
    raise NotImplementedError
"""
TELLS = """
import signal

def get(request):
    number = signal.set_wakeup_fd(-1)
    signal.set_wakeup_fd(number)
    return str(number >= 0)
"""


def test_signals_wake_the_loop_though_an_application_has_heard_some_by_asyncio(
    start: Start, place: str, engine: str, wait_until: WaitUntil, tmp_path: Path
) -> None:
    (tmp_path / "hears_itself.py").write_text(HEARS_ITSELF)
    (tmp_path / "tells.py").write_text(TELLS)
    flags = ("--mount", "/app=hears_itself:application", "--servlets", str(tmp_path))
    start("--engine", engine, "--listen", f"unix:{place}", *flags, cwd=tmp_path)
    wait_until(lambda: serves(place))
    assert ask(place, "/csp?tells").endswith(b"True")


@pytest.mark.skipif(not can_unshare(*AS_PROCESS_1[1:]), reason="needs PID namespaces")
def test_process_1_is_not_upgraded(start: Start, place: str, wait_until: WaitUntil) -> None:
    process = start("--listen", f"unix:{place}", before=AS_PROCESS_1)
    wait_until(lambda: serves(place))
    pid = child_of(process.pid)
    os.kill(pid, signal.SIGUSR2)
    read_to(process, b"upgrade: refused, since this is process 1")
    assert serves(place)
    os.kill(pid, signal.SIGTERM)
    assert process.wait(WITHIN_S) == 0


# --- applications ---------------------------------------------------------------------------------------------

SILENCING = """
import logging, logging.config, os, sys

def app(environ, start_response):
    if environ["PATH_INFO"].endswith("fail"):
        raise ValueError("the application's own")
    start_response("200 OK", [])
    return [b"mounted"]

class Silent(logging.Logger):
    def handle(self, record):
        pass

logging.config.dictConfig({"version": 1})
logging.disable(logging.CRITICAL)
logging.raiseExceptions = False
logging.setLoggerClass(Silent)
logging.getLogger().handlers.clear()
logging.getLogger().setLevel(logging.CRITICAL + 1)
for name in list(logging.root.manager.loggerDict):
    logging.getLogger(name).disabled = True
logging.addLevelName(logging.ERROR, "")
sys.stderr = sys.__stderr__ = None
os.close(2)
"""


# What a child is sent is not for the server.
FORKING = """
import os, signal

child = os.fork()
if not child:
    signal.pause()
os.kill(child, signal.SIGTERM)
assert os.waitpid(child, 0)[1] == signal.SIGTERM
"""


def test_no_application_silences_the_server(
    command: StartCommand, site: Site, tmp_path: Path, engine: str, wait_until: WaitUntil
) -> None:
    site.write("page", b"a page")
    (tmp_path / "silencing.py").write_text(SILENCING + FORKING)
    server = command(site.root, "--engine", engine, "--mount", "/app=silencing:app", cwd=tmp_path)
    with Client(server.port) as client:
        assert client.get("/app/").body == b"mounted"
        failed = client.get("/app/fail")
    assert failed.status == 500
    number = re.search(rb"error (\w+)", failed.body)
    assert number is not None
    wait_until(lambda: "  ValueError: the application's own" in server.lines)
    failures = [line for line in server.lines if "ERROR mount /app=silencing:app failed" in line]
    assert len(failures) == 1
    assert f"error {number[1].decode()} at GET /app/fail:" in failures[0]
    site.root.rename(tmp_path / "elsewhere")
    os.kill(server.pid, signal.SIGHUP)
    wait_until(lambda: [line for line in server.lines if " ERROR reload failed" in line])
    assert os.readlink(f"/proc/{server.pid}/fd/2").startswith("pipe:")  # no connection has got the number
