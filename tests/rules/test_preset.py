"""zcserve.rules.preset: what the two switches stand for."""

from __future__ import annotations

from zcserve.rules.preset import IMMUTABLE, SECURE, presets, switch_of
from zcserve.rules.rule import check_name, check_value


def test_a_switch_that_is_off_is_no_rule() -> None:
    assert presets(secure=False, immutable=False) == ()


def test_each_switch_is_a_rule_for_every_path() -> None:
    secure, immutable = presets(secure=True, immutable=True)
    assert (secure.globs, secure.set) == (("/**",), SECURE)
    assert (immutable.globs, immutable.immutable) == (("/**",), True)


def test_a_listing_is_one_too() -> None:
    (listing,) = presets(secure=False, immutable=False, listing=True)
    assert (listing.globs, listing.listing) == (("/**",), True)


def test_a_preset_says_nothing_that_a_rule_may_not_say() -> None:
    for name, value in (*SECURE, (b"Cache-Control", IMMUTABLE)):
        assert check_name(name.decode(), verb="set") == name
        assert check_value(value.decode()) == value


def test_nothing_is_asked_of_browsers_over_plain_http_that_is_for_tls() -> None:
    assert b"strict-transport-security" not in {name.lower() for name, _ in SECURE}


def test_a_preset_is_told_as_the_flag_that_it_stands_for() -> None:
    told = [switch_of(rule) for rule in presets(secure=True, immutable=True, listing=True)]
    assert told == ["--secure-headers", "--immutable", "--listing"]
