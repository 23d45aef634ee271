"""The classes that a report counts files in: families of media types."""

from __future__ import annotations

import re

from zcserve.media_types import media_type

_CLASSES = (
    ("html", re.compile(r"text/html|application/xhtml\+xml")),
    ("css", re.compile(r"text/css")),
    ("script", re.compile(r"text/javascript|application/wasm")),
    ("image", re.compile(r"image/.*")),
    ("font", re.compile(r"font/.*|application/vnd\.ms-fontobject")),
    ("video/audio", re.compile(r"(video|audio)/.*|application/(vnd\.apple\.mpegurl|dash\+xml)")),
    ("data", re.compile(r"application/(.*\+)?(json|xml)|application/(x-ndjson|yaml|toml|sql)|text/(xml|csv|tab-.*)")),
    ("text", re.compile(r"text/.*")),
)
OTHER = "other"
# All there are, in a report's order.
CLASSES = (*(name for name, _ in _CLASSES), OTHER)


def class_of(name: str) -> str:
    """The class that a file of this name or path is counted in."""
    essence = media_type(name).partition(";")[0]
    return next((name for name, types in _CLASSES if types.fullmatch(essence)), OTHER)
