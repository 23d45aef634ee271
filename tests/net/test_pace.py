"""zcserve.net.pace: each window must bring its share."""

from __future__ import annotations

from pathlib import Path

from zcserve import Config
from zcserve.net.pace import Pace


def test_each_window_must_bring_its_bytes_however_much_came_before() -> None:
    pace = Pace(Config(root=Path("/"), body_timeout_s=10.0, body_rate_min=100), 5.0)
    assert pace.due() == 15
    assert pace.suffices(1_000_000, 15.5)
    assert pace.due() == 25.5
    assert not pace.suffices(1_000_999, 25.5)
    assert pace.suffices(1_001_000, 25.5)


def test_where_no_rate_is_asked_for_a_byte_is_enough_and_none_is_not() -> None:
    pace = Pace(Config(root=Path("/"), body_timeout_s=10.0, body_rate_min=0), 0.0)
    assert not pace.suffices(0, 10.0)
    assert pace.suffices(1, 10.0)
