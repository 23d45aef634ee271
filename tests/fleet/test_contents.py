"""The files of a root, read in threads."""

from __future__ import annotations

import hashlib
import os
import threading
import time
from pathlib import Path

import pytest

from tests.support.site import Site
from zcserve.cache.naming import path_of
from zcserve.cache.tags import PIECE_BYTES, tag_of
from zcserve.config.table import Config
from zcserve.fleet.contents import Contents, in_threads
from zcserve.fleet.manifest import Encoding, ManifestError


def read(root: Path, **config: object) -> tuple[dict[bytes, Encoding], Contents]:
    found = Contents(Config(root=root, **config))  # type: ignore[arg-type]
    return {path_of(entry): content for entry, content in found.read(lambda done, total: None).items()}, found


def test_every_file_is_there_with_its_digests(site: Site) -> None:
    written = {b"a": b"", b"d/b c": b"x", b"d/large": bytes(PIECE_BYTES + 1), b"d/\xe9": b"y", b"_headers": b"/*\n"}
    for path, content in written.items():
        site.write(os.fsdecode(path), content)
    for n in range(200):
        site.write(f"many/{n}", b"%d" % n)
        written[b"many/%d" % n] = b"%d" % n
    found, looked = read(site.root)
    assert found == {
        path: Encoding(len(content), hashlib.sha256(content).hexdigest(), tag_of(content).decode())
        for path, content in written.items()
    }
    assert looked.problems == []


def test_progress_ends_with_all(site: Site) -> None:
    for n in range(150):
        site.write(f"{n % 2}/{n}", b"x")
    told: list[tuple[int, int]] = []
    Contents(Config(root=site.root)).read(lambda done, total: told.append((done, total)))
    assert told[-1] == (150, 150)
    assert told == sorted(told)


def test_what_is_too_large_to_hash_has_no_tag(site: Site) -> None:
    site.write("a", b"xx")
    assert read(site.root, hash_bytes_max=1)[0][b"a"] == Encoding(2, hashlib.sha256(b"xx").hexdigest(), "")


def test_what_cannot_be_served_is_a_problem_by_name(site: Site) -> None:
    site.write("a")
    (site.root / "out").symlink_to("/etc/hostname")
    os.mkfifo(site.root / "pipe")
    found, looked = read(site.root)
    assert found.keys() == {b"a"}
    assert [problem.path for problem in looked.problems] == ["out", "pipe"]


def test_a_file_that_goes_is_a_problem_and_one_that_changes_an_error(site: Site) -> None:
    site.write("gone")
    site.write("changed", b"old", mtime=1)
    looked = Contents(Config(root=site.root))
    (site.root / "gone").unlink()
    looked.read(lambda done, total: None)
    assert [(problem.path, problem.why) for problem in looked.problems] == [("gone", "No such file or directory")]
    looked = Contents(Config(root=site.root))
    site.write("changed", b"newer")
    with pytest.raises(ManifestError, match="changed: it changes while it is read"):
        looked.read(lambda done, total: None)


def test_a_sibling_that_is_older_than_its_file_is_no_problem_here(site: Site) -> None:
    site.write("a.css", b"p {}", mtime=2000)
    site.write("a.css.gz", b"x", mtime=1000)
    found, looked = read(site.root)
    assert found.keys() == {b"a.css", b"a.css.gz"}
    assert looked.problems == []


def test_when_one_job_fails_those_behind_it_do_not_begin() -> None:
    begun = []

    def work(number: int) -> int:
        begun.append(number)
        time.sleep(0.005 if number > 2 else 0)
        return 1 // number

    with pytest.raises(ZeroDivisionError):
        list(in_threads(work, [1, 0, *range(3, 2000)]))
    assert len(begun) < 1000  # some few
    assert list(in_threads(work, [1, 2])) == [(1, 1), (2, 0)]
    assert list(in_threads(work, [])) == []


def test_without_threads_it_is_done_by_the_caller(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_thread(*_: object) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", no_thread)
    assert list(in_threads(lambda number: number + 1, [1, 2])) == [(1, 2), (2, 3)]
