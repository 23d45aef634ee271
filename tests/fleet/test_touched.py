"""When files of releases have got a new ctime here: which of them may have been written by something else."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from zcserve.fleet.touched import SPANS_MAX, Touched, passed_ns


def test_a_span_has_what_came_after_its_begin_until_its_end() -> None:
    touched = Touched([(30, 40), (10, 20)]).and_then(15, 35)
    found = [ctime for ctime in range(50) if touched.covers(ctime)]
    assert found == list(range(11, 41))
    assert not Touched().covers(1)


def test_the_last_spans_are_kept_and_come_back_from_a_file() -> None:
    touched = Touched()
    for number in range(SPANS_MAX + 3):
        touched = touched.and_then(10 * number, 10 * number + 5)
    assert len(touched.spans) == SPANS_MAX
    assert touched.spans[0] == (30, 35)
    assert Touched.parse(touched.to_bytes()).spans == touched.spans
    assert Touched.parse(Touched().to_bytes()).spans == []


@pytest.mark.parametrize("data", [b"", b"2\n1 2\n", b"1\n1 2 3\n", b"1\n1\n", b"1\nx y\n", b"\0\0\0"])
def test_what_is_no_list_of_spans_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"version|unpack|int"):
        Touched.parse(data)


def test_a_file_is_doubtful_where_it_has_changed_since_and_not_here(tmp_path: Path) -> None:
    file, clock = tmp_path / "file", os.open(tmp_path, os.O_RDONLY)
    file.write_bytes(b"content")
    passed_ns(clock)
    complete = passed_ns(clock)
    assert not Touched().is_doubtful(file.stat(), complete)
    begin = passed_ns(clock)
    os.link(file, tmp_path / "other")
    end = passed_ns(clock)
    linked = file.stat()
    touched = Touched([(begin, end)])
    assert not touched.is_doubtful(linked, complete)
    assert Touched().is_doubtful(linked, complete)
    file.write_bytes(b"CONTENT")
    assert touched.is_doubtful(file.stat(), complete)
    os.utime(file, ns=(linked.st_atime_ns, linked.st_mtime_ns))  # dated back: ctime alone tells
    assert touched.is_doubtful(file.stat(), complete)
    os.close(clock)


def test_a_time_has_passed_when_it_is_told(tmp_path: Path) -> None:
    """So what is changed behind it is later, however fast it comes."""
    clock = os.open(tmp_path, os.O_RDONLY)
    for number in range(20):
        passed = passed_ns(clock)
        (tmp_path / f"{number}").touch()
        assert (tmp_path / f"{number}").stat().st_ctime_ns > passed
    os.close(clock)
