"""zcserve.servlets.remount: edits of Python files are heard of and gathered, and then applications are loaded anew."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.support.begun import Begun, open_descriptors
from tests.support.importing import Here, importing
from tests.support.waiting import WaitUntil, is_readable
from zcserve.cache import inotify
from zcserve.servlets import remount
from zcserve.servlets.remount import Edits, Remount

WITHIN_S = 20.0


# --- what the kernel tells --------------------------------------------------------------------------------------


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    directory = tmp_path / "watched"
    directory.mkdir()
    (directory / "module.py").write_text("N = 1\n")
    (directory / "page.html").write_text("page")
    return directory


@pytest.fixture
def edits(directory: Path) -> Iterator[Edits]:
    edits = Edits()
    assert edits.watch([str(directory)])
    yield edits
    edits.close()


TOLD: dict[str, Callable[[Path], object]] = {
    "written": lambda here: (here / "module.py").write_text("N = 2\n"),
    "made": lambda here: (here / "new.py").write_text(""),
    "removed": lambda here: (here / "module.py").unlink(),
    "moved here": lambda here: (here / "page.html").rename(here / "page.py"),
    "moved away": lambda here: (here / "module.py").rename(here.parent / "module.py"),
    "a package made": lambda here: (here / "package").mkdir(),
    "a directory made whose name has a dot": lambda here: (here / "v1.2").mkdir(),
    "written before another file": lambda here: [(here / name).write_text("") for name in ("module.py", "page.html")],
    "a package that is a symlink": lambda here: (here / "package").symlink_to(here.parent),
    "the directory itself moved": lambda here: here.rename(here.parent / "moved"),
    "the directory itself removed": lambda here: shutil.rmtree(here),
}
NOT_TOLD: dict[str, Callable[[Path], object]] = {
    "nothing": lambda here: None,
    "read": lambda here: (here / "module.py").read_text(),
    "another file": lambda here: (here / "page.html").write_text("new"),
    "an editor's own file": lambda here: (here / ".module.py").write_text(""),
    "a compiled file": lambda here: (here / "module.pyc").write_text(""),
    "Python's own directory": lambda here: (here / "__pycache__").mkdir(),
}


@pytest.mark.parametrize("change", TOLD.values(), ids=list(TOLD))
def test_what_may_be_an_edit_is_told_once(edits: Edits, directory: Path, change: Callable[[Path], object]) -> None:
    assert not edits.take()
    change(directory)
    assert is_readable(edits.fd)
    assert edits.take()
    assert not edits.take()


@pytest.mark.parametrize("change", NOT_TOLD.values(), ids=list(NOT_TOLD))
def test_what_is_no_edit_is_not_told(edits: Edits, directory: Path, change: Callable[[Path], object]) -> None:
    change(directory)
    assert not edits.take()
    assert not is_readable(edits.fd), "what it says is read all the same"


def test_more_than_one_read_gives_is_taken_together(edits: Edits, directory: Path) -> None:
    page, paper = directory / "page.html", directory / "paper.html"
    for _ in range(200):
        page.rename(paper)
        paper.rename(page)
    (directory / "new.py").write_text("")
    assert edits.take()
    assert not is_readable(edits.fd)


def test_a_directory_is_new_once_and_again_when_it_has_come_back(edits: Edits, directory: Path) -> None:
    other = directory / "other"
    assert not edits.watch([str(directory)])
    assert not edits.watch([str(directory), str(other)]), "what is not there cannot be watched"
    other.mkdir()
    assert edits.watch([str(directory), str(other)])
    assert edits.take()
    (other / "module.py").write_text("")
    assert edits.take()
    shutil.rmtree(other)
    assert edits.take()
    other.mkdir()
    assert edits.watch([str(other)])


def test_of_several_directories_that_are_new_each_is_watched(tmp_path: Path) -> None:
    edits, places = Edits(), [tmp_path / name for name in ("one", "two", "three")]
    for place in places:
        place.mkdir()
    assert edits.watch([str(place) for place in places])
    for place in places:
        (place / "module.py").write_text("")
        assert edits.take(), place
    edits.close()


def test_a_file_in_the_place_of_a_directory_is_not_watched(edits: Edits, directory: Path) -> None:
    assert not edits.watch([str(directory / "module.py")])
    assert edits.fd >= 0


def test_withoutinotify_that_is_said_and_nothing_is_told(
    directory: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse() -> int:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(inotify, "start", refuse)
    edits = Edits()
    assert not edits.watch([str(directory)])
    assert edits.fd == -1
    assert caplog.messages == ["mounts: edits are not seen (Too many open files): SIGHUP loads applications anew"]
    assert not edits.take()


def test_where_no_more_can_be_watched_the_descriptor_is_given_back(
    edits: Edits, directory: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(fd: int, of: int, mask: int) -> int:
        raise OSError(28, "No space left on device")

    before = open_descriptors()
    monkeypatch.setattr(inotify, "add_watch", refuse)
    assert not edits.watch([str(directory)])
    assert edits.fd == -1
    assert open_descriptors() == before - 1
    assert "No space left on device" in caplog.messages[0]


def test_to_close_twice_is_harmless(edits: Edits) -> None:
    edits.close()
    edits.close()
    assert edits.fd == -1
    assert not edits.take()


# --- when all is loaded anew ------------------------------------------------------------------------------------


class Loads:
    """Applications of one module, whose loads are counted."""

    def __init__(self, here: Here) -> None:
        self.here = here
        self.begun = 0
        self.count = 0  # that have ended
        self.retiring = 0  # how many times something is still to be retired
        self.retired = 0
        self.fails = False
        self.go = threading.Event()
        self.go.set()
        self.remount: Remount | None = None
        here.write("PKG.py", "N = 0\n")
        here.load()

    def begin(self, *, watches: bool = True) -> Remount:
        self.remount = Remount(self.here.imports, load=self._load, retire=self._retire, watches=watches)
        return self.remount

    def _load(self) -> str:
        self.begun += 1
        assert self.go.wait(WITHIN_S)
        with suppress(ImportError), self.here.imports.afresh():
            if self.fails:
                raise ImportError
            self.here.load()
        self.count += 1
        return f"load {self.count}"

    def _retire(self) -> bool:
        self.retired += 1
        self.retiring -= self.retiring > 0
        return self.retiring > 0

    def edit(self, number: int) -> None:
        """Write beside the file and then over it: it is never there by halves."""
        self.here.write("written.txt", f"N = {number}\n").rename(self.here.directory / f"{self.here.name}.py")

    def close(self) -> None:
        self.go.set()
        if self.remount is not None:
            self.remount.close()


@pytest.fixture
def loads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Loads]:
    monkeypatch.setattr(remount, "GATHER_S", 0.03)
    with importing(tmp_path, monkeypatch) as here:
        loads = Loads(here)
        yield loads
        loads.close()


@pytest.fixture
def at_rest(loads: Loads, wait_until: WaitUntil) -> Callable[[], None]:
    """Wait until the thread has nothing to do: what it is asked for comes behind all that it has heard of."""

    def rest() -> None:
        assert loads.remount is not None
        before = loads.retired
        loads.remount.look()
        wait_until(lambda: loads.retired > before)
        loads.remount.look()
        wait_until(lambda: loads.retired > before + 1)

    return rest


def test_an_edit_is_loaded(loads: Loads, at_rest: Callable[[], None], wait_until: WaitUntil) -> None:
    loads.begin()
    at_rest()
    assert loads.count == 0
    for number in (1, 2):
        loads.edit(number)
        wait_until(lambda number=number: loads.count >= number)
    at_rest()
    assert loads.count == 2
    assert loads.here.load().N == 2


def test_an_edit_that_was_made_before_it_was_watched_is_loaded(loads: Loads, wait_until: WaitUntil) -> None:
    loads.edit(1)
    loads.begin()
    wait_until(lambda: loads.count == 1)


def test_a_file_that_was_touched_is_what_was_loaded(loads: Loads, at_rest: Callable[[], None]) -> None:
    loads.begin()
    at_rest()
    loads.edit(0)
    loads.here.write("fresh_other.py", "")
    at_rest()
    assert loads.count == 0


class Clock:
    """What stands for time: it moves by hand."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


