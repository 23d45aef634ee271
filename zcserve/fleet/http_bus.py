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
  acts on a proposal, and a claim ends those that it finds (http_proposals.py).
- **Where two nodes have different values of the highest edition**, what more of them have is put again with a higher
  one. That takes a list that was changed by more than one node, or a disk that was put back.
- **An answer that is late is not waited for**: once most of the nodes have answered, the others have GRACE_S, and go on
  beside what comes next.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
from collections import Counter
from collections.abc import AsyncIterator, Callable, Collection, Coroutine, Iterable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple, TypeVar

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
from zcserve.fleet.forms import FormError
from zcserve.fleet.http_proposals import Proposal, right_of
from zcserve.fleet.messages import ROLLOUT_OPS, Command, Desired, State
from zcserve.fleet.node_list import Listed
from zcserve.fleet.packed import Packed, both
from zcserve.fleet.peer import Answer, Peer

_T = TypeVar("_T")

# In seconds. A node writes to its disk before it answers.
ANSWER_S = 5.0
# A manifest of 64 MB at 10 Mbit/s.
MANIFEST_S = 60.0
# After most of the nodes have answered, for the others.
GRACE_S = 0.2
# The same for a manifest: a node that lacks it asks for it again a second later.
MANIFEST_GRACE_S = 2.0
# A node is asked for its next state so long at a time, and less than the 60 that it takes.
POLL_S = 25.0
# A node that gave no state is asked again after this; and states that are known are told to be all after that.
AGAIN_S = 1.0
CAUGHT_S = 2.0
# Two claims at once may each have less than most of the nodes: both let go, and take it again after up to this.
DRAW_S = 0.2
DRAWS_MAX = 10
# A claim for one put, or to repair nodes; what finds such a one waits for its end.
BRIEFLY_S = 10.0
BRIEFLY = "briefly."


class Node(NamedTuple):
    """A node of the list."""

    name: str
    peer: Peer


class Replies(NamedTuple):
    """What nodes have answered, by name, and why others have not."""

    answers: dict[str, Answer]
    failed: dict[str, str]

    def of(self, *statuses: int) -> dict[str, Answer]:
        """Answers of these statuses."""
        return {name: answer for name, answer in self.answers.items() if answer.status in statuses}

    def why(self) -> str:
        """What is wrong with those that are no 2xx."""
        refused = {name: _words(answer) for name, answer in self.answers.items() if answer.status >= 300}
        return "; ".join(f"{name}: {why}" for name, why in sorted((self.failed | refused).items()))


