"""The benchmark's own arithmetic and its care for processes; nothing here measures a server."""

from __future__ import annotations

import json
import os
import resource
import shutil
import socket
import subprocess
import sys
import time
import xml.etree.ElementTree as ElementTree
from dataclasses import asdict
from pathlib import Path

import pytest

from tools.bench import __main__ as command_line
from tools.bench import report
from tools.bench.charts import STYLES, Bars, Line, Panel, bars_chart, linear_ticks, lines_chart, log_ticks, short
from tools.bench.content import BODY_BYTES, MARKER, PAGE, body_path, keep_tree, make_bodies, make_files, make_page
from tools.bench.errors import BenchError
from tools.bench.idle import closed, idle_connections
from tools.bench.load import GENERATORS, Load, lua_script, parse_ab, parse_steady, parse_wrk
from tools.bench.peers import INSTALL, PEERS, Peer, find_program, installed, launch, running, zcserve
from tools.bench.preload import Preload, figures
from tools.bench.proc import cpu_seconds, memory_bytes, process_tree
from tools.bench.rounds import Cell, Sample, run_rounds, table_of_cells, verify
from tools.bench.summary import Row, Spread, faults, ratios, rows
from tools.bench.sweep import SWEEPS, size_words, sweep_chart, workloads_chart
from tools.bench.sweep import loads as sweep_loads
from tools.bench.targets import CPU, IDLE_MEMORY, SPEED, TARGETS, Target, outcomes, plan
from tools.bench.workloads import CONCURRENCY, SIZES, WORKLOADS, Workload

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


@pytest.mark.parametrize("parse", [parse_wrk, parse_ab, parse_steady])
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
    assert WORKLOADS["ab-close"].sent_headers == ()  # HTTP/1.0


@pytest.mark.parametrize(
    ("name", "options"),
    [("ab", ["-t", "3", "-n", "750000", "-k"]), ("ab-close", ["-t", "3", "-n", "750000"]), ("head", ["-k", "-i"])],
)
def test_ab_is_given_a_time_and_the_method(name: str, options: list[str], tmp_path: Path) -> None:
    if shutil.which("ab") is None:
        pytest.skip("ab is not installed")
    argv = GENERATORS["ab"].command(WORKLOADS[name], "127.0.0.1:80", (PAGE,), 3, tmp_path, 1)
    assert set(options) <= set(argv)
    assert argv.index("-n") > argv.index("-t")  # ab's -t sets a limit, which -n then lifts
    assert ("-k" in argv, "-i" in argv) == ("-k" in options, "-i" in options)


def test_what_one_fixed_response_answers_is_plain() -> None:
    plain = {name for name, load in WORKLOADS.items() if load.plain}
    assert plain == {"page", "browser", "idle"}
    assert all(load.plain for load in CONCURRENCY.values())
    assert not any(load.plain for load in SIZES.values())


BURN = """\
import os, resource, sys
def burn(seconds):
    while sum(resource.getrusage(resource.RUSAGE_SELF)[:2]) < seconds: pass
if os.fork() == 0:
    burn(0.2); os._exit(0)
os.wait()
if os.fork() == 0:
    burn(0.2); os.write(1, b"child\\n"); sys.stdin.read(); os._exit(0)
burn(0.2); os.write(1, b"parent\\n"); sys.stdin.read(); os.wait()
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


def test_a_workload_that_a_peer_cannot_answer_has_no_ratio() -> None:
    more = [*SAMPLES, sample("files", "zcserve", 1, 100.0, 8.0)]
    assert [ratio.workload for ratio in ratios(more)] == ["page"]


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
    assert capsys.readouterr().err == (f"bench: nginx is not installed ({INSTALL})\n")


@pytest.mark.parametrize(
    "words",
    [
        ["requests", "--peers", "nginx,iis"],
        ["requests", "--workloads", "page,iis"],
        ["sweep", "--sweeps", "size,iis"],
        ["sweep", "--peers", "iis"],
    ],
)
def test_unknown_names_are_refused_with_the_known_ones(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert command_line.main(words) == 2
    said = capsys.readouterr().err
    assert "'iis'" in said
    assert "there are" in said


def test_zcserve_is_started_by_this_interpreter_with_root_and_port(tmp_path: Path) -> None:
    argv = zcserve("--engine", "python").command(tmp_path, 8080, tmp_path)
    assert argv[:3] == [sys.executable, "-m", "zcserve"]
    assert ["--root", str(tmp_path), "--port", "8080"] == argv[3:7]
    assert argv[-2:] == ["--engine", "python"]


def test_options_of_zcserve_may_name_the_peers_own_directory(tmp_path: Path) -> None:
    argv = zcserve("--access-log", "{own}/access.log").command(tmp_path / "root", 8080, tmp_path)
    assert argv[-2:] == ["--access-log", f"{tmp_path}/access.log"]


@pytest.mark.parametrize("name", ["nginx", "h2o", "lighttpd", "caddy"])
def test_a_peers_configuration_names_root_and_port(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda program, path: f"/bin/{program}")
    argv = PEERS[name].command(tmp_path / "root", 8081, tmp_path)
    (config,) = [Path(word) for word in argv if word.startswith(str(tmp_path) + "/")]
    text = config.read_text()
    assert str(tmp_path / "root") in text
    assert "8081" in text
    assert "{" + "port}" not in text
    assert f"/bin/{name}" in argv


def test_only_what_is_installed_is_offered(monkeypatch: pytest.MonkeyPatch) -> None:
    here = {"nginx", "caddy", sys.executable}
    monkeypatch.setattr("shutil.which", lambda program, path: program if program in here else None)
    assert installed() == ["zcserve", "zcserve-python", "zcserve-log", "nginx", "caddy"]


def test_bodies_have_their_sizes_and_every_workload_has_its_body(tmp_path: Path) -> None:
    make_bodies(tmp_path)
    assert [(tmp_path / body_path(size)[1:]).stat().st_size for size in BODY_BYTES] == list(BODY_BYTES)
    asked = {load.path for load in [*WORKLOADS.values(), *SIZES.values()] if load.path.startswith("/bodies/")}
    assert asked <= {body_path(size) for size in BODY_BYTES}


TAGGED = """\
import http.server, sys
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        body = open(sys.argv[2] + self.path, "rb").read()
        same = self.headers["If-None-Match"] == '"tag"'
        self.send_response(304 if same else 200)
        self.send_header("ETag", '"tag"')
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if not same and self.command == "GET":
            self.wfile.write(body)
    do_HEAD = do_GET
    def log_message(self, *words): pass
