"""What no client can do, whatever it sends: change what is read of a trusted proxy's part."""

from __future__ import annotations

import socket
from ipaddress import ip_address

import pytest

pytest.importorskip("hypothesis")

from hypothesis import given
from hypothesis import strategies as st

from zcserve.forwarded import UNIX, Trusted, parse_node, read

TRUSTED = Trusted(["127.0.0.1", "10.0.0.0/8", "fd00::/8", UNIX])
PEER = "127.0.0.1"

# Anything that a field value may hold, and often what means something to a reader of these fields.
VALUE = st.one_of(
    st.text(st.sampled_from('",;=\\ \tfor10.:[]_') | st.characters(codec="latin-1", exclude_categories=["Cc"])),
    st.lists(
        st.sampled_from(['"', '="', "\\", "for=", "10.0.0.1", "1.2.3.4", ", ", ";", "proto=https", "unknown"])
    ).map("".join),
).map(lambda text: text.encode("latin-1"))
V4 = st.ip_addresses(v=4).map(str)
V6 = st.ip_addresses(v=6).map(str)
CLIENT = (V4 | V6).filter(lambda name: not TRUSTED.has(name) and getattr(ip_address(name), "ipv4_mapped", None) is None)
PROXIES = st.lists(st.sampled_from(["127.0.0.1", "10.9.8.7", "fd00::9", UNIX]), max_size=4)
SCHEMES = st.sampled_from(["http", "https"])
GLUE = st.sampled_from([",", ", ", " ,\t", ", ,"])
BETWEEN = st.sampled_from([";", " ; ", ";;"])


def node(name: str) -> str:
    return f'"[{name}]"' if name.count(":") > 1 else f'"{name}"' if ":" in name else name


@given(sent=VALUE, client=CLIENT, proxies=PROXIES, scheme=SCHEMES, glue=GLUE, lines=st.booleans())
def test_x_forwarded_for(sent: bytes, client: str, proxies: list[str], scheme: str, glue: str, lines: bool) -> None:
    written = glue.join([client, *proxies]).encode()
    fields = [(b"X-Forwarded-For", sent), (b"x-forwarded-for", written)]
    if not lines:
        fields = [(b"x-Forwarded-For", sent + glue.encode() + written)]
    origin = read(TRUSTED, PEER, [*fields, (b"X-Forwarded-Proto", scheme.encode()), (b"forwarded", sent)])
    assert (origin.client.name, origin.scheme) == (client, scheme)


@given(
    sent=VALUE, client=CLIENT, proxies=PROXIES, scheme=SCHEMES, glue=GLUE, between=BETWEEN, text=VALUE,
    lines=st.booleans(),
)  # fmt: skip
def test_forwarded(
    sent: bytes, client: str, proxies: list[str], scheme: str, glue: str, between: str, text: bytes, lines: bool
) -> None:
    quoted = b'"%b"' % text.replace(b"\\", rb"\\").replace(b'"', rb"\"")
    pairs = [b"for=%b" % node(client).encode(), b"proto=%b" % scheme.encode(), b"x=%b" % quoted, b'host="a.b:1"']
    written = between.encode().join(pairs)
    for proxy in proxies:
        written += glue.encode() + between.encode().join([b"by=_x", b"for=%b" % node(proxy).encode()])
    fields = [(b"Forwarded", sent), (b"forwarded", written)]
    if not lines:
        fields = [(b"Forwarded", sent + glue.encode() + written)]
    origin = read(TRUSTED, PEER, fields)
    assert (origin.client.name, origin.scheme, origin.host) == (client, scheme, b"a.b:1")


@given(
    st.lists(
        st.tuples(st.sampled_from([b"Forwarded", b"X-Forwarded-For", b"X-Forwarded-Proto", b"X-Forwarded-Host"]), VALUE)
    )
)
def test_whatever_is_sent_the_client_is_an_address(fields: list[tuple[bytes, bytes]]) -> None:
    origin = read(TRUSTED, PEER, fields)
    assert origin.client.name == UNIX or str(ip_address(origin.client.name)) == origin.client.name
    assert origin.scheme in (None, "http", "https")
    assert origin.host is None or (origin.host.isascii() and not set(origin.host) & set(b' \t\r\n"\\/@'))


TEXTS = st.text(st.sampled_from("0123456789abcdefF:.%x[]"), max_size=40) | st.lists(
    st.sampled_from(["::", ":", "0", "1", "ffff", "db8", "1.2.3.4", "00", "."]), max_size=17
).map("".join)


@given(TEXTS | V4 | V6)
def test_an_address_is_what_the_c_library_says(text: str) -> None:
    """The fast lane reads addresses by inet_pton; what may hold an IPv4 address in other words it leaves."""
    family = socket.AF_INET6 if ":" in text else socket.AF_INET
    try:
        packed = socket.inet_pton(family, text)
    except OSError:
        return
    if family == socket.AF_INET or any(packed[:10]):
        assert parse_node(text.encode()) == (socket.inet_ntop(family, packed), None)
