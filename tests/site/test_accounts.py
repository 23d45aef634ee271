"""zcserve.site.accounts: the names under which requests are counted by site."""

from __future__ import annotations

import pytest

from zcserve.site import accounts
from zcserve.site.accounts import ACCOUNTS_MAX, NAMED_MAX, NONE_NUMBER, OTHERS_NUMBER, Accounts


def test_a_name_has_one_account_and_keeps_it() -> None:
    several = Accounts()
    assert [several.number(name) for name in ("default", "blog", "default", "shop", "blog")] == [2, 3, 2, 4, 3]
    assert several.names == ("(none)", "(others)", "default", "blog", "shop")


def test_names_beyond_those_that_are_told_have_one_account_together() -> None:
    several = Accounts()
    numbers = [several.number(f"site{number}") for number in range(NAMED_MAX + 3)]
    assert numbers[-3:] == [OTHERS_NUMBER] * 3
    assert len(set(numbers) | {NONE_NUMBER}) == len(several.names) == max(numbers) + 1 == ACCOUNTS_MAX


def test_one_name_is_not_several() -> None:
    several = Accounts()
    assert not several.are_several
    several.number("default")
    assert not several.are_several
    several.number("blog")
    assert several.are_several


def test_no_site_can_have_the_name_of_what_is_none() -> None:
    from zcserve.config.site import SiteTable
    from zcserve.errors import UsageError

    for name in (accounts.NONE, accounts.OTHERS):
        with pytest.raises(UsageError, match="is not a name"):
            SiteTable(name=name, hosts=("a.example",), values={"root": "."})


def test_the_lane_has_room_for_all_accounts() -> None:
    lane_of = pytest.importorskip("zcserve.net._lane").Lane
    from zcserve.config.table import Config
    from zcserve.net.fastlane import judge

    lane = lane_of(Config(root="."), False, judge)
    lane.note_as(ACCOUNTS_MAX - 1, b"")
    with pytest.raises(ValueError, match="no account"):
        lane.note_as(ACCOUNTS_MAX, b"")
    lane.close()
