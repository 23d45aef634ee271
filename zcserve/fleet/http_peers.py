"""Without NATS, a node that was away asks the others: what most of them have stored is what is desired, and a purge
that one of them has had was missed here.

An operator's command reaches the nodes that are there, and ends. A node that comes back later would serve what it had
until the next command. So each node has the operator's list (node_list.py). It asks all others at its start, and then
one of them every PEER_EVERY_S, each in its turn; when that one knows of something newer, all are asked again.

- **What a node costs the others does not grow with the list**: it asks one at a time, is asked by one at a time, and
  keeps no connection in between. Whichever node is asked, it mostly knows.
- **What most of the nodes have is never undone** (docs/fleet-http.md), so it is taken without a claim. What fewer have
  may be replaced yet, and is not taken: where a put is under way, the next turn finds its end.
- **Manifests come from whichever node has them.** They are judged here like any other (obtaining.py).
- **A node whose link was down does not know that it missed a purge.** The ids of purges that others have had, and that
  are not known here a second later, are a gap: all content is compared with its files, once for an id. One that comes
  later still is taken for a gap, too, which does no harm.
- **A node that is not reached says nothing**, neither for nor against. A link that is there again is noticed at the
  next turn.
"""

from __future__ import annotations

import asyncio
from collections import Counter, OrderedDict
from collections.abc import Sequence
from itertools import cycle

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

# How often another node is asked, in seconds: a node that was away is behind for so long, and these two requests, and
# two answers, take 0.02% of a core.
PEER_EVERY_S = 10.0
# A purge that another node has had comes here within this, in seconds, or was missed: it is sent to all at once.
LATE_S = 1.0
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
        place = next((place for place, node in enumerate(nodes) if node.name == own), 0)
        in_turn = [*nodes[place + 1 :], *nodes[:place]]  # so that no two nodes ask the same one at once
        self._peers = [Peer(node.agent, fields) for node in in_turn]

    async def follow(self) -> None:
        """Ask now and then, until it is cancelled."""
        await self._take()
        await self._tell(await self.missed())
        for peer in cycle(self._peers):
            await asyncio.sleep(PEER_EVERY_S * (1 - 0.2 * backoff.spread(self._own)))
            known = (await self._bus.read_desired()).edition
            if any(one.edition > known for one in await self._stored([peer])):
                await self._take()
            await self._tell(await self._missed_of([peer]))

    async def _take(self) -> None:
        """What most of the nodes have is desired here, too."""
        found = await self.desired()
        if found.edition <= (await self._bus.read_desired()).edition:
            return
        _log.info("most of the nodes have edition %d of what is desired: it is taken", found.edition)
        try:
            await self._bus.adopt(found)
        except OSError as error:
            _log.error("what is desired cannot be kept, and is tried again: %s", error)

    async def _tell(self, purges: Sequence[str]) -> None:
        """Tell a gap, unless these come here after all."""
        if purges:
            await asyncio.sleep(LATE_S)
            self._bus.miss(purges)

    async def desired(self) -> Desired:
        """What most of the nodes have stored, or more than that; of edition 0 where that is nothing."""
        stored = [await self._bus.read_desired(), *await self._stored(self._peers)]
        most = [desired for desired, count in Counter(stored).items() if count >= self._most]
        return next((desired for desired in most if desired.site == self._site), Desired(self._site))

    async def _stored(self, peers: Sequence[Peer]) -> list[Desired]:
        """What these have, as far as they are reached."""
        stored = []
        for answer in await self._ask_all(peers, "desired"):
            try:
                stored.append(Desired.parse(answer))
            except ZcserveError as error:
                _log.debug("what a node has stored is not understood: %s", error)
        return stored

    async def missed(self) -> list[str]:
        """Ids of purges that others have had, and that were not found here when this was asked before."""
        return await self._missed_of(self._peers)

    async def _missed_of(self, peers: Sequence[Peer]) -> list[str]:
        found: list[str] = []
        for answer in await self._ask_all(peers, "commands"):
            try:
                names = forms.load_any(answer).get("purges", [])
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
            finally:
                peer.close()
            if answer.status == 200:
                return answer.content
        return None

    async def _ask_all(self, peers: Sequence[Peer], path: str) -> list[bytes]:
        """Their answers; one that gives none is left out."""
        found = await asyncio.gather(*(self._ask(peer, path) for peer in peers))
        return [answer for answer in found if answer is not None]

    async def _ask(self, peer: Peer, path: str) -> bytes | None:
        try:
            answer = await peer.ask("GET", f"/v1/{self._site}/{path}", within_s=ANSWER_S)
        except BusError as error:
            _log.debug("%s", error)
            return None
        finally:
            peer.close()
        return answer.content if answer.status == 200 else None
