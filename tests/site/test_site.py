"""A site answers what a request asks of it, of generations that were walked on a real disk."""

from __future__ import annotations

from pathlib import Path

import pytest

from zcserve.cache.entry import Entry, Redirect
from zcserve.cache.index import Generation
from zcserve.cache.root import Root
from zcserve.cache.walk import walk
from zcserve.site.site import Site


def release(path: Path, *names: str) -> Generation:
    """A generation of these files."""
    for name in names:
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(name.encode())
    return walk(Root(path), index=("index.html",))


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(0, release(tmp_path / "one", "page", "a b", "docs/index.html"))


def entry_of(site: Site, key: bytes) -> Entry:
    _, entry = site.find(key)
    assert isinstance(entry, Entry)
    return entry


class Listener:
    """A sampler that notes what it hears, and the entry's tick at that time."""

    def __init__(self) -> None:
        self.heard: list[tuple[Entry, int, int]] = []

    def note(self, entry: Entry, tick: int, site: int) -> None:
        self.heard.append((entry, tick, entry.tick))


@pytest.mark.parametrize("target", [b"/page", b"/a%20b", b"/docs/", b"/docs/index.html"])
def test_a_hit_is_the_file_that_a_plain_target_names(site: Site, target: bytes) -> None:
    assert site.hit(target) is site.live.resources[target]


@pytest.mark.parametrize("target", [b"/docs", b"/absent", b"/page?", b"/./page", b"/p%61ge", b"*", b""])
def test_a_redirect_and_what_is_no_key_as_it_was_sent_is_no_hit(site: Site, target: bytes) -> None:
    assert site.hit(target) is None


def test_a_key_leads_to_a_file_or_a_redirect_or_nothing(site: Site) -> None:
    assert isinstance(site.find(b"/page")[1], Entry)
    assert isinstance(site.find(b"/docs")[1], Redirect)
    assert site.find(b"/absent") == (site.live, None)


def test_an_older_generation_answers_only_what_the_live_one_has_nothing_for(site: Site, tmp_path: Path) -> None:
    first = site.live
    second, third = release(tmp_path / "two", "page", "second"), release(tmp_path / "three", "page")
    site.serve(second, site.generations)
    site.serve(third, site.generations)
    assert site.generations == (third, second, first)
    found = [site.find(key)[0] for key in (b"/page", b"/second", b"/a%20b", b"/absent")]
    assert found == [third, second, first, third]
    assert site.hit(b"/second") is None  # what is old is not taught, and not served before an application


def test_the_prepared_generation_answers_before_the_older_ones_and_stays_until_it_is_the_live_one(
    site: Site, tmp_path: Path
) -> None:
    first = site.live
    second, third = release(tmp_path / "two", "page"), release(tmp_path / "three", "page", "third", "a b")
    site.prepare(third)
    site.serve(second, [first])
    assert (site.generations, site.prepared, site.older) == ((second, third, first), third, (first,))
    assert [site.find(key)[0] for key in (b"/page", b"/third", b"/a%20b", b"/docs/")] == [second, third, third, first]
    assert site.hit(b"/third") is None
    site.serve(third, [second])
    assert (site.generations, site.prepared) == ((third, second), None)
    site.prepare(first)
    site.prepare(None)
    assert site.find(b"/docs/") == (third, None)


def test_what_is_reachable_no_more_is_not_found(site: Site, tmp_path: Path) -> None:
    site.serve(release(tmp_path / "two", "page"))
    assert site.find(b"/a%20b") == (site.live, None)


def test_the_root_is_the_live_generations(site: Site, tmp_path: Path) -> None:
    site.serve(release(tmp_path / "two", "page"), site.generations)
    assert site.root.path == str(tmp_path / "two")


def test_a_hit_is_a_use_and_says_when(site: Site) -> None:
    entry = entry_of(site, b"/page")
    site.note_use(entry, 7)
    site.note_use(entry, 9)
    assert (entry.uses, entry.tick) == (2, 9)


def test_what_had_to_be_loaded_is_new_and_not_used_before(site: Site) -> None:
    entry = entry_of(site, b"/page")
    site.note_use(entry, 7, was_resident=False)
    assert (entry.uses, entry.tick) == (0, 7)


def test_the_sampler_hears_of_each_use_while_the_last_one_is_known(site: Site) -> None:
    entry, listener = entry_of(site, b"/page"), Listener()
    site.note_use(entry, 5)
    site.sampler = listener
    site.note_use(entry, 7)
    site.note_use(entry, 9, was_resident=False)
    assert listener.heard == [(entry, 7, 5), (entry, 9, 7)]
