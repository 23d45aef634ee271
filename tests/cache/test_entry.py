"""Identity, and the three kinds of body: where each keeps its bytes, and how long."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.trees import content_of, noise, rewrite
from zcserve.cache.entry import (
    Body,
    DiskSpan,
    InPlace,
    Look,
    OnDisk,
    OpenFile,
    Packed,
    Paged,
    Span,
    identity_of,
)
from zcserve.cache.pages import Pages
from zcserve.cache.slab import Slabs

Make = Callable[[bytes], Body]

HEAD = b"ETag: x\r\n\r\n"
STATUS = {"st_ino": 3, "st_dev": 4, "st_size": 5, "st_mtime_ns": 6, "st_ctime_ns": 7}
OTHER_STATUS = {"st_mode": 0o644, "st_nlink": 1, "st_uid": 0, "st_gid": 0, "st_atime_ns": 8}


class Status:
    """What `identity_of` looks at, and what it must not look at."""

    def __init__(self, **changed: int) -> None:
        self.__dict__.update(STATUS | OTHER_STATUS | changed)


def identity(**changed: int) -> bytes:
    return identity_of(Status(**changed))  # type: ignore[arg-type]


@pytest.mark.parametrize("name", STATUS)
def test_any_of_the_five_makes_another_identity(name: str) -> None:
    assert identity(**{name: 99}) != identity()


@pytest.mark.parametrize("name", OTHER_STATUS)
def test_nothing_else_does(name: str) -> None:
    assert identity(**{name: 99}) == identity()


@pytest.mark.parametrize("changed", [{"st_mtime_ns": -1}, {"st_ino": 2**64 - 1}, {"st_size": 2**62}])
def test_extreme_values_have_an_identity(changed: dict[str, int]) -> None:
    assert identity(**changed) != identity()


def test_a_time_after_2262_has_an_identity() -> None:
    assert identity(st_mtime_ns=2**63) != identity()


def test_a_real_files_identity_is_of_its_content(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"one")
    before = identity_of(path.stat())
    assert identity_of(path.stat()) == before
    rewrite(path, b"two")
    assert identity_of(path.stat()) != before


def opened(path: Path) -> OpenFile:
    fd = os.open(path, os.O_RDONLY)
    return OpenFile(fd, identity_of(os.fstat(fd)))


def test_an_open_file_is_closed_with_its_last_reference(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x")
    file = opened(tmp_path / "a")
    link = f"/proc/self/fd/{file.fd}"
    span = DiskSpan(file, 0, 1)
    del file
    assert os.readlink(link) == str(tmp_path / "a")
    del span
    assert not os.path.lexists(link) or os.readlink(link) != str(tmp_path / "a")


def test_an_open_file_knows_whether_it_changed(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"one")
    file = opened(path)
    assert file.look() is Look.SAME
    rewrite(path, b"two")
    assert file.look() is Look.CHANGED


@pytest.mark.parametrize("how", ["replaced", "deleted"])
def test_losing_its_name_leaves_an_open_file_whole(tmp_path: Path, how: str) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"one")
    file = opened(path)
    if how == "replaced":
        (tmp_path / "b").write_bytes(b"two")
        (tmp_path / "b").rename(path)
    else:
        path.unlink()
    assert file.look() is Look.SAME
    assert file.look() is Look.SAME


def test_writing_after_losing_its_name_does_not(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"one")
    file = opened(path)
    with path.open("r+b") as writer:
        path.unlink()
        assert file.look() is Look.SAME
        os.utime(writer.fileno(), ns=(1, 1))
        assert file.look() is Look.CHANGED


def test_writing_in_place_does_not_leave_it_whole(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"one")
    file = opened(path)
    rewrite(path, b"two")
    assert file.look() is Look.CHANGED


def test_replacing_a_file_by_rename_leaves_the_open_one_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"one")
    file = opened(path)
    path.rename(tmp_path / "b")
    path.write_bytes(b"two")
    assert os.pread(file.fd, 10, 0) == b"one"


# --- bodies -----------------------------------------------------------------------------------------------


def packed(content: bytes) -> Packed:
    (body,) = Slabs(1 << 20).write([(HEAD, content)], Packed)
    return body


def on_disk(path: Path, content: bytes) -> OnDisk:
    path.write_bytes(content)
    return OnDisk(HEAD, opened(path), len(content))


def paged(pages: Pages, content: bytes) -> Paged:
    extent = pages.allocate(len(content) or 1)
    os.pwrite(pages.fd, content, extent.offset)
    return Paged(HEAD, pages.fd, extent.offset, len(content), extent)


@pytest.fixture(params=["packed", "paged", "on disk"])
def kind(request: pytest.FixtureRequest) -> str:
    assert isinstance(request.param, str)
    return request.param


@pytest.fixture
def pages() -> Iterator[Pages]:
    made = Pages()
    yield made
    made.close()


@pytest.fixture
def make(kind: str, tmp_path: Path, pages: Pages) -> Make:
    """Make a body of the kind that the test is about, with this content."""

    def make(content: bytes) -> Body:
        if kind == "packed":
            return packed(content)
        return paged(pages, content) if kind == "paged" else on_disk(tmp_path / "a", content)

    return make


def bytes_of(segment: object) -> bytes:
    if isinstance(segment, Span):
        return os.pread(segment.fd, segment.length, segment.offset)
    if isinstance(segment, DiskSpan):
        return os.pread(segment.file.fd, segment.length, segment.offset)
    assert isinstance(segment, bytes | memoryview)
    return bytes(segment)


@pytest.mark.parametrize("size", [1, 100, 20_000])
def test_a_body_is_its_head_and_its_content(make: Make, size: int) -> None:
    body = make(noise(size))
    assert body.size == size
    assert body.pins == 0
    assert bytes(body.head()) == HEAD
    assert content_of(body) == noise(size)
    assert b"".join(map(bytes_of, body.whole())) == HEAD + noise(size)


@pytest.mark.parametrize(("start", "stop"), [(0, 1), (0, 5000), (1, 4097), (4096, 5000), (4999, 5000)])
def test_any_part_of_a_body_can_be_had(make: Make, start: int, stop: int) -> None:
    body = make(noise(5000))
    assert bytes_of(body.part(start, stop)) == noise(5000)[start:stop]


def test_an_empty_body_is_only_its_head(make: Make) -> None:
    body = make(b"")
    assert [bytes_of(segment) for segment in body.whole()] == [HEAD]


def test_the_whole_is_laid_out_once(make: Make) -> None:
    body = make(noise(100))
    assert body.whole() is body.whole()


def test_only_a_packed_body_is_sent_by_copy(make: Make, kind: str) -> None:
    assert make(b"x").copied == (kind == "packed")


def test_a_packed_body_is_one_buffer() -> None:
    assert len(packed(b"content").whole()) == 1


def test_a_packed_body_is_its_own_block_and_has_no_room_for_more() -> None:
    body = packed(b"content")
    assert body.block is body
    assert bytes(body.block.view()) == HEAD + b"content"
    assert not hasattr(body, "__dict__")


def test_a_reference_to_a_body_holds_its_memory() -> None:
    slabs = Slabs(1 << 20)
    (body,) = slabs.write([(HEAD, noise(3000))], Packed)
    slabs.reclaim()
    others = slabs.write([(HEAD, bytes(3000))], Packed)
    assert content_of(body) == noise(3000)
    taken = slabs.live
    del body
    slabs.reclaim()
    assert slabs.live == taken / 2
    assert len(others) == 1


def test_a_body_tells_whether_a_descriptor_is_open_for_it_alone(tmp_path: Path, pages: Pages) -> None:
    assert not paged(pages, b"x").holds_descriptor
    (tmp_path / "a").write_bytes(b"x")
    file = opened(tmp_path / "a")
    assert InPlace(HEAD, file, 1).holds_descriptor
