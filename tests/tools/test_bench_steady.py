"""The load generator of the benchmark: what it sends, what it calls wrong, what it prints, and what it counts."""

from __future__ import annotations

import contextlib
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tools.bench.content import PAGE, make_page
from tools.bench.errors import BenchError
from tools.bench.peers import PEERS, build, running
from tools.bench.steady import (
    ANY_LENGTH,
    NO_CONTENT,
    NUMBER,
    STEADY_SOURCE,
    Latency,
    Record,
    in_run,
    parse_latency,
    plain,
    write_records,
)

LINE = "requests 10 seconds 2.000000 p50_ns 100000 p99_ns 250000 p999_ns 300000 max_ns 1000000 unanswered 3\n"
needs_cc = pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler")


def test_a_report_is_read() -> None:
    assert parse_latency(LINE) == Latency(10, 5.0, 0.1, 0.25, 0.3, 1.0, 3)


@pytest.mark.parametrize("output", ["", "steady: connect\n", LINE.replace("p99_ns", "p98_ns")])
def test_what_is_no_report_is_said(output: str) -> None:
    with pytest.raises(BenchError, match="no report"):
        parse_latency(output)


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(STEADY_SOURCE, tmp_path_factory.mktemp("steady"))


def _run(
    program: Path,
    port: int,
    records: Sequence[Record],
    folder: Path,
    *,
    connections: int = 1,
    rate: int = 0,
    seconds: float = 0.05,
    depth: int = 1,
) -> subprocess.CompletedProcess[str]:
    write_records(folder / "records", records)
    words = (program, port, connections, rate, seconds, 0, depth, folder / "records")
    return subprocess.run([*map(str, words)], capture_output=True, text=True, timeout=60)


@needs_cc
@pytest.mark.parametrize("rate", [0, 100])
def test_what_no_rate_made_due_is_not_unanswered(rate: int, program: Path, tmp_path: Path) -> None:
    make_page(tmp_path)
    with running("floor", PEERS["floor"], tmp_path, tmp_path, ready_path=PAGE) as server:
        done = _run(program, server.port, [plain(PAGE, "127.0.0.1")], tmp_path, connections=3, rate=rate, seconds=0.2)
    found = parse_latency(done.stdout)
    assert found.requests > 0
    assert found.unanswered == 0 or rate
    assert not rate or found.requests + found.unanswered in range(20, 30)
    assert 0 < found.p50_ms <= found.p99_ms <= found.p999_ms <= found.max_ms


@contextlib.contextmanager
def saying(*answers: bytes) -> Iterator[tuple[int, list[bytes]]]:
    """A server of one client, which says these one after the other, again and again; its port, and what it was sent."""
    asked: list[bytes] = []

    def serve() -> None:
        client, _ = listener.accept()
        with client, contextlib.suppress(ConnectionError):
            waiting = b""
            while got := client.recv(65536):
                *heads, waiting = (waiting + got).split(b"\r\n\r\n")
                client.sendall(b"".join(answers[(len(asked) + n) % len(answers)] for n in range(len(heads))))
                asked.extend(heads)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield listener.getsockname()[1], asked
        thread.join(10)


def _answer(status: int, length: int, content: bytes) -> bytes:
    return b"HTTP/1.1 %d It\r\nDate: today\r\ncontent-length: %d\r\n\r\n%s" % (status, length, content)


@needs_cc
def test_a_run_without_an_answer_in_its_time_goes_on_until_there_is_one(program: Path, tmp_path: Path) -> None:
    def serve() -> None:
        client, _ = listener.accept()
        with client:
            client.recv(65536)
            time.sleep(0.3)  # the run's time is over
            client.sendall(_answer(200, 3, b"abc"))
            while client.recv(65536):
                pass

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        record = Record(b"GET /a HTTP/1.1\r\n\r\n", 200, 3)
        done = _run(program, listener.getsockname()[1], [record], tmp_path, seconds=0.05)
        thread.join(10)
    found = parse_latency(done.stdout)
    assert (found.requests, found.max_ms > 290) == (1, True)


