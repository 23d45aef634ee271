"""`_headers`: blocks of a path and the fields that its answers carry, as Netlify and Cloudflare Pages write it.

    # comment
    /assets/*
      Cache-Control: public, max-age=31536000
      ! X-Frame-Options

All blocks that match a path hold, in their order; blanks before a line mean nothing. A name that stands in a block
several times has all values, joined by commas; of one that stands in several blocks the last one holds, or all
(`Dialect.joins`). A path is a pattern as of redirects (patterns.py), and is made into globs of files, since fields are
made when a file is loaded, and not when a request comes. What is wrong is told with its place, and the other lines
hold.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple
from urllib.parse import unquote_to_bytes

from zcserve import http
from zcserve.config.globs import GLOB_CHARACTERS_MAX
from zcserve.errors import UsageError
from zcserve.media_types import check_type
from zcserve.rules.bounds import HEADERS_FILE
from zcserve.rules.lines import NETLIFY, RULES_MAX, Dialect, Line, lines_of, words_of
from zcserve.rules.patterns import PLACEHOLDER, Pattern, parse_pattern
from zcserve.rules.where import Problem, RuleError, Where

_PATH = re.compile(r"/(?!/\s)|\S+://")
# A field without its colon, or in quotes; and what a removal may look like.
_ALMOST = re.compile(
    r"(?:add_header\s+|Header\s+set\s+)?[\"']?([A-Za-z][A-Za-z0-9-]*)[\"']?\s*[:= ]\s*[\"']?(.*?)[\"']?[;,]?"
)
_REMOVED = re.compile(r"-\s*([A-Za-z][A-Za-z0-9-]*)")
_PATH_WITHOUT_SLASH = re.compile(r"[\w.-]+/[\w./*:-]*")
_GLOB_SPECIAL = re.compile(r"[*?[]")

# Values of these are never joined (RFC 9110 section 5.3 names Set-Cookie); a response has one type.
_OWN_LINES = frozenset((b"set-cookie",))
_TYPE = b"content-type"
# The field without which paths would be open to all.
_PASSWORDS = b"basic-auth"
# Negotiation has its own values, which stay.
_ADDED = frozenset((b"vary", b"set-cookie"))


@dataclass(frozen=True, slots=True)
class HeaderBlock:
    """One block: what the answers of the paths that one of `patterns` matches carry.

    remove        names in lower case
    set, add      names as written, and values
    content_type  Content-Type's value; "" for none
    """

    patterns: tuple[Pattern, ...]
    where: Where
    remove: tuple[bytes, ...] = ()
    set: tuple[tuple[bytes, bytes], ...] = ()
    add: tuple[tuple[bytes, bytes], ...] = ()
    content_type: str = ""

    def globs(self, index: Sequence[str] = ("index.html",)) -> tuple[str, ...]:
        """Globs (config/globs.py) of the files that answer the paths; `index` is what index files are called."""
        return tuple(glob for pattern in self.patterns for glob in globs_of(pattern, index))


# A verb (set, add, remove), a name, and a value ("" for remove).
Check = Callable[[str, str, str], None]


def _allow(verb: str, name: str, value: str) -> None:
    """What checks nothing."""


class HeadersFile(NamedTuple):
    """What a file of headers says."""

    blocks: tuple[HeaderBlock, ...]
    problems: tuple[Problem, ...]


@dataclass(slots=True)
class _Open:
    """A block that is being read; of a path that is refused `pattern` is None, and its lines are left out."""

    pattern: Pattern | None
    where: Where
    # By lower-case name: the name as written, and its values.
    values: dict[bytes, tuple[bytes, list[bytes]]] = field(default_factory=dict)
    remove: list[bytes] = field(default_factory=list)
    has_lines: bool = False


def read_headers(
    data: bytes, file: str = HEADERS_FILE, dialect: Dialect = NETLIFY, check: Check = _allow
) -> HeadersFile:
    """The blocks of `data`, in their order, and what is wrong in it. `check` raises UsageError for fields that no rule
    may touch."""
    problems: list[Problem] = []
    opened: list[_Open] = []
    for line in lines_of(data, file, problems, _may_hide):
        if not _PATH.match(line.text):
            problem = _read_field(line, opened[-1] if opened else None, check)
        elif len(opened) == RULES_MAX:
            told = f"more than {RULES_MAX} paths: this one and those behind it are left out"
            problems.append(Problem(line.where, told, is_grave=True))
            break
        else:
            block, problem = _opened(line)
            opened.append(block)
        if problem is not None:
            problems.append(replace(problem, is_grave=_may_hide(line.text)))
    empty = (one.where for one in opened if one.pattern is not None and not one.has_lines)
    problems += (Problem(where, "a path without headers; they stand in the lines below it") for where in empty)
    blocks = [_closed(one.pattern, one) for one in opened if one.pattern is not None and (one.values or one.remove)]
    return HeadersFile(tuple(_joined(blocks) if dialect.joins else blocks), tuple(problems))


def _may_hide(text: str) -> bool:
    """Whether a line that cannot be read may be there to hide files."""
    return _PASSWORDS.decode() in text.lower()


def _opened(line: Line) -> tuple[_Open, Problem | None]:
    """The block that a path's line begins."""
    words = words_of(line)
    if len(words) > 1:
        told = f"{line.text!r}: a path stands alone in its line; a blank in it is written %20"
        return _Open(None, line.where), Problem(words[1].where, told)
    try:
        pattern = parse_pattern(words[0].text)
        globs_of(pattern)
    except RuleError as error:
        return _Open(None, line.where), Problem(line.where, str(error))
    if pattern.host:
        told = f"{pattern.text!r}: fields are made for files, not for hosts; give the host a site of its own"
        return _Open(None, line.where), Problem(line.where, told)
    return _Open(pattern, line.where), None


