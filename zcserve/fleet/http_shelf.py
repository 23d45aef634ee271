"""What a node keeps where no NATS does: the claim that it gave, what is desired, manifests, commands until they are
done. All of it is on the disk before it is answered.

    .agent/claim.json                the last claim that was given
    .agent/desired.json              a Desired
    .agent/proposed                  one that is to follow it (http_proposals.py)
    .agent/manifests/DIGEST          a manifest
    .agent/commands/NUMBER           a command, as it came
    .agent/aside/NUMBER              one that was set aside: {"name", "reason", "message"}

One node's copy is not the truth; most of them together are (docs/fleet-http.md). What makes it so is here: an edition
is replaced by a higher one alone, and by the last claim alone that this node gave. http_claims.py numbers claims.

**What the disk does not take holds in memory**, and is not answered as kept: so this node counts for no majority, but
goes where the others go, and does not wait to be told again when there is room. That is right, since what is put as
desired is decided already: most of the nodes have it on their disks as a proposal. A proposal itself is kept or not.

Its methods block for as long as the disk takes; not for several threads.
"""

from __future__ import annotations

import json
import os
import re
from collections import OrderedDict
from dataclasses import dataclass, replace
from typing import Any

from zcserve.errors import ZcserveError
from zcserve.fleet import forms, strict_json
from zcserve.fleet.bus import ClaimHeldError, ConflictError, MissingError
from zcserve.fleet.forms import FormError
from zcserve.fleet.http_proposals import Proposal
from zcserve.fleet.keeping import Kept
from zcserve.fleet.messages import Command, Desired, Message, Poisoned, parse_command
from zcserve.log import Log

_log = Log(__name__)

# The newest stay, and those that are desired or on trial. What is desired names the last 16 releases, and a rollback
# asks for the manifest of one.
MANIFESTS_MAX = 24
# Commands that wait: 250 MB at most.
COMMANDS_MAX = 1000
# Commands that were set aside, the last ones; 16 MB at most.
ASIDE_MAX = 64
# Ids of commands that are over, which come again where an answer was lost.
OVER_MAX = 1024
# Of purges that have come, in memory: so many ids are known, and the last ones are told to other nodes, 17 KB at most.
# More are known than told, so that a node that is ahead of another one has not forgotten what that one tells.
PURGES_MAX = 1024
PURGES_TOLD_MAX = 128
# Manifests that the disk has not taken, in memory: what is desired, and what is on trial. 128 MB at most.
MANIFESTS_UNKEPT_MAX = 2
# A claim lasts so long at most, in seconds: a holder that was killed blocks the next for no longer.
LASTS_S_MAX = 600.0

_CLAIM, _DESIRED = "claim.json", "desired.json"
_is_number = re.compile(r"[0-9]{12}").fullmatch


class FullError(ZcserveError):
    """Too many commands wait."""


@dataclass(frozen=True, slots=True)
class _Given:
    holder: str
    token: str
    lasts_s: float
    until_s: float
    number: int


