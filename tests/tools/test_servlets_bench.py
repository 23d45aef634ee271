"""The benchmark of servlets: what it promises, what it says of missing peers, and runs that are small but real."""

from __future__ import annotations

import importlib.util
import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import astuple, replace
from pathlib import Path

import pytest

from tools.bench import __main__ as command_line
from tools.bench import report
from tools.bench.content import HELLO_BODY, PAGE, make_files, make_hello, make_page
from tools.bench.errors import BenchError
from tools.bench.load import parse_steady
from tools.bench.million import engines
from tools.bench.peers import Peer, Server, missing, running, versions, zcserve
from tools.bench.rounds import Cell, Sample, run_rounds, verify
from tools.bench.servlets import HELLO_SERVLET, PEERS, TARGETS, WORKLOADS, with_servlets
from tools.bench.summary import rows
from tools.bench.targets import CPU, P50, P99, Target, outcomes, plan
from tools.bench.workloads import Workload

needs_cc = pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler")


def test_the_promises_are_those_that_were_made() -> None:
    made = {(one.own.workload, one.other): one.bound for one in TARGETS if one.figure == CPU and one.bound is not None}
    assert made == {
        ("hello", Cell("hello", "bjoern")): 0.80,
        ("hello", Cell("hello", "fastpysgi")): 0.70,
        ("hello", Cell("page", "nginx")): 0.75,
        ("hello", Cell("hello", "starlette")): 0.20,
        ("kept", Cell("page", "zcserve")): 1.05,
    }
    assert {one.own.peer for one in TARGETS} == {"zcserve"}
    assert all(WORKLOADS[one.own.workload].connections == 40 for one in TARGETS if one.figure == CPU)


def test_what_is_compared_is_measured_in_one_round() -> None:
    groups = plan(TARGETS, PEERS)
    assert all(any(set(one.cells) <= set(group) for group in groups) for one in TARGETS)
    assert {cell.workload for group in groups for cell in group} == WORKLOADS.keys()


