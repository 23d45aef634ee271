"""What a key's text may be."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from zcserve.config import checks
from zcserve.config.addresses import parse_listen
from zcserve.errors import UsageError

Check = Callable[[str], object]


@pytest.mark.parametrize(
    ("check", "text"),
    [
        (checks.check_field_value, ""),
        (checks.check_field_value, "max-age=60, public"),
        (checks.check_field_value, "x" * checks.FIELD_VALUE_BYTES_MAX),
        (checks.check_name, "index.html"),
        (checks.check_name, "..."),
        (checks.check_log_path, "-"),
        (checks.check_log_path, "logs/access"),
        (checks.check_admin, ""),
        (checks.check_admin, "unix:admin.sock"),
    ],
)
def test_what_a_key_accepts_passes(check: Check, text: str) -> None:
    check(text)


@pytest.mark.parametrize(
    ("check", "text"),
    [
        (checks.check_field_value, "no-store\r\nX: y"),
        (checks.check_field_value, " no-store"),
        (checks.check_field_value, "x" * (checks.FIELD_VALUE_BYTES_MAX + 1)),
        (checks.check_name, ".."),
        (checks.check_name, "a/b"),
        (checks.check_log_path, "a\0b"),
        (checks.check_admin, "9000"),
    ],
)
def test_what_it_does_not_is_refused(check: Check, text: str) -> None:
    with pytest.raises(UsageError):
        check(text)


def test_a_list_is_refused_for_one_text_of_it() -> None:
    check = checks.each(parse_listen)
    check((":80", "unix:web.sock"))
    with pytest.raises(UsageError, match="web"):
        check((":80", "web"))


def test_proxies_are_addresses_and_networks() -> None:
    checks.check_trusted(("10.0.0.0/8", "::1"))
    with pytest.raises(UsageError, match="proxy"):
        checks.check_trusted(("proxy",))
