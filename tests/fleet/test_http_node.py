"""The node's side of the HTTP bus: what a desk answers, and what the agent hears of it."""

from __future__ import annotations

import asyncio
import errno
import gzip
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.fleet import numbered
from zcserve.fleet.bus import UNACKNOWLEDGED_MAX, Gap, MissingError
from zcserve.fleet.http_listener import Answer, RefusedError, Request
from zcserve.fleet.http_node import Desk, HttpNodeBus
from zcserve.fleet.http_shelf import Shelf
from zcserve.fleet.keeping import Kept
from zcserve.fleet.messages import Command, Desired, Message, Poisoned, State

Ask = Callable[..., Awaitable[Answer]]


def run(tmp_path: Path, talk: Callable[[HttpNodeBus, Ask], Awaitable[None]]) -> None:
    """Talk to a desk, and to the bus behind it."""

    kept = Kept(str(tmp_path))

    async def in_time() -> None:
        bus = HttpNodeBus(Shelf(kept, "www", 0.0))
        desk = Desk(bus, "www", "n1", "the-boot")

        async def ask(method: str, path: str, body: bytes = b"", **query: Any) -> Answer:
            words = {name: str(value) for name, value in query.items()}
            request = Request(method, ("v1", *path.split("/")) if path else ("v1",), words, body)
            assert len(body) <= desk.limit_of(request)
            return await desk.answer(request)

        async with asyncio.timeout(60):
            await talk(bus, ask)

    try:
        asyncio.run(in_time())
    finally:
        kept.close()


def claim(token: str = "1") -> bytes:
    return json.dumps({"holder": "r1", "token": token, "lasts_s": 60, "later": True}).encode()


def state(number: int, boot: str = "the-boot") -> State:
    return State("www", "n1", boot, number)


def test_what_is_put_is_what_is_got_and_the_agent_hears_of_it(tmp_path: Path) -> None:
    async def talk(bus: HttpNodeBus, ask: Ask) -> None:
        about = json.loads((await ask("GET", "")).body)
        assert about == {"version": 1, "site": "www", "node": "n1", "boot": "the-boot"}
        assert Desired.parse((await ask("GET", "www/desired")).body) == Desired("www")
        assert (await ask("GET", "www/claim")).status == 204
        assert json.loads((await ask("PUT", "www/claim", claim())).body) == {"number": 1}
        assert json.loads((await ask("GET", "www/claim")).body)["holder"] == "r1"
        assert (await ask("GET", "www/proposed")).status == 204
        proposed = Desired("www", 1, numbered(3))
        assert (await ask("PUT", "www/proposed", proposed.dump(), claim=1, after=0)).status == 204
        fields = (("Zcserve-After", "0"), ("Zcserve-Number", "1"))
        assert await ask("GET", "www/proposed") == Answer(200, proposed.dump(), fields)
        assert (await bus.read_desired()).edition == 0
        hearing = bus.desired()
        first, second = Desired("www", 1, numbered(1)), Desired("www", 2, numbered(2))
        assert (await ask("PUT", "www/desired", first.dump(), claim=1)).status == 204
        assert await anext(hearing) == first
        waits = asyncio.ensure_future(anext(hearing))
        await asyncio.sleep(0)
        await ask("PUT", "www/desired", second.dump(), claim=1)
        assert await waits == second == await bus.read_desired()
        assert (await ask("PUT", f"www/manifests/{numbered(2).manifest}", b"a" * (1 << 19))).status == 204
        got = await ask("GET", f"www/manifests/{numbered(2).manifest}")
        assert got.body == await bus.manifest(numbered(2).manifest) == b"a" * (1 << 19)
        packed = await ask("GET", f"www/manifests/{numbered(2).manifest}.gz")
        assert gzip.decompress(packed.body) == got.body
        assert (await ask("PUT", f"www/manifests/{numbered(2).manifest}.gz", gzip.compress(b"b" * 9))).status == 204
        assert await bus.manifest(numbered(2).manifest) == b"b" * 9
        with pytest.raises(MissingError):
            await bus.manifest(numbered(3).manifest)
        assert (await ask("DELETE", "www/claim", claim=1)).status == 204
        assert (await ask("GET", "www/claim")).status == 204

    run(tmp_path, talk)


