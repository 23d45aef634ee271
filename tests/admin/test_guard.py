"""Who may ask and tell."""

from __future__ import annotations

import pytest

from zcserve.admin.guard import Guard, is_loopback, value_of
from zcserve.admin.words import VerbError
from zcserve.config.addresses import TcpAddress
from zcserve.http import FieldLines

LOOPBACK = Guard(TcpAddress("127.0.0.1", 9000))
NAMED = Guard(TcpAddress("127.8.8.8", 9000))
TOKEN = Guard(TcpAddress("", 9000), b"a-token-of-length")
UNIX = Guard(None, b"a-token-of-length")
JSON = (b"Content-Type", b"application/json")


def lines(**fields: str) -> FieldLines:
    return tuple((name.replace("_", "-").encode(), value.encode()) for name, value in fields.items())


@pytest.mark.parametrize("host", ["127.0.0.1:9000", "localhost:9000", "LOCALHOST", "[::1]:9000", "[::1]", "127.0.0.1"])
def test_this_machines_own_names_are_the_listeners(host: str) -> None:
    LOOPBACK.check(lines(Host=host), changes=False)


@pytest.mark.parametrize("host", ["evil.example", "evil.example:9000", "", "10.0.0.1:9000", "localhost.evil.example"])
def test_a_name_that_somebody_elses_dns_leads_here_is_refused(host: str) -> None:
    with pytest.raises(VerbError) as caught:
        LOOPBACK.check(lines(Host=host), changes=False)
    assert caught.value.status == 421


def test_the_host_that_was_configured_is_the_listeners() -> None:
    NAMED.check(lines(Host="127.8.8.8:9000"), changes=False)


@pytest.mark.parametrize(
    "value", ["", "Bearer", "Bearer wrong", "Basic a-token-of-length", "Bearer a-token-of-lengthx"]
)
def test_without_the_token_nothing_is_answered(value: str) -> None:
    with pytest.raises(VerbError) as caught:
        TOKEN.check(lines(Host="node", Authorization=value), changes=False)
    assert caught.value.status == 401


def test_with_the_token_everything_is_and_what_is_open_needs_none() -> None:
    TOKEN.check(lines(Host="node", Authorization="bearer a-token-of-length"), changes=False)
    TOKEN.check(lines(Host="node"), changes=False, is_open=True)
    UNIX.check(lines(Host="node"), changes=False)  # its file's mode guards it


@pytest.mark.parametrize("guard", [LOOPBACK, UNIX])
@pytest.mark.parametrize(
    ("fields", "status"),
    [
        (lines(Host="localhost:9000"), 415),
        (lines(Host="localhost:9000", Content_Type="text/plain"), 415),
        (lines(Host="localhost:9000", Content_Type="application/x-www-form-urlencoded"), 415),
        (lines(Host="localhost:9000", Content_Type="application/json", Origin="http://evil.example"), 403),
        (lines(Host="localhost:9000", Content_Type="application/json", Origin="null"), 403),
        (lines(Host="localhost:9000", Content_Type="application/json", Origin="http://localhost:9001"), 403),
    ],
)
def test_a_page_of_another_site_can_tell_nothing(guard: Guard, fields: FieldLines, status: int) -> None:
    with pytest.raises(VerbError) as caught:
        guard.check(fields, changes=True)
    assert caught.value.status == status


@pytest.mark.parametrize("content_type", ["application/json", "Application/JSON; charset=utf-8"])
def test_the_listeners_own_page_and_programs_may(content_type: str) -> None:
    fields = lines(Host="localhost:9000", Content_Type=content_type)
    LOOPBACK.check(fields, changes=True)
    LOOPBACK.check((*fields, (b"Origin", b"http://localhost:9000")), changes=True)


@pytest.mark.parametrize(
    ("host", "expected"),
    [("127.0.0.1", True), ("127.1.2.3", True), ("::1", True), ("localhost", True), ("", False), ("0.0.0.0", False),
     ("10.0.0.1", False), ("node", False)],
)  # fmt: skip
def test_loopback_is_what_nobody_else_reaches(host: str, expected: bool) -> None:
    assert is_loopback(host) is expected


def test_a_fields_value_is_found_whatever_its_case() -> None:
    assert value_of(lines(HoSt="a", host="b"), b"host") == "a"
    assert value_of(lines(Host="a"), b"origin") is None
