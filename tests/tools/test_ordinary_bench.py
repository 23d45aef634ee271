"""The benchmark of ordinary requests: what it promises, what its streams are made of, and that servers answer it."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from tools.bench import __main__ as command_line
from tools.bench.content import PAGE, Tree, make_bodies, make_names, make_old, make_page, make_site
from tools.bench.errors import BenchError
from tools.bench.load import GENERATORS, parse_steady
from tools.bench.million import engines
from tools.bench.ordinary import COMPARED, CONNECTIONS, FLOORED, KINDS, TARGETS, WORKLOADS, peers
from tools.bench.peers import missing, running
from tools.bench.rounds import Cell, paced, verify
from tools.bench.steady import Record
from tools.bench.targets import CPU, P99, plan
from tools.bench.workloads import Workload

ALL = [target for targets in TARGETS.values() for target in targets]
AIMS = {  # kind -> at most so many times our own page (the copy), nginx's, h2o's
    "plain": (None, 0.60, 0.75),
    "browser": (1.15, 0.60, 0.90),
    "absolute": (1.10, 0.70, None),
    "range": (1.25, 0.65, 1.0),
    "range-open": (1.25, 0.65, 1.0),
    "range-suffix": (1.25, 0.65, 1.0),
    "range-64KB": (1.10, 0.90, 1.0),
    "if-range-tag": (1.25, 0.65, 1.0),
    "if-range-date": (1.25, 0.65, 1.0),
    "since": (1.10, 0.65, 1.0),
    "tags": (1.10, 0.75, None),
    "query": (1.10, 0.65, 1.0),
    "query-new": (1.10, 0.65, 1.0),
    "absent": (1.10, 0.85, 1.0),
    "absent-new": (1.10, 0.85, 1.0),
    "host-new": (1.10, 0.70, 1.0),
    "slash": (1.10, 0.70, 1.0),
    "space": (1.10, 0.70, 1.0),
    "head": (1.10, 0.70, 1.0),
    "site": (None, 0.60, 1.0),
    "mixture": (1.15, 1.0, 1.0),
}


def test_the_promises_are_those_that_were_made() -> None:
    promised = {}
    for name, targets in TARGETS.items():
        bounds = {
            one.against.partition(",")[0]: one.bound for one in targets if one.figure == CPU and one.own.peer != "floor"
        }
        promised[name] = (bounds.get("itself"), bounds.get("nginx"), bounds.get("h2o"))
    assert {name: bounds for name, bounds in promised.items() if any(bounds)} == AIMS
    others = {(one.own.workload, one.against): one.bound for one in ALL if one.bound is not None}
    assert (others["site", "fastpysgi"], others["echo", "bjoern"]) == (0.55, 0.85)
    assert others["ranges", "zcserve-python"] == 1.10
    late = {(one.about, one.against): one.bound for one in ALL if one.figure == P99}
    assert len(late) == 4
    assert {bound for (_, against), bound in late.items() if against == "nginx"} == {1.0}


def test_each_kind_is_measured_in_one_round_with_our_own_page_or_the_copy() -> None:
    groups = plan(ALL, peers("native"))
    for name in COMPARED:
        (group,) = [group for group in groups if any(cell.workload == name for cell in group)]
        (other,) = [cell for cell in group if cell.workload.startswith(f"{name} beside")]
        assert other.peer == "zcserve"
        asked = WORKLOADS[other.workload].requests
        assert asked == WORKLOADS["plain"].requests or name == "range-64KB"
    assert {cell.workload for group in groups for cell in group} == WORKLOADS.keys()
    assert all(load.connections == 64 for load in WORKLOADS.values())


def test_the_mixture_is_70_percent_plain_and_the_rest_ranges_conditions_queries_and_what_is_absent() -> None:
    def sort(request: object) -> str:
        text = request.text.decode()  # type: ignore[attr-defined]
        signs = {"Range:": "range", "If-": "condition", "/absent/": "absent", "?v=": "query"}
        return next((kind for sign, kind in signs.items() if sign in text), "plain")

    stream = WORKLOADS["mixture"].requests
    shares = {"plain": 700, "range": 100, "condition": 100, "absent": 50, "query": 50}
    assert Counter(map(sort, stream)) == shares
    assert len({sort(request) for request in stream[:100]}) == 5  # mixed, not one after the other


def test_the_site_has_twenty_files_and_the_json_a_hundred_bytes() -> None:
    assert len(set(WORKLOADS["site"].requests)) == 20
    (echo,) = WORKLOADS["echo"].requests
    assert len(echo.body) == 100
    assert len(set(WORKLOADS["range-64KB"].requests)) > 100


def test_all_servers_have_the_pace_that_the_slowest_can_keep() -> None:
    load = Workload("page", "steady", pace=0.6)
    group = {Cell("late", "a"): load, Cell("late", "b"): load, Cell("page", "a"): replace(load, pace=0.0)}
    found = paced(group, lambda cell, _: {"a": 5000.0, "b": 1000.0}[cell.peer])
    assert [one.rate for one in found.values()] == [600, 600, 0]


@pytest.mark.parametrize(
    ("load", "seed"), [(WORKLOADS["query-new"], "0"), (Workload("page", "steady", connections=CONNECTIONS), "7")]
)
def test_requests_of_a_load_are_sent_in_their_order_and_files_at_random(
    load: Workload, seed: str, tmp_path: Path
) -> None:
    (tmp_path / "steady").touch()  # as if it were compiled
    ready = replace(load, records=tuple(Record(one.text) for one in load.requests))
    argv = GENERATORS["steady"].command(ready, "127.0.0.1:80", (PAGE,), 3, tmp_path, 7)
    assert argv[1:-1] == ["80", "64", "0", "3", seed, "1"]
    assert (b"?v=0007#" in Path(argv[-1]).read_bytes()) == bool(load.requests)


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Tree:
    root = tmp_path_factory.mktemp("ordinary") / "root"
    root.mkdir()
    for make in (make_page, make_bodies, make_names):
        make(root)
    if HAS_BROTLI:
        make_site(root)
    make_old(root)
    return Tree(root, (), 0)


HAS_BROTLI = importlib.util.find_spec("brotli") is not None
HERE = [name for name in KINDS if HAS_BROTLI or name != "site"]


@pytest.mark.parametrize("engine", engines())
def test_zcserve_answers_every_kind_rightly(engine: str, tree: Tree, tmp_path: Path) -> None:
    with running("zcserve", peers(engine)["zcserve-servlets"], tree.root, tmp_path, ready_path=PAGE) as server:
        ready = {name: verify(server, WORKLOADS[name], tree) for name in HERE}
        if engine == "native" and shutil.which("cc") is not None:
            _runs(ready["mixture-pipelined"], server.port, tmp_path)
    if HAS_BROTLI:
        lengths = {
            one.target: told.length for one, told in zip(ready["site"].requests, ready["site"].records, strict=True)
        }
        assert lengths["/site/app.js"] == (tree.root / "site" / "app.js.br").stat().st_size
        assert lengths["/site/hero.webp"] == (tree.root / "site" / "hero.webp").stat().st_size


def _runs(load: Workload, port: int, folder: Path) -> None:
    argv = GENERATORS["steady"].command(replace(load, connections=4), f"127.0.0.1:{port}", (), 1, folder, 1)
    argv[4] = "0.1"  # seconds
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60)
    assert done.stderr == ""
    assert parse_steady(done.stdout).requests > 100


def test_the_peers_that_are_here_answer_rightly_what_they_are_asked(tree: Tree, tmp_path: Path) -> None:
    others = {name: peer for name, peer in peers("python").items() if not name.startswith("zcserve")}
    for name in others.keys() - missing(others).keys():
        with running(name, others[name], tree.root, tmp_path, ready_path=PAGE) as server:
            for kind in HERE:
                if name in dict(KINDS[kind].others):
                    verify(server, WORKLOADS[kind], tree)


@pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler")
def test_the_floor_gives_the_right_answers_in_any_order_and_whole(tree: Tree, tmp_path: Path) -> None:
    kinds = [name for name in FLOORED if name in HERE]
    with running("floor", peers("native")["floor"], tree.root, tmp_path, ready_path=PAGE) as server:
        ready = {name: verify(server, WORKLOADS[f"{name} by the floor"], tree) for name in kinds}
        records = [record for load in ready.values() for record in load.records]
        _runs(replace(ready["plain"], records=tuple(records)), server.port, tmp_path)
    assert all(len(ready[name].records) == len(KINDS[name].requests) for name in kinds)


def test_an_aim_stands_beside_the_floor_of_the_same_rounds() -> None:
    beside = {(one.own, one.other) for one in TARGETS["head"]}
    floor = Cell("head by the floor", "floor")
    assert {(Cell("head", "zcserve"), floor), (floor, Cell("head", "nginx"))} <= beside


def test_without_brotli_all_but_the_site_is_measured_and_how_to_install_it_is_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *rest: None if name == "brotli" else found(name, *rest)
    )
    with pytest.raises(BenchError, match=r"brotli not installed \(pip install brotli\)"):
        make_site(tmp_path)
    head = {"head", "head beside: page", "head by the floor"}
    assert _measured("site,head", monkeypatch, tmp_path) == head
    written = (tmp_path / "ordinary.md").read_text()
    assert "pip install brotli" in written
    assert "| twenty files, coded, in rotation | nginx | CPU/request | <= 0.60 |  |  | not measured |" in written
    assert _measured("head", monkeypatch, tmp_path) == head
    assert "pip install brotli" not in (tmp_path / "ordinary.md").read_text()


def test_a_kind_that_there_is_not_is_refused_with_those_that_there_are(capsys: pytest.CaptureFixture[str]) -> None:
    assert command_line.main(["ordinary", "--workloads", "range,iis"]) == 2
    assert "no such workload: 'iis' (there are plain, range, " in capsys.readouterr().err


def test_only_the_kinds_that_were_named_are_measured(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    expected = {f"{kind}{other}" for kind in ("since", "head") for other in ("", " beside: page", " by the floor")}
    assert _measured("since,head", monkeypatch, tmp_path) == expected
    assert "If-Modified-Since alone" in (tmp_path / "ordinary.md").read_text()


def _measured(kinds: str, monkeypatch: pytest.MonkeyPatch, out: Path) -> set[str]:
    """The workloads that are measured for these kinds; the report is written without figures."""
    asked: set[str] = set()

    def measured(peers: object, workloads: dict[str, Workload], *rest: object) -> command_line.Measured:
        asked.update(workloads)
        return command_line.Measured([], {})

    monkeypatch.setattr(command_line, "measure", measured)
    assert command_line.main(["ordinary", "--workloads", kinds, "--out", str(out)]) == 0
    return asked
