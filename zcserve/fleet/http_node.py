"""The node's side of the bus over plain HTTP: the agent listens, and the operator's side comes to it.

    operator --HTTP--> Listener --Request--> Desk --> Shelf (on the disk)
                                              |---> HttpNodeBus --> agent

The form is docs/fleet-http.md's.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import suppress
from functools import partial
from typing import Any, TypeVar

from zcserve.errors import reason_of
from zcserve.fleet import forms
from zcserve.fleet.background import in_thread
from zcserve.fleet.bus import (
    UNACKNOWLEDGED_MAX,
    BusError,
    ClaimHeldError,
    ConflictError,
    Delivery,
    Gap,
    MissingError,
)
from zcserve.fleet.forms import MESSAGE_BYTES_MAX, FormError
from zcserve.fleet.http_listener import Answer, RefusedError, Request, json_answer
from zcserve.fleet.http_proposals import Proposal
from zcserve.fleet.http_shelf import PURGES_TOLD_MAX, FullError, Shelf
from zcserve.fleet.manifest import MANIFEST_BYTES_MAX
from zcserve.fleet.messages import Desired, State
from zcserve.fleet.packed import ENDING, PackedError, pack, unpack

T = TypeVar("T")

# Of a wait for a state, in seconds.
WAIT_S_MAX = 60.0
# What the disk did not take is tried again after this, in seconds.
KEEP_AGAIN_S = 10.0
_GAP = Gap("the agent was started, and does not know what was published before")


async def _no_others(digest: str) -> bytes | None:
    return None


class Bell:
    """Wakes all that wait for news. `next` is set when it rings next."""

    def __init__(self) -> None:
        self.next = asyncio.Event()

    def ring(self) -> None:
        self.next.set()
        self.next = asyncio.Event()

    async def wait(self) -> None:
        await self.next.wait()


class HttpNodeBus:
    """A `NodeBus`.

    state      the last that was reported; None: none was yet
    said_at    when that was, by the monotonic clock
    has_state  rings as one is reported
    others     asks the other nodes for a manifest; None: none has it
    """

    def __init__(self, shelf: Shelf) -> None:
        self._shelf = shelf
        self._disk = asyncio.Lock()
        self._has_commands = Bell()
        self._has_desired = Bell()
        self._sent: set[str] = set()
        self._gaps = [_GAP]
        self.state: State | None = None
        self.said_at = 0.0
        self.has_state = Bell()
        self.others: Callable[[str], Awaitable[bytes | None]] = _no_others

    async def with_shelf(self, work: Callable[[Shelf], T]) -> T:
        """What work with the shelf gives or raises; the loop goes on meanwhile. What is given up ends before the next
        begins."""
        async with self._disk:
            working = asyncio.ensure_future(in_thread(partial(work, self._shelf), "shelf"))
            try:
                return await asyncio.shield(working)
            except asyncio.CancelledError:
                await asyncio.wait((working,))
                raise

    async def append(self, data: bytes, *, is_anew: bool = False) -> None:
        """A command has come; it is delivered also where it cannot be kept. Raises FullError, OSError."""
        try:
            await self.with_shelf(lambda shelf: shelf.append(data, is_anew=is_anew))
        finally:
            self._has_commands.ring()

    async def put_desired(self, desired: Desired, token: str) -> None:
        """What is desired has come; it is acted on also where it cannot be kept. Raises ClaimHeldError, ConflictError,
        FormError, OSError."""
        try:
            await self.with_shelf(lambda shelf: shelf.put_desired(desired, token, time.monotonic()))
        finally:
            self._has_desired.ring()

    async def keep(self) -> None:
        """Have what the disk did not take kept when there is room, until it is cancelled."""
        while True:
            await asyncio.sleep(KEEP_AGAIN_S)
            if self._shelf.has_unkept:
                with suppress(OSError):  # the step that needs the room says why
                    await self.with_shelf(lambda shelf: shelf.keep_again())

    async def deliveries(self) -> AsyncIterator[Delivery]:
        self._sent.clear()
        self._gaps = [_GAP]
        while True:
            news = self._has_commands.next
            while self._gaps:
                yield self._gaps.pop()
            for name, message in await self.with_shelf(lambda shelf: [*shelf.waiting.items()]):
                if name in self._sent:
                    continue
                while len(self._sent) >= UNACKNOWLEDGED_MAX:
                    await self._has_commands.wait()
                self._sent.add(name)
                yield message
            await news.wait()

    async def acknowledge(self, name: str) -> None:
        await self._over(name, lambda shelf: shelf.settle(name))

    async def set_aside(self, name: str, reason: str) -> None:
        await self._over(name, lambda shelf: shelf.set_aside(name, reason))

    async def _over(self, name: str, work: Callable[[Shelf], None]) -> None:
        try:
            await self.with_shelf(work)
        except OSError as error:
            raise BusError(f"command {name} is not noted as over: {reason_of(error)}") from None
        self._sent.discard(name)
        self._has_commands.ring()

    def miss(self, ids: Iterable[str]) -> None:
        """Other nodes have these purges, and some are not known here: that is a gap."""
        if unknown := [name for name in ids if name not in self._shelf.purges]:
            self._gaps = [Gap(f"other nodes have had purges that have not come here: {unknown[-1]}")]
            self._has_commands.ring()

    def number(self) -> int:
        """Of the last claim that was given."""
        return self._shelf.number

    def purges(self) -> list[str]:
        """The ids of the last purges that have come, the newest last."""
        return list(self._shelf.purges)[-PURGES_TOLD_MAX:]

    async def desired(self) -> AsyncIterator[Desired]:
        edition = 0
        while True:
            if self._shelf.desired.edition > edition:
                edition = self._shelf.desired.edition
                yield self._shelf.desired
            else:
                await self._has_desired.wait()

    async def read_desired(self) -> Desired:
        return self._shelf.desired

    async def adopt(self, desired: Desired) -> None:
        """Most of the nodes have this. It is acted on also where it cannot be kept. Raises FormError, OSError."""
        try:
            await self.with_shelf(lambda shelf: shelf.adopt(desired))
        finally:
            self._has_desired.ring()

    async def manifest(self, digest: str) -> bytes:
        try:
            return await self.with_shelf(lambda shelf: shelf.manifest(digest))
        except MissingError:
            found = await self.others(digest)
            if found is None:
                raise
            return found
        except OSError as error:
            raise BusError(f"manifest {digest}: {reason_of(error)}") from None

    async def report(self, state: State) -> None:
        self.state, self.said_at = state, time.monotonic()
        self.has_state.ring()

    async def close(self) -> None:
        pass


class Desk:
    """Answers the operator's requests."""

    def __init__(self, bus: HttpNodeBus, site: str, node: str, boot: str) -> None:
        self._bus = bus
        self._site = site
        self._told = {"version": 1, "site": site, "node": node, "boot": boot}

    def limit_of(self, request: Request) -> int:
        """The most bytes of a request's body."""
        return MANIFEST_BYTES_MAX if request.segments[2:3] == ("manifests",) else MESSAGE_BYTES_MAX

    async def answer(self, request: Request) -> Answer:
        """Raises RefusedError."""
        try:
            return await self._route(request)
        except FormError as error:
            raise RefusedError(400, "form", str(error)) from None
        except ClaimHeldError as error:
            words = f"another has the claim: {error.holder}" if error.holder else "this claim is not the last one here"
            number = self._bus.number()
            raise RefusedError(409, "held", words, holder=error.holder, left_s=error.left_s, number=number) from None
        except ConflictError as error:
            raise RefusedError(409, "conflict", str(error), stored=error.stored.dump().decode()) from None
        except MissingError as error:
            raise RefusedError(404, "missing", str(error)) from None
        except FullError as error:
            raise RefusedError(503, "full", str(error)) from None
        except OSError as error:
            raise RefusedError(503, "disk", f"this node cannot keep it: {reason_of(error)}") from None

    async def _route(self, request: Request) -> Answer:
        match request.segments:
            case ("v1",):
                return await self._one_of(request, GET=self._about)
            case ("v1", site, *_) if site != self._site:
                words = f"this node is of site {self._site}, not {site[:80]!r}"
                raise RefusedError(404, "site", words, site=self._site)
            case ("v1", _, "state"):
                return await self._one_of(request, GET=self._state)
            case ("v1", _, "desired"):
                return await self._one_of(request, GET=self._desired, PUT=self._put_desired)
            case ("v1", _, "proposed"):
                return await self._one_of(request, GET=self._proposed, PUT=self._propose)
            case ("v1", _, "claim"):
                return await self._one_of(request, GET=self._holder, PUT=self._give, DELETE=self._take_back)
            case ("v1", _, "manifests", _):
                return await self._one_of(request, GET=self._manifest, PUT=self._put_manifest)
            case ("v1", _, "commands"):
                return await self._one_of(request, GET=self._purges, POST=self._append)
            case ("v1", _, "aside"):
                return await self._one_of(request, GET=self._aside)
            case _:
                raise RefusedError(404, "path", "nothing is here; docs/fleet-http.md has the form")

    async def _one_of(self, request: Request, **methods: Callable[[Request], Any]) -> Answer:
        if (method := methods.get(request.method)) is None:
            raise RefusedError(405, "method", f"{request.method} is not for this path: {', '.join(methods)}")
        answer: Answer = await method(request)
        return answer

    async def _about(self, request: Request) -> Answer:
        return json_answer(self._told)

    async def _state(self, request: Request) -> Answer:
        bus, query = self._bus, request.query
        wait_s = _number(query, "wait", WAIT_S_MAX)
        after, boot = int(_number(query, "after", forms.NUMBER_MAX)), query.get("boot", "")

        def is_news() -> bool:
            state = bus.state
            if state is None or "after" not in query:
                return state is not None
            return state.number > after or bool(boot and state.boot != boot)

        try:
            async with asyncio.timeout(wait_s):
                while not is_news():
                    await bus.has_state.wait()
        except TimeoutError:
            return Answer()
        assert bus.state is not None
        age = ("Zcserve-Age", f"{time.monotonic() - bus.said_at:.3f}")
        return Answer(200, bus.state.dump(), (age,))

    async def _desired(self, request: Request) -> Answer:
        return Answer(200, (await self._bus.read_desired()).dump())

    async def _put_desired(self, request: Request) -> Answer:
        await self._bus.put_desired(Desired.parse(request.body), request.query.get("claim", ""))
        return Answer()

    async def _proposed(self, request: Request) -> Answer:
        found = await self._bus.with_shelf(lambda shelf: shelf.proposal())
        if found is None:
            return Answer()
        fields = (("Zcserve-After", str(found.after)), ("Zcserve-Number", str(found.number)))
        return Answer(200, found.desired.dump(), fields)

    async def _propose(self, request: Request) -> Answer:
        query = request.query
        proposal = Proposal.of(query.get("after", ""), query.get("number", "0"), request.body)
        token = query.get("claim", "")
        await self._bus.with_shelf(lambda shelf: shelf.propose(proposal, token, time.monotonic()))
        return Answer()

    async def _holder(self, request: Request) -> Answer:
        holder, left_s = await self._bus.with_shelf(lambda shelf: shelf.holder(time.monotonic()))
        return json_answer({"holder": holder, "left_s": left_s}) if holder else Answer()

    async def _give(self, request: Request) -> Answer:
        form = forms.load_any(request.body)
        holder, token, lasts_s = (forms.member(form, name) for name in ("holder", "token", "lasts_s"))
        renew, number = forms.switch(form.get("renew", False), "renew"), form.get("number", 0)
        given = await self._bus.with_shelf(
            lambda shelf: shelf.give(holder, token, lasts_s, time.monotonic(), renew=renew, number=number)
        )
        return json_answer({"number": given})

    async def _take_back(self, request: Request) -> Answer:
        token = request.query.get("claim", "")
        await self._bus.with_shelf(lambda shelf: shelf.take_back(token, time.monotonic()))
        return Answer()

    async def _manifest(self, request: Request) -> Answer:
        called = request.segments[3]
        digest = called.removesuffix(ENDING)

        def read(shelf: Shelf) -> bytes:
            data = shelf.manifest(digest)
            return pack(data) if called != digest else data

        return Answer(200, await self._bus.with_shelf(read))

    async def _put_manifest(self, request: Request) -> Answer:
        called = request.segments[3]
        digest = called.removesuffix(ENDING)

        def put(shelf: Shelf) -> None:
            shelf.put_manifest(digest, unpack(request.body) if called != digest else request.body)

        try:
            await self._bus.with_shelf(put)
        except PackedError as error:
            raise RefusedError(400, "form", f"{called}: {error}") from None
        return Answer()

    async def _append(self, request: Request) -> Answer:
        await self._bus.append(request.body, is_anew=bool(_number(request.query, "anew", 1.0)))
        return Answer()

    async def _purges(self, request: Request) -> Answer:
        return json_answer({"purges": self._bus.purges()})

    async def _aside(self, request: Request) -> Answer:
        return json_answer({"aside": await self._bus.with_shelf(lambda shelf: shelf.aside())})


def _number(query: Any, name: str, most: float) -> float:
    """A number of the query, 0 where it is not there. Raises FormError."""
    text = query.get(name, "0")
    try:
        return forms.real(float(text), name, most)
    except ValueError:
        raise FormError(f"{name}: must be a number, not {forms.shown(text)}") from None
