"""Files without a name."""

from __future__ import annotations

import os

import pytest

from zcserve.cache.memfd import PAGE_BYTES, open_memfd, punch, round_up, write


@pytest.mark.parametrize(
    ("length", "unit", "expected"),
    [(0, 16, 0), (1, 16, 16), (16, 16, 16), (17, 16, 32), (1, PAGE_BYTES, PAGE_BYTES), (4097, 4096, 8192)],
)
def test_rounding_goes_up_to_a_multiple(length: int, unit: int, expected: int) -> None:
    assert round_up(length, unit) == expected


def test_what_is_punched_out_reads_as_zeros_and_costs_nothing() -> None:
    fd = open_memfd("test")
    try:
        os.pwrite(fd, b"x" * 3 * PAGE_BYTES, 0)
        punch(fd, PAGE_BYTES, PAGE_BYTES)
        assert os.pread(fd, 3 * PAGE_BYTES, 0) == b"x" * PAGE_BYTES + bytes(PAGE_BYTES) + b"x" * PAGE_BYTES
        assert os.fstat(fd).st_blocks * 512 == 2 * PAGE_BYTES
    finally:
        os.close(fd)


def test_a_piece_is_written_where_it_belongs() -> None:
    fd = open_memfd("test")
    try:
        for at, piece in ((3, b"third"), (0, b"one")):
            write(fd, memoryview(piece), at)
        assert os.pread(fd, 100, 0) == b"onethird"
        with pytest.raises(OSError, match="Bad file descriptor"):
            write(-1, memoryview(b"x"), 0)
    finally:
        os.close(fd)


def test_a_hole_that_cannot_be_made_is_an_error_with_its_reason() -> None:
    with pytest.raises(OSError, match="Bad file descriptor"):
        punch(-1, 0, PAGE_BYTES)
