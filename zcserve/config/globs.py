"""Patterns for paths, such as shells and .gitignore have, made into regular expressions."""

from __future__ import annotations

import re

from zcserve.config.refusal import refusal

_ACCEPTED = "a pattern such as /assets/*.css, *.woff2 or /fonts/"
_PIECE = re.compile(r"\*\*/|\*\*|\[!?\]?[^]/]*\]|.", re.DOTALL)
_WILD = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}


def parse_glob(text: str) -> re.Pattern[str]:
    """What a path ("/assets/site.css", decoded) must match in full.

    `*`, `?` and `[a-z]` stay within one segment, `**` does not. A pattern without a slash is for the file's name, in
    any directory; one that ends in a slash is for all that lies below. Raises UsageError.
    """
    if not text or "\0" in text:
        raise refusal(text, "is not a pattern", _ACCEPTED)
    glob = text if "/" in text else f"**/{text}"
    glob = "/" + glob.removeprefix("/") + ("**" if glob.endswith("/") else "")
    try:
        return re.compile(_PIECE.sub(_regex_of_piece, glob), re.DOTALL)
    except re.error as error:
        raise refusal(text, f"is not a pattern ({error.msg})", _ACCEPTED) from None


def _regex_of_piece(found: re.Match[str]) -> str:
    piece = found[0]
    if len(piece) > 2 and piece[0] == "[":
        negated = piece[1] == "!"
        inside = re.sub(r"([]\[\\^&~|])", r"\\\1", piece[1 + negated : -1])
        return f"(?!/)[{'^' * negated}{inside}]"
    return _WILD.get(piece) or re.escape(piece)
