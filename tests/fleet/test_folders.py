"""Release folders: which are complete, which is served, which go; by several processes, and by ones that are killed."""

from __future__ import annotations

import os
import shutil
import threading
from pathlib import Path

import pytest

from tests.support.listed import Listing, read_files
from zcserve.errors import UsageError
from zcserve.fleet.fetching import Fetch
from zcserve.fleet.folders import TOUCHED, FolderError, Folders
from zcserve.fleet.sharing import Sharer
from zcserve.fleet.sources.source import Opened, SourceError

AGE_S = 1000.0


class Memory:
    """A source of contents in memory. `broken`: paths that do not come."""

    name = "memory"

    def __init__(self, contents: dict[str, bytes]) -> None:
        self.contents = contents
        self.broken: set[str] = set()

    def open(self, path: str, start: int, version: str) -> Opened:
        if path in self.broken:
            raise SourceError("is broken", retry=False)
        what = self.contents[path]
        return Opened(iter([what[start:]]), lambda: None, start, len(what))

    def close(self) -> None:
        pass


def make(folders: Folders, contents: dict[str, bytes], used_s: float | None = None) -> str:
    """A complete release of these contents; its digest."""
    tree = Fetch(Listing.of(contents), Memory(contents), folders, read=Listing.parse, parallel=1).run().release.tree
    if used_s is not None:
        os.utime(folders.path_of(tree), (used_s, used_s))
    return tree


@pytest.fixture
def folders(tmp_path: Path) -> Folders:
    return Folders(tmp_path)


def test_what_is_no_digest_is_refused(folders: Folders) -> None:
    for tree in ("", "..", "A" * 64, "0" * 63, "0" * 64 + "\n", f"{'0' * 63}/"):
        with pytest.raises(FolderError, match="is not the digest of a release"):
            folders.path_of(tree)


def test_a_folder_of_releases_that_cannot_be_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match=r"folder of releases .* cannot be used"):
        Folders(tmp_path / "file" / "releases")
    with pytest.raises(UsageError, match=r"folder of releases .* is a file; accepted: a directory"):
        Folders(tmp_path / "file")


def test_current_is_moved_to_complete_releases_alone(folders: Folders, tmp_path: Path) -> None:
    assert folders.current() is None
    first, second = (make(folders, {"/a": what}) for what in (b"1", b"2"))
    folders.point(first)
    assert (tmp_path / "current" / "a").read_bytes() == b"1"
    (tmp_path / ".current").symlink_to("a run that was killed has left it")
    folders.point(second)
    assert folders.current() == second
    assert (tmp_path / "current" / "a").read_bytes() == b"2"
    with pytest.raises(FolderError, match="no such complete release"):
        folders.point("f" * 64)
    assert folders.current() == second
    (tmp_path / "current").unlink()
    (tmp_path / "current").mkdir()
    with pytest.raises(FolderError, match="current is a directory; accepted: nothing, or a symlink"):
        folders.point(second)


def test_count_and_age_decide_and_never_what_is_served_or_kept(folders: Folders) -> None:
    trees = [make(folders, {"/a": b"%d" % number}, used_s=10_000 - number) for number in range(6)]
    folders.point(trees[5])
    assert folders.collect(2, AGE_S, never={trees[4]}, now_s=10_000) == [trees[2], trees[3]]
    # The first two are within the count; now the second one is too old. What is served or kept may be of any age.
    os.utime(folders.path_of(trees[1]), (1, 1))
    assert folders.collect(2, AGE_S, never={trees[4]}, now_s=10_000) == [trees[1]]
    assert {release.tree for release in folders.complete()} == {trees[0], trees[4], trees[5]}
    assert folders.collect(0, AGE_S) == [trees[0], trees[4]]
    assert sorted(os.listdir(folders.path)) == sorted([trees[5], f"{trees[5]}.json", "current", ".lock", ".touched"])


