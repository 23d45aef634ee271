"""The operator's side of a fleet without NATS: all nodes of a list are asked over HTTP (docs/fleet-http.md).

There is no value in one place: each node keeps its own copy of the claim, of what is desired, and of manifests. What
most of the nodes have is so.

- **Two majorities of one list have a node in common.** So of two claims at once one is refused, and a claim reads the
  edition that the last one has put. Lists of two operators may differ by one node: change a list so.
- **What is desired is put under a claim alone**, since a node takes it from the last claim that it gave. A put outside
  of a rollout takes a claim for itself.
- **A node that was away is behind.** Whatever reads what is desired puts the newest to the nodes that have an older
  one, and its manifests; while a rollout lasts, that is done as soon as a node reports an old edition. Where no
  operator comes, agents that know the list ask each other (http_peers.py), and others go on serving what they have.
- **A put has two steps: it is proposed, and when most of the nodes have that on their disks, it is desired.** No node
  acts on a proposal, and a claim ends those that it finds (http_proposals.py). Under a claim the nodes that hold it are
  read, and what they are to keep is proposed to them alone (http_claims.py).
- **Where two nodes have different values of the highest edition**, what more of them have is put again with a higher
  one. That takes a list that was changed by more than one node, or a disk that was put back.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterable, Mapping
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import TypeVar

from zcserve.fleet.bus import (
    CLAIM_LASTS_S,
    BusError,
    Caught,
    Claim,
    ClaimHeldError,
    ConflictError,
    Heard,
    MissingError,
)
from zcserve.fleet.http_asking import ANSWER_S, Asking, Node, parsed, words_of
from zcserve.fleet.http_claims import Claiming
from zcserve.fleet.http_proposals import Proposal, right_of
from zcserve.fleet.messages import ROLLOUT_OPS, Command, Desired, State
from zcserve.fleet.node_list import Listed
from zcserve.fleet.packed import both
from zcserve.fleet.peer import Answer

_T = TypeVar("_T")

# In seconds. A manifest of 64 MB at 10 Mbit/s.
MANIFEST_S = 60.0
# After most of the nodes have taken a manifest, for the others: a node that lacks it asks for it again a second later.
MANIFEST_GRACE_S = 2.0
# A node is asked for its next state so long at a time, and less than the 60 that it takes.
POLL_S = 25.0
# A node that gave no state is asked again after this; and states that are known are told to be all after that.
AGAIN_S = 1.0
CAUGHT_S = 2.0


class HttpOperatorBus:
    """An `OperatorBus` of one site, over HTTP to the nodes of a list. Made and used in one running loop."""

    def __init__(self, site: str, nodes: Iterable[Listed], token: str = "") -> None:
        self._asking = Asking(site, nodes, token)
        self._claiming = Claiming(self._asking)
        self._desired: Desired | None = None
        self._manifests: dict[str, bytes] = {}
        self._behind: set[str] = set()
        self.trouble: dict[str, str] = {}

    # -- the claim

    async def claim(self, holder: str, lasts_s: float = CLAIM_LASTS_S) -> Claim:
        """See OperatorBus. What the last claim has put is spread before this one has the site."""
        return await self._spread(await self._claiming.take(holder, lasts_s))

    async def _spread(self, claim: Claim) -> Claim:
        try:
            await self._read()
        except BusError:
            await self._claiming.give_up(claim)
            raise
        return claim

    async def renew(self, claim: Claim, lasts_s: float = CLAIM_LASTS_S) -> None:
        """See OperatorBus."""
        await self._claiming.renew(claim, lasts_s)

    async def give_up(self, claim: Claim) -> None:
        """See OperatorBus."""
        await self._claiming.give_up(claim)

    # -- what is desired

    async def desired(self) -> Desired:
        """See OperatorBus. What is behind is repaired, and what was cut off is ended, if no other one has the site."""
        if self._claiming.claim:
            return await self._held_on(self._read)
        newest = await self._read()
        if self._behind or await self._cut_off(newest):
            await self._repair()
        return self._desired or newest

    async def _repair(self) -> None:
        with suppress(BusError):
            await self.give_up(await self._spread(await self._claiming.take_briefly()))

    async def _held_on(self, work: Callable[[], Awaitable[_T]]) -> _T:
        """Work under the claim, done again once the nodes that are there now have it: others had it before. Raises
        BusError."""
        try:
            return await work()
        except (ConflictError, ClaimHeldError):
            raise
        except BusError:
            await self._claiming.renew_as_it_is()
            return await work()

    async def _read(self) -> Desired:
        """The newest that most of the nodes know; under a claim that of those that hold it, and others are brought to
        it. Raises BusError."""
        claiming = self._claiming
        if claiming.is_unsure:
            await claiming.renew_as_it_is()
        is_held = claiming.claim is not None
        replies = await self._asking.all("GET", "/desired", nodes=claiming.holders if is_held else None)
        if len(right := replies.of(200)) < self._asking.most:
            raise self._asking.too_few("what is desired", right, replies)
        found = {name: parsed(Desired.parse, name, answer) for name, answer in right.items()}
        edition = max(one.edition for one in found.values())
        values = Counter(one.dump() for one in found.values() if one.edition == edition)
        newest = Desired.parse(values.most_common(1)[0][0])
        if len(values) > 1 and is_held:
            newest = replace(newest, edition=edition + 1)
        if is_held and (cut_off := await self._cut_off(newest)):
            await self._propose(cut_off)  # as its own claim has: this one may be cut off, too
            newest = cut_off.desired
        if self._desired is None or newest.edition >= self._desired.edition:
            self._desired = newest
        self._behind = {name for name, one in found.items() if one.edition < newest.edition}
        if is_held:
            await self._bring([node for node in self._asking.nodes if node.name in self._behind])
            self._behind |= {node.name for node in self._asking.nodes if node not in claiming.holders}
        return self._desired

    async def _cut_off(self, stored: Desired) -> Proposal | None:
        """The put that was cut off after its proposal; None: there is none. Raises BusError."""
        claiming = self._claiming
        replies = await self._asking.all("GET", "/proposed", nodes=claiming.holders if claiming.claim else None)
        if len(right := replies.of(200, 204)) < self._asking.most:
            raise self._asking.too_few("what is proposed", right, replies)
        return right_of(_proposals(right), stored)

    async def _propose(self, proposal: Proposal) -> None:
        """Have most of the nodes keep it. Raises BusError."""
        claiming = self._claiming
        assert claiming.claim is not None
        target = f"/proposed?claim={claiming.claim.token}&after={proposal.after}&number={claiming.number}"
        claiming.is_unsure = True
        replies = await self._asking.all("PUT", target, proposal.desired.dump(), nodes=claiming.holders)
        if len(taken := replies.of(204)) < self._asking.most:
            raise self._asking.too_few("what is to be desired", taken, replies)
        claiming.is_unsure = False

    async def _bring(self, nodes: Collection[Node]) -> None:
        """What is desired, to nodes that are behind, and what they need for it. Those that fail stay behind."""
        desired, claim = self._desired, self._claiming.claim
        if not nodes or desired is None or claim is None or not desired.edition:
            return
        await self._claiming.join(nodes)
        for release in (desired.release, desired.trial.release if desired.trial else None):
            if release is None:
                continue
            try:
                data = both(await self.manifest(release.manifest))
            except BusError:
                continue  # a node asks for it again, and says that it has none
            await self._asking.all(
                "PUT", f"/manifests/{release.manifest}", data, within_s=MANIFEST_S, nodes=nodes, waits_for_all=True
            )
        replies = await self._asking.all("PUT", f"/desired?claim={claim.token}", desired.dump(), nodes=nodes)
        self._behind -= replies.of(200, 204).keys()

    async def put_desired(self, desired: Desired, after: int) -> None:
        """See OperatorBus."""
        if self._claiming.claim:
            await self._held_on(partial(self._put, desired, after))
            return
        claim = await self._spread(await self._claiming.take_briefly())
        try:
            await self.put_desired(desired, after)
        finally:
            await self.give_up(claim)

    async def _put(self, desired: Desired, after: int) -> None:
        stored = await self._read()
        if stored != desired and (stored.edition != after or desired.edition <= after):
            raise ConflictError(stored)
        await self._propose(Proposal(after, desired))
        assert self._claiming.claim is not None
        token = self._claiming.claim.token
        replies = await self._asking.all("PUT", f"/desired?claim={token}", desired.dump())
        if len(taken := replies.of(200, 204)) < self._asking.most:
            raise self._asking.too_few("what is desired", taken, replies)
        self._desired = desired
        self._behind = {node.name for node in self._asking.nodes} - taken.keys()

    # -- manifests and commands

    async def put_manifest(self, digest: str, data: bytes) -> None:
        """See OperatorBus."""
        replies = await self._asking.all(
            "PUT", f"/manifests/{digest}", both(data), within_s=MANIFEST_S, grace_s=MANIFEST_GRACE_S
        )
        if len(kept := replies.of(200, 204)) < self._asking.most:
            raise self._asking.too_few("manifest", kept, replies)
        self._manifests[digest] = data

    async def manifest(self, digest: str) -> bytes:
        """See OperatorBus: of the first node that has it."""
        if known := self._manifests.get(digest):
            return known
        lacking, failed = 0, []
        for node in self._asking.nodes:
            try:
                answer = await node.peer.get_packed(f"{self._asking.base}/manifests/{digest}", within_s=MANIFEST_S)
            except BusError as error:
                failed.append(str(error))
                continue
            if answer.status == 200:
                self._manifests[digest] = answer.content
                return answer.content
            lacking += 1
        if lacking >= self._asking.most:
            raise MissingError(f"no node has the manifest {digest[:12]}, and they keep the last ones")
        raise BusError("; ".join(failed))

    async def publish(self, command: Command, *, is_anew: bool = False) -> frozenset[str]:
        """See OperatorBus. Nodes that are not reached have missed it; those of a rollout hear of it by what is
        desired, and it waits for none of them."""
        waits = command.op not in ROLLOUT_OPS
        target = "/commands?anew=1" if is_anew else "/commands"
        replies = await self._asking.all("POST", target, command.dump(), waits_for_all=waits)
        taken = replies.of(200, 202, 204)
        if not taken:
            raise self._asking.too_few("command", taken, replies)
        return frozenset(node.name for node in self._asking.nodes if node.name not in taken)

    # -- states

    async def states(self) -> AsyncIterator[Heard | Caught]:
        """See OperatorBus."""
        queue: asyncio.Queue[Heard | str | Exception] = asyncio.Queue()
        tasks = [asyncio.create_task(self._poll(node, queue.put_nowait)) for node in self._asking.nodes]
        waiting = {node.name for node in self._asking.nodes}
        clock = asyncio.get_running_loop().time
        caught_at = clock() + CAUGHT_S
        is_caught = False
        try:
            while True:
                if not is_caught and (not waiting or clock() >= caught_at):
                    is_caught = True
                    yield Caught()
                try:
                    async with asyncio.timeout_at(None if is_caught else caught_at):
                        found = await queue.get()
                except TimeoutError:
                    continue
                if isinstance(found, Exception):
                    raise found
                waiting.discard(found if isinstance(found, str) else found.state.node)
                if isinstance(found, Heard):
                    yield found
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _poll(self, node: Node, tell: Callable[[Heard | str | Exception], None]) -> None:
        """Ask one node for its states, one after the other; its name says that there is none, or no answer."""
        last: State | None = None
        while True:
            try:
                heard = await self._next_state(node, last)
            except BusError as error:
                self.trouble[node.name] = str(error)
                tell(node.name)
                await asyncio.sleep(AGAIN_S)
                continue
            except Exception as error:
                tell(error)
                return
            self.trouble.pop(node.name, None)
            if heard is None:
                tell(node.name)
                await asyncio.sleep(0 if last else AGAIN_S)
                continue
            last = heard.state
            tell(heard)
            await self._bring_where_behind(node, last)

    async def _next_state(self, node: Node, last: State | None) -> Heard | None:
        query = f"?after={last.number}&boot={last.boot}&wait={POLL_S:g}" if last else ""
        answer = await node.peer.ask(
            "GET", f"{self._asking.base}/state{query}", within_s=ANSWER_S + (POLL_S if last else 0)
        )
        if answer.status == 204:
            return Heard(last, 0.0) if last else None
        if answer.status != 200:
            raise BusError(f"{node.name}: {words_of(answer)}")
        state = parsed(State.parse, node.name, answer)
        if state.node != node.name:
            raise BusError(f"{node.peer.url} is {state.node}, and the list calls it {node.name}")
        return Heard(state, _age_s(answer))

    async def _bring_where_behind(self, node: Node, state: State) -> None:
        """A node that reports an older edition than one that it was to have has been away."""
        desired = self._desired
        if self._claiming.claim and desired and node.name in self._behind and state.edition < desired.edition:
            await self._bring([node])

    async def forget(self, node: str) -> None:
        """See OperatorBus: a node is known by the list, which its operator changes."""

    async def close(self) -> None:
        """End what runs still, and the connections."""
        await self._asking.close()


def _proposals(answers: Mapping[str, Answer]) -> list[Proposal]:
    full = {name: answer for name, answer in answers.items() if answer.status == 200}
    afters = {name: answer.fields.get("zcserve-after", "") for name, answer in full.items()}
    numbers = {name: answer.fields.get("zcserve-number", "0") for name, answer in full.items()}
    return [parsed(partial(Proposal.of, afters[name], numbers[name]), name, full[name]) for name in full]


def _age_s(answer: Answer) -> float:
    try:
        return max(0.0, float(answer.fields.get("zcserve-age", "0")))
    except ValueError:
        return 0.0
