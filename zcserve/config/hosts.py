"""Names that a site answers to, read from text: `example.org`, `*.example.org`, `192.0.2.1`, `[2001:db8::1]`.

A Host field has the name in lower case or not, with a dot behind it or not, with a port or not: none of these matters
(net/fields.py). A name that is not ASCII is sent in its A-labels (IDNA, RFC 5890 section 2.3.2.1), so these are what is
written here.
"""

from __future__ import annotations

import re
from ipaddress import AddressValueError, IPv6Address

from zcserve.config.refusal import refusal

WILDCARD = "*."
_ACCEPTED = "a name such as example.org, *.example.org for all below it, or an address, without a port"
_NAME = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?<!-)(?:\.(?!-)[a-z0-9_-]{1,63}(?<!-))*")
_NAME_CHARACTERS_MAX = 253  # of a name in DNS (RFC 1035 section 2.3.4), written with dots


def parse_site_host(text: str) -> str:
    """A name in lower case without a dot at its end, or one with `*.` in front; IPv6 in brackets. Raises UsageError."""
    name = text.lower().removesuffix(".")
    if not text.isascii():
        raise refusal(text, "is not ASCII", f"the A-labels of IDNA, as browsers send them{_a_labels(name)}")
    if name.startswith("[") and name.endswith("]"):
        return _parse_address(text, name[1:-1])
    below = name.removeprefix(WILDCARD)
    if "*" in below:
        raise refusal(text, "has a wildcard that is not the whole first label", _ACCEPTED)
    if re.fullmatch(r"[^:]*:[0-9]*", name):
        raise refusal(text, "has a port", _ACCEPTED)
    if not _NAME.fullmatch(below) or len(below) > _NAME_CHARACTERS_MAX:
        raise refusal(text, "is not a host name", _ACCEPTED)
    return name


def _parse_address(text: str, address: str) -> str:
    try:
        return f"[{IPv6Address(address).compressed}]"
    except AddressValueError:
        raise refusal(text, "is not an IPv6 address", _ACCEPTED) from None


def _a_labels(name: str) -> str:
    """What was meant, as it is to be written; "" where there is no saying."""
    try:
        return f" ({name.encode('idna').decode()})"
    except UnicodeError:
        return ""
