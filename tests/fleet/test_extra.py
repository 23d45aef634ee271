"""What is missing is told with what to install."""

from __future__ import annotations

import json

import pytest

from zcserve.errors import UsageError
from zcserve.fleet.extra import require


def test_what_is_there_is_imported() -> None:
    assert require("json", "tests") is json


@pytest.mark.parametrize(("module", "package"), [("absent_here.sub", "absent_here"), ("nats.absent_here", "nats-py")])
def test_what_is_missing_is_told(module: str, package: str) -> None:
    with pytest.raises(UsageError) as caught:
        require(module, "signatures")
    assert str(caught.value) == f"signatures need {package}: pip install 'zcserve[fleet]'"
