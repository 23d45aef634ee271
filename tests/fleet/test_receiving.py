"""One content, from a source that fails in every way: right in the end, or named, in a bounded number of requests."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from zcserve.fleet.folders import Folders
from zcserve.fleet.pacing import Backoff
from zcserve.fleet.part import Part
from zcserve.fleet.receiving import PROGRESS_BYTES, CancelledError, ObjectError, Pace, Receiver
from zcserve.fleet.sources.source import Opened, SourceError

CONTENT = b"0123456789" * 5
DIGEST = hashlib.sha256(CONTENT).hexdigest()


@dataclass
class Script:
    """A source of one object whose answers are given: what of which content comes, and how it ends.

    answers  (content, how many bytes of it, whether it goes on where it was asked to, whether it fails then)
    """

    answers: list[tuple[bytes, int, bool, bool]]
    asked: list[tuple[int, str]] = field(default_factory=list)
    open_ones: int = 0
    name: str = "script"

    def open(self, path: str, start: int, version: str) -> Opened:
        self.asked.append((start, version))
        content, count, resumes, fails = self.answers.pop(0) if self.answers else (CONTENT, 1 << 30, True, False)
        own = hashlib.sha256(content).hexdigest()[:8]
        start = start if resumes and version in ("", own) else 0
        self.open_ones += 1

        def pieces() -> Iterator[bytes]:
            step = max(7, len(content) // 50)
            for at in range(start, min(len(content), start + count), step):
                yield content[at : min(at + step, start + count)]
            if fails:
                raise SourceError("fails", retry=True)

        return Opened(pieces(), self.closed, start, None, own)

    def closed(self) -> None:
        self.open_ones -= 1

    def close(self) -> None:
        pass


@pytest.fixture
def part(tmp_path: Path) -> Iterator[Part]:
    one = Folders(tmp_path).begin("0" * 64)
    yield one
    one.close()


def receive(part: Part, source: Script, content: bytes = CONTENT, pace: Pace | None = None) -> bytes:
    """What a load holds in the end."""
    digest = hashlib.sha256(content).hexdigest()
    load = part.open_load(digest)
    try:
        pace = pace or Pace(backoff=Backoff(tries=4, first_s=0.0))
        Receiver(source, pace).receive(load, "/a", (len(content), digest))
        return Path(part.path, "loads", digest).read_bytes()
    finally:
        load.close()
        assert source.open_ones == 0


def test_what_an_earlier_run_left_of_another_version_is_asked_for_anew(part: Part) -> None:
    load = part.open_load(DIGEST)
    load.write(b"another")
    load.close()
    source = Script([])
    assert receive(part, source) == CONTENT
    assert source.asked == [(7, ""), (0, "")]


def test_all_that_an_earlier_run_left_needs_no_source(part: Part) -> None:
    load = part.open_load(DIGEST)
    load.write(CONTENT)
    load.close()
    source = Script([])
    assert receive(part, source) == CONTENT
    assert source.asked == []


def test_a_source_that_brings_the_same_beginning_each_time_is_given_up(part: Part) -> None:
    content = b"x" * (3 * PROGRESS_BYTES)
    source = Script([(content, PROGRESS_BYTES + 1, False, True)] * 100)
    with pytest.raises(ObjectError, match=r"^fails$"):
        receive(part, source, content)
    assert len(source.asked) == 4  # of which the first one brought something


def test_a_source_that_brings_more_each_time_is_not(part: Part) -> None:
    content = b"x" * (8 * PROGRESS_BYTES)
    source = Script([(content, PROGRESS_BYTES, True, True)] * 7 + [(content, len(content), True, False)])
    assert receive(part, source, content) == content


def test_a_run_that_is_cancelled_keeps_what_has_come(part: Part) -> None:
    pace = Pace()
    source = Script([])
    receiver = Receiver(source, pace, on_bytes=lambda _: pace.cancelled.set())
    load = part.open_load(DIGEST)
    with pytest.raises(CancelledError):
        receiver.receive(load, "/a", (len(CONTENT), DIGEST))
    assert (load.size, source.open_ones) == (7, 0)
    load.close()


def test_whatever_a_source_does_the_content_is_right_or_there_is_an_error(part: Part) -> None:
    hypothesis = pytest.importorskip("hypothesis")
    st = hypothesis.strategies
    contents = st.sampled_from([CONTENT, CONTENT[::-1], CONTENT[:20], CONTENT + b"x", b""])
    answers = st.lists(st.tuples(contents, st.integers(0, 60), st.booleans(), st.booleans()), max_size=12)

    @hypothesis.settings(max_examples=40, deadline=None)
    @hypothesis.given(answers)
    def law(answers: list[tuple[bytes, int, bool, bool]]) -> None:
        source = Script([*answers])
        load = part.open_load(DIGEST)
        load.restart()
        load.close()
        try:
            assert receive(part, source) == CONTENT
        except ObjectError as error:
            assert str(error).startswith(("fails", "has "))  # noqa: PT017
        assert len(source.asked) <= 3 * 4 + 1

    law()
