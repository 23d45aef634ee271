"""What is compressed on its way: whole, or refused, and never larger than allowed."""

from __future__ import annotations

import gzip
import random
import tracemalloc
from contextlib import suppress

import pytest

from zcserve.fleet.manifest import MANIFEST_BYTES_MAX
from zcserve.fleet.packed import UNPACKED_BYTES_MAX, PackedError, both, pack, unpack

TEXT = b'{"files":{"/a":1}}' * 5000


@pytest.mark.parametrize("data", [b"", b"a", TEXT, random.Random(7).randbytes(100_000)])
def test_what_is_packed_is_what_is_unpacked_and_any_gzip_reads_it(data: bytes) -> None:
    packed = pack(data)
    assert unpack(packed, len(data)) == data == gzip.decompress(packed)
    assert unpack(gzip.compress(data), len(data)) == data
    assert both(data) == (data, packed) == both(data)


def test_what_says_that_it_is_too_long_is_refused_before_it_is_inflated() -> None:
    with pytest.raises(PackedError, match=r"^90,000 bytes when it is inflated, and at most 89,999$"):
        unpack(pack(TEXT), len(TEXT) - 1)


@pytest.mark.parametrize("length", [0, 1, 100_000])
def test_what_is_longer_than_it_says_is_refused_with_no_more_memory_than_it_says(length: int) -> None:
    bomb = gzip.compress(bytes(16 << 20), 9)[:-4] + length.to_bytes(4, "little")
    tracemalloc.start()
    try:
        with pytest.raises(PackedError):
            unpack(bomb, 1 << 20)
        assert tracemalloc.get_traced_memory()[1] < 2 * length + (1 << 20)
    finally:
        tracemalloc.stop()


def test_what_is_cut_short_or_changed_or_followed_by_more_is_refused() -> None:
    packed = pack(b"a release")
    wrong = [packed[:at] for at in range(len(packed))] + [packed + b"\0", packed + packed, b"\0" * 30, TEXT]
    for data in wrong:
        with pytest.raises(PackedError):
            unpack(data, 1 << 20)
    for at in range(len(packed)):
        changed = packed[:at] + bytes((packed[at] ^ 1,)) + packed[at + 1 :]
        with suppress(PackedError):
            assert unpack(changed, 1 << 20) == b"a release"  # a byte of the head that says nothing of the content


def test_a_manifest_may_be_as_long_as_it_may_be_otherwise() -> None:
    assert UNPACKED_BYTES_MAX == MANIFEST_BYTES_MAX
