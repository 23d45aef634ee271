"""What every bus promises (zcserve/fleet/bus.py), each as a coroutine that any bus is run through.

A bus's own tests have a `Wiring`, which makes its two sides, and one test that runs `PROMISES` through it:

    @pytest.mark.parametrize("promise", PROMISES, ids=lambda promise: promise.__name__)
    def test_it_keeps(promise: Promise, wiring: Wiring) -> None:
        asyncio.run(promise(wiring))

A promise waits for conditions, never for luck. That nothing comes is looked at for QUIET_S, where it cannot be told by
something that comes later.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager
from dataclasses import replace
from typing import Any, Generic, Protocol, TypeAlias, TypeVar

import pytest

from zcserve.fleet.bus import (
    UNACKNOWLEDGED_MAX,
    BusError,
    Caught,
    ClaimHeldError,
    ConflictError,
    Delivery,
    Gap,
    Heard,
    MissingError,
    NodeBus,
    OperatorBus,
)
from zcserve.fleet.forms import MESSAGE_BYTES_MAX
from zcserve.fleet.messages import Command, Desired, Poisoned, Release, State

# A busy machine; what is broken takes as long.
WITHIN_S = 30.0
# What has not come by then is taken for something that does not come.
QUIET_S = 0.3
# Nodes that every wiring has, by name.
NODES = ("n1", "n2", "n3")

T = TypeVar("T")


class Wiring(Protocol):
    """A bus for one test: its site is empty at the beginning.

    site             its name
    keeps_commands   commands wait for a node that is away. Else `publish` names it, or it is told a gap
    is_in_one_place  what is desired, claims and states are kept apart from nodes, so that they are there without any
    """

    site: str
    keeps_commands: bool
    is_in_one_place: bool

    def operator(self) -> AbstractAsyncContextManager[OperatorBus]:
        """An operator's side that knows all of NODES; several may be open at once."""

    def node(self, name: str) -> AbstractAsyncContextManager[NodeBus]:
        """The side of one of NODES. Opened once more after it was closed, it is the agent that was started anew."""

    async def publish_raw(self, data: bytes) -> None:
        """Publish bytes that may be no command."""


Promise: TypeAlias = Callable[[Any], Coroutine[Any, Any, None]]
PROMISES: list[Promise] = []


def promise(function: Promise) -> Promise:
    """One of PROMISES."""
    PROMISES.append(function)
    return function


class Hearing(Generic[T]):
    """All that an iterator has brought so far, in `heard`."""

    def __init__(self) -> None:
        self.heard: list[T] = []
        self._came = asyncio.Event()
        self._error: BaseException | None = None

    async def follow(self, iterator: AsyncIterator[T]) -> None:
        """Keep what comes until the task is cancelled."""
        try:
            async with aclosing(iterator):  # type: ignore[type-var]
                async for one in iterator:
                    self.heard.append(one)
                    self._came.set()
        except Exception as error:
            self._error = error
            self._came.set()

    async def until(self, holds: Callable[[list[T]], object], within_s: float = WITHIN_S) -> list[T]:
        """All of it, once this holds of it."""
        try:
            async with asyncio.timeout(within_s):
                while not holds(self.heard):
                    if self._error:
                        raise self._error
                    self._came.clear()
                    await self._came.wait()
        except TimeoutError:
            pytest.fail(f"not within {within_s} s; heard: {str(self.heard)[-2000:]}")
        return self.heard


@asynccontextmanager
async def hearing(iterator: AsyncIterator[T]) -> AsyncIterator[Hearing[T]]:
    """What comes of an iterator in the block, which is closed at its end."""
    found: Hearing[T] = Hearing()
    task = asyncio.create_task(found.follow(iterator))
    try:
        yield found
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def purge(wiring: Wiring, name: str) -> Command:
    """A command."""
    return Command(name, "purge", wiring.site, tags=("news",))


