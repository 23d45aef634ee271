"""A release from a source to a folder: complete, or not there; and what a run moves, keeps and names."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from tests.support.listed import Listing, on_disk, read_files, write_files
from zcserve.fleet import fetching
from zcserve.fleet import folders as folders_module
from zcserve.fleet.below import Below, Segments
from zcserve.fleet.fetching import FAILURES_MAX, DiskFullError, Fetch, Fetched, FetchError, Progress
from zcserve.fleet.folders import TOUCHED, FolderError, Folders
from zcserve.fleet.pacing import TokenBucket
from zcserve.fleet.part import Content, holds
from zcserve.fleet.receiving import CancelledError, Pace
from zcserve.fleet.sharing import COPY, Sharer
from zcserve.fleet.sources.directory import DirectorySource
from zcserve.fleet.sources.source import Opened
from zcserve.fleet.touched import passed_ns

CHECKOUT = Path(__file__).parents[2]
FILES = {
    "/index.html": b"<h1>one</h1>",
    "/a/b.css": b"body {}" * 1000,
    "/a/b.css.br": b"\x8b\x03\x80",
    "/a/with%20space": b"space",
    "/a/100%25": b"percent",
    "/%ff%fe": b"not UTF-8",
    "/empty": b"",
    "/same": b"body {}" * 1000,
}


def fetch(
    tmp_path: Path,
    contents: Mapping[str, bytes],
    source: Mapping[str, bytes] | None = None,
    pace: Pace | None = None,
    on_progress: Callable[[Progress], object] = lambda _: None,
    listing: Listing | None = None,
) -> Fetched:
    """Contents by way of a directory, which has others where `source` says so."""
    shutil.rmtree(tmp_path / "source", ignore_errors=True)
    (tmp_path / "source").mkdir()
    write_files(tmp_path / "source", contents if source is None else source)
    return Fetch(
        listing or Listing.of(contents),
        DirectorySource(str(tmp_path / "source")),
        Folders(tmp_path / "releases"),
        read=Listing.parse,
        pace=pace,
        parallel=2,
        on_progress=on_progress,
    ).run()


def visible(tmp_path: Path) -> list[str]:
    return [name for name in os.listdir(tmp_path / "releases") if not name.startswith(".")]


def test_a_release_comes_whole_with_names_of_all_kinds(tmp_path: Path) -> None:
    told: list[Progress] = []
    done = fetch(tmp_path, FILES, on_progress=told.append)
    folder = tmp_path / "releases" / done.release.tree
    assert read_files(folder) == on_disk(FILES)
    assert {path.stat().st_mode & 0o777 for path in folder.rglob("*") if path.is_file()} == {0o644}
    # Of two files with one content one comes; an empty one does not come at all.
    assert done.moved == sum(map(len, FILES.values())) - len(FILES["/same"])
    assert [now.kind for now in told if now.kind != "bytes"] == ["begin", *["received"] * 6, "complete"]
    assert (told[-1].files_done, told[-1].bytes_done) == (len(FILES), sum(map(len, FILES.values())))
    assert fetch(tmp_path, FILES, {}).moved == 0


def test_what_did_not_change_is_linked(tmp_path: Path) -> None:
    old = fetch(tmp_path, FILES)
    new = fetch(tmp_path, FILES | {"/index.html": b"<h1>two</h1>", "/a/moved": FILES["/a/b.css.br"]})
    assert (new.moved, new.shared) == (12, {"linked": 8})
    assert read_files(tmp_path / "releases" / old.release.tree) == on_disk(FILES)


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The files of complete releases that are read, since they may not be what they were."""
    told: list[str] = []

    def tell(below: Below, place: Segments, content: Content) -> bool:
        told.append(os.fsdecode(b"/".join(place)))
        return holds(below, place, content)

    for module in (fetching, folders_module):
        monkeypatch.setattr(module, "holds", tell)
    return told