http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""
TAGGING = Peer(sys.executable, lambda root, port, own: [sys.executable, "-c", TAGGED, str(port), str(root)])


def test_head_and_not_modified_are_verified_as_what_they_are(tmp_path: Path) -> None:
    tree = make_files(tmp_path / "root", 1)
    make_page(tree.root)
    with running("tagging", TAGGING, tree.root, tmp_path, ready_path=PAGE) as server:
        verify(server, WORKLOADS["304"], tree)
        verify(server, WORKLOADS["head"], tree)
        (tree.root / "other").mkdir()
        make_bodies(tree.root / "other")
        shorter = tree.root / "other" / body_path(100)[1:]
        shorter.rename(tree.root / "other" / PAGE[1:])
        with pytest.raises(BenchError, match=r"answers /1000\.html with 200 with 0 bytes"):
            verify(server, WORKLOADS["head"], make_files(tree.root / "other", 1))
    with (
        running("stub", STUB, tree.root, tmp_path, ready_path=PAGE) as server,
        pytest.raises(BenchError, match=r"stub gives /1000\.html no ETag"),
    ):
        verify(server, WORKLOADS["304"], tree)


def test_idle_connections_were_used_and_closing_one_is_noticed(tmp_path: Path) -> None:
    tree = make_files(tmp_path / "root", 1)
    make_page(tree.root)
    with (
        running("tagging", TAGGING, tree.root, tmp_path, ready_path=PAGE) as server,
        idle_connections(server.port, 5) as connections,
    ):
        assert len({connection.getsockname() for connection in connections}) == 5
        assert closed(connections) == 0
        connections[0].shutdown(socket.SHUT_WR)  # so that the server closes it
        assert connections[0].recv(1) == b""
        assert closed(connections) == 1


def test_a_server_that_takes_too_few_idle_connections_is_an_error(tmp_path: Path) -> None:
    make_page(tmp_path)
    with (
        running("stub", STUB, tmp_path, tmp_path, ready_path=PAGE) as server,
        pytest.raises(BenchError, match=r"idle connection 1 of 1"),
        idle_connections(server.port + 1 if server.port < 65535 else 1, 1),
    ):
        pass


@pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler")
def test_the_floor_answers_the_page_and_steady_counts_it(tmp_path: Path) -> None:
    load = Workload("the page", "steady", connections=3)
    (done,) = run_rounds({"floor": PEERS["floor"]}, {"page": load}, rounds=1, seconds=1)
    assert done.errors == ()
    assert done.requests > 100
    assert 0 < done.p50_ms <= done.p99_ms


def test_the_floor_is_asked_for_nothing_but_plain_pages() -> None:
    cells = table_of_cells({"zcserve": PEERS["zcserve"], "floor": PEERS["floor"]}, WORKLOADS)
    asked = {cell.workload for group in cells for cell in group if cell.peer == "floor"}
    assert asked == {"page", "browser", "idle"}
    assert [group[0] for group in cells] == [Cell(name, "zcserve") for name in WORKLOADS]


