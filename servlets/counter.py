"""A counter in a variable of the module: GET /csp?counter shows it, POST counts.

Servlets run one after another in the server's loop, so it needs no lock. It survives nothing: neither a restart of the
server nor a change of this file.
"""

from _page import page

from zcserve import Request, Response

count = 0


def get(request: Request) -> str:
    return page("Counter", f'<p>Counted: <b>{count}</b></p><form method="post"><button>Count</button></form>')


def post(request: Request) -> Response:
    global count
    count += 1
    # The browser asks for the page anew, by GET: so reloading it does not count.
    return Response(status=303, headers={"Location": "/csp?counter"})
