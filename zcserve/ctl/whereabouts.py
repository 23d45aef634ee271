"""Which node is meant, and how long it may take: flags over environment over file, as config/sources.py has it for the
server itself."""

from __future__ import annotations

from collections.abc import Mapping
from math import inf
from typing import Any

from zcserve.config.addresses import FdAddress, TcpAddress, parse_listen
from zcserve.ctl.client import Node
from zcserve.errors import UsageError, reason_of

ENV_ADMIN = "ZCSERVE_ADMIN"
ENV_TOKEN_FILE = "ZCSERVE_ADMIN_TOKEN_FILE"
ENV_CONFIG = "ZCSERVE_CONFIG"


def node_of(given: Mapping[str, Any], environ: Mapping[str, str], timeout_s: float = inf) -> Node:
    """From the values of `commands.WHERE`. Raises UsageError."""
    admin = given.get("admin") or environ.get(ENV_ADMIN, "")
    token_file = given.get("token_file") or environ.get(ENV_TOKEN_FILE, "")
    config = given.get("config") or environ.get(ENV_CONFIG, "")
    if config and not (admin and token_file):
        from zcserve.config.sources import look_up  # late: it takes as long as all the rest

        found = look_up(("admin", "admin_token_file"), config)
        admin = admin or found.get("admin", "")
        token_file = token_file or found.get("admin_token_file", "")
    if not admin:
        where = f"{config} has no key admin" if config else "nothing says which node"
        raise UsageError(f"{where}; accepted: --admin unix:PATH or HOST:PORT, {ENV_ADMIN}, or --config FILE")
    address = parse_listen(admin)
    if isinstance(address, FdAddress):
        raise UsageError(
            f"{admin!r} is known to the node alone; accepted: unix:PATH or HOST:PORT, as its socket unit has it"
        )
    if isinstance(address, TcpAddress):
        if not address.port:
            raise UsageError(f"{admin!r} is no address of a node: port 0 is another one at each start")
        return Node(address, _token_of(token_file) if token_file else "", timeout_s)
    return Node(address, "", timeout_s)  # the file's mode guards it


def timeout_of(text: str | None, default_s: float) -> float:
    """Seconds from a flag's value, and inf for 0. Raises UsageError."""
    if text is None:
        return default_s
    from zcserve.config.units import parse_duration  # late: few say it

    return parse_duration(text) or inf


def _token_of(path: str) -> str:
    try:
        with open(path, "rb") as file:
            return file.readline(4096).strip().decode("ascii")
    except OSError as error:
        raise UsageError(f"the token file {path!r} cannot be read: {reason_of(error)}") from None
    except UnicodeDecodeError:
        raise UsageError(f"the first line of {path!r} is no token: it has other than ASCII characters") from None