@pytest.mark.parametrize("dated_back", [False, True])
def test_a_file_of_a_release_that_was_written_is_not_taken_over(
    tmp_path: Path, read: list[str], dated_back: bool
) -> None:
    """Nor is that release gone back to, if its file was dated back or not."""
    old = fetch(tmp_path, FILES)
    file = tmp_path / "releases" / old.release.tree / "a" / "b.css"
    passed(tmp_path)
    mtime_ns = file.stat().st_mtime_ns
    with open(file, "r+b") as opened:
        opened.write(b"BODY")
    if dated_back:
        os.utime(file, ns=(mtime_ns, mtime_ns))
    contents = FILES | {"/index.html": b"<h1>two</h1>"}
    new = fetch(tmp_path, contents)
    assert read_files(tmp_path / "releases" / new.release.tree) == on_disk(contents)
    assert set(read) <= {"a/b.css", "same"}  # one file, of which the release has two names
    again = fetch(tmp_path, FILES)
    assert again.release.tree == old.release.tree
    assert read_files(tmp_path / "releases" / old.release.tree) == on_disk(FILES)


def test_what_links_and_removals_have_changed_of_a_file_makes_it_not_doubtful(tmp_path: Path, read: list[str]) -> None:
    """Releases that share all but one file come and go, and none of these is read, nor where one is gone back to."""
    trees = []
    for number in range(4):
        trees.append(fetch(tmp_path, FILES | {"/index.html": b"%d" % number}).release.tree)
        passed(tmp_path)
        Folders(tmp_path / "releases").collect(1, float("inf"), never=trees[-1:])
        passed(tmp_path)
    back = fetch(tmp_path, FILES | {"/index.html": b"2"})
    assert (back.moved, back.release.tree) == (0, trees[2])
    assert read == []
    (tmp_path / "releases" / TOUCHED).unlink()  # then each is read that was linked, once
    fetch(tmp_path, FILES | {"/index.html": b"new"})
    assert len(read) == len(FILES) - 2  # one is new, and two are one file
    read.clear()
    fetch(tmp_path, FILES | {"/index.html": b"another"})
    assert read == []


def passed(tmp_path: Path) -> None:
    """What comes next has a later ctime than what was."""
    clock = os.open(tmp_path, os.O_RDONLY)
    passed_ns(clock)
    os.close(clock)


@pytest.mark.parametrize("fault", ["removed", "written", "a symlink"])
def test_a_release_that_is_wanted_again_is_looked_at_and_made_anew_where_a_file_is_not_what_it_was(
    tmp_path: Path, fault: str
) -> None:
    first = fetch(tmp_path, FILES)
    folder = tmp_path / "releases" / first.release.tree
    (folder / "index.html").unlink()
    if fault == "written":
        (folder / "index.html").write_bytes(b"<h1>ONE</h1>")
        later = first.release.complete_ns + 10**9
        os.utime(folder / "index.html", ns=(later, later))
    elif fault == "a symlink":
        (folder / "index.html").symlink_to("same")
    again = fetch(tmp_path, FILES)
    assert again.release.tree == first.release.tree
    assert read_files(folder) == on_disk(FILES)


def test_a_sibling_is_never_older_than_its_file(tmp_path: Path) -> None:
    """A server takes none that is: the clock was an hour ahead, or a file of the last release was written by hand."""
    old = {"/a.css": b"a" * 1000, "/b.css": b"b" * 1000, "/b.css.br": b"coded", "/c.css": b"c", "/d.css.gz": b"alone"}
    folder = tmp_path / "releases" / fetch(tmp_path, old).release.tree
    later_ns = (folder / "a.css").stat().st_mtime_ns + 3600 * 10**9
    os.utime(folder / "a.css", ns=(later_ns, later_ns))
    (folder / "b.css").unlink()
    (folder / "b.css").write_bytes(b"by hand")
    contents = old | {"/a.css.br": b"new", "/a.css.gz": b"new, too"}
    told: list[Progress] = []
    new = fetch(tmp_path, contents, on_progress=told.append)
    folder = tmp_path / "releases" / new.release.tree
    assert read_files(folder) == on_disk(contents)
    for base in ("a.css", "b.css"):
        times = {path.stat().st_mtime_ns for path in folder.glob(f"{base}*")}
        assert len(times) == 1
    assert new.moved == sum(len(contents[path]) for path in contents if path[1] in "ab")
    assert (told[-1].files_done, told[-1].bytes_done) == (len(contents), sum(map(len, contents.values())))
    assert (folder / "c.css").stat().st_nlink == 2


