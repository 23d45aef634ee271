"""The shortest servlet: a function that is named for a method, and what it returns is the page. Ask /csp?hello.

Nothing has to be registered. Change the text while the server runs, and the next request gets the new one.
"""

from zcserve import Request


def get(request: Request) -> bytes:
    return b"Hello, world\n"
