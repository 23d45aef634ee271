"""Names that a site answers to, read from text: `example.org`, `*.example.org`, `192.0.2.1`, `[2001:db8::1]`.

A Host field has the name in lower case or not, with a dot behind it or not, with a port or not: none of these matters
(net/fields.py). A name that is not ASCII is sent in its A-labels (IDNA, RFC 5890 section 2.3.2.1), so these are what is
written here.
"""

from __future__ import annotations

import re

from zcserve.config.refusal import refusal
from zcserve.http import host_name, is_host

WILDCARD = "*."
_ACCEPTED = "a name such as example.org, *.example.org for all below it, or an address, without a port"
_NAME = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?<!-)(?:\.(?!-)[a-z0-9_-]{1,63}(?<!-))*")
_NAME_CHARACTERS_MAX = 253  # of a name in DNS (RFC 1035 section 2.3.4), written with dots


def parse_site_host(text: str) -> str:
    """A name in lower case without a dot at its end, or one with `*.` in front; IPv6 in brackets. Raises UsageError."""
    if not text.isascii():
        raise refusal(text, "is not ASCII", f"the A-labels of IDNA, as browsers send them{_a_labels(text)}")
    is_address = text.startswith("[") and text.endswith("]")
    if is_address and not _is_address(text):
        raise refusal(text, "is not an IPv6 address", _ACCEPTED)
    if re.fullmatch(r"[^:]*:[0-9]*", text):
        raise refusal(text, "has a port", _ACCEPTED)
    name = host_name(text.encode()).decode() if is_host(text.encode()) else text
    if is_address:
        return name
    below = name.removeprefix(WILDCARD)
    if "*" in below:
        raise refusal(text, "has a wildcard that is not the whole first label", _ACCEPTED)
    if not _NAME.fullmatch(below) or len(below) > _NAME_CHARACTERS_MAX:
        raise refusal(text, "is not a host name", _ACCEPTED)
    return name


def _is_address(text: str) -> bool:
    return is_host(text.encode()) and not text.lower().startswith("[v")


def _a_labels(text: str) -> str:
    """What was meant, as it is to be written; "" where there is no saying."""
    try:
        return f" ({text.lower().removesuffix('.').encode('idna').decode()})"
    except UnicodeError:
        return ""
