"""The verbs that there are: what each of the wordings (words.py) has done. What that is stands elsewhere; here its
words are understood, and what it did is told.

A verb that takes long (a purge, a list to be warmed) is answered when it is done. Who does not wait for the answer has
it done all the same.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from zcserve import log
from zcserve.admin import words
from zcserve.admin.node import Node
from zcserve.admin.verbs import Finish, Verb
from zcserve.admin.words import Done, VerbError
from zcserve.config.refusal import shown
from zcserve.content.content import Content
from zcserve.content.contents import Contents
from zcserve.content.pinning import Pins
from zcserve.content.preparing import Preparation
from zcserve.content.purging import Aim, Purged
from zcserve.content.warming import Warmth
from zcserve.drain import Drain
from zcserve.errors import HttpError, NotNowError, UsageError, nearest

T = TypeVar("T")


def _tried(step: Callable[[], T]) -> T:
    """What a step gives; what it refuses is told. Raises VerbError."""
    try:
        return step()
    except NotNowError as error:
        raise VerbError(409, str(error)) from None
    except HttpError as error:
        raise VerbError(
            400, f"{error.reason}: a path of a URL is wanted, percent-encoded and without a query"
        ) from None
    except UsageError as error:
        raise VerbError(400, str(error)) from None


def _there(part: T | None) -> T:
    """A part of a node that has started. Raises VerbError."""
    if part is None:
        raise VerbError(409, "the node starts: ask again when it serves")
    return part


def _bytes(text: str) -> bytes:
    """A path as a target has it; what is no ASCII is refused as a path."""
    return text.encode(errors="surrogatepass")


def _named(failed: list[tuple[str, str]]) -> list[dict[str, str]]:
    return [{"path": path, "why": why} for path, why in failed]


# --- the process ------------------------------------------------------------------------------------------------------


def _reload(node: Node, given: dict[str, Any], finish: Finish) -> Done | None:
    """Several that come while one is under way are one."""
    _there(node.content)

    def tell(why: str) -> None:
        content: Content = _there(node.content)  # the site may be another by now
        if why:
            finish(VerbError(500, f"the reload failed, the old content goes on: {why}"))
        else:
            generation = content.site.live
            finish(
                {
                    "reloaded": True,
                    "generation": content.counters.flips + 1,
                    "files": content.report.files - content.report.variants,
                    "problems": len(generation.problems),
                }
            )

    node.reload(tell if given["wait"] else None)
    return None if given["wait"] else {"reloading": True}


def _upgrade(node: Node, given: dict[str, Any], finish: Finish) -> Done | None:
    _there(node.drain)

    def tell(process: int, why: str) -> None:
        if why:
            finish(VerbError(500, f"the new program does not serve, this process goes on: {why}"))
        else:
            finish({"upgraded": True, "pid": process})

    if why := node.upgrade(tell if given["wait"] else None):
        raise VerbError(409, why)
    return None if given["wait"] else {"upgrading": True}


def _draining(node: Node, step: Callable[[Drain], bool]) -> Done:
    """While another process takes over, nothing changes: it has been told whether this one is drained."""
    drain: Drain = _there(node.drain)
    if _there(node.store).frozen and not drain.is_ending:
        raise VerbError(409, "an upgrade is under way: ask again when the new process serves")
    changed = step(drain)
    service = _there(node.service)
    if drain.is_ending:
        raise VerbError(409, "the node ends: that is not taken back")
    return {"draining": service.draining, "changed": changed, "connections": service.count()}


def _drain(node: Node, given: dict[str, Any], finish: Finish) -> Done:
    return _draining(node, lambda drain: drain.step_aside(given["why"]))


def _undrain(node: Node, given: dict[str, Any], finish: Finish) -> Done:
    return _draining(node, Drain.step_back)


def _loglevel(node: Node, given: dict[str, Any], finish: Finish) -> Done:
    before = log.level()
    if given["level"] is not None:
        log.set_level(given["level"])
    return {"level": log.level(), "before": before}


# --- content ----------------------------------------------------------------------------------------------------------

_AIMS: dict[str, Callable[[Content, Any], Aim]] = {
    "path": lambda _, path: Aim.paths([_bytes(path)]),
    "paths": lambda _, paths: Aim.paths(map(_bytes, paths)),
    "prefix": lambda _, prefix: Aim.prefix(_bytes(prefix)),
    "glob": lambda _, glob: Aim.glob(glob),
    "tag": lambda content, tag: Aim.tag(content.site.root.rules, tag),
}


def _content_of(node: Node, site: str | None) -> Content:
    """Of the site of this name; the first one's where none is named."""
    contents: Contents = _there(node.contents)
    if site is None:
        return contents.first
    if (content := contents.named(site)) is None:
        names = [one.site.name for one in contents]
        raise VerbError(400, f"there is no site {shown(site)}; the nearest known is {nearest(site, names)}")
    return content


