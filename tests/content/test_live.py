"""zcserve.content.live: in which order the front is told of a change: nothing old may come after something new.

Lanes in other threads answer between any two of these words. What a client sees: tests/wire/test_lanes_live.py.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.support.contents import Show, Shown

FILES = {"a.txt": b"old", "404.html": b"old page", "gone.txt": b"old"}


@pytest.fixture
def noted(show: Show, monkeypatch: pytest.MonkeyPatch) -> tuple[Shown, list[str]]:
    """A shop that serves FILES, and what its front is told of them, in order."""
    shop = show(FILES)
    shop.live.tell_keys()
    told: list[str] = []
    for name in ("forget_keys", "set_not_found", "add_keys", "remove_keys"):
        monkeypatch.setattr(shop.loop.front.shelf(0), name, lambda *_, name=name: told.append(name))
    return shop, told


def in_order(told: list[str]) -> list[str]:
    """Each word once, where it was said first."""
    return list(dict.fromkeys(told))


ORDER = ["add_keys", "forget_keys", "set_not_found", "remove_keys"]


def test_a_flip_forgets_what_was_before_it_tells_what_is_new(noted: tuple[Shown, list[str]]) -> None:
    shop, told = noted
    shop.tree.plant({"a.txt": b"the new one", "404.html": b"the new page", "new.txt": b"new"})
    (shop.tree.path / "gone.txt").unlink()
    shop.releases.ask()
    shop.turn_until(lambda: shop.counters.flips)
    shop.finish()
    assert in_order(told) == ORDER


def test_a_patch_forgets_what_was_before_it_tells_what_is_new(noted: tuple[Shown, list[str]]) -> None:
    shop, told = noted
    shop.tree.plant({"a.txt": b"the new one", "404.html": b"the new page", "new.txt": b"new"})
    (shop.tree.path / "gone.txt").unlink()
    known: list[bool] = []
    shop.patches.when_known(lambda: known.append(True))
    shop.turn_until(lambda: known)
    assert in_order(told) == ORDER


@pytest.fixture
def passing(show: Show, monkeypatch: pytest.MonkeyPatch) -> tuple[Shown, list[Callable[[], None]]]:
    """A shop whose front says when all lanes have passed what the test says."""
    shop = show(FILES)
    waiting: list[Callable[[], None]] = []
    monkeypatch.setattr(shop.loop.front, "when_passed", waiting.append)
    return shop, waiting


def test_a_reload_is_said_when_all_lanes_have_passed_it(
    passing: tuple[Shown, list[Callable[[], None]]], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    shop, waiting = passing
    before = shop.site.live
    shop.tree.plant({"a.txt": b"the new one"})
    shop.releases.ask()
    shop.turn_until(lambda: waiting)
    assert shop.site.live is not before
    for _ in range(5):
        shop.loop.wake_at(shop.loop.now, shop)
        shop.loop.run_once()
    assert shop.counters.flips == 0
    assert "reloaded" not in caplog.text
    waiting.pop()()
    shop.finish()
    assert shop.counters.flips == 1
    assert "reloaded" in caplog.text


def test_all_that_has_changed_is_known_when_all_lanes_have_passed_it(
    passing: tuple[Shown, list[Callable[[], None]]],
) -> None:
    shop, waiting = passing
    known: list[bool] = []
    shop.patches.when_known(lambda: known.append(True))
    shop.turn_until(lambda: waiting)
    assert not known
    waiting.pop()()
    assert known
