"""The benchmark's own arithmetic and its care for processes; nothing here measures a server."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tools.bench import __main__ as command_line
from tools.bench import report
from tools.bench.content import MARKER, keep_tree, make_files, make_page
from tools.bench.errors import BenchError
from tools.bench.load import Load, lua_script, parse_ab, parse_wrk
from tools.bench.peers import Peer, find_program, launch, running, zcserve
from tools.bench.preload import Preload, figures
from tools.bench.proc import cpu_seconds, memory_bytes, process_tree
from tools.bench.rounds import Sample, verify
from tools.bench.summary import Spread, faults, ratios, rows
from tools.bench.workloads import WORKLOADS, Workload

WRK_HEAD = """\
Running 1s test @ http://127.0.0.1:18091/1000.html
  1 threads and 120 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency     1.36ms  351.33us   4.54ms   87.76%
    Req/Sec    86.53k    16.71k   96.31k    80.00%
  Latency Distribution
     50%    1.26ms
     75%    1.31ms
     90%    1.68ms
     99%    2.68ms
"""
WRK_GOOD = """\
  85759 requests in 1.01s, 101.33MB read
Requests/sec:  85123.05
Transfer/sec:    100.58MB
"""
WRK_NOT_FOUND = """\
  88944 requests in 1.00s, 26.13MB read
  Non-2xx or 3xx responses: 88944
Requests/sec:  88616.65
Transfer/sec:     26.03MB
"""
WRK_RESET = """\
Running 1s test @ http://127.0.0.1:18099/
  1 threads and 4 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency   257.39us  207.60us   3.20ms   75.91%
    Req/Sec    11.69k     1.34k   12.91k    81.82%
  Latency Distribution
     50%  206.00us
     75%  364.00us
     90%  517.00us
     99%    0.87ms
  12791 requests in 1.10s, 499.65KB read
  Socket errors: connect 0, read 4262, write 0, timeout 0
Requests/sec:  11632.95
Transfer/sec:    454.41KB
"""
AB = """\
This is ApacheBench, Version 2.3 <$Revision$>
Benchmarking 127.0.0.1 (be patient).....done


Server Software:        nginx/1.22.1
Server Hostname:        127.0.0.1
Server Port:            18091

Document Path:          /1000.html
Document Length:        1000 bytes

