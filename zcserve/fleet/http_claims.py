"""An operator's claim over HTTP: most of the nodes of a list have given it, and agree on its number.

- **Of two claims the later one has the higher number.** A node gives each claim one more than the last one here. The
  highest of these is the claim's, and nodes that gave a lower one are told, until most have this one. Two majorities
  have a node in common, so the next claim is above it. That tells which of two proposals is the later one
  (http_proposals.py).
- **A claim that most of the nodes have given takes the place of what a few have still.** A node that was away does not
  hear that a claim was given up, and would refuse the next one, and what is desired, until it ends.
- **What is proposed under a claim is proposed where it is held, and after these nodes were read.** A number changes
  before a read alone: so whatever most of them have kept under a lower number is found.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
from collections import Counter
from collections.abc import Collection, Iterable

from zcserve.fleet.bus import BusError, Claim, ClaimHeldError
from zcserve.fleet.http_asking import Asking, Node, Replies, form_of
from zcserve.fleet.peer import Answer

# Two claims at once may each have less than most of the nodes: both let go, and take it again after up to this, in
# seconds.
DRAW_S = 0.2
DRAWS_MAX = 10
# A claim for one put, or to repair nodes, in seconds; what finds such a one waits for its end.
BRIEFLY_S = 10.0
BRIEFLY = "briefly."


class Claiming:
    """What an operator's side has of the claim.

    claim      the one that it has; None: none
    number     of this claim; 0: no node numbers claims
    is_unsure  something is proposed under this number, and fewer than most of the nodes have said that they keep it
    """

    def __init__(self, asking: Asking) -> None:
        self._asking = asking
        self._lasts_s = 0.0
        self._numbers: dict[str, int] = {}
        self.claim: Claim | None = None
        self.number = 0
        self.is_unsure = False

    @property
    def holders(self) -> list[Node]:
        """Nodes that have given this claim, by this number. One of an older agent tells none."""
        return [node for node in self._asking.nodes if self._numbers.get(node.name) in (0, self.number)]

    async def take(self, holder: str, lasts_s: float) -> Claim:
        """Have it. Raises ClaimHeldError, BusError."""
        clock = asyncio.get_running_loop().time
        until = clock() + BRIEFLY_S
        draws = 0
        while True:
            claim = Claim(holder, os.urandom(16).hex())
            replies = await self._put(claim, lasts_s)
            given, held = replies.of(200, 204), replies.of(409)
            if len(given) >= self._asking.most:
                try:
                    await self._agree(claim, lasts_s, replies)
                except BusError:
                    await self.give_up(claim)
                    raise
                return claim
            await self.give_up(claim)
            if not held:
                raise self._asking.too_few("claim", given, replies)
            error = _held(held.values())
            draws += 1
            is_decided = len(held) >= self._asking.most or not given or draws == DRAWS_MAX
            if is_decided and not (error.holder.startswith(BRIEFLY) and clock() < until):
                raise error
            await asyncio.sleep(random.uniform(0, DRAW_S))

    async def take_briefly(self) -> Claim:
        """Have it for one put. Raises ClaimHeldError, BusError."""
        return await self.take(BRIEFLY + os.urandom(4).hex(), BRIEFLY_S)

    async def renew(self, claim: Claim, lasts_s: float) -> None:
        """Keep it. What is desired is to be read before anything is proposed. Raises ClaimHeldError, BusError."""
        replies = await self._put(claim, lasts_s, renews=True)
        given, held = replies.of(200, 204), replies.of(409)
        if len(given) >= self._asking.most:
            await self._agree(claim, lasts_s, replies)
        elif held:
            self.claim = None
            raise _held(held.values())
        else:
            raise self._asking.too_few("claim", given, replies)

    async def renew_as_it_is(self) -> None:
        """For as long as before. Raises as renew."""
        if self.claim:
            await self.renew(self.claim, self._lasts_s)

    async def join(self, nodes: Collection[Node]) -> None:
        """Nodes that were away when it was taken have it, too; those that refuse do not."""
        outside = [node for node in nodes if node not in self.holders]
        if self.claim and outside:
            replies = await self._put(self.claim, self._lasts_s, renews=True, number=self.number, nodes=outside)
            self._hear(replies)

    async def give_up(self, claim: Claim) -> None:
        """Let go of it."""
        if self.claim == claim:
            self.claim = None
        await self._asking.all("DELETE", f"/claim?claim={claim.token}")

    async def _agree(self, claim: Claim, lasts_s: float, replies: Replies) -> None:
        """Have most of the nodes hold it by one number, a higher one where it is unsure. Raises BusError."""
        if claim != self.claim:
            self.claim, self.number, self._numbers, self.is_unsure = claim, 0, {}, False
        self._lasts_s = lasts_s
        self._hear(replies)
        given, held = replies.of(200, 204), replies.of(409)
        told = [_number(answer) for answer in given.values()] + [1 + _number(answer) for answer in held.values()]
        self.number = max(self.number + self.is_unsure, *told)
        behind = held.keys() | {name for name in given if 0 < self._numbers[name] < self.number}
        if behind:
            nodes = [node for node in self._asking.nodes if node.name in behind]
            replies = await self._put(claim, lasts_s, renews=True, number=self.number, nodes=nodes)
            self._hear(replies)
        if len(self.holders) < self._asking.most:
            raise self._asking.too_few("claim", [node.name for node in self.holders], replies)
        self.is_unsure = False

    def _hear(self, replies: Replies) -> None:
        self._numbers |= {name: _number(answer) for name, answer in replies.of(200, 204).items()}
        for name in replies.of(409):
            self._numbers.pop(name, None)

    async def _put(
        self,
        claim: Claim,
        lasts_s: float,
        *,
        renews: bool = False,
        number: int = 0,
        nodes: Collection[Node] | None = None,
    ) -> Replies:
        form = {"holder": claim.holder, "token": claim.token, "lasts_s": lasts_s, "renew": renews, "number": number}
        return await self._asking.all("PUT", "/claim", json.dumps({"version": 1} | form).encode(), nodes=nodes)


def _number(answer: Answer) -> int:
    """Of the last claim at a node; 0: it does not say, since its agent is older."""
    number = form_of(answer).get("number", 0)
    return number if isinstance(number, int) and number > 0 else 0


def _held(answers: Iterable[Answer]) -> ClaimHeldError:
    """The holder that most of these name, and how long it has the site yet."""
    forms = [form_of(answer) for answer in answers]
    holder = Counter(str(form.get("holder") or "another one") for form in forms).most_common(1)[0][0]
    left = [form["left_s"] for form in forms if isinstance(form.get("left_s"), (int, float))]
    return ClaimHeldError(holder, max(left, default=0.0))