def test_a_list_of_spans_that_cannot_be_read_is_none_and_the_log_says_so(
    folders: Folders, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert folders.touched().spans == []
    for content, why in ((b"2\n1 2\n", "is of version b'2'"), (b"", "unpack"), (b"1\n1\n", "unpack")):
        (tmp_path / TOUCHED).write_bytes(content)
        assert folders.touched().spans == []
        assert f"{TOUCHED} cannot be used" in caplog.messages[-1]
        assert why in caplog.messages[-1]
    with folders.touching():
        pass
    assert len(folders.touched().spans) == 1


def test_use_makes_a_release_young(folders: Folders) -> None:
    old, new = make(folders, {"/a": b"1"}, used_s=1), make(folders, {"/a": b"2"}, used_s=2)
    assert make(folders, {"/a": b"1"}) == old  # fetched again: it is there
    assert folders.collect(1, float("inf")) == [new]


def test_a_manifest_of_the_same_files_takes_the_place_of_the_old_one(folders: Folders) -> None:
    tree = make(folders, {"/a": b"1"})
    complete_ns = folders.complete()[0].complete_ns
    again = Listing.of({"/a": b"1"}, sequence=9)
    assert folders.renew(again) is not None
    assert folders.manifest(tree) == again.to_bytes()
    assert folders.complete()[0].complete_ns == complete_ns


def test_what_runs_that_were_killed_have_left_is_removed_and_a_folder_without_a_manifest_made_anew(
    folders: Folders, tmp_path: Path
) -> None:
    tree = make(folders, {"/a": b"1"})
    (tmp_path / f"{tree}.json").unlink()
    (tmp_path / tree / "a").write_bytes(b"of whatever")
    for name in (f"{'1' * 64}.json", f".json-{tree}", "notes.json"):
        (tmp_path / name).write_text("{}")
    (tmp_path / f".gone-{tree}-1").mkdir()
    assert make(folders, {"/a": b"1"}) == tree
    assert (tmp_path / tree / "a").read_bytes() == b"1"
    assert folders.collect(1, AGE_S) == []
    assert sorted(os.listdir(tmp_path)) == sorted([".lock", ".touched", tree, f"{tree}.json", "notes.json"])


def test_a_part_is_of_one_run(folders: Folders) -> None:
    part = folders.begin("0" * 64)

    class StopError(Exception):
        pass

    def stop() -> None:
        raise StopError

    with pytest.raises(StopError):
        folders.begin("0" * 64, stop)
    folders.begin("1" * 64).close()
    part.close()
    folders.begin("0" * 64, stop).close()


def test_a_part_goes_when_it_is_old_and_no_run_makes_it(folders: Folders, tmp_path: Path) -> None:
    parts = [folders.begin(f"{number}" * 64) for number in range(4)]
    for part in parts[:3]:
        os.utime(part.path, (1, 1))
    for part in parts[1:]:
        part.close()
    assert folders.collect(0, AGE_S, never={"2" * 64}) == []
    left = {name for name in os.listdir(tmp_path) if name.startswith(".part-")}
    assert left == {f".part-{digit * 64}" for digit in "023"}  # locked, kept, young
    parts[0].close()


def test_two_runs_of_one_release_make_it_once(folders: Folders) -> None:
    contents = {f"/{number}": b"%d" % number * 1000 for number in range(50)}
    sources = [Memory(contents) for _ in range(4)]
    ends: list[object] = []

    def run(source: Memory) -> None:
        listing = Listing.of(contents)
        ends.append(Fetch(listing, source, Folders(folders.path), read=Listing.parse, parallel=2).run().moved)

    threads = [threading.Thread(target=run, args=(source,)) for source in sources]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(map(str, ends)) == sorted(["0", "0", "0", str(sum(map(len, contents.values())))])
    assert not [name for name in os.listdir(folders.path) if name.startswith(".part-")]


def test_whatever_happens_folders_are_complete_and_what_is_served_stays(tmp_path: Path) -> None:
    pytest.importorskip("hypothesis")
    from hypothesis import settings
    from hypothesis import strategies as st
    from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

    releases = [
        {"/same": b"same", "/a": b"1", "/b/c": b"x"},
        {"/same": b"same", "/a": b"2", "/b": b"c is a file now"},
        {"/same": b"same", "/moved": b"1"},
    ]
    numbers = st.integers(0, len(releases) - 1)

    class Node(RuleBasedStateMachine):
        """Runs that fail at some file, runs that are killed between two steps, collections and flips."""

        count = 0

        def __init__(self) -> None:
            super().__init__()
            Node.count += 1
            self.folders = Folders(tmp_path / f"{Node.count}")
            self.listings = [Listing.of(contents) for contents in releases]
            self.served: int | None = None
            self.spoilt: set[int] = set()

        @rule(number=numbers, broken=st.sampled_from(["", "/a", "/same", "/b/c"]))
        def fetch(self, number: int, broken: str) -> None:
            source = Memory(releases[number])
            source.broken = {broken}
            listing = self.listings[number]
            try:
                Fetch(listing, source, self.folders, read=Listing.parse, parallel=1).run()
            except Exception as error:
                assert str(error) == f"{broken}: is broken"  # noqa: PT017
                assert not self.folders.holds(listing.tree)
            else:
                assert self.folders.holds(listing.tree)

        @rule(number=numbers, steps=st.integers(0, 4))
        def is_killed(self, number: int, steps: int) -> None:
            """So many steps of a run, of which the last may have been in the middle."""
            listing = self.listings[number]
            if self.folders.holds(listing.tree):
                return
            part = self.folders.begin(listing.tree)
            path, what = next(iter(releases[number].items()))
            place = tuple(path[1:].encode().split(b"/"))
            if steps >= 1 and part.tree.status(place) is None:
                load = part.open_load(Listing.of({path: what}).files[path[1:]][1])
                load.restart()
                load.write(what if steps != 2 else b"???")
                if steps >= 3:
                    part.place(load, [place], Sharer())
                load.close()
            if steps == 4:
                Path(self.folders.path, f"{listing.tree}.json").write_bytes(listing.to_bytes())
            part.close()

        @rule(number=numbers)
        def flip(self, number: int) -> None:
            if self.folders.holds(self.listings[number].tree):
                self.folders.point(self.listings[number].tree)
                self.served = number

        @rule(keep=st.integers(0, 2), never=st.sets(numbers), old=st.booleans())
        def collect(self, keep: int, never: set[int], old: bool) -> None:
            kept = {self.listings[number].tree for number in never}
            before = {release.tree for release in self.folders.complete()}
            gone = set(self.folders.collect(keep, -1e12 if old else AGE_S, never=kept))
            after = {release.tree for release in self.folders.complete()}
            assert before - after == gone
            assert not gone & (kept | {self.folders.current()})
            assert old or len(gone) == max(0, len(before - kept - {self.folders.current()}) - keep)

        @precondition(lambda self: self.served is not None)
        @rule(which=st.sampled_from(["same", "a", "moved"]), dated_back=st.booleans())
        def is_written_in_place(self, which: str, dated_back: bool) -> None:
            """What none may do, in the release that is served: no other one may take it over."""
            assert self.served is not None
            file = Path(self.folders.path_of(self.listings[self.served].tree), which)
            if file.exists():
                mtime_ns = file.stat().st_mtime_ns
                file.unlink()
                file.write_bytes(releases[self.served][f"/{which}"][::-1])
                if dated_back:
                    os.utime(file, ns=(mtime_ns, mtime_ns))
                self.spoilt.add(self.served)

        @invariant()
        def a_folder_that_is_visible_is_whole(self) -> None:
            for number, listing in enumerate(self.listings):
                if not self.folders.holds(listing.tree):
                    self.spoilt.discard(number)
                elif number not in self.spoilt:
                    held = read_files(Path(self.folders.path_of(listing.tree)))
                    assert held == {path[1:]: what for path, what in releases[number].items()}
                    assert self.folders.manifest(listing.tree) == listing.to_bytes()

        @invariant()
        def what_is_served_is_there(self) -> None:
            if self.served is not None:
                assert self.folders.current() == self.listings[self.served].tree
                assert self.folders.holds(self.listings[self.served].tree)

    run_state_machine_as_test(Node, settings=settings(max_examples=15, stateful_step_count=12, deadline=None))


@pytest.mark.parametrize("how", ["deleted", "moved", "replaced", "deeper"])
def test_a_directory_that_is_gone_is_made_anew_and_used(tmp_path: Path, how: str) -> None:
    where = tmp_path / "above" / "releases"
    folders = Folders(where)
    assert not folders.find_again()
    make(folders, {"/a": b"one"})
    if how == "deleted":
        shutil.rmtree(where)
    elif how == "deeper":
        shutil.rmtree(tmp_path / "above")
    else:
        os.rename(where, tmp_path / "away")
        (where.mkdir if how == "replaced" else list)()
    assert folders.find_again()
    assert not folders.find_again()
    assert folders.complete() == []
    tree = make(folders, {"/a": b"one"})
    folders.point(tree)
    assert read_files(where / "current") == {"a": b"one"}


def test_a_directory_that_cannot_be_made_is_an_error_and_is_made_later(tmp_path: Path) -> None:
    folders = Folders(tmp_path / "releases")
    (tmp_path / "releases").rmdir()
    (tmp_path / "releases").write_bytes(b"a file")
    with pytest.raises(FileExistsError):
        folders.find_again()
    (tmp_path / "releases").unlink()
    assert folders.find_again()
