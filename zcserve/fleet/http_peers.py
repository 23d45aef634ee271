"""Without NATS, a node that was away asks the others: what most of them have stored is what is desired, and a purge
that one of them has had was missed here.

An operator's command reaches the nodes that are there, and ends. A node that comes back later would serve what it had
until the next command. So each node has the operator's list (node_list.py), and asks the others at its start and then
every PEERS_EVERY_S.

- **What most of the nodes have is never undone** (docs/fleet-http.md), so it is taken without a claim. What fewer have
  may be replaced yet, and is not taken.
- **Manifests come from whichever node has them.** They are judged here like any other (obtaining.py).
- **A node whose link was down does not know that it missed a purge.** The ids of purges that others have had, and that
  are not known here, are a gap: all content is compared with its files, once for an id. One that is only late here is
  taken for a gap, too, which does no harm.
- **A node that is not reached says nothing**, neither for nor against.
"""

from __future__ import annotations

import asyncio
from collections import Counter, OrderedDict
from collections.abc import Sequence

from zcserve.errors import ZcserveError
from zcserve.fleet import backoff, forms
from zcserve.fleet.bus import BusError
from zcserve.fleet.forms import FormError
from zcserve.fleet.http_node import HttpNodeBus
from zcserve.fleet.http_shelf import PURGES_MAX, PURGES_TOLD_MAX
from zcserve.fleet.messages import Desired
from zcserve.fleet.node_list import Listed
from zcserve.fleet.peer import Peer
from zcserve.log import Log

_log = Log(__name__)

# How often the others are asked what is desired, in seconds: 40 nodes ask each one 40 times a minute, 0.3 ms each.
PEERS_EVERY_S = 60.0
# For one answer, in seconds: all are asked at once.
ANSWER_S = 5.0
MANIFEST_S = 60.0


class Peers:
    """The other nodes of a list.

    nodes  all of the list
    own    this node's name, which has to be one of them
    """

    def __init__(self, bus: HttpNodeBus, site: str, own: str, nodes: Sequence[Listed], token: str) -> None:
        fields = {"Authorization": f"Bearer {token}"} if token else {}
        self._bus = bus
        self._site = site
        self._own = own
        self._most = len(nodes) // 2 + 1
        self._missed: OrderedDict[str, None] = OrderedDict()
        self._peers = [Peer(node.agent, fields) for node in nodes if node.name != own]

    async def follow(self) -> None:
        """Ask now and then, until it is cancelled."""
        bus = self._bus
        try:
            while True:
                found = await self.desired()
                if found.edition > (await bus.read_desired()).edition:
                    _log.info("most of the nodes have edition %d of what is desired: it is taken", found.edition)
                    try:
                        await bus.adopt(found)
                    except OSError as error:
                        _log.error("what is desired cannot be kept, and is tried again: %s", error)
                bus.miss(await self.missed())
                await asyncio.sleep(PEERS_EVERY_S * (1 - 0.2 * backoff.spread(self._own)))
        finally:
            for peer in self._peers:
                peer.close()

    async def desired(self) -> Desired:
        """What most of the nodes have stored, or more than that; of edition 0 where that is nothing."""
        stored = [await self._bus.read_desired()]
        asked = (self._ask(peer, "desired", ANSWER_S) for peer in self._peers)
        for answer in await asyncio.gather(*asked):
            try:
                stored += [Desired.parse(answer)] if answer is not None else []
            except ZcserveError as error:
                _log.debug("what a node has stored is not understood: %s", error)
        most = [desired for desired, count in Counter(stored).items() if count >= self._most]
        return next((desired for desired in most if desired.site == self._site), Desired(self._site))

    async def missed(self) -> list[str]:
        """Ids of purges that others have had, and that were not found here when this was asked before."""
        found: list[str] = []
        for answer in await asyncio.gather(*(self._ask(peer, "commands", ANSWER_S) for peer in self._peers)):
            try:
                form = forms.load_any(answer) if answer is not None else {}
                names = form.get("purges", [])
                found += forms.texts(names, "purges", PURGES_TOLD_MAX, forms.ID_CHARACTERS_MAX)
            except FormError as error:
                _log.debug("what a node says of its purges is not understood: %s", error)
        own = await self._bus.with_shelf(lambda shelf: [*shelf.purges])
        news = [name for name in dict.fromkeys(found) if name not in self._missed.keys() | set(own)]
        self._missed.update(dict.fromkeys(news))
        while len(self._missed) > PURGES_MAX:
            self._missed.popitem(last=False)
        return news

    async def manifest(self, digest: str) -> bytes | None:
        """From the first that has it."""
        for peer in self._peers:
            try:
                answer = await peer.get_packed(f"/v1/{self._site}/manifests/{digest}", within_s=MANIFEST_S)
            except BusError as error:
                _log.debug("%s", error)
                continue
            if answer.status == 200:
                return answer.content
        return None

    async def _ask(self, peer: Peer, path: str, within_s: float) -> bytes | None:
        try:
            answer = await peer.ask("GET", f"/v1/{self._site}/{path}", within_s=within_s)
        except BusError as error:
            _log.debug("%s", error)
            return None
        return answer.content if answer.status == 200 else None
