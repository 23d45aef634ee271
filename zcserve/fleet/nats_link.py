"""One connection to NATS, which is there again when NATS is.

- **It connects by itself**, from the first use on, and after each loss, PAUSE_MAX_S later at the most. The client's own
  reconnecting gives up for good on some errors (credentials that are refused for a moment), so each connection is a new
  client. What was subscribed ends with a connection, and its reader subscribes anew (jetstream.py).
- **A request ends**: with an answer, with the loss of the connection, with a refusal of its subject, or after its time.
  Where NATS is away, it waits WAITS_S for it, so that a restart of nats-server is not noticed.
- **A connection that is silent is lost**: NATS is pinged every PING_S, and has to answer.
- **The log is told once** that NATS is away, or refuses the credentials, and once that it is back.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import aclosing, suppress
from typing import TYPE_CHECKING, Any, TypeVar

from zcserve.errors import reason_of
from zcserve.fleet.bus import BusError
from zcserve.fleet.extra import require
from zcserve.fleet.nats_place import NatsPlace, options
from zcserve.log import Log

if TYPE_CHECKING:
    from nats.aio.client import Client
    from nats.aio.msg import Msg

T = TypeVar("T")

_log = Log(__name__)

# For one server to take a connection, its TLS and its credentials.
CONNECT_S = 5.0
# A request waits so long for a connection: nats-server is started anew in one or two seconds.
WAITS_S = 5.0
# And then so long for its answer.
ANSWER_S = 5.0
# Between two pings. A connection is lost that has not answered two of them: a machine that is off, a process that is
# stopped. A ping costs 0.1 ms of a processor.
PING_S = 5
PINGS_UNANSWERED_MAX = 2
# Between two tries to connect: the first pause, and the longest. Up to half of it is by chance, so that a thousand
# nodes do not come at once.
PAUSE_S = 0.1
PAUSE_MAX_S = 2.0
# Where the credentials are refused, which takes a person.
PAUSE_REFUSED_S = 10.0
# To close a connection: a peer may read nothing any more.
LEAVES_S = 1.0
# What fails while NATS is there is told after so long: a server that has just started has no streams yet.
TOLD_AFTER_S = 5.0
# An attempt that has lasted so long is well. Before that all may be there but a permission, and a reader that hears
# nothing ends (jetstream.py).
LASTED_S = 10.0


class AwayError(BusError):
    """NATS is away, or refuses the credentials."""


class NoStreamError(BusError):
    """No stream takes this subject."""


class NotPermittedError(BusError):
    """This user has no right to a subject."""


class Link:
    """A connection. Not for several threads, and for one event loop.

    name  what nats-server calls it in its own log
    """

    def __init__(self, place: NatsPlace, name: str) -> None:
        require("nats", "buses over NATS")
        self.place = place
        self._name = name
        self._client: Client | None = None
        self._keeper: asyncio.Task[None] | None = None
        self._connected = asyncio.Event()
        self._closed = asyncio.Event()
        self._why = "not connected yet"
        self._is_told = False
        self.refusal = ""  # the last subject that this user was not permitted, in the server's words
        self._leaving: set[asyncio.Task[None]] = set()
        self._listeners: set[Callable[[BusError], None]] = set()
        self._refused: dict[asyncio.Future[Any], str] = {}

    @property
    def is_closed(self) -> bool:
        """Whether it was closed, for good."""
        return self._closed.is_set()

    @property
    def is_connected(self) -> bool:
        """Whether it is at the moment, as far as it knows."""
        return self._connected.is_set()

    async def close(self) -> None:
        """Let go of it; what waits raises AwayError."""
        self._closed.set()
        while self._keeper and not self._keeper.done():
            self._keeper.cancel()  # once may not do: asyncio.wait_for of Python 3.11 loses one that comes with its end
            await asyncio.wait((self._keeper,), timeout=0.2)
        self._lose(CLOSED)
        if self._leaving:
            await asyncio.wait(self._leaving, timeout=LEAVES_S)

    async def pause(self, seconds: float) -> None:
        """Wait, or until it is closed."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._closed.wait()

    # -- what it is for

    async def request(
        self, subject: str, data: bytes = b"", headers: Mapping[str, str] | None = None, within_s: float = ANSWER_S
    ) -> Msg:
        """Ask, and the answer. Raises NoStreamError where nothing takes the subject, AwayError, BusError."""
        from nats.errors import Error, NoRespondersError

        client = await self._get()
        asking = asyncio.ensure_future(client.request(subject, data, timeout=within_s, headers=dict(headers or {})))
        broken: asyncio.Future[BusError] = asyncio.get_running_loop().create_future()
        self._refused[broken] = subject
        try:
            await asyncio.wait((asking, broken), return_when=asyncio.FIRST_COMPLETED)
            if not asking.done():
                raise broken.result()
            return asking.result()
        except NoRespondersError:
            raise NoStreamError(f"NATS has nothing for {subject}") from None
        except Error as error:
            raise BusError(f"NATS does not answer {subject}: {reason_of(error)}") from None
        finally:
            del self._refused[broken]
            asking.cancel()
            await asyncio.gather(asking, return_exceptions=True)

    async def subscribe(
        self, take: Callable[[Msg], None], lost: Callable[[BusError], None]
    ) -> tuple[str, Callable[[], Awaitable[None]]]:
        """Have messages to a new subject of this connection's own. Returns the subject, and what ends it. `lost` is
        called when the connection is lost."""
        client = await self._get()
        inbox = client.new_inbox()

        async def call(message: Msg) -> None:
            take(message)

        subscription = await self._guarded(client.subscribe(inbox, cb=call))
        self._listeners.add(lost)

        async def end() -> None:
            self._listeners.discard(lost)
            with suppress(Exception):  # it ends with its connection, too
                await subscription.unsubscribe()

        return inbox, end

    async def publish(self, subject: str, data: bytes, reply: str) -> None:
        """Send, without an answer; it comes to `reply`."""
        client = await self._get()
        await self._guarded(client.publish(subject, data, reply=reply))

    async def _guarded(self, doing: Awaitable[Any]) -> Any:
        from nats.errors import Error

        try:
            async with asyncio.timeout(ANSWER_S):
                return await doing
        except (Error, OSError, TimeoutError) as error:
            raise AwayError(f"NATS is away ({self._where}): {reason_of(error)}") from None

    # -- the connection

    @property
    def _where(self) -> str:
        return ", ".join(self.place.servers)

    async def _get(self) -> Client:
        """The client, connected. Raises AwayError after WAITS_S."""
        if self.is_closed:
            raise AwayError(CLOSED)
        if self._keeper is None:
            self._keeper = asyncio.create_task(self._keep())
        if not self._connected.is_set():
            with suppress(TimeoutError):
                async with asyncio.timeout(WAITS_S):
                    await self._connected.wait()
        if self._client is None:
            raise AwayError(f"{self._why} ({self._where})")
        return self._client

    async def _keep(self) -> None:
        """Connect, wait until that is lost, and so on."""
        pause = 0.0
        while not self.is_closed:
            ended = asyncio.Event()
            try:
                client = await self._connect(ended)
            except BusError as error:
                self._tell(str(error))
                pause = min(max(2 * pause, PAUSE_S), PAUSE_MAX_S)
                longest = PAUSE_REFUSED_S if isinstance(error, _RefusedError) else pause
                await asyncio.sleep(longest * random.uniform(0.5, 1))
                continue
            try:
                self._client, pause = client, 0.0
                self._connected.set()
                if self._is_told:
                    self._is_told = False
                    _log.info("NATS is back: %s", self._where)
                await _until_lost(client, ended)
            finally:
                self._lose(CLOSED if self.is_closed else "NATS is away: the connection was lost")
                self._leave(client)
            self._tell(self._why)

    def _tell(self, why: str) -> None:
        """The log, once; and once more where it turns out that it takes a person. What is known of that stands: NATS
        does not always say it before it ends a connection."""
        was_refused = self._why.startswith(_RefusedError.begins)
        if not self._is_told or (why.startswith(_RefusedError.begins) and not was_refused):
            _log.warning("%s (%s); it is tried again until it is there", why, self._where)
        if not (self._is_told and was_refused and ENDED in why):
            self._why = why
        self._is_told = True

    def _lose(self, why: str) -> None:
        """There is no connection any more."""
        self._client, self._why = None, why
        self._connected.clear()
        error = AwayError(f"{why} ({self._where})")
        for listener in list(self._listeners):
            listener(error)
        self._listeners.clear()
        for broken in self._refused:
            if not broken.done():
                broken.set_result(error)

    async def _connect(self, ended: asyncio.Event) -> Client:
        """A new client that is connected; `ended` is set when it is not any more. Raises BusError."""
        from nats.aio.client import Client
        from nats.errors import Error

        client = Client()
        reasons: list[BaseException] = []

        async def on_error(error: Exception) -> None:
            reasons[:] = [error]
            self._refuse(str(error))

        async def on_closed() -> None:
            ended.set()

        given, check = options(self.place)
        given |= {"allow_reconnect": False, "max_reconnect_attempts": 1, "reconnect_time_wait": 0}
        given |= {"ping_interval": PING_S, "max_outstanding_pings": PINGS_UNANSWERED_MAX, "connect_timeout": CONNECT_S}
        try:
            async with asyncio.timeout(2 * CONNECT_S * len(self.place.urls)):
                await client.connect(name=self._name, error_cb=on_error, closed_cb=on_closed, **given)
            check()
        except BaseException as error:
            self._leave(client)
            if isinstance(error, (Error, OSError, TimeoutError, ValueError)):
                raise _why_not(reasons[-1] if reasons else error) from None
            raise
        return client

    def _leave(self, client: Client) -> None:
        """Close it beside what comes next: a peer may read nothing any more."""
        leaving = asyncio.create_task(_let_go(client))
        self._leaving.add(leaving)
        leaving.add_done_callback(self._leaving.discard)

    def _refuse(self, words: str) -> None:
        """NATS has said that a subject is not permitted: whoever asked for it waits in vain."""
        if "permissions violation" not in words.lower():
            return
        self.refusal = words.removeprefix("nats: ")
        for broken, subject in self._refused.items():
            # nats-py makes small letters of it
            if not broken.done() and (f'"{subject.lower()}"' in words.lower() or '"_inbox.' in words.lower()):
                broken.set_result(NotPermittedError(f"NATS refuses this user: {self.refusal}"))


