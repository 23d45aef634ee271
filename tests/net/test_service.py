"""What connections share knows which site a name belongs to, and how much there is in all."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from zcserve.cache.entry import Entry
from zcserve.cache.index import Generation
from zcserve.cache.root import Root
from zcserve.config.site_names import DEFAULT_NAME
from zcserve.config.table import Config
from zcserve.net.bodies import Allowance
from zcserve.net.front import Front
from zcserve.net.loop import Loop
from zcserve.net.prefixes import Prefixes
from zcserve.net.request import Parser
from zcserve.net.service import Service
from zcserve.site.site import Site


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    config, loop = Config(root=tmp_path), Loop(Front())
    sites = []
    for number, names in enumerate([(), (b"one.example", b"www.one.example"), (b"two.example",)]):
        keys = [b"/%d" % key for key in range(number + 1)]
        live = Generation(Root(tmp_path), {key: Entry(key, b"", 0, None) for key in keys})
        sites.append(Site(number, live, name=str(number) if number else DEFAULT_NAME, names=frozenset(names)))
    unused: Any = None
    yield Service(
        config=config,
        loop=loop,
        parser=Parser(config),
        prefixes=Prefixes(),
        fetcher=unused,
        sites=tuple(sites),
        bodies=Allowance(0),
    )
    loop.close()


@pytest.mark.parametrize(
    ("name", "site"),
    [(b"two.example", 2), (b"one.example", 1), (b"www.one.example", 1), (b"other.example", 0), (b"", 0)],
)
def test_a_name_that_is_no_other_sites_belongs_to_the_first(service: Service, name: bytes, site: int) -> None:
    assert service.site_of(name).id == site


def test_sites_may_come_and_go(service: Service) -> None:
    service.serve((service.sites[2],))
    assert service.site_of(b"two.example").id == 2
    assert service.site_of(b"one.example").is_nowhere
    service.serve((Site(0, service.sites[0].live),))
    assert service.site_of(b"two.example").id == 0
