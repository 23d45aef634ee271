"""One page for many paths: an application that draws its pages in the browser. Ask /spa/, and /spa/notes/7.

Files come first, so this sees only what is none. A name with a dot is a file that is missing, such as a script of the
last release: 404 is the answer that a browser understands, where HTML would be a script with a syntax error. For a
whole site the pattern is "/{route:path}"; an application that is mounted at /api goes before it.
"""

from zcserve import HttpError, Request, Response, servlet


@servlet("/spa/{route:path}")
def page(request: Request, route: str) -> Response:
    if "." in route.rpartition("/")[2]:
        raise HttpError(404, "there is no such file")
    return Response().send_file("/spa/index.html")
