"""What the extra `fleet` brings, imported when it is needed: the server, and much of the fleet, works without."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from typing import Any

from zcserve.errors import UsageError

# By module, what pip calls it.
_PACKAGES = {"nats": "nats-py"}


def is_there(module: str) -> bool:
    """Whether a module of the extra can be imported; it is not imported for that."""
    return find_spec(module) is not None


def require(module: str, what: str) -> Any:
    """A module of the extra, which `what` needs ("signatures", in the plural). Raises UsageError, with what to
    install."""
    try:
        return import_module(module)
    except ImportError:
        name = module.partition(".")[0]
        raise UsageError(f"{what} need {_PACKAGES.get(name, name)}: pip install 'zcserve[fleet]'") from None
