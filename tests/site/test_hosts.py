"""zcserve.site.hosts: the most exact site has a name; what no site has is the default one's, or nobody's."""

from __future__ import annotations

from pathlib import Path

import pytest

from zcserve.cache.index import Generation
from zcserve.cache.root import Root
from zcserve.config.site import DEFAULT_NAME
from zcserve.site.hosts import NAME_BYTES_MAX, Hosts
from zcserve.site.site import Site


def sites_of(root: Path, *names: tuple[bytes, ...], first: int = 0) -> list[Site]:
    live = Generation(Root(root))
    return [
        Site(number, live, name=str(number) if number else DEFAULT_NAME, names=frozenset(some))
        for number, some in enumerate(names, first)
    ]


NAMES = (
    (b"example.org",),
    (b"www.example.org", b"*.blog.example.org"),
    (b"*.example.org",),
    (b"*.a.blog.example.org", b"[::1]"),
)


@pytest.mark.parametrize(
    ("name", "site"),
    [
        (b"example.org", 0),
        (b"www.example.org", 1),
        (b"app.example.org", 2),
        (b"www.www.example.org", 2),
        (b"blog.example.org", 2),
        (b"x.blog.example.org", 1),
        (b"x.y.blog.example.org", 1),
        (b"a.blog.example.org", 1),
        (b"x.a.blog.example.org", 3),
        (b"[::1]", 3),
        (b"example.com", 0),
        (b"xexample.org", 0),
        (b"org", 0),
        (b".example.org", 2),
        (b"", 0),
        (b"a." * NAME_BYTES_MAX + b"example.org", 0),
        (b"*.example.org", 2),
    ],
)
def test_an_exact_name_goes_before_the_longest_wildcard_before_the_default_site(
    tmp_path: Path, name: bytes, site: int
) -> None:
    assert Hosts(sites_of(tmp_path, *NAMES)).find(name).id == site


def test_one_site_has_all_names_and_nothing_is_looked_for(tmp_path: Path) -> None:
    assert Hosts(sites_of(tmp_path, ())).is_one
    assert Hosts(sites_of(tmp_path, (b"example.org",))).is_one
    assert not Hosts(sites_of(tmp_path, *NAMES)).is_one


def test_a_name_that_no_site_has_may_be_nobodys(tmp_path: Path) -> None:
    hosts = Hosts(sites_of(tmp_path, *NAMES), refuses_unknown=True)
    assert not hosts.is_one
    assert hosts.find(b"example.com").is_nowhere
    assert hosts.find(b"example.org").id == hosts.find(b"").id == 0


def test_without_a_default_site_a_request_without_a_name_is_nobodys_too(tmp_path: Path) -> None:
    hosts = Hosts(sites_of(tmp_path, (b"example.org",), first=1))
    assert not hosts.is_one
    assert hosts.find(b"example.org").id == 1
    assert hosts.find(b"example.com").is_nowhere
    assert hosts.find(b"").is_nowhere
