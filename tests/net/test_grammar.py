"""The lane's grammar in C (net/lane/grammar.pxd) gives the answer of its Python twin, `fastlane.judge`, or none."""

from __future__ import annotations

import pytest

from tests.support.values import ODD, USUAL, VECTORS, Row
from zcserve.net.fastlane import judge

pytest.importorskip("hypothesis")
from hypothesis import given
from hypothesis import strategies as st

read_value = pytest.importorskip("zcserve.net._lane").read_value

KINDS = sorted({kind for kind, _, _ in VECTORS})
# What a mutation puts in: ends of classes that the grammars tell apart, and their words.
PIECES = (
    *(bytes((byte,)) for byte in b'\t !"%&*+,-./09:;=?@AFGQZ[]_afgqz~\x80\xff'),
    *(b";q=0", b";q=0.5", b"; q=1.000", b"gzip", b"close", b"%41", b":80", b":65536", b", ", b"::", b"*"),
)


@st.composite
def mutated(draw: st.DrawFn) -> tuple[int, bytes]:
    """A kind, and one of its values after up to three accidents."""
    kind, value, _ = draw(st.sampled_from(VECTORS))
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.integers(0, len(value)))
        to = min(len(value), at + draw(st.integers(0, 3)))
        value = value[:at] + draw(st.sampled_from(PIECES)) + value[to:]
    return kind, value


@pytest.mark.parametrize("row", VECTORS, ids=lambda row: f"{row[0]}-{row[1][:40]!r}")
def test_a_value_means_the_same_to_both(row: Row) -> None:
    kind, value, meaning = row
    assert judge(kind, value) == meaning
    assert read_value(kind, value) in (meaning, None)


@pytest.mark.parametrize("row", USUAL, ids=lambda row: f"{row[0]}-{row[1]!r}")
def test_of_what_clients_send_c_is_sure(row: Row) -> None:
    kind, value, meaning = row
    assert read_value(kind, value) == meaning


@given(st.one_of(mutated(), st.tuples(st.sampled_from(KINDS), st.binary(max_size=40))))
def test_whatever_the_value_c_says_what_python_says_or_nothing(case: tuple[int, bytes]) -> None:
    kind, value = case
    assert read_value(kind, value) in (judge(kind, value), None)


def test_even_of_odd_values_c_is_mostly_sure() -> None:
    assert sum(read_value(kind, value) is None for kind, value, _ in ODD) < len(ODD) / 8


def test_a_kind_that_there_is_not_is_refused() -> None:
    for kind in (-1, max(KINDS) + 1):
        with pytest.raises(ValueError, match="no kind"):
            read_value(kind, b"")
