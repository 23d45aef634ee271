"""Whether the line that the list of nodes has for this node leads to this agent.

Without NATS an operator reaches a node by the URL of its line. So of two agents with one name one is reached, and the
other would fetch and flip as the rest do, and no table would show it. It asks at that URL which agent it is: where
another run of an agent answers (`boot`), the log says so. Where none answers nothing is said: a machine may not reach
itself by the address that others have for it.
"""

from __future__ import annotations

import asyncio

from zcserve.fleet import backoff, forms
from zcserve.fleet.bus import BusError
from zcserve.fleet.forms import FormError
from zcserve.fleet.node_list import Listed
from zcserve.fleet.peer import Peer
from zcserve.log import Log

_log = Log(__name__)

# How often it is asked, in seconds: the list of the others may be changed at any time, and a request costs 1 ms.
ASK_EVERY_S = 60.0
# For an answer, in seconds.
ANSWER_S = 5.0


async def follow(line: Listed, boot: str, token: str) -> None:
    """Ask now and then, until it is cancelled. `boot` is this agent's."""
    peer = Peer(line.agent, {"Authorization": f"Bearer {token}"} if token else {})
    told = ""
    try:
        while True:
            other = await _other(peer, boot)
            if other and other != told:
                _log.error(
                    "the list has %s for %s, and there is another agent (of node %s): no operator reaches this one; "
                    "correct --nodes, or give one of them another --node",
                    line.agent,
                    line.name,
                    other,
                )
            told = other
            await asyncio.sleep(ASK_EVERY_S * (1 - 0.2 * backoff.spread(line.name)))
    finally:
        peer.close()


async def _other(peer: Peer, boot: str) -> str:
    """The node of another agent that answers; "" where this one does, or none."""
    try:
        answer = await peer.ask("GET", "/v1", within_s=ANSWER_S)
        if answer.status != 200:
            return ""
        form = forms.load_any(answer.content)
        node = forms.name(form.get("node"), "node")
        return "" if forms.identity(form.get("boot"), "boot") == boot else node
    except (BusError, FormError) as error:
        _log.debug("which agent the list has for this node is not known: %s", error)
        return ""
