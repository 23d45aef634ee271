"""The server beside an agent: what it serves and has prepared, and what it is told, by its admin listener.

Each call blocks, in a thread of the agent's, and has a limit of time. The server does what it was told even where
nothing waits for its answer, and to tell it once more does no harm.
"""

from __future__ import annotations

import json
import os
from typing import Any, NamedTuple

from zcserve.ctl.client import Node, NodeError, ask
from zcserve.errors import ZcserveError, line_of
from zcserve.fleet import strict_json
from zcserve.fleet.messages import Command
from zcserve.log import Log

_log = Log(__name__)

# How long the server may take, in seconds. /stats is made by its loop within milliseconds, by a node that is overloaded
# within seconds. A release of 100 GB is read within 20 minutes by a disk of 100 MB/s. A flip to what is prepared takes
# a moment; where the server has lost it, the release is loaded then.
LOOK_S = 10.0
PREPARE_S = 1800.0
RELOAD_S = 1800.0
DROP_S = 60.0
PURGE_S = 300.0
WARM_S = 1800.0

# What a server would answer again, whenever it is asked.
_FINAL = frozenset((400, 404, 405, 413, 415))


class ServerError(ZcserveError):
    """The server is away, or has not done it: says why.

    is_early  it is away, or starts: it may do it soon
    is_final  it refuses this, and would again
    """

    def __init__(self, message: str, *, is_early: bool = False, is_final: bool = False) -> None:
        super().__init__(message)
        self.is_early = is_early
        self.is_final = is_final


class Seen(NamedTuple):
    """What the server is.

    process   tells it from the one before: its number, and when it was started
    site      the name that verbs have for its site; None: it has no such name, and one site alone
    served    the directory that it serves, without symlinks
    prepared  the directory that it has prepared; "": none
    share     how much of what it is to have in memory is there, 0 to 1
    kept      from so many older generations it still serves what the live one lacks
    others    whether another site of the server has files
    has_files  whether its own site has
    is_drained  whether it is drained, by whatever
    """

    process: tuple[int, float]
    site: str | None
    served: str
    prepared: str
    share: float
    kept: int = 0
    others: bool = False
    has_files: bool = False
    is_drained: bool = False


class LocalServer:
    """For several threads. `site` is the fleet's name of the site: the server's site of that name is meant, or else the
    one that it has."""

    def __init__(self, node: Node, site: str) -> None:
        self._node = node
        self._site = site
        self._own_site: str | None = None

    def look(self) -> Seen:
        """Raises ServerError."""
        told = self._answer("/stats?survey=0", None, LOOK_S)
        try:
            return self._seen(told)
        except (KeyError, TypeError, ValueError) as error:
            raise ServerError(f"the server does not tell what an agent needs: {line_of(error)}") from None

    def _seen(self, told: Any) -> Seen:
        sites = told.get("sites") or []
        if not sites:
            raise ServerError("the server starts: it does not serve yet", is_early=True)
        names = [site["name"] for site in sites]
        found = next((site for site in sites if site["name"] == self._site), sites[0] if len(sites) == 1 else None)
        if found is None:
            raise ServerError(f"the server has no site {self._site}; it has {', '.join(map(str, names))}")
        self._own_site = found["name"] if len(sites) > 1 else None
        prepared = found.get("prepared")
        return Seen(
            (told["pid"], told["process"]["start_time"]),
            self._own_site,
            found["directory"],
            os.path.realpath(prepared["root"]) if prepared else "",
            float(told["ready"].get("share") or 0.0),
            int(found["generation"]["kept"]),
            any(site.get("files") for site in sites if site is not found),
            bool(found.get("files")),
            bool(told["ready"].get("draining")),
        )

    def prepare(self, directory: str) -> float:
        """Have a release in memory beside the live one; how much of it is there, 0 to 1. Raises ServerError."""
        told = self._tell("prepare", {"root": directory}, PREPARE_S)
        if told["problems"]:
            named = ", ".join(f"{one['path']} ({one['why']})" for one in told["problems_named"][:3])
            _log.warning("%d files of %s are not served as they lie there: %s", told["problems"], directory, named)
        return float(told["share"])

    def drop(self) -> None:
        """Have it let go of what is prepared. Raises ServerError."""
        self._tell("prepare", {"root": None}, DROP_S)

    def reload(self) -> None:
        """Have it serve what its root leads to now. Raises ServerError."""
        self._tell("reload", {"wait": True}, RELOAD_S, of_site=False)

    def drain(self, why: str) -> None:
        """Have it answer all, and be not ready: /readyz says why. Raises ServerError."""
        try:
            self._tell("drain", {"why": why}, DROP_S, of_site=False)
        except ServerError as error:
            if not error.is_final:
                raise
            self._tell("drain", {}, DROP_S, of_site=False)  # a program before this one takes no reason

    def undrain(self) -> None:
        """Have it be as before. Raises ServerError."""
        self._tell("undrain", {}, DROP_S, of_site=False)

    def purge(self, command: Command) -> int:
        """Purge what a command says: so many representations and results. A soft purge is done when all is in doubt,
        unless the command has it wait. Raises ServerError."""
        if command.is_hard or command.waits:
            return self._purge(command, {"hard": command.is_hard})
        try:
            return self._purge(command, {"hard": False, "early": True})
        except ServerError as error:
            if not error.is_final:
                raise
            return self._purge(command, {"hard": False})  # the server is older than this agent: it has no such word

    def _purge(self, command: Command, words: dict[str, Any]) -> int:
        purged = 0
        aims: list[dict[str, Any]] = [{"tag": tag} for tag in command.tags]
        aims += [{name: value} for name in ("prefix", "glob") if (value := getattr(command, name))]
        aims += [{"paths": list(command.paths)}] if command.paths else []
        for aim in aims:
            told = self._tell("purge", aim | words, PURGE_S)
            if told.get("error"):
                raise ServerError(f"the server has not purged all: {told['error']}")
            purged += told.get("purged", 0) + told.get("results", 0)
        return purged

    def warm(self, command: Command) -> None:
        """What cannot be loaded is the server's to tell: there may be no room. Raises ServerError."""
        self._tell("warm", {"paths": list(command.paths)}, WARM_S)

    def _tell(self, verb: str, words: dict[str, Any], timeout_s: float, *, of_site: bool = True) -> Any:
        if of_site and self._own_site is not None:
            words = words | {"site": self._own_site}
        return self._answer(f"/{verb}", json.dumps(words).encode(), timeout_s)

    def _answer(self, path: str, body: bytes | None, timeout_s: float) -> Any:
        """The answer's JSON. Raises ServerError."""
        try:
            answer = ask(self._node._replace(timeout_s=timeout_s), path, body)
        except NodeError as error:
            raise ServerError(str(error), is_early=error.is_early) from None
        try:
            told = strict_json.read(answer.body, len(answer.body))
            if answer.status == 200:
                return told
            why = told["error"]
            if answer.status == 401:
                why = f"{why} (the agent's --server-token-file)"
        except (ValueError, TypeError, KeyError):
            raise ServerError(f"the server answers {path} with {answer.status}: is it an admin listener?") from None
        is_final = answer.status in _FINAL
        raise ServerError(f"the server says to {path}: {why}", is_early=answer.status == 409, is_final=is_final)