@pytest.fixture
def without(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Makes packages of this interpreter seem to be missing."""

    def hide(*names: str) -> None:
        found = importlib.util.find_spec
        monkeypatch.setattr(
            "importlib.util.find_spec", lambda name, *rest: None if name in names else found(name, *rest)
        )

    return hide


def test_a_peer_that_is_missing_is_named_with_how_to_install_it(without: Callable[..., None]) -> None:
    without("bjoern", "uvloop", "httptools")
    only = {name: PEERS[name] for name in ("zcserve", "bjoern")}
    assert missing(only) == {"bjoern": "bjoern not installed (apt-get install gcc libev-dev; pip install bjoern)"}
    with pytest.raises(BenchError, match=r"bjoern not installed .*libev-dev"):
        run_rounds(only, {}, rounds=1, seconds=1, groups=[])


def test_the_report_names_what_was_not_measured(
    without: Callable[..., None], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    without("bjoern", "fastpysgi", "starlette", "uvicorn", "uvloop", "httptools")
    monkeypatch.setattr("shutil.which", lambda name, path: name if name != "nginx" else None)

    def measured(peers: dict[str, Peer], *rest: object) -> command_line.Measured:
        assert list(peers) == ["zcserve"]
        cells = [cell for group in plan(TARGETS, peers) for cell in group]
        return command_line.Measured([Sample(one.workload, one.peer, 1, 10, 10.0, 5.0, 1, 2, ()) for one in cells], {})

    monkeypatch.setattr(command_line, "measure", measured)
    assert command_line.main(["servlets", "--out", str(tmp_path)]) == 0
    written = (tmp_path / "servlets.md").read_text()
    assert "| hello servlet | hello of bjoern | CPU/request | <= 0.80 |  |  | not measured |" in written
    for line in ("pip install bjoern", "pip install starlette uvicorn uvloop httptools", "apt-get install nginx"):
        assert line in written
    results = json.loads((tmp_path / "servlets.json").read_text())
    assert "pip install bjoern" in results["circumstances"]["not measured"]
    assert [one["reached"] for one in results["targets"]].count(True) == 2  # the result kept, and the page's median


def test_a_packages_version_is_told_for_each_that_a_peer_is_made_of() -> None:
    made = replace(PEERS["bjoern"], modules=("pytest",))
    assert versions({"made": made}) == {"pytest": pytest.__version__}


def test_the_servlet_says_what_its_peers_say() -> None:
    found: dict[str, Callable[[object], bytes]] = {}
    exec(HELLO_SERVLET, found)
    assert found["get"](None) == HELLO_BODY


def _answers(server: Server, workloads: Sequence[str], root: Path) -> None:
    tree = make_files(root, 1)
    for name in workloads:
        verify(server, WORKLOADS[name], tree)
        (root / WORKLOADS[name].file[1:]).write_text("something else")
        with pytest.raises(BenchError, match=r"answers .* with 200"):
            verify(server, WORKLOADS[name], tree)


@pytest.mark.parametrize("name", ["bjoern", "fastpysgi", "starlette"])
def test_a_peer_says_hello_and_is_found_out_where_it_says_something_else(name: str, tmp_path: Path) -> None:
    for module in PEERS[name].modules:
        pytest.importorskip(module)
    make_hello(tmp_path)
    with running(name, PEERS[name], tmp_path, tmp_path) as server:
        _answers(server, ["hello"], tmp_path)


@pytest.mark.parametrize("engine", engines())
def test_zcserve_answers_from_the_servlets_of_the_benchmark(engine: str, tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    make_page(root)
    make_hello(root)
    with running("zcserve", with_servlets(engine), root, tmp_path, ready_path=PAGE) as server:
        _answers(server, ["hello", "kept"], root)


REPORT = "requests {} seconds 2.000000 p50_ns 100000 p99_ns 250000 p999_ns 300000 max_ns 1000000 unanswered {}\n"


@pytest.mark.parametrize(
    ("requests", "unanswered", "errors"),
    [(4000, 40, ()), (4000, 41, ("41 requests were not answered in time",))],
)
def test_a_steady_rate_that_was_not_kept_is_an_error(requests: int, unanswered: int, errors: tuple[str, ...]) -> None:
    found = parse_steady(REPORT.format(requests, unanswered))
    assert found.errors == errors
    assert (found.requests_per_s, found.p50_ms, found.p99_ms) == (requests / 2, 0.1, 0.25)


@needs_cc
def test_a_load_is_measured_with_another_beside_it() -> None:
    beside = Workload("other", "steady", path="/hello.txt", connections=2, rate=100)
    loads = {
        "alone": Workload("page", "steady", connections=2, rate=200),
        "beside": Workload("page", "steady", connections=2, rate=200, beside=beside),
    }
    groups = [[Cell(name, "zcserve") for name in loads]]
    alone, both = run_rounds({"zcserve": zcserve("--engine", "python")}, loads, rounds=1, seconds=1, groups=groups)
    assert alone.beside_per_s is None
    assert both.beside_per_s is not None
    assert 0 < both.beside_per_s <= 110
    assert 0 < both.requests <= 210
    assert 0 < both.p50_ms <= both.p99_ms


@needs_cc
def test_what_goes_on_beside_is_verified_and_its_errors_count() -> None:
    server = {"zcserve": zcserve("--engine", "python")}
    wrong = Workload("other", path="/hello.txt", file=PAGE)
    load = {"page": Workload("page", "steady", connections=1, beside=wrong)}
    with pytest.raises(BenchError, match=r"zcserve answers /hello\.txt with 200 with 13 bytes"):
        run_rounds(server, load, rounds=1, seconds=1)
    late = Workload("other", "steady", connections=1, rate=40_000)
    (done,) = run_rounds(server, {"page": replace(load["page"], beside=late)}, rounds=1, seconds=1)
    assert len(done.errors) == 1
    assert done.errors[0].startswith("beside it: ")


LATENCIES = [
    Sample("a", "zcserve", 1, 100, 100.0, 5.0, p50_ms=0.2, p99_ms=0.9, errors=(), beside_per_s=30.0),
    Sample("b", "zcserve", 1, 100, 100.0, 5.0, p50_ms=0.1, p99_ms=0.3, errors=()),
]


@pytest.mark.parametrize(("figure", "ratio"), [(P50, 2.0), (P99, 3.0)])
def test_latencies_are_figures_of_a_target(figure: str, ratio: float) -> None:
    target = Target("", "", Cell("a", "zcserve"), Cell("b", "zcserve"), 2.5, figure)
    (found,) = outcomes([target], LATENCIES)
    assert found.measured is not None
    assert astuple(found.measured) == pytest.approx((ratio, ratio, ratio))
    assert found.reached is (ratio <= 2.5)


def test_what_has_no_bound_is_told_and_neither_reached_nor_missed() -> None:
    target = Target("", "", Cell("a", "zcserve"), Cell("b", "zcserve"), None, P50)
    found = outcomes([target, replace(target, own=Cell("c", "zcserve"))], LATENCIES)
    assert [one.reached for one in found] == [None, None]
    told, absent = report.targets_table(found).rows
    assert (told[3:], absent[3:]) == (("", "2.000", "2.000 to 2.000", ""), ("", "", "", "not measured"))


def test_requests_beside_have_a_column_where_there_are_any() -> None:
    both = report.requests_table(rows(LATENCIES))
    assert both.columns[-1] == "beside it/s"
    assert [row[-1] for row in both.rows] == ["30", ""]
    assert "beside it/s" not in report.requests_table(rows(LATENCIES[1:])).columns