# It says that it is small.
BOMB = gzip.compress(bytes(1 << 20))[:-4] + bytes(4)


@pytest.mark.parametrize(
    ("method", "path", "body", "query", "status", "code"),
    [
        ("GET", "blog/state", b"", {}, 404, "site"),
        ("GET", "www/nothing", b"", {}, 404, "path"),
        ("POST", "www/state", b"", {}, 405, "method"),
        ("GET", "www/state", b"", {"after": "x"}, 400, "form"),
        ("GET", "www/state", b"", {"wait": 61}, 400, "form"),
        ("GET", "www/manifests/..", b"", {}, 400, "form"),
        ("GET", f"www/manifests/{5:064x}", b"", {}, 404, "missing"),
        ("GET", f"www/manifests/{5:064x}.gz", b"", {}, 404, "missing"),
        ("PUT", f"www/manifests/{5:064x}.gz", b"{}", {}, 400, "form"),
        ("PUT", f"www/manifests/{5:064x}.gz", BOMB, {}, 400, "form"),
        ("PUT", "www/claim", b"{}", {}, 400, "form"),
        ("PUT", "www/claim", b'{"holder": "a", "token": "b", "lasts_s": "c"}', {}, 400, "form"),
        ("PUT", "www/desired", b"{}", {"claim": "1"}, 400, "form"),
        ("PUT", "www/desired", Desired("www", 1).dump(), {"claim": "2"}, 409, "held"),
        ("PUT", "www/proposed", Desired("www", 1).dump(), {"claim": "2", "after": 0}, 409, "held"),
        ("PUT", "www/proposed", Desired("www", 1).dump(), {"claim": "1", "after": 0, "number": 9}, 409, "held"),
        ("PUT", "www/proposed", Desired("www", 1).dump(), {"claim": "1"}, 400, "form"),
    ],
)
def test_what_is_refused_has_a_word(
    tmp_path: Path, method: str, path: str, body: bytes, query: dict[str, Any], status: int, code: str
) -> None:
    async def talk(bus: HttpNodeBus, ask: Ask) -> None:
        await ask("PUT", "www/claim", claim())
        with pytest.raises(RefusedError) as raised:
            await ask(method, path, body, **query)
        assert (raised.value.status, raised.value.code) == (status, code)

    run(tmp_path, talk)


def test_what_is_held_or_stored_is_told_with_the_refusal(tmp_path: Path) -> None:
    async def talk(bus: HttpNodeBus, ask: Ask) -> None:
        await ask("PUT", "www/claim", claim())
        other = json.dumps({"holder": "r2", "token": "2", "lasts_s": 60}).encode()
        with pytest.raises(RefusedError) as raised:
            await ask("PUT", "www/claim", other)
        assert raised.value.more["holder"] == "r1"
        assert 0 < raised.value.more["left_s"] <= 60
        assert raised.value.more["number"] == 1
        stored = Desired("www", 4, numbered(1))
        await ask("PUT", "www/desired", stored.dump(), claim=1)
        with pytest.raises(RefusedError) as raised:
            await ask("PUT", "www/desired", Desired("www", 4).dump(), claim=1)
        assert raised.value.code == "conflict"
        assert Desired.parse(raised.value.more["stored"].encode()) == stored

    run(tmp_path, talk)