class _RefusedError(AwayError):
    """The credentials are refused."""

    begins = "NATS refuses the credentials"


CLOSED = "the bus was closed"
ENDED = "it ended the connection at once; are the credentials right?"


def _why_not(error: BaseException) -> AwayError:
    """Why there is no connection."""
    if isinstance(error, (BrokenPipeError, ConnectionResetError)):
        return AwayError(f"NATS is away: {ENDED}")
    if isinstance(error, TimeoutError):
        return AwayError("NATS is away: it does not answer")
    why = reason_of(error).removeprefix("nats: ")
    if "authorization" in why.lower() or "authentication" in why.lower():
        return _RefusedError(f"{_RefusedError.begins}: {why}")
    return AwayError(f"NATS is away: {why}")


async def _until_lost(client: Client, ended: asyncio.Event) -> None:
    """Wait for the end of a connection. A client that hangs while it closes says so in its state alone."""
    while not client.is_closed:
        with suppress(TimeoutError):
            async with asyncio.timeout(PING_S):
                await ended.wait()


async def _let_go(client: Client) -> None:
    """Close it, without waiting for a peer that reads nothing."""
    with suppress(Exception):
        async with asyncio.timeout(LEAVES_S):
            await client.close()


async def lasting(link: Link, what: str, attempt: Callable[[], AsyncGenerator[T | None]]) -> AsyncGenerator[T]:
    """What attempts bring, one after the other, until the link is closed: each lasts until it raises BusError. An
    attempt yields None as a sign of life. `what` it brings ("commands"), for the log."""
    pause, failing_since, is_told = 0.0, 0.0, False
    while not link.is_closed:
        began = time.monotonic()
        try:
            async with aclosing(attempt()) as found:
                async for one in found:
                    if time.monotonic() - began >= LASTED_S:
                        if is_told:
                            _log.info("%s come from NATS again", what)
                        pause, failing_since, is_told = 0.0, 0.0, False
                    if one is not None:
                        yield one
        except BusError as error:
            failing_since = failing_since or time.monotonic()
            is_long = time.monotonic() - failing_since > TOLD_AFTER_S
            if is_long and not is_told and not isinstance(error, AwayError) and not link.is_closed:
                is_told = True
                _log.warning("%s do not come from NATS; it is tried again until they do: %s", what, error)
        pause = min(max(2 * pause, PAUSE_S), PAUSE_MAX_S)
        await link.pause(pause * random.uniform(0.5, 1))