def _read_field(line: Line, block: _Open | None, check: Check) -> Problem | None:
    """Add a field's line to its block."""
    if line.text.startswith("// "):
        return Problem(line.where, "// begins no comment; a line that begins with # is one")
    if block is None:
        told = f"{line.text!r} stands before the first path: one begins with a slash, and its headers stand below it"
        return Problem(line.where, told)
    block.has_lines = True
    name, colon, value = line.text.partition(":")
    if line.text.startswith("!"):
        return _read_removal(line, block, check)
    name, value = name.rstrip(), value.strip()
    if not colon or not http.is_token(name.encode()):
        return Problem(
            line.where, f"{line.text!r} is neither a path nor `Name: value`, nor `! Name`{_meant(line.text)}"
        )
    at = line.where.at(line.where.column + line.text.index(":") + 1)
    lower = name.lower().encode()
    if lower == _PASSWORDS:
        told = (
            f"{name}: passwords are read from [[auth]] of the TOML file, and not here: the paths would be open to all"
        )
        return Problem(line.where, told)
    if not value or not value.isascii() or not value.replace("\t", " ").isprintable():
        return Problem(at, f"{name}: {value!r} is no field's value: printable ASCII, and not nothing")
    filled = _filled(value, block.pattern)
    if filled:
        return Problem(at, f"{name}: :{filled} is not filled in; values do not depend on the path")
    try:
        if lower == _TYPE:
            check_type(value)
        check("add" if lower in _ADDED else "set", name, value)
    except UsageError as error:
        return Problem(line.where, str(error))
    known = block.values.setdefault(lower, (name.encode(), []))
    if known[1] and lower == _TYPE:
        return Problem(line.where, f"{name} stands there twice; a response has one type")
    known[1].append(value.encode())
    if " #" in value:  # it holds all the same
        return Problem(at, f"{name}: {value!r} is the value: a comment stands in a line of its own")
    return None


def _meant(text: str) -> str:
    """What a line may mean that is none; "" where there is no saying."""
    if found := _ALMOST.fullmatch(text):
        return f"; write {found[1]}: {found[2]}"
    if found := _REMOVED.fullmatch(text):
        return f"; write ! {found[1]}"
    if text.startswith(("*", "./")) or _PATH_WITHOUT_SLASH.fullmatch(text):
        return f"; a path begins with a slash: /{text.removeprefix('./')}"
    return ""


