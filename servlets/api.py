"""A JSON API at paths of its own: a dict or a list that is returned is JSON, and an HttpError is its status."""

from itertools import count

from zcserve import HttpError, Request, Response, servlet

NOTES_MAX = 100  # for one more, the oldest goes: clients must not be able to fill the memory
TEXT_LENGTH_MAX = 1000

notes: dict[str, dict[str, object]] = {}
numbers = count(1)


def read(request: Request) -> str:
    # A form on another site can make a browser send anything but this type, so that nobody else's page writes here.
    if request.content_type != "application/json":
        raise HttpError(415, "notes are application/json")
    match request.json():  # 400 for what is no JSON
        case {"text": str(text)} if 0 < len(text) <= TEXT_LENGTH_MAX:
            return text
    raise HttpError(400, f'a note is {{"text": "..."}}, of 1 to {TEXT_LENGTH_MAX} characters')


def find(number: str) -> dict[str, object]:
    if number not in notes:
        raise HttpError(404, "there is no such note")
    return notes[number]


@servlet("/api/notes")
def everything(request: Request) -> list[dict[str, object]]:
    return list(notes.values())


@servlet("/api/notes", methods=["POST"])
def add(request: Request) -> Response:
    text, number = read(request), next(numbers)
    if len(notes) == NOTES_MAX:
        del notes[next(iter(notes))]
    notes[str(number)] = {"number": number, "text": text}
    return Response(notes[str(number)], 201, {"Location": f"/api/notes/{number}"})


@servlet("/api/notes/{number}")
def show(request: Request, number: str) -> dict[str, object]:
    return find(number)


@servlet("/api/notes/{number}", methods=["PUT"])
def change(request: Request, number: str) -> dict[str, object]:
    find(number)["text"] = read(request)
    return notes[number]


@servlet("/api/notes/{number}", methods=["DELETE"])
def remove(request: Request, number: str) -> Response:
    find(number)
    del notes[number]
    return Response(status=204)