def release(sequence: int) -> Release:
    """A release."""
    return Release(f"www-{sequence}", sequence, f"{sequence:064x}", f"{sequence:064x}")


def desired(wiring: Wiring, edition: int, sequence: int = 1) -> Desired:
    """What may be desired."""
    return Desired(wiring.site, edition, release(sequence))


def state(wiring: Wiring, node: str, number: int, **more: Any) -> State:
    """A node's state."""
    return State(wiring.site, node, "boot", number, **more)


def names(deliveries: list[Delivery]) -> list[str]:
    """Of the commands and of what is poisoned."""
    return [one.id if isinstance(one, Command) else one.name for one in deliveries if not isinstance(one, Gap)]


def gaps(deliveries: list[Delivery]) -> list[Gap]:
    """Those that were told."""
    return [one for one in deliveries if isinstance(one, Gap)]


def has(*expected: str) -> Callable[[list[Delivery]], bool]:
    """Whether all of these have come."""
    return lambda deliveries: set(expected) <= set(names(deliveries))


async def publish(operator: OperatorBus, *commands: Command) -> frozenset[str]:
    """Each in turn, and all nodes that have missed one."""
    return frozenset[str]().union(*[await operator.publish(command) for command in commands])


async def eventually(action: Callable[[], Awaitable[T]]) -> T:
    """What it returns, called again while it raises BusError."""
    async with asyncio.timeout(WITHIN_S):
        while True:
            try:
                return await action()
            except BusError:
                await asyncio.sleep(0.05)


# -- commands


@promise
async def a_new_node_is_told_a_gap_before_any_command(wiring: Wiring) -> None:
    async with wiring.operator() as operator, wiring.node("n1") as node, hearing(node.deliveries()) as heard:
        await heard.until(gaps)
        await publish(operator, purge(wiring, "c1"))
        deliveries = await heard.until(has("c1"))
        assert isinstance(deliveries[0], Gap)
        assert deliveries[0].reason.isprintable()
        assert len(gaps(deliveries)) == 1


@promise
async def commands_come_in_the_order_in_which_they_were_published_and_whole(wiring: Wiring) -> None:
    commands = [
        *[purge(wiring, f"c{number}") for number in range(20)],
        Command("p", "purge", wiring.site, paths=("/a", "/ä"), is_hard=True),
        Command("w", "warm", wiring.site, paths=("/a",)),
        Command("f", "flip", wiring.site, 7, release(7)),
    ]
    async with wiring.operator() as operator, wiring.node("n1") as node, hearing(node.deliveries()) as heard:
        await heard.until(gaps)
        assert await publish(operator, *commands) <= {"n2", "n3"}
        deliveries = await heard.until(has("f"))
        assert [one for one in deliveries if isinstance(one, Command)] == commands


@promise
async def each_node_hears_each_command(wiring: Wiring) -> None:
    async with (
        wiring.operator() as operator,
        wiring.node("n1") as first,
        wiring.node("n2") as second,
        hearing(first.deliveries()) as one,
        hearing(second.deliveries()) as other,
    ):
        await one.until(gaps)
        await other.until(gaps)
        await publish(operator, purge(wiring, "c1"), purge(wiring, "c2"))
        for heard in (one, other):
            assert names(await heard.until(has("c1", "c2"))) == ["c1", "c2"]


@promise
async def a_command_comes_until_it_is_acknowledged_and_not_after_that(wiring: Wiring) -> None:
    sent = [f"c{number}" for number in range(6)]
    async with wiring.operator() as operator:
        async with wiring.node("n1") as node, hearing(node.deliveries()) as heard:
            await heard.until(gaps)
            await publish(operator, *[purge(wiring, name) for name in sent])
            await heard.until(has(*sent))
            for name in ("c0", "c3", "c1"):
                await node.acknowledge(name)
            await node.set_aside("c4", "no such tag")
        async with wiring.node("n1") as node, hearing(node.deliveries()) as heard:
            await eventually(lambda: operator.publish(purge(wiring, "last")))
            deliveries = await heard.until(has("last"))
            brought = names(deliveries)
            if wiring.keeps_commands:
                assert brought == ["c2", "c5", "last"]
            else:
                assert not set(brought) & {"c0", "c1", "c3", "c4"}
                assert gaps(deliveries) or brought == ["c2", "c5", "last"]


