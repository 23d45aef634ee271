"""The replay of traces through the policies, against what can be counted by hand."""

from __future__ import annotations

import json
import struct
from collections import OrderedDict
from itertools import pairwise
from pathlib import Path

import pytest

from tools.bench import __main__ as command_line
from tools.bench.errors import BenchError
from tools.bench.hit_ratio import compare, curve_table, drawn, oracle_hit_ratio, ratios_table, replay
from tools.bench.traces import Trace, numbered, recorded, scanned, synthetic, zipf
from zcserve.cache.evictor import LeastRecentlyUsed
from zcserve.cache.store import POLICIES

HAND = Trace("by hand", [0, 1, 0, 2, 1, 0, 3, 0], [10, 10, 20, 1000])


def lru_hits(trace: Trace, memory: int) -> int:
    """Brute force: the objects in the order of use, cut where the memory ends."""
    order: OrderedDict[int, int] = OrderedDict()
    hits = 0
    for number in trace.objects:
        size = trace.sizes[number]
        if number in order:
            hits += 1
            order.move_to_end(number)
        elif size <= memory:
            while sum(order.values()) + size > memory:
                order.popitem(last=False)
            order[number] = size
    return hits


@pytest.mark.parametrize(
    ("memory", "hits", "hit_bytes"),
    [
        (0, 0, 0),
        (20, 2, 20),  # 0 before 2 takes it all, and after 3, which is too large to be taken in
        (30, 2, 20),
        (40, 4, 40),
        (2000, 4, 40),
    ],
)
def test_a_replay_hits_what_memory_holds(memory: int, hits: int, hit_bytes: int) -> None:
    done = replay(HAND, LeastRecentlyUsed(), memory)
    assert done.object_hit == hits / 8
    assert done.byte_hit == pytest.approx(hit_bytes / sum(HAND.sizes[number] for number in HAND.objects))


@pytest.mark.parametrize("share", [0.02, 0.1, 0.5])
def test_lru_hits_as_often_as_the_list_in_the_order_of_use(share: float) -> None:
    trace = zipf(300, 4000, 0.9)
    memory = int(share * trace.footprint)
    assert replay(trace, LeastRecentlyUsed(), memory).object_hit == lru_hits(trace, memory) / 4000


@pytest.mark.parametrize("policy", POLICIES)
def test_every_policy_hits_all_but_first_uses_when_all_fits(policy: str) -> None:
    trace = scanned(500, 4000)
    done = replay(trace, POLICIES[policy](), trace.footprint)
    assert done.object_hit == 1 - len(trace.sizes) / 4000


