"""The name of the site that no table names."""

from __future__ import annotations

import pytest

from zcserve.config.site import SiteTable
from zcserve.config.site_names import DEFAULT_NAME
from zcserve.errors import UsageError


def test_no_table_takes_the_name_of_the_site_at_the_top() -> None:
    with pytest.raises(UsageError, match=f"sites.{DEFAULT_NAME}: the site at the top of the file is called so"):
        SiteTable(name=DEFAULT_NAME, hosts=("example.org",), values={"root": "www"})
