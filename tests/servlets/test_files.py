"""Files that an application names, as segments: the cache's memory where it has them, their descriptor else."""

from __future__ import annotations

import io
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.begun import open_descriptors
from tests.support.connection_side import bytes_of
from zcserve import Config
from zcserve.cache.entry import Entry, ForeignSpan, Span
from zcserve.cache.evictor import tick_at
from zcserve.cache.loader import Loader
from zcserve.cache.root import Root
from zcserve.cache.store import Store
from zcserve.cache.walk import walk
from zcserve.servlets.files import Part, segments
from zcserve.site.site import Site

CONTENT = bytes(range(256)) * 8


@pytest.fixture
def file(tmp_path: Path) -> Path:
    file = tmp_path / "file"
    file.write_bytes(CONTENT)
    return file


@pytest.mark.parametrize(
    ("offset", "count", "start", "stop"),
    [
        (0, None, 0, 2048),
        (0, 5, 0, 5),
        (2000, None, 2000, 2048),
        (2000, 1000, 2000, 2048),
        (2048, None, 2048, 2048),
        (9999, 5, 9999, 9999),
        (0, 0, 0, 0),
    ],
)
def test_a_part_ends_where_the_file_does(file: Path, offset: int, count: int | None, start: int, stop: int) -> None:
    with file.open("rb") as opened:
        part = Part.of_descriptor(opened, offset, count)
        by_number = Part.of_descriptor(opened.fileno(), offset, count)
    assert (part.offset, len(part)) == (start, stop - start) == (by_number.offset, len(by_number))
    assert bytes_of(part.span()) == CONTENT[start:stop]


def test_without_an_offset_a_part_begins_at_the_position_and_moves_it(file: Path) -> None:
    with file.open("rb") as opened:
        opened.read(10)
        first = Part.of_descriptor(opened, count=5)
        second = Part.of_descriptor(opened, count=5)
        assert (first.offset, second.offset, opened.tell()) == (10, 15, 20)
        os.lseek(opened.fileno(), 100, os.SEEK_SET)
        third = Part.of_descriptor(opened.fileno(), count=5)
        assert (third.offset, os.lseek(opened.fileno(), 0, os.SEEK_CUR)) == (100, 105)


def test_a_part_outlives_the_file_it_was_made_of(file: Path) -> None:
    with file.open("rb") as opened:
        part = Part.of_descriptor(opened)
    file.unlink()
    assert bytes_of(part.span()) == CONTENT


@pytest.mark.parametrize(
    ("file_of", "error"),
    [
        (lambda path: io.BytesIO(b"x"), OSError),  # io.UnsupportedOperation
        (lambda path: object(), AttributeError),
        (lambda path: -1, OSError),
    ],
)
def test_what_has_no_descriptor_is_an_error(file: Path, file_of: Callable[[Path], Any], error: type) -> None:
    with pytest.raises(error):
        Part.of_descriptor(file_of(file))


@pytest.mark.parametrize(("offset", "count"), [(-1, None), (0, -1)])
def test_a_negative_offset_or_count_is_an_error(file: Path, offset: int, count: int | None) -> None:
    with file.open("rb") as opened, pytest.raises(ValueError, match="negative"):
        Part.of_descriptor(opened, offset, count)


