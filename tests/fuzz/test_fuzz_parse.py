"""A short run of the parser's fuzzing, and proof that it would find what it looks for."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.fuzz_parse import BrokenError, Law, corpus, run

pytest.importorskip("zcserve.net._lane")


@pytest.mark.parametrize("seed", range(4))
def test_the_lane_takes_nothing_that_the_parser_reads_otherwise(seed: int) -> None:
    law = run(seed, count=8_000)  # .ci/run has a minute of it
    assert law.accepted > 2_000


def test_the_corpus_has_heads_that_are_accepted_and_heads_that_are_not() -> None:
    law = Law()
    verdicts = [law.check(data) for data in corpus()]
    assert 10 <= sum(verdicts) <= len(verdicts) - 5


def test_the_law_holds_for_what_hypothesis_thinks_of() -> None:
    hypothesis = pytest.importorskip("hypothesis")
    st = pytest.importorskip("hypothesis.strategies")
    law = Law()
    line = st.one_of(
        st.sampled_from(
            [b"Host: test", b"Connection: close", b"If-None-Match: *", b"Range: x", b"Accept-Encoding: br"]
        ),
        st.builds(lambda name, value: name + b":" + value, st.binary(max_size=6), st.binary(max_size=6)),
        st.from_regex(rb"\A[A-Za-z-]{1,20}: ?[ -~]{0,20}\Z"),
    )

    @hypothesis.given(
        st.sampled_from([b"GET", b"HEAD"]), st.binary(max_size=5), st.lists(line, max_size=8), st.binary(max_size=3)
    )
    def holds(method: bytes, target: bytes, lines: list[bytes], rest: bytes) -> None:
        law.check(b"%b /%b HTTP/1.1\r\nHost: test\r\n%b" % (method, target, b"\r\n".join([*lines, b"", b""])) + rest)

    holds()


WRONG = [(32, b"HEAD", b"/a", 0), (32, b"GET", b"/b", 0), (32, b"GET", b"/a", 2), (31, b"GET", b"/a", 0)]


@pytest.mark.parametrize(
    ("answer", "head", "found"),
    [(wrong, b"GET /a HTTP/1.1\r\nHost: wrong\r\n\r\n", "the lane sees") for wrong in WRONG]
    + [
        ((33, b"GET", b"/a", 0), b"GET /a HTTP/1.1\r\nHost: wr ong\r\n\r\n", "only the lane"),
        ((46, b"GET", b"/a", 0), b"GET /a HTTP/1.1\r\nHost: a\r\nExpect: x\r\n\r\n", "only the lane"),
        ((46, b"GET", b"/a", 0), b"GET /a HTTP/1.1\r\nHost: a\r\nRange: bytes=0-9\r\n\r\n", "the lane decides"),
        ((49, b"GET", b"/a", 0), b"GET /a HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nab", "does not look"),
        ((48, b"PUT", b"/a", 0), b"PUT /a HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nab", "the lane sees"),
        ((49, b"PUT", b"/a", 0), b"PUT /a HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\na", "the lane sees"),
    ],
)
def test_a_lane_that_sees_something_else_is_found(answer: Any, head: bytes, found: str) -> None:
    law: Any = Law()
    law.lane = _Wrong(answer)
    with pytest.raises(BrokenError, match=found):
        law.check(head)


class _Wrong:
    """A lane that gives one answer whatever it is asked."""

    def __init__(self, answer: Any) -> None:
        self.parse = lambda data: answer
        self.decide = lambda *_: (200, 0, 0)