@promise
async def one_iterator_after_another_brings_what_is_not_acknowledged(wiring: Wiring) -> None:
    async with wiring.operator() as operator, wiring.node("n1") as node:
        async with hearing(node.deliveries()) as heard:
            await heard.until(gaps)
            await publish(operator, *[purge(wiring, name) for name in ("c1", "c2", "c3")])
            await heard.until(has("c3"))
            await node.acknowledge("c2")
        async with hearing(node.deliveries()) as heard:
            assert names(await heard.until(has("c3"))) == ["c1", "c3"]


@promise
async def what_is_published_while_a_node_is_away_comes_or_it_is_told(wiring: Wiring) -> None:
    async with wiring.operator() as operator:
        async with wiring.node("n1") as node, hearing(node.deliveries()) as heard:
            await heard.until(gaps)
            await publish(operator, purge(wiring, "before"))
            await heard.until(has("before"))
            await node.acknowledge("before")
        missed = await publish(operator, *[purge(wiring, name) for name in ("c1", "c2", "c3")])
        async with wiring.node("n1") as node, hearing(node.deliveries()) as heard:
            deliveries = await heard.until(lambda told: gaps(told) or has("c3")(told))
            if wiring.keeps_commands:
                assert not missed
                assert names(await heard.until(has("c3"))) == ["c1", "c2", "c3"]
            else:
                assert gaps(deliveries) or names(deliveries) == ["c1", "c2", "c3"]
                assert "n1" in missed or names(deliveries) == ["c1", "c2", "c3"]


@promise
async def no_more_come_than_a_node_has_room_for(wiring: Wiring) -> None:
    sent = [f"c{number}" for number in range(UNACKNOWLEDGED_MAX + 2)]
    async with wiring.operator() as operator, wiring.node("n1") as node, hearing(node.deliveries()) as heard:
        await heard.until(gaps)
        publishing = asyncio.create_task(publish(operator, *[purge(wiring, name) for name in sent]))
        await heard.until(has(*sent[:UNACKNOWLEDGED_MAX]))
        await asyncio.sleep(QUIET_S)
        assert names(heard.heard) == sent[:UNACKNOWLEDGED_MAX]
        await node.acknowledge("c5")
        await heard.until(has(sent[UNACKNOWLEDGED_MAX]))
        await node.set_aside("c0", "no")
        await heard.until(has(sent[-1]))
        await publishing
        assert names(heard.heard) == sent


@promise
async def the_same_id_is_appended_once(wiring: Wiring) -> None:
    async with wiring.operator() as operator, wiring.node("n1") as node, hearing(node.deliveries()) as heard:
        await heard.until(gaps)
        await publish(operator, *[purge(wiring, name) for name in ("c1", "c1", "c2", "c1", "c3")])
        assert names(await heard.until(has("c3"))) == ["c1", "c2", "c3"]


@promise
async def what_is_told_anew_comes_once_more_also_where_it_is_over(wiring: Wiring) -> None:
    async with wiring.operator() as operator, wiring.node("n1") as node, hearing(node.deliveries()) as heard:
        await heard.until(gaps)
        await publish(operator, purge(wiring, "c1"))
        await heard.until(has("c1"))
        await node.acknowledge("c1")
        await publish(operator, purge(wiring, "c1"))
        await operator.publish(purge(wiring, "c1"), is_anew=True)
        await heard.until(lambda told: names(told) == ["c1", "c1"])
        await node.acknowledge("c1")
        await publish(operator, purge(wiring, "c1"), purge(wiring, "c2"))
        assert names(await heard.until(has("c2"))) == ["c1", "c1", "c2"]


