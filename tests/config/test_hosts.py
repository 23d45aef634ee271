"""zcserve.config.hosts: which names a site may answer to."""

from __future__ import annotations

import pytest

from zcserve.config.hosts import parse_site_host
from zcserve.errors import UsageError


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("example.org", "example.org"),
        ("EXAMPLE.Org.", "example.org"),
        ("*.Example.org", "*.example.org"),
        ("*.localhost", "*.localhost"),
        ("localhost", "localhost"),
        ("xn--bcher-kva.example", "xn--bcher-kva.example"),
        ("_dmarc.a-b.example", "_dmarc.a-b.example"),
        ("192.0.2.1", "192.0.2.1"),
        ("[2001:DB8:0:0::1]", "[2001:db8::1]"),
        ("a" * 63 + ".example", "a" * 63 + ".example"),
    ],
)
def test_a_name_is_in_lower_case_without_its_last_dot(text: str, name: str) -> None:
    assert parse_site_host(text) == name


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "is not a host name"),
        (".", "is not a host name"),
        (".example.org", "is not a host name"),
        ("a..b", "is not a host name"),
        ("-a.example", "is not a host name"),
        ("a-.example", "is not a host name"),
        ("a b", "is not a host name"),
        ("a/b", "is not a host name"),
        ("http://example.org", "is not a host name"),
        ("a" * 64, "is not a host name"),
        (".".join(["a" * 63] * 4), "is not a host name"),
        ("*", "a wildcard"),
        ("*.", "a wildcard"),
        ("*.*.example", "a wildcard"),
        ("www.*.example", "a wildcard"),
        ("www*.example.org", "a wildcard"),
        ("example.org:80", "has a port"),
        ("example.org:", "has a port"),
        ("2001:db8::1", "is not a host name"),
        ("[2001:db8::1]:80", "is not a host name"),
        ("[2001:db8::g]", "is not an IPv6 address"),
        ("[fe80::1%eth0]", "is not an IPv6 address"),
        ("[v1.a]", "is not an IPv6 address"),
        ("bücher.example", r"A-labels of IDNA, as browsers send them \(xn--bcher-kva\.example\)"),
        ("ü" * 99 + ".example", "A-labels of IDNA, as browsers send them$"),
    ],
)
def test_what_no_host_field_can_be_is_refused(text: str, why: str) -> None:
    with pytest.raises(UsageError, match=why):
        parse_site_host(text)
