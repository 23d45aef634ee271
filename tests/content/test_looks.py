"""zcserve.content.looks: uses are counted now and then, and written down, by a loop that the test turns."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.support.contents import Show
from tests.support.site import Serve, Site
from tests.support.trees import publish
from tests.support.waiting import WaitUntil
from zcserve.cache.entry import Entry
from zcserve.content import looks as module
from zcserve.content.looks import EVERY_S, Looks


def test_uses_are_counted_now_and_then_and_written_down(
    show: Show, tmp_path: Path, wait_until: WaitUntil, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "EVERY_S", 0.01)
    monkeypatch.setattr(module, "WRITTEN_EVERY_S", 0.0)
    file = tmp_path / "heat"
    shown = show({"a": b"1", "b": b"2"}, heat_file=str(file))
    shown.entry(b"/a").uses += 3
    shown.site.note_use(shown.entry(b"/a"), 5)
    shown.site.note_use(shown.entry(b"/b"), 5, was_resident=False)
    looks = Looks(shown.service)

    def turn() -> bool:
        shown.loop.run_once()
        return file.exists()

    wait_until(turn)
    heat = shown.site.heat
    assert heat.of(b"/a") == pytest.approx(4, rel=0.01)
    assert heat.of(b"/b") == pytest.approx(1, rel=0.01)
    assert shown.entry(b"/b").uses == 0  # to eviction it is new
    shown.entry(b"/b").uses += 1
    looks.close()
    assert heat.of(b"/b") == pytest.approx(2, rel=0.01)
    file.unlink()
    looks.close()
    assert not file.exists()


def test_what_is_not_asked_for_is_not_looked_at_and_what_was_handed_over_is_not_written(
    show: Show, wait_until: WaitUntil, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = show({"a": b"1"})
    Looks(shown.service)
    shown.entry(b"/a").uses += 3
    shown.loop.timers.fire(shown.loop.now + 10 * EVERY_S, lambda call: call())
    assert len(shown.site.heat) == 0
    monkeypatch.setattr(module, "EVERY_S", 0.01)
    shown.service.config = replace(shown.config, admin="unix:/none")
    one = Looks(shown.service)

    def turn() -> float:
        shown.loop.run_once()
        return shown.site.heat.of(b"/a")

    assert wait_until(turn) == pytest.approx(3, rel=0.01)
    one.end()
    shown.entry(b"/a").uses += 3
    one.close()
    assert shown.site.heat.of(b"/a") == pytest.approx(3, rel=0.01)


def test_of_a_server_that_is_asked_by_nobody_nothing_is_kept(serve: Serve, site: Site, wait_until: WaitUntil) -> None:
    site.write("page", b"1")
    server = serve(site.root, engine="python")
    entry = server.site.live.resources[b"/page"]
    assert isinstance(entry, Entry)
    entry.uses += 1
    publish(site.root / "page", b"2")
    wait_until(lambda: server.site.live.resources[b"/page"] is not entry)
    wait_until(lambda: server.content.counters.patches)
    assert (server.site.heat.left, len(server.site.heat)) == ([], 0)


def test_a_file_that_is_published_again_and_again_and_a_release_lose_no_uses(show: Show) -> None:
    shown = show({"a": b"1", "b": b"2"})
    for number in range(3):
        shown.entry(b"/a").uses += 5
        publish(shown.tree.path / "a", b"%d" % number)
        shown.entry(b"/b").uses += 1
        shown.releases.ask()
        shown.finish()
    list(shown.site.heat.look(shown.site.live.entries(), shown.site.heat.at))
    assert shown.entry(b"/a").uses == 0
    assert [shown.site.heat.of(key) for key in (b"/a", b"/b")] == [15, 3]