def test_many_edits_are_one_load_when_they_have_come_to_rest(
    loads: Loads, at_rest: Callable[[], None], wait_until: WaitUntil, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()
    monkeypatch.setattr("zcserve.servlets.remount.time", clock)

    def wait_and_see() -> bool:
        clock.now += remount.GATHER_S
        return loads.count > 0

    loads.begin()
    at_rest()
    for number in range(1, 6):
        loads.edit(number)
    assert loads.begun == 0, "no time has passed"
    wait_until(wait_and_see)
    at_rest()
    assert loads.count == 1
    assert loads.here.load().N == 5


def test_edits_without_an_end_are_loaded_as_they_are_by_then(loads: Loads, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remount, "GATHER_S", WITHIN_S)
    monkeypatch.setattr(remount, "GATHER_MAX_S", 0.05)
    loads.begin()
    number = 0
    while not loads.count:
        number += 1
        loads.edit(number)
        assert number < 100_000


def test_after_a_load_that_failed_whatever_comes_is_worth_another(
    loads: Loads, at_rest: Callable[[], None], wait_until: WaitUntil
) -> None:
    loads.fails = True
    loads.begin()
    loads.edit(1)
    wait_until(lambda: loads.count == 1)
    at_rest()
    assert loads.count == 1, "it is not tried again and again"
    loads.fails = False
    loads.here.write("fresh_other.py", "")
    wait_until(lambda: loads.count == 2)
    at_rest()
    loads.here.write("fresh_another.py", "")
    at_rest()
    assert loads.count == 2, "all is well again"


@pytest.mark.parametrize("watches", [True, False])
def test_what_is_asked_for_is_loaded_though_nothing_has_changed(
    loads: Loads, at_rest: Callable[[], None], wait_until: WaitUntil, watches: bool
) -> None:
    thread = loads.begin(watches=watches)
    at_rest()
    thread.ask()
    wait_until(lambda: loads.count == 1)
    at_rest()
    assert loads.count == 1


def test_what_is_asked_for_while_it_loads_is_loaded_behind_it(
    loads: Loads, at_rest: Callable[[], None], wait_until: WaitUntil
) -> None:
    loads.go.clear()
    thread = loads.begin()
    told: list[str] = []
    thread.ask(told.append)
    wait_until(lambda: loads.begun == 1)
    thread.ask(told.append)
    thread.ask(told.append)
    loads.go.set()
    wait_until(lambda: loads.count == 2)
    at_rest()
    assert loads.count == 2
    assert told == ["load 1", "load 2", "load 2"]


def test_without_watching_no_edit_is_loaded(loads: Loads, at_rest: Callable[[], None]) -> None:
    loads.begin(watches=False)
    at_rest()
    loads.edit(1)
    at_rest()
    assert loads.count == 0


def test_what_was_replaced_is_looked_at_until_it_has_ended(
    loads: Loads, wait_until: WaitUntil, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remount, "LOOK_S", 0.001)
    loads.retiring = 5
    thread = loads.begin()
    wait_until(lambda: loads.retired >= 5)
    loads.retiring = 3
    thread.look()
    wait_until(lambda: loads.retired >= 8)
    assert (loads.retired, loads.retiring) == (8, 0)


def running() -> bool:
    return any(thread.name == "zcserve-mounts" for thread in threading.enumerate())


def test_an_end_waits_for_a_load_and_nothing_is_loaded_behind_it(
    loads: Loads, wait_until: WaitUntil, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remount, "END_WITHIN_S", WITHIN_S)
    begun = Begun()
    loads.go.clear()
    thread = loads.begin()
    thread.ask()
    wait_until(lambda: loads.begun == 1)
    ends = threading.Thread(target=thread.close)
    ends.start()
    told: list[str] = []
    thread.ask(told.append)
    ends.join(0.05)
    assert ends.is_alive()
    loads.go.set()
    ends.join(WITHIN_S)
    assert not running()
    assert begun.left() == []
    thread.ask(told.append)
    assert told == ["", ""]
    thread.look()
    assert loads.begun == loads.count == 1


def test_an_end_leaves_a_load_that_hangs(loads: Loads, wait_until: WaitUntil, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remount, "END_WITHIN_S", 0.01)
    loads.go.clear()
    thread = loads.begin()
    thread.ask()
    wait_until(lambda: loads.begun == 1)
    thread.close()
    assert running()
    loads.go.set()
    wait_until(lambda: not running())
    assert loads.count == 1
