"""Server-sent events, one a second: /csp?stream, or /csp?stream&n=5 for five of them.

What an `async def` waits for, nobody else waits for: all of them run on one asyncio loop, in a thread of its own. Each
piece is sent when it is yielded. When the client goes away, the generator is closed where it waits.
"""

import asyncio
import time
from collections.abc import AsyncIterator

from zcserve import HttpError, Request, Response

EVENTS_MAX = 60


def get(request: Request) -> Response:
    n = request.query.get("n", "10")
    if not (n.isdecimal() and len(n) < 3 and 1 <= int(n) <= EVENTS_MAX):
        raise HttpError(400, f"n takes a number from 1 to {EVENTS_MAX}")
    return Response(events(int(n)), headers={"Cache-Control": "no-store"}, content_type="text/event-stream")


async def events(n: int) -> AsyncIterator[str]:
    for number in range(1, n + 1):
        yield f"id: {number}\ndata: {time.strftime('%H:%M:%S')}\n\n"
        await asyncio.sleep(1)
    yield "event: end\ndata:\n\n"  # a browser that is not told would come back for more