def test_a_release_whose_manifest_cannot_be_read_gives_nothing(tmp_path: Path) -> None:
    def refuse(data: bytes) -> Listing:
        raise FetchError("of a later version")

    fetch(tmp_path, FILES)
    contents = FILES | {"/index.html": b"<h1>two</h1>"}
    folders = Folders(tmp_path / "releases")
    write_files(tmp_path / "source", contents)
    done = Fetch(Listing.of(contents), DirectorySource(str(tmp_path / "source")), folders, read=refuse).run()
    assert done.shared == {}
    assert read_files(tmp_path / "releases" / done.release.tree) == on_disk(contents)


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["../a"], "has a segment that is empty, . or .."),
        (["a", "a/b"], "/a and /a/b cannot both be there"),
        (["a//b"], "has a segment that is empty"),
    ],
)
def test_a_manifest_with_names_that_cannot_be_is_refused_before_anything_comes(
    names: list[str], said: str, tmp_path: Path
) -> None:
    listing = Listing(dict.fromkeys(names, (1, "0" * 64)))
    with pytest.raises(FetchError, match=r"^the manifest is refused: ") as caught:
        fetch(tmp_path, {}, listing=listing)
    assert said in str(caught.value)
    assert os.listdir(tmp_path / "releases") == []
    listing.tree = "../../etc"
    listing.files = {}
    with pytest.raises(FolderError, match="is not the digest of a release"):
        fetch(tmp_path, {}, listing=listing)


