"""Files of rules in a root, `_redirects` and `_headers`: their lines and words, with their places."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from zcserve.rules.where import Problem, Where

# 20,000 lines of 200 characters; Netlify recommends fewer than 10,000 redirects, Cloudflare Pages takes 2,100.
FILE_BYTES_MAX = 4 * 2**20
RULES_MAX = 20_000
# Cloudflare Pages takes 1,000 characters of a redirect, and 2,000 of a line of `_headers`.
LINE_CHARACTERS_MAX = 8192

_WORD = re.compile(r"\S+")


@dataclass(frozen=True, slots=True)
class Dialect:
    """What two hosts mean differently by the same file.

    status         of a redirect that names none
    always_forces  whether redirects hold over files, marked by a `!` or not
    joins          whether a header that several rules set has all their values; else it has that of the last
    counts_slashes whether a slash at the end of a path tells it from another one, and `/a/*` is not for `/a`
    refuses_index  whether a rule for `/` or all below a path that leads to an index file is left out: there the file
                   is sent back to its folder, and the rule is met again
    """

    name: str
    status: int
    always_forces: bool
    joins: bool
    counts_slashes: bool
    refuses_index: bool


NETLIFY = Dialect("netlify", status=301, always_forces=False, joins=False, counts_slashes=False, refuses_index=False)
CLOUDFLARE = Dialect("cloudflare", status=302, always_forces=True, joins=True, counts_slashes=True, refuses_index=True)
DIALECTS = {dialect.name: dialect for dialect in (NETLIFY, CLOUDFLARE)}


class Line(NamedTuple):
    """A line that is neither empty nor a comment, without blanks around it. `where` is where its text begins."""

    text: str
    where: Where


class Word(NamedTuple):
    """What stands between blanks."""

    text: str
    where: Where


def lines_of(data: bytes, file: str, problems: list[Problem], may_hide: Callable[[str], bool]) -> Iterator[Line]:
    """The lines of a file; what cannot be read is added to `problems`, and is grave where the line `may_hide` files."""
    if len(data) > FILE_BYTES_MAX:
        told = f"{len(data)} bytes of rules; {FILE_BYTES_MAX} at most are read, and nothing of this file holds"
        problems.append(Problem(Where(file), told, is_grave=True))
        return
    for number, raw in enumerate(data.removeprefix(b"\xef\xbb\xbf").split(b"\n"), 1):
        here = Where(file, number, 1)
        try:
            whole = raw.decode()
        except UnicodeDecodeError as error:
            column = len(raw[: error.start].decode(errors="replace")) + 1
            told = "this line is no UTF-8"
            problems.append(Problem(here.at(column), told, _hides(raw.decode(errors="replace"), may_hide)))
            continue
        text = whole.strip()
        if not text or text.startswith("#"):
            continue
        begins = here.at(len(whole) - len(whole.lstrip()) + 1)
        if len(text) > LINE_CHARACTERS_MAX:
            told = f"a line has {LINE_CHARACTERS_MAX} characters at most"
            problems.append(Problem(begins, told, may_hide(text)))
        else:
            yield Line(text, begins)


def _hides(whole: str, may_hide: Callable[[str], bool]) -> bool:
    text = whole.strip()
    return not text.startswith("#") and may_hide(text)


def words_of(line: Line) -> list[Word]:
    """The words of a line up to a comment, which a word begins that begins with `#`."""
    words: list[Word] = []
    for found in _WORD.finditer(line.text):
        if found[0].startswith("#"):
            break
        words.append(Word(found[0], line.where.at(line.where.column + found.start())))
    return words
