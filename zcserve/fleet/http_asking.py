"""Asks all nodes of a list at once, over HTTP: what most of them answer is so (docs/fleet-http.md).

- **An answer that is late is not waited for**: once most of the nodes have answered, the others have a grace, and go on
  beside what comes next.
- **What was refused, or has failed, is told by node**: an operator reads which node is wrong, and how.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Coroutine, Iterable
from typing import Any, NamedTuple, TypeVar

from zcserve.fleet import strict_json
from zcserve.fleet.bus import BusError
from zcserve.fleet.forms import FormError
from zcserve.fleet.node_list import Listed
from zcserve.fleet.packed import Packed
from zcserve.fleet.peer import Answer, Peer

_T = TypeVar("_T")

# In seconds. A node writes to its disk before it answers.
ANSWER_S = 5.0
# After most of the nodes have answered, for the others.
GRACE_S = 0.2


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
        refused = {name: words_of(answer) for name, answer in self.answers.items() if answer.status >= 300}
        return "; ".join(f"{name}: {why}" for name, why in sorted((self.failed | refused).items()))


class Asking:
    """The nodes of a list, of one site. Made and used in one running loop.

    nodes  all of them
    base   what their paths begin with
    most   so many are more than half of them
    """

    def __init__(self, site: str, nodes: Iterable[Listed], token: str) -> None:
        fields = {"Authorization": f"Bearer {token}"} if token else {}
        self.base = f"/v1/{site}"
        self.nodes = [Node(one.name, Peer(one.agent, fields)) for one in nodes]
        self.most = len(self.nodes) // 2 + 1
        self._tasks: set[asyncio.Task[Any]] = set()

    async def all(
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
        asked = self.nodes if nodes is None else nodes
        tasks = {
            node.name: self._begin(node.peer.ask(method, self.base + target, content, within_s=within_s))
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
        return sum(task.result().status < 300 for task in done) >= self.most

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

    def too_few(self, what: str, right: Collection[str], replies: Replies) -> BusError:
        """What to raise where these nodes alone have done it."""
        count = len(self.nodes)
        return BusError(f"{what}: {len(right)} of {count} nodes, and {self.most} are needed; {replies.why()}")

    async def close(self) -> None:
        """End what runs still, and the connections."""
        tasks = list(self._tasks)
        if tasks:
            await asyncio.wait(tasks, timeout=GRACE_S)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for node in self.nodes:
            node.peer.close()


def form_of(answer: Answer) -> dict[str, Any]:
    """What a refusal says."""
    try:
        form = strict_json.read(answer.content, len(answer.content))
    except ValueError:
        return {}
    return form if isinstance(form, dict) else {}


def words_of(answer: Answer) -> str:
    """Why a node has refused, for an operator."""
    form = form_of(answer)
    if "code" not in form:  # whatever an agent refuses has one
        return f"status {answer.status}, and not from an agent: the URL of a node is that of its agent's --listen"
    where = " (--token-file: is it the agent's?)" if answer.status == 401 else ""
    return f"status {answer.status}: {form.get('error')}{where}"


def parsed(parse: Callable[[bytes], _T], name: str, answer: Answer) -> _T:
    """What a node has answered. Raises BusError."""
    try:
        return parse(answer.content)
    except FormError as error:
        raise BusError(f"{name}: {error}") from None
