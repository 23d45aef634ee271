"""Pages: a real memfd, measured by the kernel."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator

import pytest

from tests.support.trees import descriptors, no_descriptors_left, noise
from zcserve.cache.memfd import PAGE_BYTES, round_up
from zcserve.cache.pages import Extent, Pages


@pytest.fixture
def pages() -> Iterator[Pages]:
    made = Pages()
    yield made
    made.close()


def written(pages: Pages, content: bytes) -> Extent:
    extent = pages.allocate(len(content))
    assert os.pwrite(pages.fd, content, extent.offset) == len(content)
    return extent


def test_extents_begin_on_pages_and_hold_what_is_written(pages: Pages) -> None:
    contents = [noise(length, length) for length in (1, PAGE_BYTES, PAGE_BYTES + 1, 100_000)]
    extents = [written(pages, content) for content in contents]
    assert [os.pread(pages.fd, extent.length, extent.offset) for extent in extents] == contents
    assert all(extent.offset % PAGE_BYTES == 0 for extent in extents)
    assert pages.committed == sum(round_up(len(content)) for content in contents)


def test_offsets_are_never_used_twice(pages: Pages) -> None:
    reached = 0
    for length in (5000, 1, 70_000, PAGE_BYTES, 5000) * 4:
        extent = pages.allocate(length)
        assert extent.offset >= reached
        reached = extent.offset + length
        del extent
        pages.reclaim()
    assert pages.committed == 0


def test_a_dead_extent_gives_its_memory_back_and_its_neighbours_keep_theirs(pages: Pages) -> None:
    contents = [noise(3 * PAGE_BYTES + 1, seed) for seed in range(3)]
    before, middle, after = (written(pages, content) for content in contents)
    assert pages.committed == os.fstat(pages.fd).st_blocks * 512 == 12 * PAGE_BYTES
    del middle
    assert pages.committed == 12 * PAGE_BYTES  # not reclaimed yet
    pages.reclaim()
    assert pages.committed == os.fstat(pages.fd).st_blocks * 512 == 8 * PAGE_BYTES
    assert os.pread(pages.fd, before.length, before.offset) == contents[0]
    assert os.pread(pages.fd, after.length, after.offset) == contents[2]


def test_the_pages_can_grow_and_cannot_be_cut(pages: Pages) -> None:
    extent = pages.allocate(10 * PAGE_BYTES)
    with pytest.raises(PermissionError):
        os.ftruncate(pages.fd, 0)
    assert os.fstat(pages.fd).st_size >= extent.offset + extent.length


def test_any_number_of_extents_costs_one_descriptor(pages: Pages) -> None:
    before = descriptors()
    extents = [written(pages, b"x" * 20_000) for _ in range(100)]
    assert descriptors() <= before
    assert len(extents) == 100


def tcp_pair() -> tuple[socket.socket, socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        receiver = socket.socket()
        receiver.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        receiver.connect(listener.getsockname())
        sender, _ = listener.accept()
    return sender, receiver


@pytest.mark.parametrize("pair", [tcp_pair, socket.socketpair], ids=["tcp", "unix"])
def test_bytes_in_a_socket_arrive_unchanged_after_their_extent_died_and_others_were_written(
    pages: Pages, pair: Callable[[], tuple[socket.socket, socket.socket]]
) -> None:
    content = noise(4 << 20)
    extent = written(pages, content)
    sender, receiver = pair()
    with sender, receiver:
        sender.setblocking(False)
        sent = 0
        try:
            while sent < len(content):
                sent += os.sendfile(sender.fileno(), pages.fd, extent.offset + sent, len(content) - sent)
        except BlockingIOError:
            pass
        assert 0 < sent < len(content)  # the reader sleeps: these bytes are on their way
        del extent
        pages.reclaim()
        assert pages.committed == 0
        others = [written(pages, b"\xff" * (1 << 20)) for _ in range(8)]
        sender.shutdown(socket.SHUT_WR)
        received = b"".join(iter(lambda: receiver.recv(1 << 16), b""))
    assert len(received) == sent
    assert received == content[:sent]
    assert pages.committed == len(others) << 20


def test_memory_is_given_back_at_the_descriptor_limit_too(pages: Pages) -> None:
    extent = written(pages, b"x" * 100_000)
    del extent
    with no_descriptors_left():
        pages.reclaim()
    assert pages.committed == os.fstat(pages.fd).st_blocks == 0


def test_what_two_processes_have_is_not_punched_out_before_the_other_is_gone(pages: Pages) -> None:
    contents = [noise(2 * PAGE_BYTES, seed) for seed in range(3)]
    kept, gap, dead = (written(pages, content) for content in contents)
    new = Pages()
    new.adopt(os.dup(pages.fd))
    claimed, dying = (new.claim(extent.offset, extent.length) for extent in (kept, dead))
    own = written(new, noise(PAGE_BYTES, 4))
    assert own.offset >= dead.offset + dead.length
    del dying
    new.reclaim()
    assert [os.pread(pages.fd, extent.length, extent.offset) for extent in (kept, gap, dead)] == contents
    new.release()
    new.reclaim()
    assert new.committed == os.fstat(new.fd).st_blocks * 512 == 3 * PAGE_BYTES
    assert os.pread(new.fd, claimed.length, claimed.offset) == contents[0]
    new.close()
