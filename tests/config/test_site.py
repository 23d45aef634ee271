"""zcserve.config.site: what one table of a site may say, and what several may not say together."""

from __future__ import annotations

from typing import Any

import pytest

from zcserve.config.site import SiteTable, check_shares, check_together, part_of
from zcserve.config.units import GIB, MIB, Share
from zcserve.errors import UsageError


def table(name: str = "blog", hosts: tuple[str, ...] = ("a.example",), **more: Any) -> SiteTable:
    return SiteTable(
        name=name, hosts=hosts, values={"root": "w"}, find=lambda *_: "web.toml: line 7, column 1: ", **more
    )


def test_hosts_are_kept_as_a_host_field_is_read() -> None:
    assert table(hosts=("A.Example.", "*.B.example")).hosts == ("a.example", "*.b.example")


@pytest.mark.parametrize("name", ["blog", "Blog_2", "www.example.org", "x" * 63])
def test_a_name_can_be_a_label(name: str) -> None:
    assert table(name).name == name


@pytest.mark.parametrize("name", ["", "default", "a b", "-a", ".a", "x" * 64, "bücher", 'a"b', "a\nb"])
def test_a_name_that_cannot_be_a_label_is_refused_with_its_place(name: str) -> None:
    with pytest.raises(UsageError, match=r"^web\.toml: line 7, column 1: sites\."):
        table(name)


def test_a_site_has_a_root_and_hosts() -> None:
    with pytest.raises(UsageError, match="has no root"):
        SiteTable(name="a", hosts=("a.example",))
    with pytest.raises(UsageError, match="has no hosts"):
        table(hosts=())
    with pytest.raises(UsageError, match="no site has port"):
        SiteTable(name="a", hosts=("a.example",), values={"root": "w", "port": 1})


def test_a_name_and_a_host_are_of_one_site() -> None:
    check_together([table("a"), table("b", ("*.a.example", "b.example"))], ["c.example"])
    with pytest.raises(UsageError, match=r"line 7.*two sites are called a"):
        check_together([table("a"), table("a", ("b.example",))], [])
    with pytest.raises(UsageError, match=r"line 7.*hosts: a\.example is a name of the site a already"):
        check_together([table("a"), table("b", ("b.example", "A.example."))], [])
    with pytest.raises(UsageError, match=r"a\.example is a name of the site default already"):
        check_together([table("a")], ["a.example"])


@pytest.mark.parametrize(
    ("share", "part"), [(MIB, MIB), (Share(25), 25 * MIB), (Share(50, 10 * MIB), 10 * MIB), (Share(100), 100 * MIB)]
)
def test_a_share_is_a_part_of_the_servers_memory(share: int, part: int) -> None:
    assert part_of(share, 100 * MIB) == part


def test_what_is_guaranteed_is_there() -> None:
    sites = [table("a", memory_min=Share(60)), table("b", memory_min=300 * MIB)]
    check_shares(sites, GIB)
    with pytest.raises(UsageError, match=r"line 7.*guaranteed 600\.0 MiB, and there is 500\.0 MiB"):
        check_shares(sites, 500 * MIB)


def test_what_is_guaranteed_is_no_more_than_the_most() -> None:
    with pytest.raises(UsageError, match="memory_min: 30% is more than memory_max, which is 20%"):
        table(memory_min=Share(30), memory_max=Share(20))
    mixed = table(memory_min=300 * MIB, memory_max=Share(20))
    check_shares([mixed], 2 * GIB)
    with pytest.raises(UsageError, match="is more than memory_max"):
        check_shares([mixed], GIB)
