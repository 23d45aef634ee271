"""Notes in memory: GET and POST /api/notes. Any WSGI framework (Flask, Django, Bottle) has such an `application`."""

import json
from collections.abc import Callable, Iterable
from typing import Any

notes: list[str] = []


def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    status, answer = respond(environ)
    body = json.dumps(answer).encode()
    start_response(status, [("Content-Type", "application/json"), ("Cache-Control", "no-store")])
    return [body]


def respond(environ: dict[str, Any]) -> tuple[str, object]:
    match environ["REQUEST_METHOD"], environ["PATH_INFO"]:  # the path behind /api
        case "GET", "/notes":
            return "200 OK", notes
        case "POST", "/notes":
            notes.append(environ["wsgi.input"].read().decode())
            del notes[:-100]  # clients must not be able to fill the memory
            return "201 Created", {"number": len(notes)}
        case _:
            return "404 Not Found", {"error": f"there is no {environ['SCRIPT_NAME']}{environ['PATH_INFO']}"}
