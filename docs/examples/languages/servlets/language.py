"""/ leads to the language that the client likes best."""

import re

from zcserve import Request, Response, servlet

LANGUAGES = ("de", "en")  # the first one is for those that like neither


def liking(field: str, language: str) -> float:
    """How much Accept-Language (RFC 9110 section 12.5.4) likes a language; `de-AT` is German, too."""
    for name in (rf"{language}\b[\w-]*", r"\*"):  # a star is for what the others do not name
        found = re.findall(rf"(?:^|,)\s*{name}\s*(?:;\s*q=([01](?:\.\d*)?)\s*)?(?=,|$)", field.lower())
        if found:
            return max(float(q or 1) for q in found)
    return 0.0


@servlet("/", methods=["GET"])
def home(request: Request) -> Response:
    field = request.headers.get("Accept-Language", "")
    best = max(LANGUAGES, key=lambda language: liking(field, language))
    # Vary: a cache must not give one client's language to another.
    return Response("", 302, {"Location": f"/{best}/", "Vary": "Accept-Language", "Cache-Control": "no-cache"})
