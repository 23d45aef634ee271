"""zcserve.site.hosts: the most exact site has a name; one that none has is the default site's, or misdirected."""

from __future__ import annotations

from pathlib import Path

import pytest

from zcserve import Config
from zcserve.cache.index import Generation
from zcserve.cache.root import Root
from zcserve.config.hosts import parse_site_host
from zcserve.config.site_names import DEFAULT_NAME
from zcserve.errors import UsageError
from zcserve.http import host_name, is_host
from zcserve.net.fastlane import judge
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
        (b".example.org", 0),
        (b"..example.org", 0),
        (b"x..blog.example.org", 0),
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


def test_the_lane_finds_the_site_that_python_finds(tmp_path: Path) -> None:
    hypothesis = pytest.importorskip("hypothesis")
    lane_of = pytest.importorskip("zcserve.net._lane").Lane
    from hypothesis import strategies as st

    label = st.sampled_from(["", "a", "b", "test", "a" * 63])
    name = st.lists(label, min_size=1, max_size=6).map(".".join)
    address = st.sampled_from(["[::1]", "[0:0::1]", "[::A]", "[0::a]", "[::ffff:1.2.3.4]", "[v1.a]", "1.2.3.4"])
    asked = st.tuples(st.one_of(name, address), st.sampled_from(["", ".", "..", ":80", ".:80"])).map("".join)
    written = st.one_of(name, name.map(lambda below: f"*.{below}"), address)

    def parsed(text: str) -> bytes:
        try:
            return parse_site_host(text).encode()
        except UsageError:
            return b""

    lane = lane_of(Config(root=tmp_path), False, judge)
    for _ in range(4):
        lane.add_site()

    @hypothesis.settings(deadline=None)
    @hypothesis.given(st.lists(written, max_size=4, unique_by=parsed), st.lists(asked, min_size=1, max_size=8))
    def law(texts: list[str], values: list[str]) -> None:
        names = [(name,) for text in texts if (name := parsed(text))]
        hosts = Hosts(sites_of(tmp_path, (), *names))
        lane.set_hosts(*hosts.numbers)
        for value in map(str.encode, filter(lambda value: is_host(value.encode()), values)):
            told = lane.site_of(b"GET /a HTTP/1.1\r\nHost: %b\r\n\r\n" % value)
            if told is None:
                assert value[:1] == b"["
                assert not value.lower().startswith(host_name(value))
            else:
                assert told == hosts.find(host_name(value)).id

    law()
    lane.close()