def test_what_is_no_regular_file_is_an_error_and_leaves_no_descriptor(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    before = open_descriptors()
    for path in (fifo, tmp_path, tmp_path / "absent"):
        with pytest.raises(OSError):  # noqa: PT011
            Part.of_path(path)
    assert open_descriptors() <= before  # a thread of another test may close its own meanwhile


# --- whose memory -----------------------------------------------------------------------------------------

LARGE = CONTENT * 64


class Known:
    """A root that was walked, and a loader for what was found."""

    def __init__(self, root: Path) -> None:
        config = Config(root=root)
        self.store = Store(
            config.memory, slab_bytes=config.slab_bytes, small_body_bytes_max=config.small_body_bytes_max
        )
        self.loader = Loader(self.store, config)
        self.site = Site(0, walk(Root(root), index=("index.html",)))

    def load(self, key: bytes) -> Entry:
        entry = self.site.live.resources[key]
        assert isinstance(entry, Entry)
        self.loader.load(self.site.root, entry)
        return entry


@pytest.fixture
def known(tmp_path: Path) -> Iterator[Known]:
    root = tmp_path / "root"
    (root / "a dir").mkdir(parents=True)
    (root / "a dir" / "small").write_bytes(CONTENT)
    (root / "large").write_bytes(LARGE)
    (root / "empty").write_bytes(b"")
    (root / "link").symlink_to("large")
    found = Known(root)
    yield found
    found.store.close()


@pytest.mark.parametrize(
    ("path", "key", "content"), [("a dir/small", b"/a%20dir/small", CONTENT), ("large", b"/large", LARGE)]
)
def test_a_file_of_the_site_is_sent_from_the_cache(known: Known, path: str, key: bytes, content: bytes) -> None:
    entry = known.load(key)
    uses = entry.uses
    part = Part.of_path(known.site.root.path + "/" + path)
    found, body = segments(known.site, part)
    assert body is entry.body
    assert b"".join(map(bytes_of, found)) == content
    assert not isinstance(found[0], ForeignSpan)
    assert entry.uses == uses + 1


class Listener:
    """A sampler that notes what is used, and when."""

    def __init__(self) -> None:
        self.heard: list[tuple[Entry, int]] = []

    def note(self, entry: Entry, tick: int, site: int) -> None:
        self.heard.append((entry, tick))


def test_a_file_that_an_application_sends_is_a_use_like_any_other(known: Known) -> None:
    entry = known.load(b"/large")
    known.site.sampler = listener = Listener()
    before = tick_at(time.monotonic())
    segments(known.site, Part.of_path(known.site.root.path + "/large"))
    assert listener.heard == [(entry, entry.tick)]
    assert before <= entry.tick <= tick_at(time.monotonic())


def test_a_range_of_a_file_of_the_site_is_a_part_of_its_body(known: Known) -> None:
    known.load(b"/large")
    with open(known.site.root.path + "/large", "rb") as opened:
        found, _ = segments(known.site, Part.of_descriptor(opened, 1000, 5000))
    (segment,) = found
    assert isinstance(segment, Span)
    assert bytes_of(segment) == LARGE[1000:6000]


def test_by_whatever_path_it_was_opened(known: Known) -> None:
    entry = known.load(b"/large")
    _, body = segments(known.site, Part.of_path(known.site.root.path + "/a dir/../link"))
    assert body is entry.body


def not_loaded(known: Known) -> str:
    return known.site.root.path + "/large"


def rewritten(known: Known) -> str:
    entry = known.load(b"/large")
    path = Path(known.site.root.path, "large")
    path.write_bytes(LARGE)
    os.utime(path, (1, 1))
    assert entry.body is not None
    return str(path)


def replaced(known: Known) -> str:
    known.load(b"/large")
    path = Path(known.site.root.path, "large")
    path.unlink()
    path.write_bytes(LARGE)
    return str(path)


def outside(known: Known) -> str:
    path = Path(known.site.root.path).parent / "large"
    path.write_bytes(LARGE)
    known.load(b"/large")
    return str(path)


def unknown(known: Known) -> str:
    path = Path(known.site.root.path, "new")
    path.write_bytes(LARGE)
    return str(path)


@pytest.mark.parametrize("file_of", [not_loaded, rewritten, replaced, outside, unknown])
def test_another_file_is_sent_from_its_descriptor(known: Known, file_of: Callable[[Known], str]) -> None:
    found, body = segments(known.site, Part.of_path(file_of(known)))
    assert body is None
    (segment,) = found
    assert isinstance(segment, ForeignSpan)
    assert bytes_of(segment) == LARGE


def test_of_nothing_there_are_no_segments(known: Known) -> None:
    known.load(b"/empty")
    assert segments(known.site, Part.of_path(known.site.root.path + "/empty")) == ((), None)
    assert segments(known.site, Part(os.open(known.site.root.path + "/large", os.O_RDONLY), 5, 0)) == (
        (),
        None,
    )


def test_a_part_closes_its_descriptor_when_it_is_not_sent(file: Path) -> None:
    part = Part.of_path(file)
    fd = part.file.fd
    segment = part.span()
    del part
    assert os.fstat(fd)
    del segment
    with pytest.raises(OSError):  # noqa: PT011
        os.fstat(fd)
