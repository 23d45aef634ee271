"""zcserve.content.contents: what is asked of all sites is asked of each, and told when the last one has it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from math import inf
from pathlib import Path

import pytest

from tests.support.trees import Tree
from zcserve import Config, Server
from zcserve.cache.entry import Entry
from zcserve.cache.index import Generation
from zcserve.config.site import SiteTable
from zcserve.content.contents import Contents, after_all


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """One of three sites, open, whose loop the test turns."""
    roots = {}
    for name in ("www", "one", "two"):
        roots[name] = tmp_path / name
        roots[name].mkdir()
        Tree(roots[name]).plant({"page": name.encode(), "style.css": bytes(2000)})
    tables = tuple(SiteTable(name=name, hosts=(name,), values={"root": roots[name]}) for name in ("one", "two"))
    made = Server(Config(root=roots["www"], port=0, engine="python", pin=("*.css",), sites=tables))
    made.open()
    yield made
    made.close()


def turn_until(server: Server, is_true: Callable[[], object]) -> None:
    for _ in range(4000):
        if is_true():
            return
        server.loop.wake_at(server.loop.now + 0.005, server)
        server.loop.run_once()
    pytest.fail("that does not become true")


def test_a_step_that_waits_for_all_comes_after_the_last() -> None:
    waiting: list[Callable[[], None]] = []
    told: list[str] = []
    after_all([waiting.append] * 3, lambda: told.append("all"))
    for over in waiting:
        assert told == []
        over()
    assert told == ["all"]


def test_each_site_is_found_by_its_name(server: Server) -> None:
    contents = server.contents
    assert [content.site.name for content in contents] == ["default", "one", "two"]
    assert contents.first is server.content
    assert contents.named("two") is list(contents)[2]
    assert contents.named("three") is None


def test_the_earliest_time_of_all_is_due(server: Server) -> None:
    contents: Contents = server.contents
    contents.each_turn()
    assert contents.due == min(content.due for content in contents)
    for content in contents:
        content.stand_still()
    server.loop.now = inf
    contents.each_turn()
    assert contents.due == inf


def test_a_reload_is_over_with_the_last_site(server: Server) -> None:
    told: list[str] = []
    server.contents.reload(told.append)
    turn_until(server, lambda: told)
    assert told == [""]
    assert all(content.counters.flips for content in server.contents)


def test_what_is_found_changed_is_told_to_its_own_site(server: Server, tmp_path: Path) -> None:
    for content in server.contents:
        content.stand_still()
    one, two = server.contents.named("one"), server.contents.named("two")
    assert one is not None
    assert two is not None
    generation: Generation = one.site.live
    was, other = generation.resources[b"/page"], two.site.live.resources[b"/page"]
    assert isinstance(was, Entry)
    outdated = partial(server.service.fetcher.outdated, generation, was)
    Tree(tmp_path / "one").plant({"page": b"other"})
    told: list[bool] = []
    server.service.fetcher.run("key", outdated, told.append)
    turn_until(server, lambda: told)
    assert told == [True]
    assert generation.resources[b"/page"] is not was
    assert two.site.live.resources[b"/page"] is other


def test_a_node_is_ready_when_all_sites_are(server: Server) -> None:
    contents = server.contents
    turn_until(server, lambda: contents.readiness().is_ready)
    assert contents.readiness().wanted_bytes == 3 * 2000 + len("wwwonetwo")
    two = contents.named("two")
    assert two is not None
    style = two.site.live.resources[b"/style.css"]
    assert isinstance(style, Entry)
    server.store.drop(style)
    turn_until(server, lambda: not contents.readiness().is_ready)
    ready = contents.readiness()
    assert (ready.missing_total, ready.why.startswith("site two: ")) == (1, True)
    assert ready.missing[0].why.startswith("site two: ")
    assert ready.wanted_bytes - ready.resident_bytes == 2000


def test_a_line_tells_of_all_sites(server: Server) -> None:
    assert server.contents.status() == "serving 3 sites: 6 files and variants in memory"
    assert server.contents.left_out == 0
    assert not server.contents.is_loading
