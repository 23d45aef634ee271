"""zcserve.config.log_fields: names of fields, in any order, with commas or without."""

from __future__ import annotations

import pytest

from zcserve.config.log_fields import read_names
from zcserve.errors import UsageError


def test_names_come_in_the_order_of_a_line_each_once() -> None:
    assert read_names(("duration, host", "host,")) == ("host", "duration")
    assert read_names(()) == ()


def test_an_unknown_name_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(UsageError, match="'agent' is no field of a log's line; accepted: host, request_id, duration"):
        read_names(("host,agent",))
