"""The client behind proxies that are trusted: `X-Forwarded-For`, `-Proto`, `-Host`, and `Forwarded` (RFC 7239).

A proxy adds to the right of these lists what it sees: the address of its own client. So the right end is written by the
peer of our connection, trusted or not listened to, and each element tells which peer wrote what stands left
of it. The lists are read from the right, up to the first address that is not trusted: that is the client. What it wrote
itself stands further left, and is never looked at. So nothing that a client sends changes what is read of a proxy's
part (`_elements` reads even quoted strings from the right; a reader from the left would follow the client's quotes).

- Field lines of one name are one list, and empty elements do not count (RFC 9110 sections 5.3, 5.6.1).
- `unknown`, `_hidden` and what is no address end the reading: the client is then the last address before.
- An element of `Forwarded` that is malformed (no `name=value`, a name twice, an unquoted colon, quotes that do not
  match) ends it, too, and nothing of this element counts.
- The scheme and the host are those of the element that names the client, or of the next one to the right that has
  them. `X-Forwarded-Proto` and `-Host` are counted from the right as far as `-For`. A scheme other than http and https,
  and a host that is none, are as if they were not there.
- **Where both kinds are there, `X-Forwarded-*` counts and `Forwarded` does not.** Most proxies write the former and
  pass on a `Forwarded` that the client sent. A proxy that writes `Forwarded` must remove `X-Forwarded-*`.

Pure functions over bytes and a bounded memo; addresses are checked and written anew, so that none can forge a log line.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from itertools import islice
from typing import NamedTuple

from zcserve.errors import UsageError
from zcserve.http import is_host

UNIX = "unix:"  # the name of a peer on a unix socket, and of all of them among those that are trusted

# Elements that are looked at. A client could write some thousand trusted addresses, 2 us each; no chain has a hundred.
HOPS_MAX = 100
# Answers that are kept: those of some thousand clients, of 500 bytes each.
MEMO_ENTRIES_MAX = 4096

_ACCEPTED = "addresses, networks such as 10.0.0.0/8 or fd00::/8, and unix: for peers on a unix socket"

_FIELDS = re.compile(rb"\r\n(x-forwarded-for|x-forwarded-proto|x-forwarded-host|forwarded):([^\r]*+)", re.IGNORECASE)
# RFC 7239 section 6, and what X-Forwarded-For has besides: an IPv6 address without brackets. The port's `?` takes
# nothing for good: as `?+`, CPython 3.11.2 (Debian 12) has a colon without a port match.
_NODE = re.compile(
    rb"(?:\[(?P<v6>[0-9A-Fa-f:.]++)\]|(?P<v4>[0-9.]++))(?::(?:(?P<port>[0-9]{1,5})|_[0-9A-Za-z._-]++))?"
    rb"|(?P<bare>[0-9A-Fa-f:.]++)"
)
_TCHAR = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]"
# A pair of `Forwarded`, its bytes in reverse. A quote inside a quoted string has its backslash behind it there; whether
# that is one, `_QUOTED` says when the string is known.
_PAIR_REVERSED = re.compile(rb'(?:"(?P<quoted>(?:[^"]|"\\)*+)"|(?P<token>%b++))=(?P<name>%b++)' % (_TCHAR, _TCHAR))
_QUOTED = re.compile(rb"(?:[\t \x21\x23-\x5b\x5d-\x7e\x80-\xff]|\\[\t \x21-\x7e\x80-\xff])*+")
_QUOTED_PAIR = re.compile(rb"\\(.)", re.DOTALL)
_BLANKS = re.compile(rb"[ \t]*+")


class Node(NamedTuple):
    """One end of a connection: an address in its canonical text, or `UNIX`; the port where it was told."""

    name: str
    port: int | None = None


class Origin(NamedTuple):
    """What trusted proxies say of a request. `scheme` "http" or "https", and `host`, which may have a port, are None
    where they say nothing of them."""

    client: Node
    scheme: str | None = None
    host: bytes | None = None

    def server(self, scheme: str) -> tuple[str, int] | None:
        """The host and the port that the client meant, None where no host is told."""
        if not self.host:
            return None
        name, colon, port = self.host.decode("ascii").rpartition(":")
        if not colon or port.endswith("]"):
            name, port = self.host.decode("ascii"), ""
        return name.strip("[]"), int(port) if port else 443 if scheme == "https" else 80


class Trusted:
    """The addresses that are trusted, from texts such as "127.0.0.1,10.0.0.0/8" and "unix:". Raises UsageError."""

    def __init__(self, texts: Iterable[str]) -> None:
        self.unix = False
        self.networks: list[IPv4Network | IPv6Network] = []
        for text in (one.strip() for group in texts for one in group.split(",")):
            if text == UNIX:
                self.unix = True
            elif text:
                self.networks.append(_network(text))

    def has(self, name: str) -> bool:
        """Whether an address (a peer's, without brackets) or `UNIX` is trusted."""
        if name == UNIX:
            return self.unix
        address = ip_address(name)
        return any(address in network for network in self.networks)


def _network(text: str) -> IPv4Network | IPv6Network:
    try:
        network = ip_network(text)
    except ValueError:
        try:
            meant = f"; {ip_network(text, strict=False)} would be a network"
        except ValueError:
            meant = ""
        raise UsageError(f"{text!r} is neither an address nor a network{meant}; accepted: {_ACCEPTED}") from None
    if isinstance(network, IPv6Network) and network.prefixlen >= 96 and network.network_address.ipv4_mapped:
        return IPv4Network((network.network_address.ipv4_mapped, network.prefixlen - 96))
    return network


class Proxies:
    """Reads what trusted proxies say. One thread uses it."""

    def __init__(self, trusted: Trusted) -> None:
        self._trusted = trusted
        self._peers: dict[str, bool] = {}
        self._origins: dict[tuple[str, tuple[tuple[bytes, bytes], ...]], Origin] = {}

    def trusts(self, peer: str) -> bool:
        """Whether the peer of a connection is listened to."""
        known = self._peers.get(peer)
        if known is None:
            if len(self._peers) >= MEMO_ENTRIES_MAX:
                self._peers.clear()
            known = self._peers[peer] = self._trusted.has(peer)
        return known

    def origin(self, peer: str, head: bytes) -> Origin | None:
        """What a trusted `peer` says in a head that was found to be well-formed; None for nothing."""
        fields = tuple(_FIELDS.findall(head))
        if not fields:
            return None
        origin = self._origins.get((peer, fields))
        if origin is None:
            if len(self._origins) >= MEMO_ENTRIES_MAX:
                self._origins.clear()
            origin = self._origins[peer, fields] = read(self._trusted, peer, fields)
        return origin


def read(trusted: Trusted, peer: str, fields: Iterable[tuple[bytes, bytes]]) -> Origin:
    """What the (name, value) of these fields say together, in whatever case; `peer` is trusted."""
    values: dict[bytes, list[bytes]] = {}
    for name, value in fields:
        values.setdefault(name.lower(), []).append(value)
    forwarded = b",".join(values.pop(b"forwarded", ()))
    if not values:
        return _forwarded(trusted, peer, forwarded)
    hops, schemes, hosts = (
        [one for one in (each.strip(b" \t") for each in b",".join(values.get(name, ())).split(b",")) if one]
        for name in (b"x-forwarded-for", b"x-forwarded-proto", b"x-forwarded-host")
    )
    client, count = Node(peer), 0
    for hop in islice(reversed(hops), HOPS_MAX):
        count += 1
        if (node := parse_node(hop)) is None:
            break
        client = node
        if not trusted.has(node.name):
            break
    return Origin(client, _scheme(_counted(schemes, count)), _host(_counted(hosts, count)))


def _counted(values: list[bytes], count: int) -> bytes:
    """That of the proxy which named the client, the `count`th from the right, or of the farthest that named any."""
    return values[-min(max(count, 1), len(values))] if values else b""


def _forwarded(trusted: Trusted, peer: str, value: bytes) -> Origin:
    client, scheme, host = Node(peer), None, None
    for pairs in islice(_elements(value), HOPS_MAX):
        scheme = _scheme(pairs.get(b"proto", b"")) or scheme
        host = _host(pairs.get(b"host", b"")) or host
        if (node := parse_node(pairs.get(b"for", b""))) is None:
            break
        client = node
        if not trusted.has(node.name):
            break
    return Origin(client, scheme, host)


def _elements(value: bytes) -> Iterator[dict[bytes, bytes]]:
    """The elements of `Forwarded` from the right, as parameters by name in lower case; none from the first on that is
    malformed (RFC 7239 section 4)."""
    reverse = value[::-1]
    at, pairs = 0, dict[bytes, bytes]()
    while True:
        at = _behind_blanks(reverse, at)
        mark = reverse[at : at + 1]
        if mark in (b"", b","):
            if pairs:
                yield pairs
            if not mark:
                return
            pairs = {}
        elif mark != b";":
            match = _PAIR_REVERSED.match(reverse, at)
            if match is None:
                return
            at = _behind_blanks(reverse, match.end())
            name, said = match["name"][::-1].lower(), _value(match)
            if said is None or name in pairs or reverse[at : at + 1] not in (b"", b",", b";"):
                return
            pairs[name] = said
            continue
        at += 1


def _behind_blanks(text: bytes, at: int) -> int:
    blanks = _BLANKS.match(text, at)
    assert blanks is not None
    return blanks.end()


def _value(match: re.Match[bytes]) -> bytes | None:
    if match["token"] is not None:
        return match["token"][::-1]
    quoted = match["quoted"][::-1]
    return _QUOTED_PAIR.sub(rb"\1", quoted) if _QUOTED.fullmatch(quoted) else None


def parse_node(text: bytes) -> Node | None:
    """A node with an address (RFC 7239 section 6); None for `unknown`, an obfuscated one, and what is none."""
    if text == b"unix:":
        return Node(UNIX)
    match = _NODE.fullmatch(text)
    if match is None or int(match["port"] or 0) > 65535:
        return None
    try:
        address = ip_address((match["v6"] or match["v4"] or match["bare"]).decode("ascii"))
    except ValueError:
        return None
    if (match["v6"] is not None and address.version != 6) or (match["bare"] is not None and address.version != 6):
        return None
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return Node(str(address), int(match["port"]) if match["port"] else None)


def _scheme(text: bytes) -> str | None:
    scheme = text.lower()
    return scheme.decode("ascii") if scheme in (b"http", b"https") else None


def _host(text: bytes) -> bytes | None:
    return text if text and is_host(text) else None