@promise
async def what_is_no_command_comes_as_poisoned_and_the_next_one_comes_all_the_same(wiring: Wiring) -> None:
    async with wiring.operator() as operator:
        async with wiring.node("n1") as node, hearing(node.deliveries()) as heard:
            await heard.until(gaps)
            await wiring.publish_raw(b"\xff no JSON")
            await wiring.publish_raw(b'{"version": 2, "id": "later", "op": "purge"}')
            await publish(operator, purge(wiring, "c1"))
            bad, later, good = (await heard.until(has("c1")))[1:]
            assert isinstance(bad, Poisoned)
            assert bad.name.startswith("sha256:")
            assert isinstance(later, Poisoned)
            assert (later.name, later.op) == ("later", "purge")
            assert isinstance(good, Command)
            await node.set_aside(bad.name, bad.reason)
            await node.set_aside(later.name, later.reason)
        async with wiring.node("n1") as node, hearing(node.deliveries()) as heard:
            deliveries = await heard.until(lambda told: gaps(told) or has("c1")(told))
            assert not {bad.name, "later"} & set(names(deliveries))


@promise
async def what_is_acknowledged_twice_or_unknown_does_no_harm(wiring: Wiring) -> None:
    async with wiring.operator() as operator, wiring.node("n1") as node, hearing(node.deliveries()) as heard:
        await heard.until(gaps)
        await node.acknowledge("unknown")
        await node.set_aside("unknown", "why not")
        await publish(operator, purge(wiring, "c1"), purge(wiring, "c2"))
        await heard.until(has("c2"))
        for _ in range(2):
            await node.acknowledge("c1")
            await node.set_aside("c2", "no")
        await node.acknowledge("c2")
        await publish(operator, purge(wiring, "c3"))
        assert names(await heard.until(has("c3"))) == ["c1", "c2", "c3"]


@promise
async def the_largest_messages_are_carried(wiring: Wiring) -> None:
    paths = tuple(f"/{number:03}/".ljust(1990, "x") for number in range(130))
    command = Command("large", "purge", wiring.site, paths=paths)
    assert MESSAGE_BYTES_MAX * 0.95 < len(command.dump()) <= MESSAGE_BYTES_MAX
    async with wiring.operator() as operator, wiring.node("n1") as node, hearing(node.deliveries()) as heard:
        await heard.until(gaps)
        await publish(operator, command)
        assert (await heard.until(has("large")))[-1] == command
        await node.set_aside("large", "x" * 500)


# -- what is desired


@promise
async def nothing_is_desired_at_the_beginning(wiring: Wiring) -> None:
    async with wiring.operator() as operator, wiring.node("n1") as node:
        nothing = Desired(wiring.site)
        assert await operator.desired() == nothing
        assert await node.read_desired() == nothing


@promise
async def what_is_desired_is_heard_by_all_and_read_by_all(wiring: Wiring) -> None:
    async with (
        wiring.operator() as operator,
        wiring.node("n1") as first,
        wiring.node("n2") as second,
        hearing(first.desired()) as one,
        hearing(second.desired()) as other,
    ):
        for edition in (1, 2, 9):
            after = (await operator.desired()).edition
            new = desired(wiring, edition, edition)
            await operator.put_desired(new, after)
            assert await operator.desired() == new
            for heard in (one, other):
                await heard.until(lambda heard, new=new: new in heard)  # type: ignore[misc]
            assert await first.read_desired() == await second.read_desired() == new


@promise
async def a_put_after_another_edition_is_refused_with_what_is_stored(wiring: Wiring) -> None:
    async with wiring.operator() as operator, wiring.node("n1") as node, hearing(node.desired()) as heard:
        with pytest.raises(ConflictError) as conflict:
            await operator.put_desired(desired(wiring, 6), 5)
        assert conflict.value.stored == Desired(wiring.site)
        await operator.put_desired(desired(wiring, 3), 0)
        for after in (0, 2, 4):
            with pytest.raises(ConflictError) as conflict:
                await operator.put_desired(desired(wiring, 5), after)
            assert conflict.value.stored == desired(wiring, 3)
        await heard.until(lambda told: desired(wiring, 3) in told)
        assert {one.edition for one in heard.heard} <= {0, 3}


