"""Upgrades of real processes: SIGUSR2, and a new program that has what the old one had.

A new program is a child of the old one and outlives it. Those that a test started are found by what they say on the
standard error that all of them share, and as children of these, and ended one by one, by their process ids.
"""

from __future__ import annotations

import errno
import os
import re
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.support.client import Client, get
from tests.support.engines import ENGINES
from tests.support.following import publish
from tests.support.processes import children_of, end, is_alive
from tests.support.site import Site
from tests.support.upgrades import WITHIN_S, Line, Load, StartLine, join
from tests.support.waiting import WaitUntil
from zcserve.cache import inotify

IN_OPEN = 0x20
LARGE = 8 << 20  # more than any socket takes whose client reads nothing
CONTENT = bytes(range(256)) * (LARGE // 256)
UPGRADES = 2


@pytest.fixture
def root(site: Site) -> Path:
    """A page, and a file that a client can take its time with."""
    site.write("page", b"a page")
    site.write("404.html", b"not here")
    site.write("large", CONTENT)
    for number in range(20):
        site.write(f"some/{number}", b"%d" % number * 1000)
    assert isinstance(site.root, Path)
    return site.root


# --- clients notice nothing -----------------------------------------------------------------------------------


@pytest.mark.parametrize("engine", ENGINES)
def test_upgrades_under_load_fail_no_request_and_reset_no_connection(
    root: Path, line: StartLine, wait_until: WaitUntil, engine: str
) -> None:
    server = line(root, "--engine", engine)
    expected = {f"/some/{number}": b"%d" % number * 1000 for number in range(20)} | {"/large": CONTENT}
    with Load(server.port, expected) as load:
        for _ in range(UPGRADES):
            before = min(load.counts)
            wait_until(lambda before=before: min(load.counts) > before + 3 or load.faults)
            server.await_end(server.upgrade())
        before = min(load.counts)
        wait_until(lambda before=before: min(load.counts) > before + 3 or load.faults)
    assert load.faults == []
    assert is_alive(server.pid)


@pytest.mark.parametrize("engine", ENGINES)
def test_changes_are_followed_through_upgrades_and_nothing_comes_back_older(
    root: Path, line: StartLine, wait_until: WaitUntil, engine: str
) -> None:
    for number in range(1000):  # so that the new process is busy for a while
        (root / "some" / f"more{number}").write_bytes(b"x")
    publish(root / "version", b"0")
    server = line(root, "--engine", engine)
    seen = [0, 0]
    done = threading.Event()
    faults: list[str] = []

    def follow(which: int) -> None:
        try:
            while not done.is_set():
                with Client(server.port) as client:
                    is_open = True
                    while is_open and not done.is_set():
                        response = client.get("/version", *(["Connection: close"] * which))
                        step = int(response.body)
                        if step < seen[which]:
                            faults.append(f"{which}: {step} after {seen[which]}")
                        seen[which] = max(step, seen[which])
                        is_open = response["Connection"] != b"close"
        except Exception as error:
            faults.append(repr(error))

    threads = [threading.Thread(target=follow, args=(which,), daemon=True) for which in range(len(seen))]
    for thread in threads:
        thread.start()
    step = 0
    try:
        for _ in range(UPGRADES):
            before, count = server.pid, len(server.said(r"process (\d+) serves now"))
            server.signal(signal.SIGUSR2)
            while len(server.said(r"process (\d+) serves now")) == count:
                step += 1
                publish(root / "version", b"%d" % step)
                wait_until(lambda step=step: min(seen) >= step or faults)  # through all of it
            server.await_successor(count)
            server.await_end(before)
        assert step > UPGRADES
    finally:
        done.set()
        join(threads)
    assert faults == []


@pytest.mark.parametrize("engine", ENGINES)
def test_the_old_process_sends_nothing_that_the_new_one_does_not_know(
    root: Path, line: StartLine, wait_until: WaitUntil, engine: str
) -> None:
    """A file that the old process may not make resident any more, and the new one has: it changes while the new process
    stands still."""
    versions = [bytes([number]) * 100_000 for number in range(3)]
    publish(root / "large", versions[0])
    server = line(root, "--engine", engine)
    with Client(server.port) as client:
        assert client.get("/large").body == versions[0]
        server.signal(signal.SIGUSR2)
        server.await_said("(starting the new program)")
        publish(root / "large", versions[1])
        wait_until(lambda: client.get("/large").body == versions[1])
        server.await_successor(0)
        with standing_still(server.pid):
            publish(root / "large", versions[2])
            client.send(b"GET /large HTTP/1.1\r\nHost: test\r\n\r\n")
            assert not client.has_bytes(1.2 if engine == "python" else 0.2)  # longer than any time that could run out
        assert client.read().body == versions[2]
        assert get(server.port, "/large").body == versions[2]


@pytest.mark.parametrize("engine", ENGINES)
def test_connections_that_the_old_process_still_has_see_what_changes(
    root: Path, line: StartLine, wait_until: WaitUntil, engine: str
) -> None:
    publish(root / "version", b"0")
    server = line(root, "--engine", engine)
    with ExitStack() as stack:
        idle = [stack.enter_context(Client(server.port)) for _ in range(20)]
        for client in idle:
            assert client.get("/version").body == b"0"
        server.upgrade()
        publish(root / "version", b"1")
        wait_until(lambda: get(server.port, "/version").body == b"1")
        seen = []
        while b"1" not in seen:
            response = idle.pop().get("/version")
            assert response["Connection"] == b"close"
            seen.append(response.body)
            time.sleep(0.02)  # of the two seconds in which they are kept


def stands_still(pid: int) -> bool:
    """Whether each of its threads has stopped: SIGSTOP is sent, and takes effect a little later."""
    return all(
        (task / "stat").read_text().rpartition(")")[2].split()[0] == "T" for task in Path(f"/proc/{pid}/task").iterdir()
    )


@contextmanager
def standing_still(pid: int) -> Iterator[None]:
    os.kill(pid, signal.SIGSTOP)
    try:
        until = time.monotonic() + WITHIN_S
        while not stands_still(pid):
            assert time.monotonic() < until
            time.sleep(0.001)
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def has_a_watcher(pid: int) -> bool:
    """Whether a process follows a root by now."""
    fds = Path(f"/proc/{pid}/fd")
    return any("inotify" in os.readlink(fd) for fd in fds.iterdir())


@pytest.mark.parametrize("engine", ENGINES)
def test_a_release_that_comes_during_an_upgrade_stays(
    tmp_path: Path, line: StartLine, wait_until: WaitUntil, engine: str
) -> None:
    """The new process stands still when it has begun with the old release; the old process flips to the next one."""
    for release, files in (("1", 3000), ("2", 1)):
        for number in range(files):
            (tmp_path / release / "more").mkdir(parents=True, exist_ok=True)
            (tmp_path / release / "more" / str(number)).write_bytes(b"x")
        (tmp_path / release / "page").write_bytes(release.encode())
    root = tmp_path / "root"
    root.symlink_to("1")
    server = line(root, "--engine", engine)
    seen: list[bytes] = []
    done = threading.Event()

    def follow() -> None:
        while not done.is_set():
            seen.append(get(server.port, "/page").body)
            time.sleep(0.001)

    server.signal(signal.SIGUSR2)
    server.await_said(r"(\d+) resident files taken over")
    (new,) = wait_until(lambda: children_of(server.pid))
    wait_until(lambda: has_a_watcher(new))
    os.kill(new, signal.SIGSTOP)
    thread = threading.Thread(target=follow, daemon=True)
    try:
        (tmp_path / "next").symlink_to("2")
        (tmp_path / "next").rename(root)
        thread.start()
        late = time.monotonic() + 5  # the new process was too quick: the old one flips no more
        wait_until(lambda: b"2" in seen or time.monotonic() > late)
        os.kill(new, signal.SIGCONT)
        server.await_successor(0)
        wait_until(lambda: b"2" in seen)
        count = len(seen)
        wait_until(lambda: len(seen) > count + 20)
    finally:
        os.kill(new, signal.SIGCONT)
        done.set()
        if thread.ident is not None:
            join([thread])
    assert seen[seen.index(b"2") :].count(b"1") == 0
    assert get(server.port, "/page").body == b"2"


@pytest.mark.parametrize("engine", ENGINES)
def test_a_client_that_was_there_before_is_answered_after(root: Path, line: StartLine, engine: str) -> None:
    server = line(root, "--engine", engine)
    with Client(server.port) as silent, Client(server.port) as half, Client(server.port) as idle:
        half.send(b"GET /page HTTP/1.1\r\nHo")
        assert idle.get("/page")["Connection"] is None
        old = server.upgrade()
        half.send(b"st: t\r\n\r\n")
        response = half.read()
        assert (response.body, response["Connection"]) == (b"a page", b"close")
        assert half.at_end()
        assert silent.get("/page").body == b"a page"  # by either process: the kernel may have kept it back until now
        assert idle.get("/page")["Connection"] == b"close"
        server.await_end(old)


def test_an_idle_client_is_let_go_in_order(root: Path, line: StartLine, wait_until: WaitUntil) -> None:
    server = line(root)
    with Client(server.port) as idle, Client(server.port) as silent:
        idle.get("/page")
        descriptors = Path(f"/proc/{server.first.pid}/fd")
        here = len(list(descriptors.iterdir()))
        wait_until(lambda: len(list(descriptors.iterdir())) > here)  # `silent` is accepted
        old = server.upgrade()
        assert idle.at_end()
        assert silent.at_end()
        server.await_end(old)
    assert server.first.process.wait(WITHIN_S) == 0


def test_a_unix_socket_keeps_its_name_until_the_last_one_ends(root: Path, line: StartLine, tmp_path: Path) -> None:
    path = tmp_path / "s"
    server = line(root, "--listen", f"unix:{path}")
    for _ in range(2):
        server.await_end(server.upgrade())
        with Client(str(path)) as client:
            assert client.get("/page").body == b"a page"
    server.signal(signal.SIGTERM)
    server.await_end(server.pid)
    assert not path.exists()


def test_the_access_log_has_every_request_of_both(
    root: Path, line: StartLine, tmp_path: Path, wait_until: WaitUntil
) -> None:
    log = tmp_path / "access.log"
    server = line(root, "--access-log", str(log))
    with Client(server.port) as old_one:
        assert old_one.get("/page?0").status == 200
        old = server.upgrade()
        assert old_one.get("/page?1").status == 200
        assert get(server.port, "/page?2").status == 200
        server.await_end(old)
    server.signal(signal.SIGTERM)
    server.await_end(server.pid)
    assert sorted(re.findall(r"/page\?(\d)", log.read_text())) == ["0", "1", "2"]


# --- no cold miss ---------------------------------------------------------------------------------------------


def test_no_file_is_opened_but_what_changed(root: Path, line: StartLine, site: Site) -> None:
    server = line(root, "--no-watch")
    before = {target: get(server.port, target) for target in ("/page", "/large", "/some/7", "/some/8")}
    site.write("fresh", b"new")
    (root / "fresh").rename(root / "some" / "8")
    watch = inotify.start()
    directories = {}
    for directory in (root, root / "some"):
        fd = os.open(directory, os.O_RDONLY)
        directories[inotify.add_watch(watch, fd, IN_OPEN)] = directory
        os.close(fd)
    old = server.upgrade()
    opened = {
        directories[wd] / os.fsdecode(name)
        for wd, mask, name in inotify.events(os.read(watch, 1 << 16))
        if not mask & inotify.IN_ISDIR
    }
    os.close(watch)
    assert opened == {root / "some" / "8"}
    server.await_end(old)
    after = {target: get(server.port, target) for target in before}
    assert after["/some/8"].body == b"new"
    for target in ("/page", "/large", "/some/7"):
        assert (after[target].body, after[target]["ETag"]) == (before[target].body, before[target]["ETag"])
    assert get(server.port, "/absent").body == b"not here"
    assert server.said(r"(\d+) resident files taken over") == ["23"]


@pytest.mark.parametrize("engine", ENGINES)
def test_an_upgrade_compares_files_of_which_only_ctime_has_changed(root: Path, line: StartLine, engine: str) -> None:
    """New names and modes are not content; what was written in place and dated back is."""
    server = line(root, "--engine", engine, "--no-watch", "--hash-bytes-max", "1M")
    tag = get(server.port, "/large")["ETag"]
    for number in range(20):
        path = root / f"some/{number}"
        os.link(path, root / f".{number}")
        path.chmod(0o640)
    (root / "large").chmod(0o640)
    status = (root / "page").stat()
    while (root / "page").stat().st_ctime_ns == status.st_ctime_ns:
        with (root / "page").open("r+b") as file:
            file.write(b"A PAGE")
        os.utime(root / "page", ns=(status.st_atime_ns, status.st_mtime_ns))
    assert get(server.port, "/page").body == b"a page"
    server.await_end(server.upgrade())
    assert get(server.port, "/page").body == b"A PAGE"
    assert [get(server.port, f"/some/{n}").body for n in range(20)] == [b"%d" % n * 1000 for n in range(20)]
    large = get(server.port, "/large")
    assert (large.body, large["ETag"]) == (CONTENT, tag)  # made of the identity


def test_a_body_in_flight_arrives_whole_while_the_next_process_is_short_of_memory(
    root: Path, line: StartLine, site: Site, wait_until: WaitUntil
) -> None:
    others = {f"/other{number}": bytes([number]) * (3 << 20) for number in range(8)}
    server = line(root, "--memory", "20M", "--no-watch")
    with Client(server.port, receive_buffer=4096) as slow:
        slow.send(b"GET /large HTTP/1.1\r\nHost: test\r\n\r\n")
        slow.read_head()
        old = server.upgrade()
        for target, content in others.items():
            site.write(target[1:], content)
        site.write("fresh", b"another")
        (root / "fresh").rename(root / "large")
        server.signal(signal.SIGHUP)
        server.await_said("(reloaded: )")
        for target, content in others.items():
            assert get(server.port, target).body == content
        assert is_alive(old)
        assert slow.read_exactly(LARGE) == CONTENT
    server.await_end(old)
    server.await_said(f"(process {old} has ended)")
    for target, content in others.items():
        assert get(server.port, target).body == content
    assert get(server.port, "/large").body == b"another"


def test_an_upgrade_waits_for_the_end_of_the_process_before(root: Path, line: StartLine) -> None:
    server = line(root)
    with Client(server.port, receive_buffer=4096) as slow:
        slow.send(b"GET /large HTTP/1.1\r\nHost: test\r\n\r\n")
        slow.read_head()
        first = server.upgrade()
        second = server.pid
        server.signal(signal.SIGUSR2)
        server.await_said(f"(begun when process {first} has ended)")
        assert is_alive(first)
        assert server.children() == []
        assert slow.read_exactly(LARGE) == CONTENT
    server.await_said(r"process (\d+) serves now", 2)
    server.await_end(second)
    assert get(server.port, "/page").body == b"a page"


# --- what goes wrong ------------------------------------------------------------------------------------------


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "zcserve.toml"
    path.write_text('memory = "64M"\n')
    return path


def test_a_program_that_cannot_start_leaves_the_old_one_serving(root: Path, line: StartLine, config: Path) -> None:
    server = line(root, "--config", str(config))
    before = get(server.port, "/page")
    config.write_text('memory = "nonsense"\n')
    with Client(server.port) as client:
        client.get("/page")
        server.signal(signal.SIGUSR2)
        server.await_said(r"(does not serve, this process goes on: .*exit code 2)")
        assert [one for one in server.first.lines if "nonsense" in one]
        assert client.get("/page").body == b"a page"
    (root / "later").write_bytes(b"made resident after the thaw")
    config.write_text('memory = "64M"\n')
    server.await_end(server.upgrade())
    after = get(server.port, "/page")
    assert (after.body, after["ETag"]) == (before.body, before["ETag"])
    assert get(server.port, "/later").body == b"made resident after the thaw"


class Held:
    """A configuration that is a pipe: a program that reads it waits until it is written."""

    def __init__(self, path: Path) -> None:
        self.path = path
        os.mkfifo(path)

    def let_go(self) -> None:
        """Write it, once a program reads."""
        until = time.monotonic() + WITHIN_S
        while True:
            try:
                fd = os.open(self.path, os.O_WRONLY | os.O_NONBLOCK)
            except OSError as error:
                if error.errno != errno.ENXIO or time.monotonic() > until:
                    raise
                time.sleep(0.005)  # nothing reads yet
            else:
                os.write(fd, b'memory = "64M"\n')
                os.close(fd)
                return


@pytest.fixture
def held(tmp_path: Path, line: StartLine, root: Path) -> tuple[Held, Line]:
    """A server whose next program waits in its start."""
    made = Held(tmp_path / "pipe.toml")
    writer = threading.Thread(target=made.let_go, daemon=True)
    writer.start()
    server = line(root, "--config", str(made.path))
    join([writer])
    return made, server


def test_a_second_signal_while_an_upgrade_is_under_way_changes_nothing(held: tuple[Held, Line]) -> None:
    pipe, server = held
    server.signal(signal.SIGUSR2)
    server.await_said("(starting the new program)")
    server.signal(signal.SIGUSR2)
    server.await_said("(one is under way already)")
    assert get(server.port, "/page").body == b"a page"
    pipe.let_go()
    server.await_said(r"process (\d+) serves now")
    server.await_end(server.first.pid)
    assert len(server.said("(starting the new program)")) == 1
    assert get(server.port, "/page").body == b"a page"


def test_a_server_that_ends_takes_the_next_program_along(held: tuple[Held, Line], wait_until: WaitUntil) -> None:
    _, server = held
    server.signal(signal.SIGUSR2)
    (child,) = wait_until(server.children)
    server.signal(signal.SIGTERM)
    assert server.first.process.wait(20) == 0
    server.await_end(child)


def test_a_server_that_ends_at_once_takes_the_next_program_along(
    held: tuple[Held, Line], wait_until: WaitUntil
) -> None:
    _, server = held
    server.signal(signal.SIGUSR2)
    (child,) = wait_until(server.children)
    try:
        with Client(server.port) as client:
            client.send(b"GET /page HTTP/1.1\r\n")  # it is waited for, so that the second signal finds the server
            assert get(server.port, "/page").body == b"a page"
            with standing_still(server.pid):  # both come before the loop's next turn
                server.signal(signal.SIGINT)
                server.signal(signal.SIGTERM)
            assert server.first.process.wait(20) in (128 + signal.SIGINT, 128 + signal.SIGTERM)  # either may be first
        server.await_end(child)
    finally:
        end([child])


def test_a_program_that_is_killed_in_its_start_leaves_the_old_one_serving(
    held: tuple[Held, Line], wait_until: WaitUntil
) -> None:
    _, server = held
    server.signal(signal.SIGUSR2)
    (child,) = wait_until(server.children)
    os.kill(child, signal.SIGKILL)
    server.await_said("(does not serve, this process goes on: .*signal 9)")
    assert get(server.port, "/page").body == b"a page"


def awaits_go(pid: int) -> bool:
    """Whether a new program has handlers for signals: from then on it says that it is ready, and waits."""
    status = Path(f"/proc/{pid}/status").read_text()
    caught = int(status.partition("SigCgt:")[2].split()[0], 16)
    return bool(caught >> (signal.SIGUSR2 - 1) & 1)


def test_a_program_that_is_ended_before_it_may_serve_leaves_the_old_one_serving(
    held: tuple[Held, Line], wait_until: WaitUntil
) -> None:
    pipe, server = held
    server.signal(signal.SIGUSR2)
    (new,) = wait_until(server.children)
    with standing_still(server.pid):
        pipe.let_go()
        wait_until(lambda: awaits_go(new))
        os.kill(new, signal.SIGTERM)
        wait_until(lambda: not is_alive(new))
    server.await_said("(does not serve, this process goes on: .*exit code 2)")
    assert get(server.port, "/page").body == b"a page"


# --- supervisors ----------------------------------------------------------------------------------------------


def test_systemd_is_told_which_process_serves(root: Path, line: StartLine, tmp_path: Path) -> None:
    path = tmp_path / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(path))
        systemd.settimeout(20)

        def told() -> bytes:
            """What matters next."""
            return next(word for word in iter(lambda: systemd.recv(1000), None) if b"STATUS=" not in word)

        server = line(root, environ={"NOTIFY_SOCKET": str(path)})
        assert told() == b"READY=1"
        server.upgrade()
        assert told() == b"MAINPID=%d" % server.pid
        server.upgrade()
        assert told() == b"MAINPID=%d" % server.pid
