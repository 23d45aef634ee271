"""Where to listen: addresses of TCP and of Unix sockets, and sockets that systemd has opened, read from text. Nothing
is resolved or opened here."""

from __future__ import annotations

import os
import re
from typing import NamedTuple, TypeAlias

from zcserve.config.refusal import refusal

_LISTEN_ACCEPTED = (
    "HOST:PORT, [IPV6]:PORT, :PORT (all interfaces), unix:PATH, or fd:NAME and fd for sockets that systemd passes; "
    "PORT from 0 to 65535"
)
_HOST_ACCEPTED = "a name, an IPv4 or IPv6 address, or * for all interfaces"
_HOST_NAME = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_-]*[A-Za-z0-9_])?(?:\.[A-Za-z0-9_-]+)*\.?")
_HOST_CHARACTERS_MAX = 253  # of a name in DNS (RFC 1035 section 2.3.4), written with dots
_SUN_PATH_BYTES_MAX = 107  # unix(7): sun_path holds 108 with the closing NUL


class TcpAddress(NamedTuple):
    """Where to listen: `host` without brackets, "" for every interface; `port` 0 for any free one."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host or '*'}:{self.port}"


class UnixAddress(NamedTuple):
    """A unix stream socket at `path`."""

    path: str

    def __str__(self) -> str:
        return f"unix:{self.path}"


class FdAddress(NamedTuple):
    """A socket that systemd has opened, by its FileDescriptorName=; "" for all that it passes."""

    name: str

    def __str__(self) -> str:
        return f"fd:{self.name}" if self.name else "fd"


Address: TypeAlias = TcpAddress | UnixAddress | FdAddress


def parse_listen(text: str) -> Address:
    """An address from "127.0.0.1:8080", "localhost:0", "[::1]:80", ":80", "*:80", "unix:/run/web.sock", "fd" or
    "fd:web".

    Raises UsageError.
    """
    if text.startswith("unix:"):
        return _parse_unix(text)
    if text == "fd" or text.startswith("fd:"):
        return _parse_fd(text)
    match = re.fullmatch(r"(\[[^\]]*\]|[^:]*):([0-9]{1,5})", text)
    if match is None or int(match[2]) > 65535 or match[1] == "[]":
        raise refusal(text, "is not an address", _LISTEN_ACCEPTED)
    return TcpAddress(parse_host(match[1]), int(match[2]))


def _parse_unix(text: str) -> UnixAddress:
    path = text.removeprefix("unix:")
    if not path or "\0" in path:
        raise refusal(text, "names no path", _LISTEN_ACCEPTED)
    if len(os.fsencode(path)) > _SUN_PATH_BYTES_MAX:
        raise refusal(text, "is too long", f"{_SUN_PATH_BYTES_MAX} bytes of path")
    return UnixAddress(path)


def _parse_fd(text: str) -> FdAddress:
    """A name as systemd.socket(5) allows it; a number would be taken for a descriptor by one, for a port by another."""
    name = text.removeprefix("fd").removeprefix(":")
    if text != "fd" and (not re.fullmatch(r"[!-9;-~]{1,255}", name) or name.isdigit()):
        raise refusal(text, "names no socket", "fd:NAME with the socket unit's FileDescriptorName=, or fd for all")
    return FdAddress(name)


def parse_host(text: str) -> str:
    """The host as `socket.getaddrinfo` wants it: no brackets, "" for all interfaces. Raises UsageError."""
    from ipaddress import AddressValueError, IPv4Address, IPv6Address  # late: --help does not need it

    if text in ("", "*"):
        return ""
    bare = text[1:-1] if text.startswith("[") and text.endswith("]") else text
    try:
        if re.fullmatch(r"[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*(%[A-Za-z0-9._-]+)?", bare):
            return str(IPv6Address(bare))
        if bare == text and re.fullmatch(r"[0-9.]+", bare):
            return str(IPv4Address(bare))
    except AddressValueError:
        raise refusal(text, "is not an IP address", _HOST_ACCEPTED) from None
    if bare != text or len(bare) > _HOST_CHARACTERS_MAX or not _HOST_NAME.fullmatch(bare):
        raise refusal(text, "is not a host", _HOST_ACCEPTED)
    return bare
