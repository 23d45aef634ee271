"""Who may ask and tell: not every page that a browser shows, and nobody without the token where one is wanted.

A browser sends what any page has it send, to loopback, too. So

- the Host that it names must be this listener's: a name that an attacker's DNS leads here (rebinding) is not;
- what changes something must come as JSON, which a page of another site cannot send unasked (Fetch standard, CORS
  preflight), and not from another Origin (RFC 6454 section 7).

A unix socket is guarded by its file's mode; so a token is asked for on TCP alone.
"""

from __future__ import annotations

import hmac
from ipaddress import ip_address

from zcserve.admin.words import VerbError
from zcserve.config.addresses import TcpAddress
from zcserve.http import FieldLines

_LOOPBACK_NAMES = frozenset(("localhost", "localhost.localdomain", "ip6-localhost"))


def is_loopback(host: str) -> bool:
    """Whether a host, as `parse_host` gives it, is this machine's own, which nobody else reaches."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host.lower().rstrip(".") in _LOOPBACK_NAMES


def value_of(lines: FieldLines, name: bytes) -> str | None:
    """A field's value, by its name in lower case; of several the first. None: it was not sent."""
    return next((value.decode("latin-1") for key, value in lines if key.lower() == name), None)


class Guard:
    """The rules of one listener. `token` is b"" where none is wanted."""

    def __init__(self, address: TcpAddress | None, token: bytes = b"") -> None:
        """`address` is None for a unix socket."""
        self._address = address
        self._token = token if address is not None else b""

    def check(self, lines: FieldLines, *, changes: bool, is_open: bool = False) -> None:
        """Raises VerbError where a request with these fields is not allowed. `changes`: it would change something;
        `is_open`: it may come without the token."""
        self._check_host(value_of(lines, b"host") or "")
        if self._token and not is_open:
            self._check_token(value_of(lines, b"authorization") or "")
        if changes:
            _check_origin(lines)

    def _check_host(self, host: str) -> None:
        if self._address is None or self._token:
            return  # no browser comes here, or none that would have the token
        name = host.rpartition(":")[0] if not host.endswith("]") and ":" in host else host
        name = name.strip("[]")
        if not is_loopback(name) and name != self._address.host:
            raise VerbError(421, f"this listener is no {host or 'host without a name'!r}", ("localhost", "127.0.0.1"))

    def _check_token(self, authorization: str) -> None:
        kind, _, token = authorization.partition(" ")
        given = token.strip().encode("latin-1")
        if kind.lower() != "bearer" or not hmac.compare_digest(given, self._token):
            raise VerbError(401, "the token of --admin-token-file is wanted: Authorization: Bearer TOKEN")


def _check_origin(lines: FieldLines) -> None:
    kind = (value_of(lines, b"content-type") or "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise VerbError(415, f"the body is {kind or 'of no type'}", ("Content-Type: application/json",))
    origin, host = value_of(lines, b"origin"), value_of(lines, b"host") or ""
    if origin is not None and origin.partition("://")[2] != host:
        raise VerbError(403, f"a page of {origin} may not tell this node anything")
