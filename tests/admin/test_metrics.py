"""Metrics: what the two formats promise, of any numbers and labels, and what a node tells in them.

The parser here is as strict as the formats are: HELP, TYPE and UNIT once and in front, the samples of a family
together, no series twice, histograms that are cumulative.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from math import inf, nan
from pathlib import Path
from typing import Any

import pytest

from tests.support.client import Client, Response
from tests.support.engines import ENGINES
from tests.support.site import Serve
from tests.support.waiting import WaitUntil
from zcserve import Server
from zcserve.admin.metrics import FAMILIES, Family, prefers_openmetrics, text_of
from zcserve.config.site import SiteTable

DEPLOY = Path(__file__).parents[2] / "deploy"
OPEN = "application/openmetrics-text"
_SAMPLE = re.compile(r'([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{((?:[a-zA-Z_]\w*="(?:[^"\\\n]|\\[\\n"])*",?)+)\})? (\S+)')
_LABEL = re.compile(r'([a-zA-Z_]\w*)="((?:[^"\\]|\\.)*)"(?:,|$)')
_ENDINGS = {"counter": ("_total",), "gauge": ("",), "histogram": ("_bucket", "_count", "_sum")}

Labels = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Parsed:
    """Families with their kinds, and series with their values."""

    kinds: dict[str, str]
    series: dict[tuple[str, Labels], float]

    def __getitem__(self, name: str) -> float:
        """The one series of a name that has no labels."""
        return self.series[name, ()]

    def each(self, name: str) -> dict[Labels, float]:
        """All series of a name."""
        return {labels: value for (of, labels), value in self.series.items() if of == name}


def _unescaped(text: str) -> str:
    return re.sub(r"\\(.)", lambda match: "\n" if match[1] == "n" else match[1], text)


def parse(text: str, *, is_open: bool) -> Parsed:
    """Metrics in one of the formats; what breaks a rule of it is an AssertionError."""
    assert not text or text.endswith("\n")
    lines = text.split("\n")[:-1]
    if is_open:
        assert lines.pop() == "# EOF"
    kinds: dict[str, str] = {}
    told: set[tuple[str, str]] = set()
    series: dict[tuple[str, Labels], float] = {}
    family = ""
    for line in lines:
        if line.startswith("# "):
            _, what, name, said = line.split(" ", 3)
            assert what in ("HELP", "TYPE", "UNIT") if is_open else ("HELP", "TYPE")
            assert (what, name) not in told, line
            told.add((what, name))
            family = name
            if what == "TYPE":
                assert not any(of == name for of, _ in series)
                kinds[name] = said
            if what == "UNIT":
                assert name.endswith(f"_{said}")
            continue
        match = _SAMPLE.fullmatch(line)
        assert match is not None, line
        name, braced, value = match.groups()
        kind = kinds[family]
        endings = ("",) if kind == "counter" and not is_open else _ENDINGS[kind]
        assert name in [family + ending for ending in endings], line
        labels = tuple((label, _unescaped(text)) for label, text in _LABEL.findall(braced or ""))
        assert len({label for label, _ in labels}) == len(labels)
        assert (name, labels) not in series, f"{line} comes twice"
        series[name, labels] = float(value)
    for name, kind in kinds.items():
        assert ("HELP", name) in told
        if kind == "histogram":
            _check_histogram(name, Parsed(kinds, series))
    return Parsed(kinds, series)


def _check_histogram(name: str, parsed: Parsed) -> None:
    buckets = [(float(dict(labels)["le"]), value) for labels, value in parsed.each(f"{name}_bucket").items()]
    assert buckets == sorted(buckets)
    assert [count for _, count in buckets] == sorted(count for _, count in buckets)
    assert buckets[-1] == (inf, parsed[f"{name}_count"])
    assert f"{name}_sum" in {of for of, _ in parsed.series}


def both(told: Any, *families: Family) -> tuple[Parsed, Parsed]:
    """In both formats."""
    text = text_of(told, families=families)
    return (
        parse(text.decode(), is_open=False),
        parse(text_of(told, is_open=True, families=families).decode(), is_open=True),
    )


# --- the formats --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", ["plain", 'a "quoted" one', "back\\slash", "two\nlines", '\\n"', "", "ä€", "\\"])
def test_a_labels_value_comes_out_as_it_went_in(value: str) -> None:
    told = [(("it", value), ("other", "x")), (("it", value + "!"), ("other", "x"))]
    family = Family("some_things", "counter", f"Said: {value}.", lambda _: [(labels, 1) for labels in told])
    for parsed in both({}, family):
        assert parsed.each("some_things_total") == dict.fromkeys(told, 1.0)


def test_a_histogram_is_cumulative_and_its_last_bucket_is_its_count() -> None:
    value = {"bounds": [0.00001, 1, 2.5], "counts": [3, 0, 2, 1], "sum": 17.25, "count": 6}
    family = Family("time_seconds", "histogram", "Time.", lambda _: [((), value)], "seconds")
    for parsed in both({}, family):
        assert [*parsed.each("time_seconds_bucket").values()] == [3, 3, 5, 6]
        assert parsed["time_seconds_sum"] == 17.25


@pytest.mark.parametrize(
    ("value", "text"),
    [(True, "1"), (False, "0"), (2**70, str(2**70)), (0.1, "0.1"), (inf, "+Inf"), (-inf, "-Inf"), (nan, "NaN")],
)
def test_a_number_is_written_as_the_formats_have_it(value: float, text: str) -> None:
    family = Family("some_thing", "gauge", "It.", lambda _: [((), value)])
    assert text_of({}, families=[family]).decode().splitlines()[-1] == f"some_thing {text}"


def test_a_family_without_samples_is_left_out() -> None:
    assert text_of({}, families=[Family("nothing", "gauge", "None.", lambda _: [])], is_open=True) == b"# EOF\n"


def test_any_labels_and_numbers_come_out_as_they_went_in() -> None:
    hypothesis = pytest.importorskip("hypothesis")
    st = hypothesis.strategies
    texts = st.text(st.sampled_from('a1_"\\\n\t {}=,#ä€'), max_size=8)
    samples = st.dictionaries(texts, st.integers(0) | st.floats(0), max_size=5)

    @hypothesis.given(samples, texts)
    def law(found: dict[str, float], said: str) -> None:
        family = Family(
            "some_bytes", "gauge", f"It {said}", lambda _: [((("a", key),), found[key]) for key in found], "bytes"
        )
        for parsed in both({}, family):
            assert [*map(str, parsed.each("some_bytes").values())] == [str(float(value)) for value in found.values()]
            assert [labels[0][1] for labels in parsed.each("some_bytes")] == [*found]

    law()


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        ("", False),
        ("*/*", False),
        ("text/plain", False),
        (OPEN, True),
        (f"{OPEN};version=1.0.0,{OPEN};version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1", True),
        (f"{OPEN};q=0.3,text/plain;q=0.5", False),
        (f"text/plain , {OPEN} ; Q=1.0", True),
        (f"{OPEN};q=0", False),
        (f"{OPEN};q=x", False),
        (f"{OPEN};q=7,text/plain;q=0.1", False),
        (";;,,q=1", False),
    ],
)
def test_a_scraper_gets_the_format_that_it_likes_better(accept: str, expected: bool) -> None:
    assert prefers_openmetrics(accept) is expected


def test_a_name_says_its_unit_and_no_counter_says_total_twice() -> None:
    names = [family.name for family in FAMILIES]
    assert len(set(names)) == len(names)
    for family in FAMILIES:
        assert not family.name.endswith("_total")
        assert not family.unit or family.name.endswith(f"_{family.unit}")
        assert re.fullmatch(r"(zcserve|process|python)_[a-z_]+", family.name)
        assert '"' not in family.help


# --- of a node ----------------------------------------------------------------------------------------------------


def test_a_node_tells_in_both_formats_what_its_clients_had(node: Server, socket_path: str) -> None:
    with Client(node.port) as client:
        for _ in range(70):
            client.get("/page")
        for target in ("/none", "/page?x"):
            client.get(target, method="HEAD")
    with Client(socket_path) as client:
        first = client.get("/metrics")
        second = client.get("/metrics", f"Accept: {OPEN}")
    assert first["Content-Type"] == b"text/plain; version=0.0.4; charset=utf-8"
    assert second["Content-Type"] == b"application/openmetrics-text; version=1.0.0; charset=utf-8"
    for response, is_open in ((first, False), (second, True)):
        assert response["Cache-Control"] == b"no-store"
        parsed = parse(response.body.decode(), is_open=is_open)
        requests = parsed.each("zcserve_http_requests_total")
        assert {(code, method): count for ((_, code), (_, method)), count in requests.items()} == {
            ("200", "GET"): 70,
            ("200", "HEAD"): 1,
            ("404", "HEAD"): 1,
        }
        assert parsed["zcserve_cache_hits_total"] == 71
        assert parsed["zcserve_ready"] == 1
        assert parsed["zcserve_generation_files"] == 1
        assert not [labels for _, labels in parsed.series if "site" in dict(labels)]
        assert parsed["process_open_fds"] > 3
    lanes = parsed.each("zcserve_lane_requests_total")
    assert len(lanes) == (node.loop.front.lanes if node.loop.front.engine == "native" else 0)
    assert not lanes or sum(lanes.values()) <= 72


def test_the_text_and_an_oracle_agree(node: Server, ask: Callable[..., Response]) -> None:
    text_parser = pytest.importorskip("prometheus_client.parser")
    open_parser = pytest.importorskip("prometheus_client.openmetrics.parser")
    for read, is_open in ((text_parser, False), (open_parser, True)):
        text = ask("/metrics", *([f"Accept: {OPEN}"] if is_open else [])).body.decode()
        families = read.text_string_to_metric_families(text)
        series = {(one.name, tuple(one.labels.items())): one.value for family in families for one in family.samples}
        assert series == parse(text, is_open=is_open).series


# --- what is made of it -------------------------------------------------------------------------------------------


def _names(text: str) -> set[str]:
    """The metrics that expressions name."""
    found = re.findall(r"\b(?:zcserve|process|python)_[a-z_]+\b(?!\s*\()", text)
    return {name for name in found if not name.endswith("_")}


def _known() -> set[str]:
    return {family.name + ending for family in FAMILIES for ending in _ENDINGS[family.kind]}


def test_the_dashboard_names_no_metric_that_there_is_not() -> None:
    dashboard = json.loads((DEPLOY / "grafana/zcserve.json").read_text())
    panels = dashboard["panels"]
    assert len(panels) >= 12
    assert len({panel["id"] for panel in panels}) == len(panels)
    for panel in panels:
        named = _names(" ".join(target["expr"] for target in panel["targets"]))
        assert named, panel["title"]
        assert named <= _known(), panel["title"]


def test_the_alerts_name_no_metric_that_there_is_not_and_each_is_tried() -> None:
    alerts = (DEPLOY / "prometheus/alerts.yml").read_text()
    tests = (DEPLOY / "prometheus/alerts_test.yml").read_text()
    assert _names(alerts) <= _known()
    assert _names(tests) <= _known()
    for name in re.findall(r"- alert: (\w+)", alerts):
        assert len(re.findall(rf"alertname: {name}\b", tests)) >= 2, f"{name} is not tried in both directions"


@pytest.mark.parametrize("engine", ENGINES)
def test_several_sites_have_a_label_and_one_has_none(
    page_root: Path,
    tmp_path: Path,
    serve: Serve,
    socket_path: str,
    ask: Callable[..., Response],
    wait_until: WaitUntil,
    engine: str,
) -> None:
    (tmp_path / "blog").mkdir()
    for name in ("a", "b"):
        (tmp_path / "blog" / name).write_text(name)
    blog = SiteTable(name="blog", hosts=("blog.example",), values={"root": tmp_path / "blog"})
    server = serve(page_root, engine=engine, admin=f"unix:{socket_path}", sites=(blog,))
    for request in (b"GET /a HTTP/1.1\r\nHost: blog.example", b"GET /a HTTP/1.1\r\nHost: other", b"GET /a HTTP/1.1"):
        with Client(server.port) as client:
            client.send(request + b"\r\nConnection: close\r\n\r\n")
            client.read()
    wait_until(lambda: b"zcserve_site_resident_bytes" in ask("/metrics").body)
    text = ask("/metrics").body
    parsed = parse(text.decode(), is_open=False)
    by_site = {"zcserve_generation_files", "zcserve_patches_total", "zcserve_watcher_events_total"}
    by_site |= {"zcserve_site_resident_bytes"}
    both = {(("site", "default"),), (("site", "blog"),)}
    for name in by_site:
        assert set(parsed.each(name)) == both, name
    for name in ("zcserve_cache_hits", "zcserve_cache_misses", "zcserve_http_response_bytes"):
        assert set(parsed.each(f"{name}_total")) == both | {(("site", "(none)"),)}, name
    assert parsed.each("zcserve_http_requests_total") == {
        (("code", "200"), ("method", "GET"), ("site", "blog")): 1,
        (("code", "404"), ("method", "GET"), ("site", "default")): 1,
        (("code", "400"), ("method", "other"), ("site", "(none)")): 1,
    }
    assert parsed.each("zcserve_generation_files") == {(("site", "default"),): 1, (("site", "blog"),): 2}
    assert parsed.each("zcserve_site_resident_bytes") == {(("site", "default"),): 6, (("site", "blog"),): 2}
    if (promtool := shutil.which("promtool")) is not None:
        done = subprocess.run([promtool, "check", "metrics"], input=text, capture_output=True)
        assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


@pytest.mark.peer
def test_promtool_finds_nothing_to_mend(node: Server, ask: Callable[..., Response]) -> None:
    promtool = shutil.which("promtool")
    assert promtool is not None, "apt-get install prometheus"
    for name in ("page", "none"):
        with Client(node.port) as client:
            client.get(f"/{name}")
    done = subprocess.run([promtool, "check", "metrics"], input=ask("/metrics").body, capture_output=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


@pytest.mark.peer
@pytest.mark.parametrize("what", [("check", "rules", "alerts.yml"), ("test", "rules", "alerts_test.yml")])
def test_promtool_accepts_the_alerts(what: tuple[str, ...]) -> None:
    promtool = shutil.which("promtool")
    assert promtool is not None, "apt-get install prometheus"
    done = subprocess.run([promtool, *what], cwd=DEPLOY / "prometheus", capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
