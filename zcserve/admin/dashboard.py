"""The page at `/`: the numbers of `/events` as a person reads them, and forms for what a node is told.

It is one document, put together here from sources that are kept apart (`page/`). The document refers to nothing
outside of itself, so it works where there is no network, and its policy (Content Security Policy Level 3) holds it to
that: a browser runs the scripts and styles with these hashes alone, and connects to this listener alone.

Without a token the page can be had: it knows nothing of the node until it is told one.
"""

from __future__ import annotations

import hashlib
from base64 import b64encode
from collections.abc import Iterable
from pathlib import Path

from zcserve.admin.application import NO_STORE
from zcserve.admin.node import Node
from zcserve.http import FieldLines
from zcserve.site.exchange import Exchange
from zcserve.site.reply import Reply

FOLDER = Path(__file__).parent / "page"
STYLES = ("uplot/uPlot.min.css", "page.css")
# In the order in which they need each other.
SCRIPTS = (
    "uplot/uPlot.iife.min.js",
    "numbers.js",
    "elements.js",
    "stream.js",
    "charts.js",
    "tables.js",
    "actions.js",
    "page.js",
)
# The licence wants its text in every copy.
LICENSED = {"uplot/uPlot.iife.min.js": "uplot/LICENSE"}
STYLES_HERE, SCRIPTS_HERE = "<!-- styles -->", "<!-- scripts -->"


class Dashboard:
    """A `Route`. Raises OSError where the package is not complete."""

    path, is_open = "/", True

    def __init__(self) -> None:
        styles = [_source(name) for name in STYLES]
        scripts = [_source(name) for name in SCRIPTS]
        page = _source("page.html")
        page = page.replace(STYLES_HERE, "\n".join(f"<style>{style}</style>" for style in styles))
        page = page.replace(SCRIPTS_HERE, "\n".join(f"<script>{script}</script>" for script in scripts))
        self._content = page.encode()
        self._fields: FieldLines = (
            (b"Content-Type", b"text/html; charset=utf-8"),
            (b"Content-Security-Policy", _policy(styles, scripts)),
            (b"Referrer-Policy", b"no-referrer"),
            *NO_STORE,
        )

    def get(self, node: Node, exchange: Exchange) -> Reply:
        """As `Route.get`."""
        return Reply(200, self._fields, self._content)


def _source(name: str) -> str:
    text = (FOLDER / name).read_text()
    if name not in LICENSED:
        return text
    # The first line is a comment with the project's address, which the page is not to have.
    first, _, rest = text.partition("\n")
    assert first.startswith("/*!")
    return f"/*!\n{_source(LICENSED[name])}\n*/\n{rest}"


def _policy(styles: Iterable[str], scripts: Iterable[str]) -> bytes:
    rules = {
        "default-src": "'none'",
        "script-src": _hashes(scripts),
        "style-src": _hashes(styles),
        "connect-src": "'self'",
        "img-src": "data:",  # the icon, which is empty, so that none is asked for
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
        "require-trusted-types-for": "'script'",
    }
    return "; ".join(f"{name} {value}" for name, value in rules.items()).encode()


def _hashes(sources: Iterable[str]) -> str:
    digests = (b64encode(hashlib.sha256(source.encode()).digest()).decode() for source in sources)
    return " ".join(f"'sha256-{digest}'" for digest in digests)
