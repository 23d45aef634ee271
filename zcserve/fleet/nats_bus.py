"""The bus over NATS JetStream (bus.py says what it promises).

    operator --append--> ZCSERVE_COMMANDS_SITE --a reader for each node--> node
    operator --compare-and-set--> zcserve-desired[SITE] --watched by each node--> node
    node --put--> zcserve-state[SITE.NODE] --watched--> operator

- **What is desired is one record, replaced by compare-and-set**: a put says which number the record has that it read,
  and the server refuses it where another one came between. Where the bucket was lost, nothing is stored, and the
  edition that the caller gives says so.
- **Ages are by the server's clock**: of the states that were there, from when they came to it; of a new one, from when
  it came here. No node's clock is asked, and no operator's.
- **A claim is a record with a holder and a duration**, whose end is judged by the server's clock as well: messages that
  expire one by one came with a later NATS than this must work with.
- **Where NATS loses all it had**, streams are made anew by the first that needs one. Nodes are told a gap, and report
  within half a minute; what is desired is put again by the next rollout, with an edition above all that nodes know.

nats_streams.py says what lies where, nats_link.py how the connection lasts, nats_commands.py how a node reads,
nats_reports.py how it reports.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import AsyncGenerator, AsyncIterator
from typing import NamedTuple

from zcserve.fleet import forms, nats_streams
from zcserve.fleet.bus import (
    CLAIM_LASTS_S,
    BusError,
    Caught,
    Claim,
    ClaimHeldError,
    ConflictError,
    Delivery,
    Heard,
)
from zcserve.fleet.forms import FormError
from zcserve.fleet.jetstream import LAST, JetStream, Record, WrongLastError
from zcserve.fleet.messages import Command, Desired, State
from zcserve.fleet.nats_commands import NatsCommands
from zcserve.fleet.nats_link import Link, lasting
from zcserve.fleet.nats_manifests import Manifests
from zcserve.fleet.nats_place import NatsPlace
from zcserve.fleet.nats_reports import Reports
from zcserve.fleet.nats_streams import CLAIM, DESIRED, POSITION, STATE
from zcserve.log import Log

_log = Log(__name__)

# A compare-and-set that others come before is tried so often. Each time one of the others has had its way.
TRIES_MAX = 50


class NatsOperatorBus:
    """An operator's side. It connects by itself when it is used first."""

    def __init__(self, place: NatsPlace, site: str) -> None:
        self._site = forms.name(site, "site")
        self._link = Link(place, f"zcserve operator of {site}")
        self._jetstream = JetStream(self._link)
        self._manifests = Manifests(self._jetstream, site)
        self._commands = nats_streams.commands(site)
        self._desired = nats_streams.key(DESIRED, site)
        self._claim = nats_streams.key(CLAIM, site)

    async def claim(self, holder: str, lasts_s: float = CLAIM_LASTS_S) -> Claim:
        """See OperatorBus."""
        forms.identity(holder, "holder")
        claim = Claim(holder, secrets.token_hex(8))
        for _ in range(TRIES_MAX):
            known = await self._known_claim()
            if known.holder != holder:
                await self._check_ended(known)
            if await self._set_claim(known, claim, lasts_s):
                return claim
        raise BusError("the claim changes too fast")

    async def renew(self, claim: Claim, lasts_s: float = CLAIM_LASTS_S) -> None:
        """See OperatorBus."""
        for _ in range(TRIES_MAX):
            known = await self._known_claim()
            if known.token != claim.token:
                await self._check_ended(known)
            if await self._set_claim(known, claim, lasts_s):
                return
        raise BusError("the claim changes too fast")

    async def give_up(self, claim: Claim) -> None:
        """See OperatorBus."""
        known = await self._known_claim()
        if known.token == claim.token:
            await self._set_claim(known, Claim("", ""), 0.0)

    async def _known_claim(self) -> _KnownClaim:
        record = await self._jetstream.last(CLAIM, self._claim)
        if record is None:
            return _KnownClaim()
        try:
            form = forms.load(record.data)
            holder, token = (forms.text(form.get(name, ""), name, forms.ID_CHARACTERS_MAX) for name in _OF_A_CLAIM)
            lasts_s = forms.real(form.get("lasts_s", 0.0), "lasts_s", float(forms.NUMBER_MAX))
        except FormError:  # it was written by hand: nobody has the site by it
            return _KnownClaim(record.seq)
        return _KnownClaim(record.seq, holder, token, record.time + lasts_s)

    async def _check_ended(self, known: _KnownClaim) -> None:
        """Raises ClaimHeldError."""
        if known.holder and (left_s := known.ends - await self._jetstream.now(CLAIM)) > 0:
            raise ClaimHeldError(known.holder, left_s)

    async def _set_claim(self, known: _KnownClaim, claim: Claim, lasts_s: float) -> bool:
        """In place of what is known; False: that has changed."""
        data = forms.dump({"holder": claim.holder, "token": claim.token, "lasts_s": lasts_s})
        try:
            await self._jetstream.append(CLAIM, self._claim, data, last=known.seq)
        except WrongLastError:
            return False
        return True

    async def put_manifest(self, digest: str, data: bytes) -> None:
        """See OperatorBus."""
        await self._manifests.put(forms.digest(digest, "manifest"), data)

    async def manifest(self, digest: str) -> bytes:
        """See OperatorBus."""
        return await self._manifests.get(forms.digest(digest, "manifest"))

    async def desired(self) -> Desired:
        """See OperatorBus."""
        record = await self._jetstream.last(DESIRED, self._desired)
        return _desired_of(record, self._site)

    async def put_desired(self, desired: Desired, after: int) -> None:
        """See OperatorBus."""
        if desired.edition <= after:
            raise ValueError(f"edition {desired.edition} is not after {after}")
        for _ in range(TRIES_MAX):
            record = await self._jetstream.last(DESIRED, self._desired)
            stored = _desired_of(record, self._site)
            if stored == desired:
                return
            if stored.edition != after:
                raise ConflictError(stored)
            try:
                last = record.seq if record else 0
                await self._jetstream.append(DESIRED, self._desired, desired.dump(), last=last)
            except WrongLastError:
                continue  # it is looked at which one came between
            return
        raise BusError("what is desired changes too fast")

    async def publish(self, command: Command, *, is_anew: bool = False) -> frozenset[str]:
        """See OperatorBus."""
        headers = {"Nats-Msg-Id": f"{command.id} {secrets.token_hex(8)}" if is_anew else command.id}
        await self._jetstream.append(self._commands, self._commands.subject, command.dump(), headers=headers)
        return frozenset()

    def states(self) -> AsyncIterator[Heard | Caught]:
        """See OperatorBus."""
        return lasting(self._link, "states", self._read_states)

    async def _read_states(self) -> AsyncGenerator[Heard | Caught | None]:
        reader = await self._jetstream.read(STATE, nats_streams.key(STATE, self._site, "") + "*", LAST)
        left = reader.left
        is_caught = False
        try:
            while True:
                if not is_caught and left <= 0:
                    is_caught = True
                    yield Caught()
                record = await reader.next()
                if record is None or (not is_caught and not record.left):
                    left = 0
                left -= 1
                if record is None:
                    yield None
                elif state := _state_of(record, self._site):
                    here = time.monotonic()
                    came = here - record.came
                    age_s = came if is_caught else max(reader.server_time(here) - record.time, came)
                    yield Heard(state, age_s)
        finally:
            await reader.close()

    async def forget(self, node: str) -> None:
        """See OperatorBus. Its position goes, too: it is new when it comes again."""
        for stream in (STATE, POSITION):
            await self._jetstream.drop(stream, nats_streams.key(stream, self._site, forms.name(node, "node")))

    async def close(self) -> None:
        """See OperatorBus."""
        await self._link.close()


