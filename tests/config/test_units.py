"""zcserve.config.units: bytes and seconds from text."""

from __future__ import annotations

import pytest

from zcserve.config.units import KIB, MIB, counted, parse_duration, parse_size
from zcserve.errors import UsageError


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("4096", 4096),
        ("4096B", 4096),
        ("16K", 16 * KIB),
        ("16k", 16 * KIB),
        ("16KB", 16 * KIB),
        ("16KiB", 16 * KIB),
        ("64 KiB", 64 * KIB),
        ("512M", 512 * MIB),
        (" 512M ", 512 * MIB),
        ("1.5G", 1536 * MIB),
        ("0.25K", 256),
        ("2T", 2 << 40),
        ("0.1K", 102),  # down to whole bytes
    ],
)
def test_a_size_is_bytes_or_a_number_with_a_unit(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize(
    "text",
    ["", "M", "-1", "-5M", "5X", "1.5", "1.5B", ".5K", "1.K", "1e3", "1_000", "0x10", "5MM", "\u0665", "inf"],
)
def test_what_is_not_a_size_is_named_with_what_is(text: str) -> None:
    with pytest.raises(UsageError, match=r"not a size; accepted: bytes, or .* K, M, G or T") as caught:
        parse_size(text)
    assert repr(text) in str(caught.value)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("20", 20.0),
        ("20s", 20.0),
        ("20 s", 20.0),
        ("20S", 20.0),
        ("0.5", 0.5),
        ("500ms", 0.5),
        ("1m", 60.0),
        ("1.5m", 90.0),
        ("2h", 7200.0),
        ("0", 0.0),
    ],
)
def test_a_duration_is_seconds_or_a_number_with_a_unit(text: str, seconds: float) -> None:
    assert parse_duration(text) == pytest.approx(seconds, rel=1e-12)


@pytest.mark.parametrize("text", ["", "s", "-1", "-1s", "1d", "1m30s", "1,5", "nan", "inf", "1e3", "20 sec", "\u0665"])
def test_what_is_not_a_duration_is_named_with_what_is(text: str) -> None:
    with pytest.raises(UsageError, match="not a duration; accepted: seconds, or a number with ms, s, m or h"):
        parse_duration(text)


def test_one_of_something_is_told_as_one() -> None:
    assert [counted(number, "file") for number in range(3)] == ["0 files", "1 file", "2 files"]
    assert [counted(number, "entry", "entries") for number in (1, 2)] == ["1 entry", "2 entries"]
