"""A result that is kept: however often /csp?now is asked, with ttl=1 it is computed once a second at most.

In between it is content like a file's, answered from memory as fast as one: it has an ETag, and 304 and ranges work.
"""

import time

from zcserve import Request, Response, servlet

calls = 0


@servlet(ttl=1)
def get(request: Request) -> Response:
    global calls
    calls += 1
    return Response(f"{time.strftime('%H:%M:%S')}, call {calls}\n", content_type="text/plain; charset=utf-8")
