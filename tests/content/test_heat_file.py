"""zcserve.content.heat_file: what is written is known again, and what is wrong with the file is one line."""

from __future__ import annotations

import logging
import os
import stat
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from zcserve.cache.entry import Entry
from zcserve.cache.heat import HALF_LIFE_S, Heat
from zcserve.cache.index import Generation
from zcserve.cache.root import Root
from zcserve.content.heat_file import HeatFile, Kept
from zcserve.site.site import Site


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """A site with two files of which it is known how hot they are."""
    root = tmp_path / "www"
    root.mkdir()
    one = Site(0, Generation(Root(root)), name="www")
    one.live.resources[b"/a"] = Entry(b"/a", b"", 10, None)
    one.heat.add(b"/a", 8)
    one.heat.add(b"/gone%20b", 2)
    return one


def again(site: Site, root: Path | None = None) -> Kept:
    """The same site, of which nothing is known yet."""
    return Kept(site.name, root or site.root.path, Heat())


def test_what_is_written_is_known_again_and_only_its_owner_reads_it(site: Site, tmp_path: Path) -> None:
    file = HeatFile(str(tmp_path / "heat"))
    file.write([site])
    file.write([site])
    kept, other = again(site), Kept("other", tmp_path, Heat())
    file.read([kept, other])
    assert kept.heat.of(b"/a") == pytest.approx(8, rel=0.01)
    assert kept.heat.of(b"/gone%20b") == pytest.approx(2, rel=0.01)
    assert (len(kept.heat), len(other.heat)) == (2, 0)
    assert stat.S_IMODE((tmp_path / "heat").stat().st_mode) == 0o600
    assert sorted(os.listdir(tmp_path)) == ["heat", "www"]
    assert file.fault() == ""


def test_while_nobody_serves_heat_decays_and_a_clock_that_was_set_back_makes_nothing_hotter(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = HeatFile(str(tmp_path / "heat"))
    now = time.time()
    for written_at, wanted in ((now - HALF_LIFE_S, 4), (now + 10 * HALF_LIFE_S, 8)):
        with monkeypatch.context() as patch:
            patch.setattr(time, "time", partial(float, written_at))
            file.write([site])
        kept = again(site)
        file.read([kept])
        assert kept.heat.of(b"/a") == pytest.approx(wanted, rel=0.01)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def of_a_later_version(path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(b'"version": 1', b'"version": 2'))


def of_bytes(path: Path) -> None:
    path.write_bytes(os.urandom(100) + b"\n")


def missing(path: Path) -> None:
    path.unlink()


def a_directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


def a_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def of_another_root(path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(b'www"}', b'elsewhere"}'))


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (cut, "is no JSON"),
        (empty, "its end is missing, behind line 0"),
        (of_a_later_version, "it has version 2; version 1 is understood"),
        (of_bytes, "line 1 is no JSON"),
        (missing, "it is not there, as at a first start"),
        (a_directory, "it is no file"),
        (a_pipe, "it is no file"),
        (of_another_root, "the root of the site www was "),
    ],
)
def test_a_file_that_is_no_use_is_one_warning_and_nothing_is_known(
    site: Site,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    spoil: Callable[[Path], None],
    why: str,
) -> None:
    path = tmp_path / "heat"
    HeatFile(str(path)).write([site])
    spoil(path)
    kept = again(site)
    with caplog.at_level(logging.INFO):
        HeatFile(str(path)).read([kept])
    assert len(kept.heat) == 0
    (line,) = caplog.messages
    assert why in line
    assert str(path) in line


def test_a_root_that_leads_to_another_release_is_the_same_place(site: Site, tmp_path: Path) -> None:
    current = tmp_path / "current"
    current.symlink_to(tmp_path / "www")
    one = Site(0, Generation(Root(current)), name="www", heat=site.heat)
    file = HeatFile(str(tmp_path / "heat"))
    file.write([one])
    (tmp_path / "next").mkdir()
    current.unlink()
    current.symlink_to(tmp_path / "next")
    kept = again(site, current)
    file.read([kept])
    assert len(kept.heat) == 2


def test_where_it_cannot_be_written_that_is_told_once_and_the_last_one_stays(
    site: Site, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    place = tmp_path / "place"
    file = HeatFile(str(place / "heat"))
    assert "is no directory that may be written" in file.fault()
    file.write([site])
    file.write([site])
    place.mkdir()
    file.write([site])
    (place / "heat.new").mkdir()
    file.write([site])
    told = [line for line in caplog.messages if "cannot be written" in line]
    assert len(told) == 2
    assert sorted(os.listdir(place)) == ["heat", "heat.new"]
    assert HeatFile(str(place)).fault() == "it is a directory"