def _read_removal(line: Line, block: _Open, check: Check) -> Problem | None:
    name = line.text[1:].strip()
    if not http.is_token(name.encode()):
        return Problem(line.where, f"{name!r} is no field's name; a removal has no value: ! X-Frame-Options")
    try:
        check("remove", name, "")
    except UsageError as error:
        return Problem(line.where, str(error))
    block.remove.append(name.lower().encode())
    return None


def _filled(value: str, pattern: Pattern | None) -> str:
    """The first name in a value that the pattern takes from a path; "" for none."""
    captures = pattern.captures if pattern is not None else frozenset[str]()
    return next((name for name in PLACEHOLDER.findall(value) if name in captures), "")


def _closed(pattern: Pattern, block: _Open) -> HeaderBlock:
    """The block, all its lines read."""
    lines: dict[bool, list[tuple[bytes, bytes]]] = {True: [], False: []}
    content_type = ""
    for lower, (name, values) in block.values.items():
        if lower == _TYPE:
            content_type = values[0].decode()
        elif lower in _OWN_LINES:
            lines[True] += [(name, value) for value in values]
        else:
            lines[lower in _ADDED].append((name, b", ".join(values)))
    return HeaderBlock(
        (pattern,), block.where, tuple(block.remove), tuple(lines[False]), tuple(lines[True]), content_type
    )  # fmt: skip


def _joined(blocks: list[HeaderBlock]) -> list[HeaderBlock]:
    """The same blocks, but that a name that several set has all their values: it is removed first, for the paths of
    all of them, and then added by each."""
    setters: dict[bytes, list[int]] = {}
    for number, block in enumerate(blocks):
        for name, _ in block.set:
            setters.setdefault(name.lower(), []).append(number)
    several: dict[tuple[int, ...], list[bytes]] = {}
    for lower, numbers in setters.items():
        if len(numbers) > 1:
            several.setdefault(tuple(numbers), []).append(lower)
    first = [
        HeaderBlock(tuple(blocks[number].patterns[0] for number in numbers), blocks[numbers[0]].where, tuple(names))
        for numbers, names in several.items()
    ]
    added = {name for names in several.values() for name in names}
    return first + [_adding(block, added) for block in blocks]


def _adding(block: HeaderBlock, names: set[bytes]) -> HeaderBlock:
    """The block, with what it sets of these names added instead."""
    moved = tuple(line for line in block.set if line[0].lower() in names)
    kept = tuple(line for line in block.set if line[0].lower() not in names)
    return replace(block, set=kept, add=moved + block.add)


def globs_of(pattern: Pattern, index: Sequence[str] = ("index.html",)) -> tuple[str, ...]:
    """Globs of the files that answer what a pattern matches: for /a these are /a, /a.html and /a/index.html. Raises
    RuleError where one would be too long."""
    head = "".join(f"/{_glob_text(segment)}" if segment is not None else "/?*" for segment in pattern.segments)
    splat = pattern.splat
    if splat is None:
        globs = _answering(head, index)
    elif splat.is_plain:
        globs = (*_answering(head, index), f"{head}/**") if head else ("/**",)
    else:
        # A star before a slash takes one segment at least.
        star = "?**" if splat.suffix.startswith(b"/") and not splat.prefix else "**"
        globs = _answering(f"{head}/{_glob_text(splat.prefix)}{star}{_glob_text(splat.suffix)}", index)
    if max(map(len, globs)) > GLOB_CHARACTERS_MAX:
        raise RuleError(f"{pattern.text[:40]!r}... has more than {GLOB_CHARACTERS_MAX} characters as a glob", "from")
    return globs


def _answering(glob: str, index: Sequence[str]) -> tuple[str, ...]:
    """The files that may answer a path without a slash at its end."""
    pages = (f"{glob}/{name}" for name in index)
    return (glob, f"{glob}.html", *pages) if glob else tuple(pages)


def _glob_text(literal: bytes) -> str:
    """Canonical text as it stands in a glob, where paths are decoded."""
    text = unquote_to_bytes(literal).decode(errors="surrogateescape")
    return _GLOB_SPECIAL.sub(lambda found: f"[{found[0]}]", text)