class Shelf:
    """Of one site. Times are those of any clock that only goes forward.

    desired   what is desired, as this node was told
    waiting   commands that are not over, by their names, in their order
    purges    ids of the purges that have come since the agent was started, the newest last
    """

    def __init__(self, kept: Kept, site: str, now_s: float) -> None:
        """Raises OSError. What cannot be read as it should is told in the log, and is as if it were not there."""
        self._kept = kept
        self._site = site
        self._unkept: dict[str, bytes] = {}  # by name, what the disk has not taken
        self._claim = self._read_claim(now_s)
        self.desired = self._read_desired()
        self._proposal = self._read_proposal()
        self.waiting: OrderedDict[str, Message] = OrderedDict()
        self.purges: OrderedDict[str, None] = OrderedDict()
        self._files: dict[str, str] = {}
        self._over: OrderedDict[str, None] = OrderedDict()
        self._number = 0
        for folder in ("aside", "commands"):
            for file in kept.names(folder):
                number = file.rpartition("/")[2]
                if not _is_number(number):
                    _log.warning("%s is none of the agent's own, and is left alone", os.path.join(kept.path, file))
                    continue
                self._number = max(self._number, int(number))
                if folder == "commands" and (data := kept.read(file)) is not None:
                    message = parse_command(data)
                    self._take(_name_of(message), message)
                    self._files[_name_of(message)] = file

    # --- the claim ------------------------------------------------------------------------------------------------

    def holder(self, now_s: float) -> tuple[str, float]:
        """What has the claim, and for how many seconds; "" for nothing."""
        claim = self._claim
        return (claim.holder, claim.until_s - now_s) if claim and claim.until_s > now_s else ("", 0.0)

    @property
    def number(self) -> int:
        """Of the last claim that was given; 0: none was."""
        return self._claim.number if self._claim else 0

    def give(
        self, holder: str, token: str, lasts_s: float, now_s: float, *, renew: bool = False, number: int = 0
    ) -> int:
        """Give the claim, or keep it; its number here. With a `number`, most of the nodes have given it, and one of a
        lower number is over. Raises ClaimHeldError, FormError, OSError."""
        forms.identity(holder, "holder")
        forms.identity(token, "token")
        forms.real(lasts_s, "lasts_s", LASTS_S_MAX)
        forms.number(number, "number")
        claim = self._claim
        is_own = claim is not None and claim.token == token
        may_stay = claim is not None and claim.until_s > now_s and number <= claim.number
        if claim and may_stay and not is_own and (renew or claim.holder != holder):
            raise ClaimHeldError(claim.holder, claim.until_s - now_s)
        given = self._claim = _Given(holder, token, lasts_s, now_s + lasts_s, max(number, self.number + (not is_own)))
        is_kept = claim and is_own and (claim.lasts_s, claim.number) == (lasts_s, given.number)
        if not is_kept or _CLAIM in self._unkept:
            self._keep(_CLAIM, _form_of(given))
        return given.number

    def take_back(self, token: str, now_s: float) -> None:
        """The claim of this token is over; it is still the last that was given. Raises OSError."""
        claim = self._claim
        if claim and claim.token == token:
            self._claim = _Given(claim.holder, token, 0.0, now_s, claim.number)
            self._keep(_CLAIM, _form_of(self._claim))

    def _read_claim(self, now_s: float) -> _Given | None:
        """It has ended, since it may have been given up while the agent was away; what has it still renews it."""
        form = self._load(_CLAIM)
        try:
            if form is not None:
                number = forms.number(form.get("number", 0), "number")
                return _Given(form["holder"], form["token"], float(form["lasts_s"]), now_s, number)
        except (KeyError, TypeError, ValueError, FormError) as error:
            _log.warning("the claim that was given is not known any more: %s", error)
        return None

    # --- what is desired, and manifests -----------------------------------------------------------------------------

    def put_desired(self, desired: Desired, token: str, now_s: float) -> None:
        """Replace it. Raises ClaimHeldError, ConflictError, FormError, OSError."""
        if self._is_news(desired, token, now_s):
            self.desired = desired
            self._keep(_DESIRED, desired.dump())
        elif _DESIRED in self._unkept:
            self._keep(_DESIRED, desired.dump())

    def propose(self, proposal: Proposal, token: str, now_s: float) -> None:
        """Keep it aside, instead of the one before: this node does not act on it. One without a number has that of its
        claim. Raises ClaimHeldError, ConflictError, FormError, OSError."""
        is_news = self._is_news(proposal.desired, token, now_s)
        if is_news and proposal.number not in (0, self.number):
            raise ClaimHeldError(*self.holder(now_s))  # the claim came here late, behind another
        proposal = replace(proposal, number=self.number)
        if is_news and proposal != self._proposal:
            self._kept.write("proposed", proposal.dump())
            self._proposal = proposal

    def proposal(self) -> Proposal | None:
        """The last one, if nothing of its edition, or of a higher one, is desired here."""
        found = self._proposal
        return found if found and found.desired.edition > self.desired.edition else None

    def _is_news(self, desired: Desired, token: str, now_s: float) -> bool:
        """Whether it may replace what is desired; False: it is that."""
        if desired.site != self._site:
            raise FormError(f"site: {desired.site}, and this node is of {self._site}")
        if desired == self.desired:
            return False
        claim = self._claim
        if claim is None or claim.token != token:
            raise ClaimHeldError(*self.holder(now_s))
        if desired.edition <= self.desired.edition:
            raise ConflictError(self.desired)
        return True

    def adopt(self, desired: Desired) -> None:
        """Take what most of the nodes have: that is never undone, so no claim is asked for. Raises FormError,
        OSError."""
        if desired.site != self._site:
            raise FormError(f"site: {desired.site}, and this node is of {self._site}")
        if desired.edition > self.desired.edition:
            self.desired = desired
            self._keep(_DESIRED, desired.dump())

    def _read_desired(self) -> Desired:
        data = self._kept.read(_DESIRED)
        try:
            if data is not None:
                return Desired.parse(data)
        except FormError as error:
            _log.warning("what was desired is not known any more: %s", error)
        return Desired(self._site)

    def _read_proposal(self) -> Proposal | None:
        data = self._kept.read("proposed")
        try:
            return Proposal.parse(data) if data is not None else None
        except FormError as error:
            _log.warning("what was proposed is not known any more: %s", error)
        return None

    def put_manifest(self, digest: str, data: bytes) -> None:
        """Keep it; the oldest that is of no use goes. Raises FormError, OSError."""
        name = f"manifests/{forms.digest(digest, 'manifest')}"
        self._keep(name, data)
        trial = self.desired.trial
        releases = (self.desired.release, trial.release if trial else None)
        needed = {digest, *(release.manifest for release in releases if release)}
        others = [name for name in self._kept.newest("manifests") if name.rpartition("/")[2] not in needed]
        for name in others[max(MANIFESTS_MAX - len(needed), 0) :]:
            self._kept.remove(name)

    def manifest(self, digest: str) -> bytes:
        """Raises MissingError, FormError, OSError."""
        name = f"manifests/{forms.digest(digest, 'manifest')}"
        data = self._unkept.get(name) or self._kept.read(name)
        if data is None:
            raise MissingError(f"there is no manifest {digest} at this node: it is put before it is desired")
        return data

    # --- commands -------------------------------------------------------------------------------------------------

    def append(self, data: bytes, *, is_anew: bool = False) -> None:
        """Keep a command until it is over; anew also one that was. Where the disk does not take it, it waits all the
        same, and is kept when it comes again: what is to be purged is not served until there is room. Raises FullError,
        OSError."""
        message = parse_command(data)
        name = _name_of(message)
        if name in self._files or (name in self._over and not is_anew):
            return
        if name not in self.waiting and len(self.waiting) >= COMMANDS_MAX:
            raise FullError(f"{COMMANDS_MAX:,} commands wait: the server beside this agent does none of them")
        self._number += 1
        file = f"commands/{self._number:012}"
        self._take(name, message)
        self._kept.write(file, data)
        self._files[name] = file

    def _take(self, name: str, message: Message) -> None:
        self.waiting[name] = message
        if isinstance(message, Command) and message.op == "purge":
            self.purges[name] = None
            while len(self.purges) > PURGES_MAX:
                self.purges.popitem(last=False)

    def settle(self, name: str) -> None:
        """It is over. Raises OSError."""
        if name not in self.waiting:
            return
        if file := self._files.get(name):
            self._kept.remove(file)
            del self._files[name]
        del self.waiting[name]
        self._over[name] = None
        while len(self._over) > OVER_MAX:
            self._over.popitem(last=False)

    def set_aside(self, name: str, reason: str) -> None:
        """It is over, and kept with the reason. Raises OSError."""
        if name not in self.waiting:
            return
        if file := self._files.get(name):
            data = self._kept.read(file) or b""
            told = {"name": name, "reason": reason, "message": data.decode(errors="backslashreplace")}
            self._write(file.replace("commands", "aside"), told)
            for old in self._kept.names("aside")[:-ASIDE_MAX]:
                self._kept.remove(old)
        self.settle(name)

    def aside(self) -> list[dict[str, Any]]:
        """Those that were set aside, the newest last. Raises OSError."""
        return [form for file in self._kept.names("aside") if (form := self._load(file)) is not None]

    # --- files ----------------------------------------------------------------------------------------------------

    @property
    def has_unkept(self) -> bool:
        """Whether there is something that the disk has not taken."""
        return bool(self._unkept)

    def keep_again(self) -> None:
        """Have the disk take it. Raises OSError."""
        for name, data in [*self._unkept.items()]:
            self._keep(name, data)

    def _keep(self, name: str, data: bytes) -> None:
        """Raises OSError: it is held in memory then."""
        self._unkept.pop(name, None)
        try:
            self._kept.write(name, data)
        except OSError:
            self._unkept[name] = data
            manifests = [one for one in self._unkept if one.startswith("manifests/")]
            for old in manifests[:-MANIFESTS_UNKEPT_MAX]:
                del self._unkept[old]
            raise

    def _write(self, name: str, form: dict[str, Any]) -> None:
        self._kept.write(name, json.dumps(form).encode())

    def _load(self, name: str) -> dict[str, Any] | None:
        data = self._kept.read(name)
        try:
            form = strict_json.read(data, len(data)) if data is not None else None
        except ValueError:
            form = None
        return form if isinstance(form, dict) else None


def _form_of(claim: _Given) -> bytes:
    form = {"holder": claim.holder, "token": claim.token, "lasts_s": claim.lasts_s, "number": claim.number}
    return json.dumps(form).encode()


def _name_of(message: Message) -> str:
    return message.name if isinstance(message, Poisoned) else message.id