A, B = Cell("page", "zcserve"), Cell("page", "nginx")


@pytest.mark.parametrize(
    ("target", "median", "reached"),
    [
        (Target("", "", A, B, 0.8), 0.8, True),
        (Target("", "", A, B, 0.79), 0.8, False),
        (Target("", "", A, B, 2.0, SPEED, at_least=True), 2.0, True),
        (Target("", "", A, B, 2.1, SPEED, at_least=True), 2.0, False),
        (Target("", "", A, None, 9.0), 9.0, True),
        (Target("", "", A, Cell("page", "h2o"), 1.0), None, None),
    ],
)
def test_a_target_is_reached_when_the_median_of_its_rounds_is(
    target: Target, median: float | None, reached: bool | None
) -> None:
    (found,) = outcomes([target], SAMPLES)
    assert (found.measured and found.measured.median) == median
    assert found.reached is reached


def test_memory_of_idle_connections_is_a_target_by_itself() -> None:
    done = [Sample("idle", "zcserve", n, 100, 100.0, 8.0, 1.0, 2.0, (), idle_bytes=500.0 + n) for n in (1, 2, 3)]
    (found,) = outcomes([Target("", "", Cell("idle", "zcserve"), None, 2048, IDLE_MEMORY)], done)
    assert found.measured == Spread(502.0, 501.0, 503.0)


def test_a_round_without_requests_counts_for_no_target() -> None:
    broken = [*SAMPLES[:5], sample("page", "nginx", 3, 0.0, 0.0, "refused")]
    (found,) = outcomes([Target("", "", A, B, 1.0, CPU)], broken)
    assert found.measured == Spread(0.65, 0.5, 0.8)


def test_targets_that_share_a_side_are_measured_in_one_group_and_idle_comes_last() -> None:
    groups = plan(TARGETS, PEERS)
    cells = [cell for group in groups for cell in group]
    assert len(cells) == len(set(cells))
    assert {cell for target in TARGETS for cell in target.cells} == set(cells)
    (page,) = [group for group in groups if A in group]
    assert page[-1] == Cell("idle", "zcserve")
    assert {"zcserve", "floor", "nginx", "h2o", "zcserve-log"} == {cell.peer for cell in page}
    assert all(any(set(target.cells) <= set(group) for group in groups) for target in TARGETS)


def test_targets_without_their_peer_are_left_out_and_said_to_be_not_measured() -> None:
    groups = plan(TARGETS, ["zcserve", "nginx"])
    assert {cell.peer for group in groups for cell in group} == {"zcserve", "nginx"}
    table = report.targets_table(outcomes(TARGETS, SAMPLES))
    said = {(row[1], row[2]): row[-1] for row in table.rows if row[0].startswith("1000-byte")}
    assert said == {("floor", CPU): "not measured", ("nginx", CPU): "no", ("h2o", CPU): "not measured"}
    assert len(table.rows) == len(TARGETS) == 15
    assert {len(row) for row in table.rows} == {len(table.columns)}


@pytest.mark.parametrize(
    ("greatest", "ticks"),
    [
        (0.0, [0, 1]),
        (1.0, [0, 0.2, 0.4, 0.6, 0.8, 1.0]),
        (163_000.0, [0, 50_000, 100_000, 150_000, 200_000]),
        (100.0, [0, 20, 40, 60, 80, 100]),
    ],
)
def test_linear_ticks_go_from_zero_past_the_greatest(greatest: float, ticks: list[float]) -> None:
    assert linear_ticks(greatest) == pytest.approx(ticks)


@pytest.mark.parametrize(
    ("least", "greatest", "ticks"),
    [
        (5.3, 66.0, [5, 10, 20, 50, 100]),
        (0.012, 90.0, [0.01, 0.1, 1, 10, 100]),
        (10.0, 10.0, [10, 100]),
        (1.0, 2.0, [1, 2]),
    ],
)
def test_logarithmic_ticks_enclose_the_range(least: float, greatest: float, ticks: list[float]) -> None:
    assert log_ticks(least, greatest) == pytest.approx(ticks)


@pytest.mark.parametrize(("number", "text"), [(0.05, "0.05"), (20.0, "20"), (50_000.0, "50k"), (2.5e6, "2.5M")])
def test_numbers_on_axes_are_short(number: float, text: str) -> None:
    assert short(number) == text


@pytest.mark.parametrize(("size", "text"), [(100, "100 B"), (10_000, "10 KB"), (10_000_000, "10 MB")])
def test_sizes_are_worded_with_their_unit(size: int, text: str) -> None:
    assert size_words(size) == text


SVG = "{http://www.w3.org/2000/svg}"


def texts(svg: str) -> list[str]:
    """All texts of a well-formed chart."""
    return [found.text or "" for found in ElementTree.fromstring(svg).iter(f"{SVG}text")]


