"""The verbs that there are."""

from __future__ import annotations

from typing import Any

from zcserve.admin.node import Node
from zcserve.admin.verbs import Done, Finish, Verb, VerbError


def _reload(node: Node, given: dict[str, Any], finish: Finish) -> Done:
    """Several that come while one is under way are one."""
    if node.content is None:
        raise VerbError(409, "the node starts: it reads all of its content now")
    node.reload()
    return {"reloading": True}


def _upgrade(node: Node, given: dict[str, Any], finish: Finish) -> Done:
    """What hinders it is in the log."""
    if node.content is None:
        raise VerbError(409, "the node starts: an upgrade is begun when it serves")
    node.upgrade()
    return {"upgrading": True}


VERBS = (
    Verb("reload", "read the root again, and flip to what is there; all servlets are loaded anew", _reload),
    Verb("upgrade", "start the program anew, have it take over without a request lost, and end", _upgrade),
)
