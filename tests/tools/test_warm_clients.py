"""Connections to a server: the URLs that name one."""

from __future__ import annotations

import pytest

from tools.warm.clients import connector
from zcserve.errors import UsageError


@pytest.mark.parametrize(
    "url",
    ["", "localhost:80", "ftp://h", "https://h", "http://", "http://h:x", "http://h:99999", "http://h/a", "http://h/?a",
     "http://u@h", "unix:", "http://[::1"],
)  # fmt: skip
def test_a_url_that_names_no_server_is_refused(url: str) -> None:
    with pytest.raises(UsageError, match="--url"):
        connector(url, 1.0)