def _known_tag(content: Content, tag: str | None) -> Done:
    """Of a tag that no rule gives the one that may be meant."""
    tags = content.site.root.rules.tags
    if tag is None or tag in tags:
        return {}
    return {"nearest_tag": tags.nearest(tag)}


def _purge(node: Node, given: dict[str, Any], finish: Finish) -> Done | None:
    content = _content_of(node, given["site"])
    aims = [name for name in _AIMS if given[name] is not None]
    if len(aims) != 1:
        raise VerbError(400, f"purge needs one of {', '.join(_AIMS)}, and got {len(aims)}", tuple(_AIMS))
    aim = _tried(lambda: _AIMS[aims[0]](content, given[aims[0]]))
    known = _known_tag(content, given["tag"])
    hard, early = given["hard"], given["early"]

    def tell(purged: Purged) -> None:
        finish(
            {
                "how": "hard" if hard else "soft",
                "matched": purged.matched,
                "purged": purged.purged,
                "results": purged.results,
                "bytes": purged.bytes,
                **known,
                **({"error": purged.why} if purged.why else {}),
            }
        )

    _tried(lambda: content.purging.purge(aim, hard=hard, told=tell, is_early=early))
    return None


def _warm(node: Node, given: dict[str, Any], finish: Finish) -> Done | None:
    content = _content_of(node, given["site"])
    paths = given["paths"]

    def tell(warmth: Warmth) -> None:
        finish(
            {
                "paths": warmth.paths,
                "resident": warmth.resident,
                "resident_bytes": warmth.resident_bytes,
                "failed": _named(warmth.failed),
                "failed_total": warmth.failed_total,
            }
        )

    _tried(lambda: content.warming.warm(map(_bytes, paths), len(paths), tell))
    return None


def _pin(node: Node, given: dict[str, Any], finish: Finish) -> Done | None:
    content = _content_of(node, given["site"])
    add, remove = given["add"], given["remove"]
    if not add and not remove:
        return {"pins": list(content.site.pins.globs)}

    def tell(pins: Pins) -> None:
        finish(
            {
                "pins": list(pins.globs),
                "files": pins.files,
                "resident": pins.resident,
                "resident_bytes": pins.bytes,
                "failed": _named(pins.failed),
                "failed_total": pins.failed_total,
            }
        )

    _tried(lambda: content.pinning.change(add, remove, tell))
    return None


def _prepare(node: Node, given: dict[str, Any], finish: Finish) -> Done | None:
    content = _content_of(node, given["site"])

    def tell(found: Preparation) -> None:
        if found.why:
            finish(VerbError(found.status, f"not prepared: {found.why}"))
        elif found.root is None:
            finish({"site": content.site.name, "root": None})
        else:
            finish(_prepared(content, found))

    _tried(lambda: content.preparing.prepare(given["root"], tell))
    return None


def _prepared(content: Content, found: Preparation) -> Done:
    return {
        "site": content.site.name,
        "root": found.root,
        "is_live": found.is_live,
        "files": found.files,
        "bytes": found.bytes,
        "resident_bytes": found.resident_bytes,
        "share": found.share,
        "shared_files": found.shared,
        "problems": found.problems_total,
        "problems_named": [{"path": one.path, "why": one.why} for one in found.problems],
    }


VERBS = (
    Verb(words.RELOAD, _reload, is_long=True),
    Verb(words.PREPARE, _prepare, is_long=True),
    Verb(words.UPGRADE, _upgrade, is_long=True),
    Verb(words.DRAIN, _drain),
    Verb(words.UNDRAIN, _undrain),
    Verb(words.PURGE, _purge, is_long=True),
    Verb(words.WARM, _warm, is_long=True),
    Verb(words.PIN, _pin, is_long=True),
    Verb(words.LOGLEVEL, _loglevel),
)
