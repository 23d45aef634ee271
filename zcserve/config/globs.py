"""Patterns for paths, such as shells and .gitignore have, made into regular expressions.

A pattern may come while the server runs, and is matched with a hundred thousand paths, by an engine that goes back and
tries again, and lets no other thread run meanwhile. So no pattern may make it do so often. A wildcard takes as little
as it can, and what follows it is looked for once, as an atomic group: where a later wildcard of the same reach follows,
the first place is as good as any. That makes blocks between `**`, and in a block runs of text between `*`. Only the
last wildcard of each reach tries more than one place, since what follows it must be the path's end. The time is at most
that of the path's length squared, and the pattern's length as a factor.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from itertools import pairwise

from zcserve.config.refusal import refusal

# A longer one would take the loop more than some milliseconds to read.
GLOB_CHARACTERS_MAX = 512

_ACCEPTED = "a pattern such as /assets/*.css, *.woff2 or /fonts/"
_PIECE = re.compile(r"(?<=/)\*\*/|\*\*|\[!?\]?[^]/]*\]|.", re.DOTALL)
# What crosses segments, as little as possible, and as much.
_DEEP = {"**/": ("(?:.*?/)??", "(?:.*/)?"), "**": (".*?", ".*")}


def parse_glob(text: str) -> re.Pattern[str]:
    """What a path ("/assets/site.css", decoded) must match in full.

    `*`, `?` and `[a-z]` stay within one segment, `**` does not; `/**/` may be one slash. A pattern without a slash is
    for the file's name, in any directory; one that ends in a slash is for all that lies below. Raises UsageError.
    """
    if not text or "\0" in text:
        raise refusal(text, "is not a pattern", _ACCEPTED)
    if len(text) > GLOB_CHARACTERS_MAX:
        raise refusal(text[:80] + "...", f"has more than {GLOB_CHARACTERS_MAX} characters", _ACCEPTED)
    try:
        return re.compile(_regex_of(_PIECE.findall(full_glob(text))), re.DOTALL)
    except re.error as error:
        raise refusal(text, f"is not a pattern ({error.msg})", _ACCEPTED) from None


def any_glob(texts: Iterable[str]) -> re.Pattern[str]:
    """As `parse_glob`, of some patterns at once: what a path must match one of. Raises UsageError."""
    return re.compile("|".join(f"(?:{parse_glob(text).pattern})" for text in texts) or "(?!)", re.DOTALL)


def check_glob(text: str) -> str:
    """The pattern itself, if `parse_glob` takes it; made into no regular expression unless it must be. Raises
    UsageError."""
    if "[" in text or not text or "\0" in text or len(text) > GLOB_CHARACTERS_MAX:
        parse_glob(text)
    return text


def full_glob(text: str) -> str:
    """The pattern with what it leaves unsaid: `*.css` is `/**/*.css`, `/a/` is `/a/**`."""
    glob = text if "/" in text else f"**/{text}"
    return "/" + glob.removeprefix("/") + ("**" if glob.endswith("/") else "")


def _regex_of(pieces: list[str]) -> str:
    at = [number for number, piece in enumerate(pieces) if piece in _DEEP]
    if not at:
        return _block(pieces, is_last=True)
    regex = [_block(pieces[: at[0]], is_last=False)]
    for begin, end in pairwise(at):
        little, _ = _DEEP[pieces[begin]]
        regex.append(f"(?>{little}{_block(pieces[begin + 1 : end], is_last=False)})")
    _, much = _DEEP[pieces[at[-1]]]
    return "".join((*regex, much, _block(pieces[at[-1] + 1 :], is_last=True)))


def _block(pieces: list[str], *, is_last: bool) -> str:
    """What stands between two wildcards that cross segments; `is_last`: behind the last of them."""
    runs = [""]  # of what has a fixed length, with a `*` between each two
    for piece in pieces:
        if piece == "*":
            runs.append("")
        else:
            runs[-1] += _regex_of_piece(piece)
    first, *rest = runs
    if not rest:
        return first
    *middle, last = rest
    regex = first + "".join(f"(?>[^/]*?{run})" for run in middle)
    return regex + (f"[^/]*{last}" if is_last else f"(?>[^/]*?{last})")


def _regex_of_piece(piece: str) -> str:
    if piece == "?":
        return "[^/]"
    if len(piece) > 2 and piece[0] == "[":
        negated = piece[1] == "!"
        inside = re.sub(r"([]\[\\^&~|])", r"\\\1", piece[1 + negated : -1])
        return f"(?!/)[{'^' * negated}{inside}]"
    return re.escape(piece)