@promise
async def a_put_that_is_repeated_is_no_error(wiring: Wiring) -> None:
    async with wiring.operator() as operator, wiring.node("n1"):
        for _ in range(2):
            await operator.put_desired(desired(wiring, 1), 0)
        await operator.put_desired(desired(wiring, 2), 1)
        with pytest.raises(ConflictError):
            await operator.put_desired(desired(wiring, 1), 0)
        assert await operator.desired() == desired(wiring, 2)


@promise
async def of_two_puts_after_one_edition_one_is_stored_and_only_that_is_heard(wiring: Wiring) -> None:
    rounds = 100 if wiring.is_in_one_place else 10
    async with (
        wiring.operator() as first,
        wiring.operator() as second,
        wiring.node("n1") as node,
        hearing(node.desired()) as heard,
    ):
        won: dict[int, Desired] = {0: Desired(wiring.site)}
        for edition in range(1, rounds + 1):
            ours = [desired(wiring, edition, 2 * edition + side) for side in (0, 1)]
            puts = [operator.put_desired(new, edition - 1) for operator, new in zip((first, second), ours, strict=True)]
            ends = await asyncio.gather(*puts, return_exceptions=True)
            winners = [new for new, end in zip(ours, ends, strict=True) if end is None]
            conflicts = [end for end in ends if isinstance(end, ConflictError)]
            assert (len(winners), len(conflicts)) == (1, 1), ends
            assert conflicts[0].stored == winners[0]
            won[edition] = winners[0]
        await heard.until(lambda told: won[rounds] in told)
        assert [one for one in heard.heard if won[one.edition] != one] == []


@promise
async def a_node_that_comes_back_hears_of_the_newest_without_asking(wiring: Wiring) -> None:
    async with wiring.operator() as operator:
        async with wiring.node("n1") as node, hearing(node.desired()) as heard:
            await operator.put_desired(desired(wiring, 1), 0)
            await heard.until(lambda told: desired(wiring, 1) in told)
        if wiring.is_in_one_place:
            await operator.put_desired(desired(wiring, 2), 1)
        async with wiring.node("n1") as node, hearing(node.desired()) as heard:
            if not wiring.is_in_one_place:
                await eventually(lambda: operator.put_desired(desired(wiring, 2), 1))
            await heard.until(lambda told: desired(wiring, 2) in told)


# -- claims


@promise
async def while_one_has_the_claim_another_is_told_which(wiring: Wiring) -> None:
    async with wiring.operator() as first, wiring.operator() as second, wiring.node("n1"):
        claim = await first.claim("www-1", 30.0)
        assert claim.holder == "www-1"
        with pytest.raises(ClaimHeldError) as held:
            await second.claim("www-2", 30.0)
        assert held.value.holder == "www-1"
        assert 0 < held.value.left_s <= 31
        await first.renew(claim, 50.0)
        with pytest.raises(ClaimHeldError) as held:
            await second.claim("www-2", 30.0)
        assert 31 < held.value.left_s <= 51
        await first.give_up(claim)
        await second.claim("www-2", 30.0)


@promise
async def the_same_holder_takes_its_claim_again_and_the_old_one_is_over(wiring: Wiring) -> None:
    async with wiring.operator() as first, wiring.operator() as second, wiring.node("n1"):
        old = await first.claim("www-1")
        new = await second.claim("www-1")
        await first.give_up(old)
        with pytest.raises(ClaimHeldError):
            await first.claim("www-2")
        await second.renew(new)