def test_a_wait_is_answered_as_a_state_is_made(tmp_path: Path) -> None:
    async def talk(bus: HttpNodeBus, ask: Ask) -> None:
        assert (await ask("GET", "www/state")).status == 204
        waits = asyncio.ensure_future(ask("GET", "www/state", after=0, wait=60))
        await asyncio.sleep(0)
        assert not waits.done()
        await bus.report(state(1))
        answer = await waits
        assert State.parse(answer.body) == state(1)
        assert 0 <= float(dict(answer.fields)["Zcserve-Age"]) < 60
        assert (await ask("GET", "www/state", after=1, boot="the-boot", wait=0.01)).status == 204
        assert (await ask("GET", "www/state", after=7, boot="another", wait=60)).status == 200
        assert (await ask("GET", "www/state")).status == 200

    run(tmp_path, talk)


def test_commands_come_in_order_until_they_are_over_and_a_gap_comes_first(tmp_path: Path) -> None:
    async def talk(bus: HttpNodeBus, ask: Ask) -> None:
        purges = [Command(f"p{number}", "purge", "www", prefix="/") for number in range(UNACKNOWLEDGED_MAX + 1)]
        await ask("POST", "www/commands", purges[0].dump())
        hearing = bus.deliveries()
        assert isinstance(await anext(hearing), Gap)
        assert await anext(hearing) == purges[0]
        for one in (*purges, purges[0]):
            await ask("POST", "www/commands", one.dump())
        heard: list[Message | Gap] = [await anext(hearing) for _ in range(UNACKNOWLEDGED_MAX - 1)]
        assert heard == purges[1:UNACKNOWLEDGED_MAX]
        waits = asyncio.ensure_future(anext(hearing))
        await asyncio.sleep(0)
        assert not waits.done()
        await bus.acknowledge("p3")
        assert await waits == purges[-1]
        await bus.acknowledge("p4")
        await ask("POST", "www/commands", b"odd")
        odd = await anext(hearing)
        assert isinstance(odd, Poisoned)
        await bus.set_aside(odd.name, odd.reason)
        aside = json.loads((await ask("GET", "www/aside")).body)["aside"]
        assert [(one["name"], one["message"]) for one in aside] == [(odd.name, "odd")]

    run(tmp_path, talk)
    left = [*Shelf(Kept(str(tmp_path)), "www", 0.0).waiting]
    assert (len(left), left[0], "p3" in left) == (UNACKNOWLEDGED_MAX - 1, "p0", False)


def test_a_disk_that_takes_nothing_is_told(tmp_path: Path) -> None:
    async def talk(bus: HttpNodeBus, ask: Ask) -> None:
        (tmp_path / ".agent" / "commands").write_bytes(b"no directory")
        with pytest.raises(RefusedError) as raised:
            await ask("POST", "www/commands", Command("p", "purge", "www", prefix="/").dump())
        assert (raised.value.status, raised.value.code) == (503, "disk")

    run(tmp_path, talk)


def test_a_node_hears_what_its_disk_does_not_take_and_keeps_it_when_there_is_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("zcserve.fleet.http_node.KEEP_AGAIN_S", 0.01)
    disk = Kept.write
    has_room = False

    def write(kept: Kept, name: str, data: bytes) -> None:
        if not has_room:
            raise OSError(errno.ENOSPC, "No space left on device")
        disk(kept, name, data)

    monkeypatch.setattr(Kept, "write", write)

    async def talk(bus: HttpNodeBus, ask: Ask) -> None:
        nonlocal has_room
        hearing, keeping = bus.desired(), asyncio.create_task(bus.keep())
        waiting = asyncio.ensure_future(anext(hearing))
        wanted = Desired("www", 1, numbered(1))
        for path, body in (("www/claim", claim()), ("www/desired", wanted.dump())):
            with pytest.raises(RefusedError) as raised:
                await ask("PUT", path, body, claim=1)
            assert (raised.value.status, raised.value.code) == (503, "disk")
        assert await waiting == wanted
        has_room = True
        while not (tmp_path / ".agent" / "desired.json").exists():
            await asyncio.sleep(0.01)
        keeping.cancel()

    run(tmp_path, talk)