Concurrency Level:      120
Time taken for tests:   0.227 seconds
Complete requests:      20000
{counts}
Total transferred:      24780000 bytes
HTML transferred:       20000000 bytes
Requests per second:    88237.11 [#/sec] (mean)
Time per request:       1.360 [ms] (mean)
Time per request:       0.011 [ms] (mean, across all concurrent requests)
Transfer rate:          106763.46 [Kbytes/sec] received

Connection Times (ms)
              min  mean[+/-sd] median   max
Connect:        0    0   0.2      0       4
Total:          1    1   0.2      1       5

Percentage of the requests served within a certain time (ms)
  50%      1
  66%      1
  99%      2
 100%      5 (longest request)
"""


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        (WRK_HEAD + WRK_GOOD, Load(85759, 85123.05, 1.26, 2.68)),
        (WRK_HEAD.replace("2.68ms", "1.02s ") + WRK_GOOD, Load(85759, 85123.05, 1.26, 1020.0)),
        (
            WRK_HEAD + WRK_NOT_FOUND,
            Load(88944, 88616.65, 1.26, 2.68, ("88944 answers with an error status",)),
        ),
        (
            WRK_RESET,
            Load(12791, 11632.95, 0.206, 0.87, ("socket errors: connect 0, read 4262, write 0, timeout 0",)),
        ),
    ],
)
def test_wrk_output_is_understood(output: str, expected: Load) -> None:
    found = parse_wrk(output)
    assert found.p50_ms == pytest.approx(expected.p50_ms)
    assert (found.requests, found.requests_per_s, found.p99_ms, found.errors) == (
        expected.requests,
        expected.requests_per_s,
        expected.p99_ms,
        expected.errors,
    )


@pytest.mark.parametrize(
    ("counts", "errors"),
    [
        ("Failed requests:        0\nKeep-Alive requests:    20000", ()),
        ("Failed requests:        0", ()),  # without -k
        (
            "Failed requests:        7\n   (Connect: 0, Receive: 0, Length: 7, Exceptions: 0)",
            ("7 failed requests",),
        ),
        ("Failed requests:        0\nNon-2xx responses:      2000", ("2000 answers with an error status",)),
        ("Failed requests:        0\nKeep-Alive requests:    19900", ("100 requests without keep-alive",)),
    ],
)
def test_ab_output_is_understood(counts: str, errors: tuple[str, ...]) -> None:
    assert parse_ab(AB.format(counts=counts)) == Load(20000, 88237.11, 1.0, 2.0, errors)


@pytest.mark.parametrize("parse", [parse_wrk, parse_ab])
def test_output_that_is_no_report_is_an_error_and_not_a_zero(parse: type) -> None:
    with pytest.raises(BenchError):
        parse("unable to connect to 127.0.0.1:18098 Connection refused")


@pytest.mark.parametrize("name", list(WORKLOADS))
def test_the_lua_script_sends_what_the_workload_says(name: str, tmp_path: Path) -> None:
    load = WORKLOADS[name]
    script = lua_script(load, "127.0.0.1:80", tmp_path / "paths.txt", 7)
    assert ("Cookie:" in script) == load.new_cookie
    assert f"if {load.pipeline} == 1" in script
    assert all(json.dumps(f"{field}: {value}")[1:-1] in script for field, value in load.sent_headers)
    assert "Host: 127.0.0.1:80" in script


def test_runs_have_different_cookies_and_files(tmp_path: Path) -> None:
    one, two = (lua_script(WORKLOADS["files"], "h", tmp_path / "p", run) for run in (1, 2))
    assert one.replace("0001%012x", "0002%012x").replace("randomseed(1)", "randomseed(2)") == two != one


def test_a_browser_sends_ten_to_fifteen_headers_and_a_new_connection_says_close() -> None:
    assert 10 <= len(WORKLOADS["browser"].sent_headers) + 2 <= 15  # Host and Cookie besides
    assert WORKLOADS["connections"].sent_headers == (("Connection", "close"),)


BURN = """\
import os, resource, sys
def burn(seconds):
    while sum(resource.getrusage(resource.RUSAGE_SELF)[:2]) < seconds: pass
if os.fork() == 0:
    burn(0.2); os._exit(0)
os.wait()
if os.fork() == 0:
    burn(0.2); print("child", flush=True); sys.stdin.read(); os._exit(0)
burn(0.2); print("parent", flush=True); sys.stdin.read(); os.wait()
"""


def test_cpu_time_counts_a_process_with_its_living_and_its_ended_children() -> None:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    burner = subprocess.Popen([sys.executable, "-c", BURN], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert burner.stdin is not None
    assert burner.stdout is not None
    with burner:
        assert {burner.stdout.readline(), burner.stdout.readline()} == {"child\n", "parent\n"}
        seen_s = cpu_seconds(burner.pid)
        tree = process_tree(burner.pid)
        burner.stdin.close()
        assert burner.wait(10) == 0
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    used_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    assert len(tree) == 2
    assert tree[0] == burner.pid
    assert 0.55 <= seen_s <= used_s + 0.05


HOLD = """\
import mmap, os, sys
fd = os.memfd_create("held"); os.ftruncate(fd, 64 << 20); other = os.dup(fd)
private = bytearray(0)
print("ready", flush=True); sys.stdin.readline()
mapped = mmap.mmap(fd, 64 << 20); mapped[:32 << 20] = bytes([1]) * (32 << 20)
private = bytearray(b"x") * (16 << 20)
print("full", flush=True); sys.stdin.readline()
"""


def test_memory_counts_a_mapped_memfd_once_and_only_where_it_is_filled() -> None:
    holder = subprocess.Popen([sys.executable, "-c", HOLD], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert holder.stdin is not None
    assert holder.stdout is not None
    with holder:
        assert holder.stdout.readline() == "ready\n"
        before = memory_bytes(holder.pid)
        holder.stdin.write("\n")
        holder.stdin.flush()
        assert holder.stdout.readline() == "full\n"
        grown = memory_bytes(holder.pid) - before
        holder.stdin.close()
    assert 48 << 20 <= grown <= 56 << 20


def sample(workload: str, peer: str, round: int, speed: float, cpu: float, *errors: str) -> Sample:
    return Sample(workload, peer, round, int(speed), speed, cpu, 1.0, 2.0, errors)


SAMPLES = [
    sample("page", "zcserve", 1, 100.0, 8.0),
    sample("page", "nginx", 1, 50.0, 10.0),
    sample("page", "zcserve", 2, 100.0, 20.0),  # a slow moment for both
    sample("page", "nginx", 2, 100.0, 40.0),
    sample("page", "zcserve", 3, 300.0, 9.0),
    sample("page", "nginx", 3, 100.0, 10.0),
]


def test_rows_are_medians_over_the_rounds() -> None:
    zcserve_row, nginx_row = rows(SAMPLES)
    assert (zcserve_row.peer, zcserve_row.requests_per_s, zcserve_row.cpu_us) == ("zcserve", 100.0, 9.0)
    assert (nginx_row.peer, nginx_row.requests_per_s, nginx_row.cpu_us) == ("nginx", 100.0, 10.0)


def test_a_ratio_is_the_median_of_the_ratios_within_rounds() -> None:
    (ratio,) = ratios(SAMPLES)
    assert (ratio.subject, ratio.peer) == ("zcserve", "nginx")
    assert ratio.cpu == Spread(0.8, 0.5, 0.9)
    assert ratio.requests_per_s == Spread(2.0, 1.0, 3.0)


def test_a_round_in_which_one_did_nothing_has_no_ratio_and_is_a_fault() -> None:
    broken = [*SAMPLES[:5], sample("page", "nginx", 3, 0.0, 0.0, "wrk failed: refused")]
    (ratio,) = ratios(broken)
    assert ratio.cpu == Spread(0.65, 0.5, 0.8)
    assert faults(broken) == ["page, nginx, round 3: wrk failed: refused"]
    assert faults(SAMPLES) == []


def test_one_peer_alone_has_rows_and_no_ratios() -> None:
    assert ratios([one for one in SAMPLES if one.peer == "nginx"]) == []


def test_preloading_is_compared_within_rounds_and_memory_is_what_exceeds_the_content(tmp_path: Path) -> None:
    tree = make_files(tmp_path, 10)
    done = [Preload(1.0, 2.5, 0.5, 50_000 + tree.content_bytes, 40_000)]
    found = {one.name: one.spread.median for one in figures(tree, done)}
    assert found["ready / tar"] == 2.5
    assert found["the tree alone / tar"] == 2.0
    assert found["memory a file on top of its content"] == 1000.0


def test_a_tree_is_the_same_every_time_and_knows_its_size(tmp_path: Path) -> None:
    one, two = make_files(tmp_path / "one", 120, "/files"), make_files(tmp_path / "two", 120, "/files")
    bodies = [(one.root / path[1:]).read_bytes() for path in one.paths]
    assert bodies == [(two.root / path[1:]).read_bytes() for path in two.paths]
    assert len(set(bodies)) == 120
    assert sum(map(len, bodies)) == one.content_bytes
    assert all(200 <= len(body) <= 8192 for body in bodies)
    assert len(list((tmp_path / "one" / "files").iterdir())) == 2
    assert WORKLOADS["files"].targets(one) == one.paths


def test_a_kept_tree_is_reused_and_foreign_directories_are_refused(tmp_path: Path) -> None:
    made = keep_tree(tmp_path / "tree", 5)
    marker = tmp_path / "tree" / MARKER
    written_ns = marker.stat().st_mtime_ns
    assert keep_tree(tmp_path / "tree", 5) == made
    assert marker.stat().st_mtime_ns == written_ns
    with pytest.raises(BenchError, match="holds 5 files, not 6"):
        keep_tree(tmp_path / "tree", 6)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("dear")
    with pytest.raises(BenchError, match="not a benchmark tree"):
        keep_tree(tmp_path / "mine", 5)


def test_the_page_has_a_thousand_bytes(tmp_path: Path) -> None:
    make_page(tmp_path)
    assert (tmp_path / "1000.html").stat().st_size == 1000


def test_tables_come_out_as_text_and_markdown() -> None:
    table = report.Table("T", ("name", "n"), (("a", "1"), ("bcdef", "22")), numbers_from=1)
    assert report.text(table) == "T\nname    n\na       1\nbcdef  22\n"
    assert report.markdown(table) == "**T**\n\n| name | n |\n| --- | --: |\n| a | 1 |\n| bcdef | 22 |\n"


def test_results_are_written_with_their_circumstances_and_faults(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    where = report.circumstances({"nginx": "1.22.1"})
    tables = [report.requests_table(rows(SAMPLES)), report.ratios_table([])]
    json_file, markdown_file = tmp_path / "r.json", tmp_path / "r.md"
    report.write_results(tables, where, {"rows": [1]}, ["page broke"], json_file=json_file, markdown_file=markdown_file)
    written = json.loads(json_file.read_text())
    assert (written["valid"], written["faults"], written["rows"]) == (False, ["page broke"], [1])
    assert {"date", "cpu", "cores", "kernel", "python", "nginx"} <= written["circumstances"].keys()
    for shown in (capsys.readouterr().out, markdown_file.read_text()):
        assert "INVALID: page broke" in shown
        assert "Medians" in shown
        assert "Ratios" not in shown  # a table without rows


STUB = Peer(
    sys.executable,
    lambda root, port, own: [
        *(sys.executable, "-m", "http.server", str(port)),
        *("--bind", "127.0.0.1", "--directory", str(root)),
    ],
)


def test_a_peer_is_verified_while_it_runs_and_is_gone_afterwards(tmp_path: Path) -> None:
    tree = make_files(tmp_path / "root", 3)
    load = Workload("all files", path="/d0000/")
    with running("stub", STUB, tree.root, tmp_path, core=min(os.sched_getaffinity(0))) as server:
        assert os.sched_getaffinity(server.pid) == {min(os.sched_getaffinity(0))}
        assert server.ready_s > 0
        verify(server, load, tree)
        other = make_files(tmp_path / "other", 3, seed=2)
        with pytest.raises(BenchError, match=r"stub answers /d0000/f000000\.html with 200"):
            verify(server, load, other)
    with pytest.raises(ProcessLookupError):
        os.kill(server.pid, 0)


def test_a_peer_that_ignores_being_asked_is_killed_with_its_children(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tools.bench import peers

    monkeypatch.setattr(peers, "STOP_TIMEOUT_S", 0.1)
    stubborn = "import signal, os, sys; signal.signal(15, signal.SIG_IGN); r, w = os.pipe()\n"
    stubborn += "if os.fork(): print('up', flush=True)\nos.read(r, 1)"
    process = launch([sys.executable, "-c", stubborn], None, tmp_path / "log")
    while (tmp_path / "log").read_text() != "up\n":
        assert process.poll() is None
    members = process_tree(process.pid)
    peers.end(process)
    assert len(members) == 2
    assert process.returncode == -9
    deadline = time.monotonic() + 10  # the kernel may take a moment to carry it out
    while _runs(members[1]):
        assert time.monotonic() < deadline


def _runs(pid: int) -> bool:
    """Whether `pid` still executes; one that was killed may stay a zombie until init has waited for it."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_a_peer_that_does_not_start_is_an_error_with_its_last_words(tmp_path: Path) -> None:
    broken = Peer(sys.executable, lambda root, port, own: [sys.executable, "-c", "raise SystemExit('no luck')"])
    with (
        pytest.raises(BenchError, match=r"broken did not start \(exit code 1\): no luck"),
        running("broken", broken, tmp_path, tmp_path),
    ):
        pass


def test_what_is_not_installed_is_named_with_the_line_that_installs_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(BenchError, match="no-such-server is not installed"):
        find_program("no-such-server")
    monkeypatch.setattr("shutil.which", lambda name, path: None)
    assert command_line.main(["requests", "--peers", "nginx"]) == 2
    assert capsys.readouterr().err == ("bench: nginx is not installed (apt-get install nginx wrk apache2-utils)\n")


@pytest.mark.parametrize("option", [["--peers", "nginx,iis"], ["--workloads", "page,iis"]])
def test_unknown_names_are_refused_with_the_known_ones(option: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert command_line.main(["requests", *option]) == 2
    said = capsys.readouterr().err
    assert "'iis'" in said
    assert "there are" in said


def test_zcserve_is_started_by_this_interpreter_with_root_and_port(tmp_path: Path) -> None:
    argv = zcserve("--engine", "python").command(tmp_path, 8080, tmp_path)
    assert argv[:3] == [sys.executable, "-m", "zcserve"]
    assert ["--root", str(tmp_path), "--port", "8080"] == argv[3:7]
    assert argv[-2:] == ["--engine", "python"]
