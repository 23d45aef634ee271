"""Whatever is written, prepared, dropped, purged and flipped to: each path has what its release had, by the order in
which generations are asked, nothing is lost by a flip, and nothing of what is gone stays in memory."""

from __future__ import annotations

import contextlib
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("hypothesis")
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.contents import Shown
from zcserve.cache.entry import Entry, representations
from zcserve.cache.reading import ChangedError
from zcserve.content.preparing import Preparation
from zcserve.content.purging import Aim

EXAMPLES = int(os.environ.get("ZCSERVE_SOAK_EXAMPLES", "10"))
NAMES = ("index.html", "a.css", "a.css.gz", "b.js", "d/c.js", "d/index.html")
DIRECTORIES = ("1", "2", "3")

directory, name = st.sampled_from(DIRECTORIES), st.sampled_from(NAMES)
steps = st.one_of(
    st.tuples(st.just("write"), directory, name, st.binary(min_size=1, max_size=3)),
    st.tuples(st.just("link"), directory, directory, name),
    st.tuples(st.just("delete"), directory, name),
    st.tuples(st.just("prepare"), directory),
    st.tuples(st.just("drop")),
    st.tuples(st.just("flip"), directory),
    st.tuples(st.just("reload")),
    st.tuples(st.just("purge"), st.sampled_from(["hard", "soft", "early"])),
)


class World:
    """Three directories, a root that leads to one, and what is to be known of them."""

    def __init__(self, path: Path) -> None:
        shutil.rmtree(path, ignore_errors=True)
        path.mkdir()
        self.path = path
        self.shown = Shown(path / "root", {"index.html": b"first"}, keep_generations=1)
        (path / "root").rename(path / "1")
        for other in DIRECTORIES[1:]:
            (path / other).mkdir()
        self.live = "1"
        self.prepared: tuple[str, dict[str, set[bytes | None]]] | None = None  # what each may have; None: nothing
        self._point("1")
        self._reload()

    def on_disk(self, where: str) -> dict[str, bytes]:
        files = {one: self.path / where / one for one in NAMES}
        return {one: file.read_bytes() for one, file in files.items() if file.exists()}

    def _point(self, where: str) -> None:
        (self.path / "aside").symlink_to(where)
        (self.path / "aside").rename(self.path / "root")

    def _reload(self) -> None:
        told: list[str] = []
        self.shown.releases.ask(told.append)
        assert self.shown.turn_until(lambda: told) == [""]

    def _prepare(self, where: str | None) -> Preparation:
        told: list[Preparation] = []
        self.shown.preparing.prepare(None if where is None else str(self.path / where), told.append)
        return self.shown.turn_until(lambda: told)[0]

    def settle(self) -> None:
        """What has changed of the live release is followed."""
        known: list[bool] = []
        self.shown.patches.when_known(lambda: known.append(True))
        self.shown.turn_until(lambda: known)

    # --- steps ------------------------------------------------------------------------------------------------

    def write(self, where: str, one: str, content: bytes) -> None:
        file = self.path / where / one
        file.parent.mkdir(exist_ok=True)
        aside = file.with_name(".aside")
        aside.write_bytes(content)
        aside.rename(file)

    def link(self, source: str, where: str, one: str) -> None:
        file = self.path / where / one
        if source != where and (self.path / source / one).exists():
            file.parent.mkdir(exist_ok=True)
            file.unlink(missing_ok=True)
            os.link(self.path / source / one, file)

    def delete(self, where: str, one: str) -> None:
        (self.path / where / one).unlink(missing_ok=True)

    def prepare(self, where: str) -> None:
        there = self.on_disk(where)
        told = self._prepare(where)
        assert (told.why, told.is_live) == ("", where == self.live)
        assert told.is_live or told.share == 1.0
        assert told.files == len(there) - (told.files == len(there) - 1 and "a.css.gz" in there)
        self.prepared = None if where == self.live else (where, {one: {there[one]} for one in there})

    def drop(self) -> None:
        self._prepare(None)
        self.prepared = None

    def flip(self, where: str) -> None:
        self._point(where)
        self._reload()
        self.live = where
        if self.prepared is not None and self.prepared[0] == where:
            self.prepared = None

    def reload(self) -> None:
        self._reload()

    def purge(self, how: str) -> None:
        self.shown.purge(Aim.prefix(b"/"), hard=how == "hard", is_early=how == "early")
        if self.prepared is not None and how != "hard":  # if it has something of its own, it is prepared again
            where, known = self.prepared
            there = self.on_disk(where)
            for one in {*known, *there}:
                known.setdefault(one, {None}).add(there.get(one))

    # --- what is true -----------------------------------------------------------------------------------------

    def check(self) -> None:
        self.settle()
        site, there = self.shown.site, self.on_disk(self.live)
        assert {self._name(key) for key in site.live.resources if not key.endswith(b"/d")} - {""} == {*there}
        assert (site.prepared is not None) == (self.prepared is not None)
        for one in NAMES:
            generation, resource = site.find(f"/{one}".encode())
            if one in there:
                assert generation is site.live
                assert self._content(generation, resource) == there[one]
            elif self.prepared is not None and one in self.prepared[1]:
                where, known = self.prepared
                if generation is not site.prepared:
                    resource = None
                with contextlib.suppress(ChangedError, OSError):
                    content = self._content(generation, resource) if resource is not None else None
                    assert content in {*known[one], self.on_disk(where).get(one)}
        resident = {
            id(each)
            for one in site.generations
            for entry in one.entries()
            for each in representations(entry)
            if each.body is not None
        }
        assert self.shown.store.resident == len(resident)
        if site.prepared is None:
            assert self.shown.store.overhead == site.live.index_bytes

    @staticmethod
    def _name(key: bytes) -> str:
        return key.decode()[1:] if not key.endswith(b"/") else key.decode()[1:] + "index.html"

    def _content(self, generation: Any, resource: object) -> bytes:
        assert isinstance(resource, Entry)
        return self.shown.loader.read(generation.root, resource)


@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(steps, min_size=3, max_size=12))
def test_each_path_has_what_its_release_had(tmp_path: Path, taken: list[tuple[Any, ...]]) -> None:
    world = World(tmp_path / "world")
    try:
        for step, *words in taken:
            getattr(world, step)(*words)
            world.check()
        world.drop()
        world.check()
    finally:
        world.shown.close()