class NatsNodeBus:
    """The side of one node of a site. It connects by itself when it is used first."""

    def __init__(self, place: NatsPlace, site: str, node: str) -> None:
        self._site = forms.name(site, "site")
        self._link = Link(place, f"zcserve node {forms.name(node, 'node')} of {site}")
        self._jetstream = JetStream(self._link)
        self._manifests = Manifests(self._jetstream, site)
        self._commands = NatsCommands(self._jetstream, site, node)
        self._desired = nats_streams.key(DESIRED, site)
        self._edition = 0  # of what is desired, as it was read last
        self._reports = Reports(self._jetstream, site, node, self._commands.write_again)

    def deliveries(self) -> AsyncIterator[Delivery]:
        """See NodeBus."""
        return self._commands.deliveries()

    async def acknowledge(self, name: str) -> None:
        """See NodeBus."""
        await self._commands.acknowledge(name)

    async def set_aside(self, name: str, reason: str) -> None:
        """See NodeBus. It is in the stream ZCSERVE_ASIDE, with the reason as a header."""
        await self._commands.set_aside(name, reason)

    def desired(self) -> AsyncIterator[Desired]:
        """See NodeBus."""
        return lasting(self._link, "desired releases", self._read_desired)

    async def _read_desired(self) -> AsyncGenerator[Desired | None]:
        reader = await self._jetstream.read(DESIRED, self._desired, LAST)
        if self._edition and not reader.left:
            _log.warning(
                "what was desired of %s (edition %d) is not in NATS any more; this node stays there till another is",
                self._site,
                self._edition,
            )
            self._edition = 0
        try:
            yield None
            while True:
                record = await reader.next()
                try:
                    desired = _desired_of(record, self._site) if record else None
                except BusError as error:
                    _log.warning("%s", error)
                    continue
                self._edition = desired.edition if desired else self._edition
                yield desired
        finally:
            await reader.close()

    async def read_desired(self) -> Desired:
        """See NodeBus."""
        return _desired_of(await self._jetstream.last(DESIRED, self._desired), self._site)

    async def manifest(self, digest: str) -> bytes:
        """See NodeBus."""
        return await self._manifests.get(forms.digest(digest, "manifest"))

    async def report(self, state: State) -> None:
        """See NodeBus."""
        await self._reports.report(state)

    async def close(self) -> None:
        """See NodeBus."""
        await self._link.close()
        self._commands.close()


class _KnownClaim(NamedTuple):
    """What is stored: the number of its record, and when it ends by the server's clock, in seconds since 1970."""

    seq: int = 0
    holder: str = ""
    token: str = ""
    ends: float = 0.0


_OF_A_CLAIM = ("holder", "token")


def _desired_of(record: Record | None, site: str) -> Desired:
    """What a record says. Raises BusError where it cannot be read: a later version, or no message at all."""
    if record is None or not record.data:  # none, or a mark that it was deleted
        return Desired(site)
    try:
        desired = Desired.parse(record.data)
    except FormError as error:
        raise BusError(f"what is desired of {site} cannot be read: {error}") from None
    if desired.site != site:
        raise BusError(f"what is desired of {site} is of {desired.site}")
    return desired


def _state_of(record: Record, site: str) -> State | None:
    """A state, if the record is one, of a node of this site, in its place."""
    try:
        state = State.parse(record.data)
    except FormError:
        return None  # a later version, or a mark that it was deleted: how that node is is not known
    return state if record.subject == nats_streams.key(STATE, site, state.node) and state.site == site else None