@promise
async def a_claim_ends_by_itself_and_what_has_lost_it_takes_nothing_away(wiring: Wiring) -> None:
    async with wiring.operator() as first, wiring.operator() as second, wiring.node("n1"):
        lost = await first.claim("www-1", 0.4)
        taken = await eventually(lambda: second.claim("www-2", 30.0))
        with pytest.raises(ClaimHeldError) as held:
            await first.renew(lost)
        assert held.value.holder == "www-2"
        await first.give_up(lost)
        await second.renew(taken)
        with pytest.raises(ClaimHeldError):
            await first.claim("www-1")


@promise
async def a_node_that_did_not_hear_that_a_claim_was_given_up_hears_what_the_next_one_puts(wiring: Wiring) -> None:
    async with wiring.operator() as first, wiring.operator() as second:
        async with wiring.node("n1"):
            claim = await first.claim("www-1", 60.0)
        await eventually(lambda: first.give_up(claim))
        async with wiring.node("n1") as node, hearing(node.desired()) as heard:
            claim = await eventually(lambda: second.claim("www-2", 60.0))
            await eventually(lambda: second.put_desired(desired(wiring, 1), 0))
            await heard.until(lambda told: desired(wiring, 1) in told)
            await second.give_up(claim)


@promise
async def a_claim_that_has_ended_and_that_nothing_has_taken_is_renewed(wiring: Wiring) -> None:
    async with wiring.operator() as first, wiring.operator() as second, wiring.node("n1"):
        claim = await first.claim("www-1", 0.1)
        await asyncio.sleep(0.2)
        await first.renew(claim, 30.0)
        with pytest.raises(ClaimHeldError) as held:
            await second.claim("www-2")
        assert held.value.holder == "www-1"


@promise
async def of_many_that_claim_at_once_one_has_it(wiring: Wiring) -> None:
    async with wiring.operator() as first, wiring.operator() as second, wiring.node("n1"):
        claims = [operator.claim(f"www-{number}") for number, operator in enumerate((first, second) * 4)]
        ends = await asyncio.gather(*claims, return_exceptions=True)
        refused = [end for end in ends if isinstance(end, ClaimHeldError)]
        if wiring.is_in_one_place:
            assert len(refused) == len(ends) - 1, ends
        assert len(refused) >= len(ends) - 1, ends


# -- states


@promise
async def the_last_state_of_each_node_comes_then_caught_then_each_that_is_new(wiring: Wiring) -> None:
    async with wiring.operator() as operator, wiring.node("n1") as first, wiring.node("n2") as second:
        await first.report(state(wiring, "n1", 1))
        await first.report(state(wiring, "n1", 2))
        await second.report(state(wiring, "n2", 1, error="disk full"))
        async with hearing(operator.states()) as heard:
            before = await heard.until(lambda told: Caught() in told)
            known = {one.state.node: one.state for one in before if isinstance(one, Heard)}
            assert known == {"n1": state(wiring, "n1", 2), "n2": state(wiring, "n2", 1, error="disk full")}
            await first.report(state(wiring, "n1", 3))
            await heard.until(lambda told: _of(told, "n1") == state(wiring, "n1", 3))
            assert heard.heard.count(Caught()) == 1


def _of(heard: list[Any], node: str) -> State | None:
    """A node's last state."""
    return next((one.state for one in reversed(heard) if isinstance(one, Heard) and one.state.node == node), None)


@promise
async def all_is_told_where_there_is_no_state(wiring: Wiring) -> None:
    async with wiring.operator() as operator, wiring.node("n1") as node, hearing(operator.states()) as heard:
        assert await heard.until(lambda told: Caught() in told) == [Caught()]
        await node.report(state(wiring, "n1", 1))
        await heard.until(lambda told: _of(told, "n1") == state(wiring, "n1", 1))