# What follows an answer is read as the next one's: so a wrong length of one is seen at the next.
MIXED = [
    (Record(f"GET /a?{NUMBER} HTTP/1.1\r\nCookie: {NUMBER}\r\n\r\n".encode(), 200, 3), _answer(200, 3, b"abc")),
    (Record(b"HEAD /b HTTP/1.1\r\n\r\n", 200, NO_CONTENT), _answer(200, 1000, b"")),
    (Record(b"GET /c HTTP/1.1\r\n\r\n", 304, NO_CONTENT), _answer(304, 1000, b"")),
    (Record(b"GET /d HTTP/1.1\r\n\r\n", 404, ANY_LENGTH), _answer(404, 5, b"never")),
    (Record(b"GET /e HTTP/1.1\r\n\r\n", 200, 100_000), _answer(200, 100_000, b"\r\n" * 50_000)),
]


@needs_cc
@pytest.mark.parametrize("depth", [1, 7])
def test_requests_are_sent_in_their_order_with_a_running_number_and_answers_are_told_apart(
    depth: int, program: Path, tmp_path: Path
) -> None:
    with saying(*(answer for _, answer in MIXED)) as (port, asked):
        done = _run(program, port, [record for record, _ in MIXED], tmp_path, depth=depth)
    assert done.stderr == ""
    assert len(asked) > 2 * len(MIXED)
    for number, head in enumerate(asked):
        text = MIXED[number % len(MIXED)][0].text.replace(NUMBER.encode(), b"%010d" % number)
        assert head + b"\r\n\r\n" == text


@needs_cc
@pytest.mark.parametrize(
    ("record", "answer", "said"),
    [
        (Record(b"GET /a HTTP/1.1\r\n\r\n", 200, 3), _answer(404, 3, b"abc"), "404 and 3 bytes, not 200 and 3 bytes"),
        (Record(b"GET /a HTTP/1.1\r\n\r\n", 200, 3), _answer(200, 4, b"abcd"), "200 and 4 bytes, not 200 and 3 bytes"),
        (
            Record(b"GET /a HTTP/1.1\r\n\r\n", 200, ANY_LENGTH),
            b"HTTP/1.1 200 OK\r\n\r\n",
            "200 and no length, not 200 and any length",
        ),
        (Record(b"GET /a HTTP/1.1\r\n\r\n", 304, NO_CONTENT), _answer(200, 0, b""), "200 and 0 bytes, not 304 and 0"),
        (Record(b"GET /a HTTP/1.1\r\n\r\n", 200, 3), _answer(200, 3, b"abcd"), "more bytes than the answer has"),
        (Record(b"GET /a HTTP/1.1\r\n\r\n", 200, 3), b"ICY 200 OK\r\n\r\n", "answered with 0 and no length"),
    ],
)
def test_a_wrong_answer_ends_the_run_and_is_told(
    record: Record, answer: bytes, said: str, program: Path, tmp_path: Path
) -> None:
    with saying(answer) as (port, _):
        done = _run(program, port, [record], tmp_path, seconds=10)
    assert (done.returncode, done.stdout) == (1, "")
    assert said in done.stderr


@needs_cc
def test_what_holds_no_records_is_refused(program: Path, tmp_path: Path) -> None:
    (tmp_path / "cut").write_bytes(b"200 3 100\nGET / HTTP/1.1\r\n\r\n")
    (tmp_path / "none").write_bytes(b"GET / HTTP/1.1\r\n\r\n")
    for name, said in {"cut": "cut short", "none": "no records"}.items():
        words = [program, "1", "1", "0", "1", "0", "1", tmp_path / name]
        done = subprocess.run([*map(str, words)], capture_output=True, text=True, timeout=60)
        assert (done.returncode, said in done.stderr) == (1, True)


def test_each_run_has_its_number_in_what_is_new() -> None:
    texts = {in_run(Record(f"GET /{{run}}{NUMBER}".encode()), run).text for run in (1, 12)}
    assert texts == {b"GET /0001##########", b"GET /0012##########"}