@pytest.mark.parametrize("fault", [IndexError, ValueError])
def test_a_fault_of_a_source_makes_nothing_visible(
    fault: type[Exception], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(self: DirectorySource, path: str, start: int, version: str = "") -> Opened:
        raise fault("of the source's own code")

    monkeypatch.setattr(DirectorySource, "open", broken)
    with pytest.raises(fault, match="own code"):
        fetch(tmp_path, FILES)
    assert visible(tmp_path) == []


def test_each_file_that_fails_is_named_and_many_end_the_run(tmp_path: Path) -> None:
    contents = {f"/{number}": b"%d" % number for number in range(4 * FAILURES_MAX)}
    with pytest.raises(FetchError, match=r"is not there \(1 other file failed, too\)$") as caught:
        fetch(tmp_path, {"/1": b"x", "/2": b"y!", "/3": b"z!!"}, {"/2": b"y!"})
    assert caught.value.failures == {"/1": "is not there", "/3": "is not there"}
    with pytest.raises(FetchError, match="other files failed, too") as caught:
        fetch(tmp_path, contents, {})
    assert FAILURES_MAX <= len(caught.value.failures) <= FAILURES_MAX + 1
    assert visible(tmp_path) == []


# --- a run that ends early ------------------------------------------------------------------------------------

KILLED = """\
import os, signal, sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from tests.support.listed import Listing
from zcserve.fleet.fetching import Fetch
from zcserve.fleet.folders import Folders
from zcserve.fleet.sources.directory import DirectorySource
from zcserve.fleet.sources.source import Opened

def die(now):
    if now.moved > int(sys.argv[3]):
        os.kill(os.getpid(), signal.SIGKILL)

base = Path(sys.argv[2])
listing = Listing.parse((base / "listing").read_bytes())
Fetch(listing, DirectorySource(str(base / "source")), Folders(base / "releases"), read=Listing.parse, parallel=1,
      on_progress=die).run()
"""


def test_a_run_that_was_killed_goes_on_where_it_was(tmp_path: Path) -> None:
    contents = {"/first": os.urandom(1 << 20), "/second": os.urandom(900_000), "/small": b"small"}
    write_files(tmp_path / "source", contents)
    (tmp_path / "listing").write_bytes(Listing.of(contents).to_bytes())
    command = [sys.executable, "-c", KILLED, str(CHECKOUT), str(tmp_path), "1500000"]
    assert subprocess.run(command, check=False, timeout=60).returncode == -signal.SIGKILL
    assert visible(tmp_path) == []
    done = fetch(tmp_path, contents)
    assert read_files(tmp_path / "releases" / done.release.tree) == on_disk(contents)
    # The first file was there, and the beginning of the second.
    assert done.moved <= (1 << 20) + 900_005 - 1_500_000
    assert not [name for name in os.listdir(tmp_path / "releases") if name.startswith(".part-")]


def test_a_run_that_is_cancelled_leaves_what_has_come(tmp_path: Path) -> None:
    pace = Pace()
    with pytest.raises(CancelledError):
        fetch(tmp_path, FILES, pace=pace, on_progress=lambda now: now.bytes_done >= 14_000 and pace.cancelled.set())
    assert visible(tmp_path) == []
    told: list[Progress] = []
    assert fetch(tmp_path, FILES, on_progress=told.append).moved < 7000
    assert [now.kind for now in told[:2]] == ["begin", "kept"]


def test_a_run_that_waits_for_a_slow_rate_is_cancelled_at_once(tmp_path: Path) -> None:
    pace = Pace(rate=TokenBucket(0.001, burst=1.0))
    threading.Timer(0.05, pace.cancelled.set).start()
    with pytest.raises(CancelledError):
        fetch(tmp_path, FILES, pace=pace)


def test_a_collection_in_the_middle_takes_nothing_from_a_run(tmp_path: Path) -> None:
    fetch(tmp_path, FILES)
    contents = FILES | {"/index.html": b"<h1>two</h1>"}
    gone: list[str] = []

    def collect(now: Progress) -> None:
        if now.kind == "begin":
            gone.extend(Folders(tmp_path / "releases").collect(0, -1e9))

    done = fetch(tmp_path, contents, on_progress=collect)
    assert len(gone) == 1
    assert read_files(tmp_path / "releases" / done.release.tree) == on_disk(contents)


# --- a disk that is full --------------------------------------------------------------------------------------


def test_a_disk_without_room_is_told_before_anything_comes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.statvfs(tmp_path)
    fields = [*real]
    fields[3] = fields[4] = 0  # f_bfree, f_bavail
    with monkeypatch.context() as patch:
        patch.setattr(os, "statvfs", lambda _: os.statvfs_result(fields))
        with pytest.raises(DiskFullError, match=r"there is no room: 6\.9 KiB are to come, 0 B are free"):
            fetch(tmp_path, FILES)
    assert fetch(tmp_path, FILES).files == len(FILES)


FULL = """\
import resource, sys
sys.path.insert(0, sys.argv[1])
from tests.support.listed import Listing
from zcserve.fleet.fetching import DiskFullError, Fetch
from zcserve.fleet.folders import Folders
from zcserve.fleet.sources.directory import DirectorySource
from zcserve.fleet.sources.source import Opened
from pathlib import Path

base = Path(sys.argv[2])
listing = Listing.parse((base / "listing").read_bytes())
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))
try:
    Fetch(listing, DirectorySource(str(base / "source")), Folders(base / "releases"), read=Listing.parse).run()
except DiskFullError as error:
    print(error)
"""


def test_a_disk_that_becomes_full_is_one_error_and_a_later_run_goes_on(tmp_path: Path) -> None:
    contents = {"/big": os.urandom(300_000), "/small": b"small"}
    write_files(tmp_path / "source", contents)
    (tmp_path / "listing").write_bytes(Listing.of(contents).to_bytes())
    command = [sys.executable, "-c", FULL, str(CHECKOUT), str(tmp_path)]
    said = subprocess.run(command, check=True, timeout=60, capture_output=True, text=True).stdout
    assert "File too large: " in said
    assert "of the release are not there yet" in said
    assert said.count("\n") == 1
    assert visible(tmp_path) == []
    done = fetch(tmp_path, contents)
    assert read_files(tmp_path / "releases" / done.release.tree) == on_disk(contents)
    assert done.moved <= 200_005


# --- a release of which little has changed -------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["linked", COPY])
def test_one_file_in_a_hundred_has_changed_and_little_more_is_moved(
    way: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    count = 300  # with 10,000 the links take 0.1 s, and the files of this test 5 s
    if way == COPY:
        monkeypatch.setattr("zcserve.fleet.fetching.Sharer", lambda: Sharer((COPY,)))
    contents = {f"/{number % 10}/{number}": b"%d" % number * 20 for number in range(count)}
    fetch(tmp_path, contents)
    changed = {path: b"!" + what for path, what in [*contents.items()][:: count // 3]}
    done = fetch(tmp_path, contents | changed, changed)  # the source has no other file
    assert done.moved == sum(map(len, changed.values()))
    assert done.shared == {way: count - len(changed)}
