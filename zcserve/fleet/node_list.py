"""The list of nodes that an operator keeps: a line a node, for a fleet without NATS.

    # name  agent                    what clients ask
    n1      http://10.0.0.1:8090     http://10.0.0.1:8080
    n2      https://n2.example:8090

The third URL may be left out: then no ETags are sampled there, and no canary is asked over HTTP.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from zcserve.errors import UsageError, reason_of
from zcserve.fleet import forms
from zcserve.fleet.forms import FormError

# Of the file, in bytes: 10,000 nodes.
LIST_BYTES_MAX = 2 << 20
# Of a token, in characters; and the file with it may have a line end.
TOKEN_CHARACTERS_MAX = 4096


@dataclass(frozen=True, slots=True)
class Listed:
    """A node of the list. `agent` and `public` are http(s)://HOST[:PORT] without a path; `public` may be ""."""

    name: str
    agent: str
    public: str = ""


def read_nodes(path: str | Path) -> tuple[Listed, ...]:
    """The nodes of a file, in its order. Raises UsageError with the line that is wrong."""
    found: dict[str, Listed] = {}
    agents: dict[str, str] = {}
    for number, line in enumerate(_read(path, LIST_BYTES_MAX).splitlines(), 1):
        words = line.partition("#")[0].split()
        if not words:
            continue
        try:
            listed = _listed(words)
        except FormError as error:
            raise UsageError(f"{path}: line {number}: {error}") from None
        if listed.name in found:
            raise UsageError(f"{path}: line {number}: {listed.name} is there twice")
        if other := agents.get(listed.agent):
            raise UsageError(f"{path}: line {number}: {listed.agent} is the agent of {other} already")
        agents[listed.agent] = listed.name
        found[listed.name] = listed
    if not found:
        raise UsageError(f"{path} names no node; accepted: lines with NAME URL [PUBLIC-URL]")
    return tuple(found.values())


def read_token(path: str | Path) -> str:
    """The token on the first line of a file, as an agent reads it. Raises UsageError."""
    token = _read(path, TOKEN_CHARACTERS_MAX).partition("\n")[0].strip()
    if not token or not token.isascii() or not token.isprintable():
        raise UsageError(f"{path} holds no token; accepted: a line of printable ASCII")
    return token


def _read(path: str | Path, bytes_max: int) -> str:
    try:
        with open(path, "rb") as file:
            data = file.read(bytes_max + 1)
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {reason_of(error)}") from None
    if len(data) > bytes_max:
        raise UsageError(f"{path} has more than {bytes_max:,} bytes")
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise UsageError(f"{path} is not UTF-8") from None


def _listed(words: list[str]) -> Listed:
    """A line. Raises FormError."""
    if not 2 <= len(words) <= 3:
        raise FormError(f"{' '.join(words)!r} is not understood; accepted: NAME URL [PUBLIC-URL]")
    return Listed(forms.name(words[0], "name"), *map(_base, words[1:]))


def _base(url: str) -> str:
    """A URL without a path. Raises FormError."""
    try:
        parts = urlsplit(url)
        right = parts.scheme in ("http", "https") and parts.hostname and (parts.port or 80) > 0
        rest = parts.path.rstrip("/") or parts.query or parts.fragment or parts.username is not None
    except ValueError:
        right, rest = False, ""
    if not right or rest:
        raise FormError(f"{forms.shown(url)} is not understood; accepted: http(s)://HOST[:PORT]")
    return url.rstrip("/")
