"""The end of a process is heard."""

from __future__ import annotations

import asyncio
import subprocess
import sys

from zcserve.fleet.exits import Exits


def test_the_end_of_the_process_that_is_followed_is_heard_once() -> None:
    async def run() -> list[str]:
        heard: list[str] = []
        ended = asyncio.Event()

        def on_end() -> None:
            heard.append("end")
            ended.set()

        exits = Exits(on_end)
        exits.follow(1 << 30)  # which there is not
        cat = [sys.executable, "-S", "-c", "input()"]
        with subprocess.Popen(cat, stdin=subprocess.PIPE) as one, subprocess.Popen(cat, stdin=subprocess.PIPE) as other:
            exits.follow(one.pid)
            exits.follow(other.pid)
            exits.follow(other.pid)
            one.communicate(b"\n")
            await asyncio.sleep(0)
            assert heard == []
            other.communicate(b"\n")
            async with asyncio.timeout(60):
                await ended.wait()
        exits.close()
        return heard

    assert asyncio.run(run()) == ["end"]