def test_a_chart_of_lines_is_well_formed_and_has_its_labels() -> None:
    lines = (Line("zcserve", ((1, 10.0), (1000, 90.0))), Line("a <new> & other", ((1, 0.0), (1000, 5.0))))
    panels = [Panel(f"y{log}", "x & more", ((1, "one"), (1000, "1,000")), lines, log) for log in (False, True)]
    svg = lines_chart("Title <1>", "note & co", panels)
    said = texts(svg)
    assert {"Title <1>", "note & co", "yFalse", "yTrue", "x & more", "one", "1,000", "a <new> & other"} <= set(said)
    assert said.count("zcserve") == 1  # one legend for all panels
    assert "prefers-color-scheme: dark" in svg
    plotted = list(ElementTree.fromstring(svg).iter(f"{SVG}polyline"))
    assert len(plotted) == 4 + 2  # and two in the legend


def text_boxes(svg: str) -> list[tuple[float, float, float, float]]:
    """Left, top, right and bottom of each text, by the narrow estimate of its width."""
    boxes = []
    for found in ElementTree.fromstring(svg).iter(f"{SVG}text"):
        words, x, y = found.text or "", float(found.attrib["x"]), float(found.attrib["y"])
        kinds = found.attrib["class"].split()
        width = len(words) * (9.5 if "head" in kinds else 7.2 if "title" in kinds else 6.0)
        left = {"end": x - width, "mid": x - width / 2}.get(kinds[-1], x)
        boxes.append((left, y - 9, left + width, y))
    return boxes


ROWS_OF_ALL = [
    Row(name, peer, 1e5 * (n + 1), 8.0 + n, 0.1, 0.3)
    for name in [*sweep_loads(["connections"]), *WORKLOADS]
    for n, peer in enumerate(STYLES)
]
WHERE = {"cpu": "words " * 60}


@pytest.mark.parametrize("svg", [sweep_chart("connections", ROWS_OF_ALL, WHERE), workloads_chart(ROWS_OF_ALL, WHERE)])
def test_no_text_of_a_chart_lies_outside_of_it_or_on_another(svg: str) -> None:
    root, boxes = ElementTree.fromstring(svg), text_boxes(svg)
    width, height = float(root.attrib["width"]), float(root.attrib["height"])
    assert all(0 <= box[0] < box[2] <= width and 0 <= box[1] < box[3] <= height for box in boxes)
    overlaps = [
        (one, two)
        for n, one in enumerate(boxes)
        for two in boxes[n + 1 :]
        if one[0] < two[2] and two[0] < one[2] and one[1] < two[3] and two[1] < one[3]
    ]
    assert overlaps == []


def test_bars_are_as_long_as_their_values() -> None:
    svg = bars_chart("T", "n", [Bars("us/request", (("zcserve", 5.0), ("nginx", 10.0)))])
    lengths = [float(found.attrib["width"]) for found in ElementTree.fromstring(svg).iter(f"{SVG}rect")][1:]
    assert lengths[0] * 2 == pytest.approx(lengths[1])
    assert {"zcserve", "nginx", "5.00", "10.0", "us/request"} <= set(texts(svg))


def test_the_sweeps_cover_what_they_promise_and_their_charts_name_it() -> None:
    assert (min(CONCURRENCY), max(CONCURRENCY)) == (1, 1000)
    assert (min(SIZES), max(SIZES)) == (100, 10_000_000)
    assert {load.connections for load in CONCURRENCY.values()} == set(CONCURRENCY)
    for name, sweep in SWEEPS.items():
        done = [Row(workload, "nginx", 1000.0, 9.0, 0.5, 1.5) for workload in sweep_loads([name])]
        said = texts(sweep_chart(name, done, {"cpu": "A CPU", "nginx": "1.22"}))
        assert {"nginx", "A CPU; nginx 1.22", sweep.x_label, *map(sweep.tick, sweep.loads)} <= set(said)


def test_bars_of_workloads_say_what_they_are() -> None:
    said = texts(workloads_chart(rows(SAMPLES), {"cpu": "A CPU"}))
    assert "1000-byte page, keep-alive" in said


def test_charts_are_drawn_again_from_results(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    done = [Row(name, "nginx", 1000.0, 9.0, 0.5, 1.5) for name in sweep_loads(["size"])]
    results = tmp_path / "sweep.json"
    results.write_text(json.dumps({"circumstances": {"cpu": "A CPU"}, "rows": [asdict(row) for row in done]}))
    assert command_line.main(["charts", str(results), "--out", str(tmp_path / "out")]) == 0
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["size.svg"]
    assert "10 MB" in texts((tmp_path / "out" / "size.svg").read_text())
    results.write_text("{}")
    assert command_line.main(["charts", str(results)]) == 2
    assert "holds no results" in capsys.readouterr().err