class HttpOperatorBus:
    """An `OperatorBus` of one site, over HTTP to the nodes of a list. Made and used in one running loop."""

    def __init__(self, site: str, nodes: Iterable[Listed], token: str = "") -> None:
        fields = {"Authorization": f"Bearer {token}"} if token else {}
        self._site, self._base = site, f"/v1/{site}"
        self._nodes = [Node(one.name, Peer(one.agent, fields)) for one in nodes]
        self._most = len(self._nodes) // 2 + 1
        self._claim: Claim | None = None
        self._desired: Desired | None = None
        self._manifests: dict[str, bytes] = {}
        self._behind: set[str] = set()
        self.trouble: dict[str, str] = {}
        self._tasks: set[asyncio.Task[Any]] = set()

    # -- asking

    async def _ask_all(
        self,
        method: str,
        target: str,
        content: bytes | Packed | None = None,
        *,
        within_s: float = ANSWER_S,
        waits_for_all: bool = False,
        grace_s: float = GRACE_S,
        nodes: Collection[Node] | None = None,
    ) -> Replies:
        """Ask all nodes at once. Without `waits_for_all`, those that are slower than most are in `failed`."""
        asked = self._nodes if nodes is None else nodes
        tasks = {
            node.name: self._begin(node.peer.ask(method, self._base + target, content, within_s=within_s))
            for node in asked
        }
        try:
            pending = set(tasks.values())
            while pending and not (not waits_for_all and self._are_most(tasks.values())):
                _, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
            if pending:
                await asyncio.wait(pending, timeout=grace_s)
        except asyncio.CancelledError:
            for task in tasks.values():
                task.cancel()
            raise
        replies = Replies({}, {})
        for name, task in tasks.items():
            if not task.done():
                replies.failed[name] = "has not answered yet"
            elif error := task.exception():
                replies.failed[name] = str(error)
            else:
                replies.answers[name] = task.result()
        return replies

    def _are_most(self, tasks: Iterable[asyncio.Task[Answer]]) -> bool:
        done = [task for task in tasks if task.done() and not task.cancelled() and not task.exception()]
        return sum(task.result().status < 300 for task in done) >= self._most

    def _begin(self, work: Coroutine[Any, Any, Answer]) -> asyncio.Task[Answer]:
        """A task that is known until it ends. What else than BusError it raises is told by the one that waits."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # is looked at, so that one that is late is not complained of

    def _too_few(self, what: str, right: Collection[str], replies: Replies) -> BusError:
        count = len(self._nodes)
        return BusError(f"{what}: {len(right)} of {count} nodes, and {self._most} are needed; {replies.why()}")

    # -- the claim

    async def claim(self, holder: str, lasts_s: float = CLAIM_LASTS_S) -> Claim:
        """See OperatorBus. What the last claim has put is spread before this one has the site."""
        clock = asyncio.get_running_loop().time
        until = clock() + BRIEFLY_S
        draws = 0
        while True:
            claim = Claim(holder, os.urandom(16).hex())
            replies = await self._put_claim(claim, lasts_s, renews=False)
            given, held = replies.of(200, 204), replies.of(409)
            if len(given) >= self._most:
                self._claim = claim
                await self._read()
                return claim
            await self.give_up(claim)
            if not held:
                raise self._too_few("claim", given, replies)
            error = _held(held.values())
            draws += 1
            is_decided = len(held) >= self._most or not given or draws == DRAWS_MAX
            if is_decided and not (error.holder.startswith(BRIEFLY) and clock() < until):
                raise error
            await asyncio.sleep(random.uniform(0, DRAW_S))

    async def _put_claim(
        self, claim: Claim, lasts_s: float, *, renews: bool, nodes: Collection[Node] | None = None
    ) -> Replies:
        form = {"holder": claim.holder, "token": claim.token, "lasts_s": lasts_s, "renew": renews}
        return await self._ask_all("PUT", "/claim", json.dumps({"version": 1} | form).encode(), nodes=nodes)

    async def renew(self, claim: Claim, lasts_s: float = CLAIM_LASTS_S) -> None:
        """See OperatorBus."""
        replies = await self._put_claim(claim, lasts_s, renews=True)
        if len(given := replies.of(200, 204)) >= self._most:
            return
        if held := replies.of(409):
            self._claim = None
            raise _held(held.values())
        raise self._too_few("claim", given, replies)

    async def give_up(self, claim: Claim) -> None:
        """See OperatorBus."""
        if self._claim == claim:
            self._claim = None
        await self._ask_all("DELETE", f"/claim?claim={claim.token}")

    # -- what is desired

    async def desired(self) -> Desired:
        """See OperatorBus. What is behind is repaired, and what was cut off is ended, if no other one has the site."""
        newest = await self._read()
        if not self._claim and (self._behind or await self._cut_off(newest)):
            await self._repair()
        return self._desired or newest

    async def _repair(self) -> None:
        try:
            claim = await self._claim_briefly()
        except BusError:
            return
        await self.give_up(claim)

    async def _claim_briefly(self) -> Claim:
        return await self.claim(BRIEFLY + os.urandom(4).hex(), BRIEFLY_S)

    async def _read(self) -> Desired:
        """The newest that most of the nodes know; under a claim the others are brought to it. Raises BusError."""
        replies = await self._ask_all("GET", "/desired")
        if len(right := replies.of(200)) < self._most:
            raise self._too_few("what is desired", right, replies)
        found = {name: _parsed(Desired.parse, name, answer) for name, answer in right.items()}
        edition = max(one.edition for one in found.values())
        values = Counter(one.dump() for one in found.values() if one.edition == edition)
        newest = Desired.parse(values.most_common(1)[0][0])
        if len(values) > 1 and self._claim:
            newest = replace(newest, edition=edition + 1)
        if self._claim and (cut_off := await self._cut_off(newest)):
            await self._propose(cut_off)  # as its own claim has: this one may be cut off, too
            newest = cut_off.desired
        if self._desired is None or newest.edition >= self._desired.edition:
            self._desired = newest
        self._behind = {name for name, one in found.items() if one.edition < newest.edition}
        if self._claim:
            await self._bring([node for node in self._nodes if node.name in self._behind])
        return self._desired

    async def _cut_off(self, stored: Desired) -> Proposal | None:
        """The put that was cut off after its proposal; None: there is none. Raises BusError."""
        replies = await self._ask_all("GET", "/proposed")
        if len(right := replies.of(200, 204)) < self._most:
            raise self._too_few("what is proposed", right, replies)
        return right_of(_proposals(right), stored)

    async def _propose(self, proposal: Proposal) -> None:
        """Have most of the nodes keep it. Raises BusError."""
        assert self._claim is not None
        target = f"/proposed?claim={self._claim.token}&after={proposal.after}"
        replies = await self._ask_all("PUT", target, proposal.desired.dump())
        if len(taken := replies.of(204)) < self._most:
            raise self._too_few("what is to be desired", taken, replies)

    async def _bring(self, nodes: Collection[Node]) -> None:
        """What is desired, to nodes that are behind, and what they need for it. Those that fail stay behind."""
        desired, claim = self._desired, self._claim
        if not nodes or desired is None or claim is None or not desired.edition:
            return
        await self._put_claim(claim, BRIEFLY_S, renews=True, nodes=nodes)
        for release in (desired.release, desired.trial.release if desired.trial else None):
            if release is None:
                continue
            try:
                data = both(await self.manifest(release.manifest))
            except BusError:
                continue  # a node asks for it again, and says that it has none
            await self._ask_all(
                "PUT", f"/manifests/{release.manifest}", data, within_s=MANIFEST_S, nodes=nodes, waits_for_all=True
            )
        replies = await self._ask_all("PUT", f"/desired?claim={claim.token}", desired.dump(), nodes=nodes)
        self._behind -= replies.of(200, 204).keys()

    async def put_desired(self, desired: Desired, after: int) -> None:
        """See OperatorBus."""
        if self._claim is None:
            claim = await self._claim_briefly()
            try:
                await self.put_desired(desired, after)
            finally:
                await self.give_up(claim)
            return
        claim = self._claim
        for is_last in (False, True):
            try:
                await self._put(claim, desired, after)
                return
            except BusError as error:
                if is_last or isinstance(error, (ConflictError, ClaimHeldError)):
                    raise
            await self.renew(claim)  # nodes that were away when it was taken do not know it

    async def _put(self, claim: Claim, desired: Desired, after: int) -> None:
        stored = await self._read()
        if stored != desired and (stored.edition != after or desired.edition <= after):
            raise ConflictError(stored)
        await self._propose(Proposal(after, desired))
        replies = await self._ask_all("PUT", f"/desired?claim={claim.token}", desired.dump())
        if len(taken := replies.of(200, 204)) < self._most:
            raise self._too_few("what is desired", taken, replies)
        self._desired = desired
        self._behind = {node.name for node in self._nodes} - taken.keys()

    # -- manifests and commands

    async def put_manifest(self, digest: str, data: bytes) -> None:
        """See OperatorBus."""
        replies = await self._ask_all(
            "PUT", f"/manifests/{digest}", both(data), within_s=MANIFEST_S, grace_s=MANIFEST_GRACE_S
        )
        if len(kept := replies.of(200, 204)) < self._most:
            raise self._too_few("manifest", kept, replies)
        self._manifests[digest] = data

    async def manifest(self, digest: str) -> bytes:
        """See OperatorBus: of the first node that has it."""
        if known := self._manifests.get(digest):
            return known
        lacking, failed = 0, []
        for node in self._nodes:
            try:
                answer = await node.peer.get_packed(f"{self._base}/manifests/{digest}", within_s=MANIFEST_S)
            except BusError as error:
                failed.append(str(error))
                continue
            if answer.status == 200:
                self._manifests[digest] = answer.content
                return answer.content
            lacking += 1
        if lacking >= self._most:
            raise MissingError(f"no node has the manifest {digest[:12]}, and they keep the last ones")
        raise BusError("; ".join(failed))

    async def publish(self, command: Command) -> frozenset[str]:
        """See OperatorBus. Nodes that are not reached have missed it; those of a rollout hear of it by what is
        desired, and it waits for none of them."""
        waits = command.op not in ROLLOUT_OPS
        replies = await self._ask_all("POST", "/commands", command.dump(), waits_for_all=waits)
        taken = replies.of(200, 202, 204)
        if not taken:
            raise self._too_few("command", taken, replies)
        return frozenset(node.name for node in self._nodes if node.name not in taken)

    # -- states

    async def states(self) -> AsyncIterator[Heard | Caught]:
        """See OperatorBus."""
        queue: asyncio.Queue[Heard | str | Exception] = asyncio.Queue()
        tasks = [asyncio.create_task(self._poll(node, queue.put_nowait)) for node in self._nodes]
        waiting = {node.name for node in self._nodes}
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
        answer = await node.peer.ask("GET", f"{self._base}/state{query}", within_s=ANSWER_S + (POLL_S if last else 0))
        if answer.status == 204:
            return Heard(last, 0.0) if last else None
        if answer.status != 200:
            raise BusError(f"{node.name}: {_words(answer)}")
        state = _parsed(State.parse, node.name, answer)
        if state.node != node.name:
            raise BusError(f"{node.peer.url} is {state.node}, and the list calls it {node.name}")
        return Heard(state, _age_s(answer))

    async def _bring_where_behind(self, node: Node, state: State) -> None:
        """A node that reports an older edition than one that it was to have has been away."""
        desired = self._desired
        if self._claim and desired and node.name in self._behind and state.edition < desired.edition:
            await self._bring([node])

    async def forget(self, node: str) -> None:
        """See OperatorBus: a node is known by the list, which its operator changes."""

    async def close(self) -> None:
        """End what runs still, and the connections."""
        tasks = list(self._tasks)
        if tasks:
            await asyncio.wait(tasks, timeout=GRACE_S)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for node in self._nodes:
            node.peer.close()


def _form(answer: Answer) -> dict[str, Any]:
    """What a refusal says."""
    try:
        form = json.loads(answer.content)
    except ValueError:
        return {}
    return form if isinstance(form, dict) else {}


def _words(answer: Answer) -> str:
    form = _form(answer)
    if "code" not in form:  # whatever an agent refuses has one
        return f"status {answer.status}, and not from an agent: the URL of a node is that of its agent's --listen"
    where = " (--token-file: is it the agent's?)" if answer.status == 401 else ""
    return f"status {answer.status}: {form.get('error')}{where}"


def _held(answers: Iterable[Answer]) -> ClaimHeldError:
    """The holder that most of these name, and how long it has the site yet."""
    forms = [_form(answer) for answer in answers]
    holder = Counter(str(form.get("holder") or "another one") for form in forms).most_common(1)[0][0]
    left = [form["left_s"] for form in forms if isinstance(form.get("left_s"), (int, float))]
    return ClaimHeldError(holder, max(left, default=0.0))


def _parsed(parse: Callable[[bytes], _T], name: str, answer: Answer) -> _T:
    try:
        return parse(answer.content)
    except FormError as error:
        raise BusError(f"{name}: {error}") from None


def _proposals(answers: Mapping[str, Answer]) -> list[Proposal]:
    full = {name: answer for name, answer in answers.items() if answer.status == 200}
    afters = {name: answer.fields.get("zcserve-after", "") for name, answer in full.items()}
    return [_parsed(partial(Proposal.of, afters[name]), name, full[name]) for name in full]


def _age_s(answer: Answer) -> float:
    try:
        return max(0.0, float(answer.fields.get("zcserve-age", "0")))
    except ValueError:
        return 0.0