def test_a_crawler_costs_lru_more_than_the_others() -> None:
    trace = scanned(3000, 40_000)
    hits = {name: replay(trace, policy(), trace.footprint // 10).object_hit for name, policy in POLICIES.items()}
    assert hits["lru"] < min(hits["sieve"], hits["s3-fifo"]) - 0.03


@pytest.mark.parametrize("policy", ["lru", "sieve"])
def test_libcachesim_hits_as_often(policy: str) -> None:
    pytest.importorskip("libcachesim")
    trace = zipf(2000, 20_000, 0.9)
    memory = trace.footprint // 5
    ours = replay(trace, POLICIES[policy](), memory).object_hit
    assert oracle_hit_ratio(trace, policy, memory) == pytest.approx(ours, abs=0.001)


def test_the_curve_foretells_the_replay() -> None:
    trace = zipf(20_000, 60_000, 0.9)
    curve, sampled_share, cpu_us = drawn(trace, every=2)
    for share in (0.02, 0.1, 0.4):
        memory = int(share * trace.footprint)
        assert curve.hit_ratio(memory) == pytest.approx(replay(trace, LeastRecentlyUsed(), memory).object_hit, abs=0.02)
    assert 0 < sampled_share < 2
    assert cpu_us > 0


def test_a_comparison_has_a_line_for_each_policy_and_memory() -> None:
    ratios, foretold = compare(zipf(500, 3000, 0.8), shares=(0.1, 0.5))
    assert [(one.share, one.policy) for one in ratios] == [(share, name) for share in (0.1, 0.5) for name in POLICIES]
    assert [one.share for one in foretold] == [0.1, 0.5]
    assert [one.lru for one in foretold] == [one.object_hit for one in ratios if one.policy == "lru"]
    assert [row[:3] for row in ratios_table(ratios).rows][:2] == [
        ("zipf 0.8", "10%", "lru"),
        ("zipf 0.8", "10%", "sieve"),
    ]
    assert len(curve_table(foretold).rows) == 2


def test_objects_are_numbered_as_they_come_with_their_first_size() -> None:
    assert numbered("x", [("b", 5), ("a", 7), ("b", 6)]) == Trace("x", [0, 1, 0], [5, 7])


def test_made_traces_are_the_same_each_time_and_as_long_as_asked_for() -> None:
    once, again = list(synthetic(200, 1000)), list(synthetic(200, 1000))
    assert once == again
    for trace in once:
        assert len(trace.objects) == 1000
        assert max(trace.objects) == len(trace.sizes) - 1
        assert min(trace.sizes) > 0


def test_the_steeper_the_more_of_the_requests_go_to_few() -> None:
    shares = [
        replay(one, LeastRecentlyUsed(), one.footprint // 20).object_hit for one in list(synthetic(2000, 9000))[:4]
    ]
    assert all(flatter < steeper for flatter, steeper in pairwise(shares))


ORACLE = b"".join(
    struct.pack("<IQIq", at, key, size, -1) for at, (key, size) in enumerate([(7, 512), (9, 100), (7, 512)])
)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.oracleGeneral.bin", ORACLE),
        ("a.csv", b"# time, object, size, next_access_vtime\n0, 7, 512, 2\n1, 9, 100, 3\n2, 7, 600, 4\n"),
        ("a.csv", b"version,time,op,size,lbn\n1,5,2a,512,7\n1,5,2a,100,9\n1,6,2a,512,7\n"),
    ],
)
def test_recorded_traces_are_read(name: str, content: bytes, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    assert recorded(tmp_path / name, 10) == Trace("a", [0, 1, 0], [512, 100])
    assert recorded(tmp_path / name, 2) == Trace("a", [0, 1], [512, 100])


@pytest.mark.parametrize(
    ("name", "content", "why"),
    [
        ("a.oracleGeneral.bin", ORACLE[:-1], "cut short"),
        ("a.csv", b"", "names no size"),
        ("a.csv", b"time,size\n1,2\n", "object, obj_id, lbn"),
        ("a.csv", b"object,size\n1,many\n", "many"),
        ("a.csv", b"object,size\n1\n", "a.csv"),
        ("a.txt", b"1\n", "no trace that can be read"),
    ],
)
def test_what_is_no_trace_is_refused_with_its_name(name: str, content: bytes, why: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(BenchError, match=why) as raised:
        recorded(tmp_path / name, 10)
    assert name in str(raised.value)


def test_the_command_writes_its_tables_and_figures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trace = tmp_path / "own.oracleGeneral.bin"
    trace.write_bytes(ORACLE)
    written = [str(tmp_path / "out.json"), str(tmp_path / "out.md")]
    arguments = ["hit-ratio", "--requests", "400", "--objects", "60", "--traces", str(trace)]
    assert command_line.main([*arguments, "--json", written[0], "--markdown", written[1]]) == 0
    figures = json.loads(Path(written[0]).read_text())
    assert len({one["trace"] for one in figures["ratios"]}) == 6
    assert {one["policy"] for one in figures["ratios"]} == set(POLICIES)
    assert "| own | 3 | 2 | 612 |" in Path(written[1]).read_text()
    assert "zipf 1.2" in capsys.readouterr().out


def test_the_command_names_a_trace_that_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command_line.main(["hit-ratio", "--traces", str(tmp_path / "no.csv")]) == 2
    assert "no.csv" in capsys.readouterr().err