@promise
async def a_state_has_the_age_that_the_bus_has_measured(wiring: Wiring) -> None:
    async with wiring.operator() as operator, wiring.node("n1") as node:
        began = asyncio.get_running_loop().time()
        await node.report(state(wiring, "n1", 1, at=3.0))
        reported = asyncio.get_running_loop().time()
        await asyncio.sleep(0.5)
        async with hearing(operator.states()) as heard:
            first = (await heard.until(lambda told: Caught() in told))[0]
            now = asyncio.get_running_loop().time()
            assert isinstance(first, Heard)
            assert 0.45 <= first.age_s <= now - began + 0.05, (first.age_s, now - reported)
            await node.report(state(wiring, "n1", 2, at=9e9))
            last = (await heard.until(lambda told: _of(told, "n1") == state(wiring, "n1", 2, at=9e9)))[-1]
            assert isinstance(last, Heard)
            assert 0 <= last.age_s < 5


@promise
async def a_node_that_is_forgotten_is_known_no_more_until_it_reports(wiring: Wiring) -> None:
    async with wiring.operator() as operator:
        async with wiring.node("n1") as first, wiring.node("n2") as second:
            await first.report(state(wiring, "n1", 1))
            await second.report(state(wiring, "n2", 1))
            async with hearing(operator.states()) as heard:
                await heard.until(lambda told: _of(told, "n1") and _of(told, "n2"))
        for _ in range(2):
            await operator.forget("n1")
        async with hearing(operator.states()) as heard:
            assert _of(await heard.until(lambda told: Caught() in told), "n1") is None
            async with wiring.node("n1") as first:
                await first.report(state(wiring, "n1", 2))
                await heard.until(lambda told: _of(told, "n1") == state(wiring, "n1", 2))


# -- manifests


@promise
async def a_manifest_is_kept_for_all_and_replaced(wiring: Wiring) -> None:
    small, large = b'{"format": 1}', bytes(range(256)) * 12_000
    async with wiring.operator() as operator, wiring.node("n1") as node:
        for digest, data in (("1" * 64, small), ("2" * 64, large), ("2" * 64, large[::-1]), ("2" * 64, small)):
            await operator.put_manifest(digest, data)
            assert await operator.manifest(digest) == data
            assert await node.manifest(digest) == data
        assert await node.manifest("1" * 64) == small


@promise
async def a_manifest_that_is_not_there_is_missing(wiring: Wiring) -> None:
    async with wiring.operator() as operator, wiring.node("n1") as node:
        for side in (operator, node):
            with pytest.raises(MissingError):
                await side.manifest("3" * 64)


# -- all


@promise
async def sides_close_at_any_time_and_twice(wiring: Wiring) -> None:
    async with (
        wiring.operator() as operator,
        wiring.node("n1") as node,
        hearing(node.deliveries()) as heard,
        hearing(node.desired()),
        hearing(operator.states()),
    ):
        await heard.until(gaps)
        for side in (operator, node):
            await side.close()
            await side.close()


@promise
async def nothing_that_a_node_is_told_is_lost_while_all_happens_at_once(wiring: Wiring) -> None:
    async with (
        wiring.operator() as operator,
        wiring.node("n1") as node,
        hearing(node.deliveries()) as commands,
        hearing(node.desired()) as wanted,
        hearing(operator.states()) as states,
    ):
        await commands.until(gaps)

        async def publish_all() -> None:
            for number in range(100):
                await operator.publish(purge(wiring, f"c{number}"))

        async def put_all() -> None:
            for edition in range(1, 21):
                await operator.put_desired(desired(wiring, edition), edition - 1)

        async def report_all() -> None:
            for number in range(1, 51):
                await node.report(replace(state(wiring, "n1", number), done=(f"c{number}",)))

        async def acknowledge_all() -> None:
            for number in range(100):
                await commands.until(has(f"c{number}"))
                await node.acknowledge(f"c{number}")

        await asyncio.gather(publish_all(), put_all(), report_all(), acknowledge_all())
        assert names(commands.heard) == [f"c{number}" for number in range(100)]
        await wanted.until(lambda told: desired(wiring, 20) in told)
        await states.until(lambda told: (last := _of(told, "n1")) and last.number == 50)
