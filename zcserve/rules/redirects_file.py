"""`_redirects`: one redirect a line, as Netlify and Cloudflare Pages write it.

    # comment
    /from  [name=value ...]  /to  [status[!]]  [Condition=value ...]  # comment

A `!` has the rule hold where a file lies, too. Without a target the rule is for what has no other (`/admin/* 200`: what
lies there is served as it is; `/old/* 410`: the site's own page). docs/rules.md has the differences of the two hosts.
What is wrong is told with its place, and the other lines hold. But a line that cannot be read may be there to hide
files: only one that certainly hides nothing is left out, any other is grave (`_may_hide`).
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import replace
from typing import NamedTuple

from zcserve.errors import alike
from zcserve.rules.bounds import REDIRECTS_FILE
from zcserve.rules.lines import NETLIFY, RULES_MAX, Dialect, Line, Word, lines_of, words_of
from zcserve.rules.redirects import ERRORS, Redirect, parse_redirect, too_many_shapes
from zcserve.rules.trie import Shapes
from zcserve.rules.where import Part, Problem, RuleError, Where

_STATUS = re.compile(r"(\d{3})(!?)")
_TARGET = re.compile(r"/|https?:", re.IGNORECASE)
_ORIGIN = re.compile(r"https?://[^/]*", re.IGNORECASE)
# As Cloudflare Pages knows rules that it would meet again (`parseRedirects` of workers-sdk).
_FOLDER = re.compile(r"/\*?\Z")
_INDEX = re.compile(r"/(?:.*/)?index(?:\.html)?")
_ROLE = "Role"

# What Netlify knows besides, and why it is refused.
_CONDITIONS: dict[str, str] = {
    "Country": "where a client is, is not known from path and query",
    "Language": "Accept-Language is not known from path and query",
    "Cookie": "cookies are not known from path and query",
    _ROLE: "there are no roles; without this rule the paths would be open to all",
    "Sign": "nothing is fetched from other servers, and so no request is signed",
    "Signed": "nothing is fetched from other servers, and so no request is signed",
}
# Those without which a site shows no more than with them.
_HARMLESS = frozenset(name.lower() for name in _CONDITIONS if name != _ROLE)


class RedirectsFile(NamedTuple):
    """What a file of redirects says."""

    rules: tuple[Redirect, ...]
    problems: tuple[Problem, ...]


class _Parts(NamedTuple):
    """The words of a line, by what they are."""

    source: Word
    query: list[Word]
    target: Word | None
    status: Word | None
    conditions: list[Word]


def read_redirects(data: bytes, file: str = REDIRECTS_FILE, dialect: Dialect = NETLIFY) -> RedirectsFile:
    """The rules of `data`, in their order, and what is wrong in it."""
    rules: list[Redirect] = []
    problems: list[Problem] = []
    shapes = Shapes()
    for line in lines_of(data, file, problems, _may_hide):
        if len(rules) == RULES_MAX:
            told = f"more than {RULES_MAX} redirects: this line and those behind it are left out"
            problems.append(Problem(line.where, told, is_grave=True))
            break
        rule = _rule(line, dialect)
        if isinstance(rule, Problem):
            problems.append(rule)
        elif shapes.take(rule.shape):
            rules.append(rule)
        else:
            problems.append(Problem(rule.where, too_many_shapes(rule), _may_hide(line.text)))
    return RedirectsFile(tuple(rules), tuple(problems))


def _rule(line: Line, dialect: Dialect) -> Redirect | Problem:
    """The rule of a line, or what is wrong with it."""
    found = _read(line, dialect)
    return replace(found, is_grave=_may_hide(line.text)) if isinstance(found, Problem) else found


def _read(line: Line, dialect: Dialect) -> Redirect | Problem:
    parts = _parts(words_of(line))
    if isinstance(parts, Problem):
        return parts
    status = _STATUS.fullmatch(parts.status.text) if parts.status else None
    if parts.status and status is None:
        return Problem(parts.status.where, f"{parts.status.text!r} is no status; accepted: 301, or 301! with force")
    for word in parts.conditions:
        return _refused(word)
    number, force = (int(status[1]), bool(status[2])) if status else (dialect.status, False)
    query: dict[str, str] = {}
    for word in parts.query:
        name, equals, value = word.text.partition("=")
        if not equals or name in query:
            return Problem(
                word.where,
                f"{word.text!r} is no parameter; accepted: id=:id or id=1, each once; a blank in a path is written %20",
            )
        query[name] = value
    target = parts.target.text if parts.target else _target_of(parts.source.text, number)
    force = force or dialect.always_forces
    if dialect.refuses_index and parts.target and _FOLDER.search(parts.source.text) and _INDEX.fullmatch(target):
        told = f"{parts.source.text!r} to {target!r} is left out, as {dialect.name} does; write spa = true"
        return Problem(parts.source.where, told)
    try:
        rule = parse_redirect(
            parts.source.text, target, status=number, force=force, query=query, where=parts.source.where
        )  # fmt: skip
        return replace(rule, is_strict=True) if dialect.counts_slashes else rule
    except RuleError as error:
        return Problem(_where(parts, error.part), str(error))


def _may_hide(text: str) -> bool:
    """Whether a line that cannot be read may be there to hide files: force, an error's status, a role, or what may be
    one of them. Letters that look the same in a wider form count as the same."""
    words = [word.text for word in words_of(Line(unicodedata.normalize("NFKC", text), Where("")))]
    if any("!" in word for word in words) or any(word.startswith("4") for word in words[1:]):
        return True
    is_behind = False
    for word in words[1:]:
        name, equals, _ = word.lower().partition("=")
        if name == _ROLE.lower() or (is_behind and equals and name not in _HARMLESS):
            return True
        is_behind = is_behind or word[0].isdigit() or _TARGET.match(word) is not None
    return False


def _parts(words: list[Word]) -> _Parts | Problem:
    """The words by what they are; a Problem where one is nothing."""
    source, *rest = words
    if (odd := _odd(words)) is not None:
        return odd
    if not rest:
        return Problem(source.where, f"{source.text!r} leads nowhere; accepted: /from /to, then a status")
    if _STATUS.fullmatch(rest[0].text):
        return _Parts(source, [], None, rest[0], rest[1:])
    at = next((number for number, word in enumerate(rest) if _TARGET.match(word.text)), None)
    if at is None:
        told = f"{rest[-1].text!r} leads nowhere: a target begins with a slash, with http:// or https://"
        return Problem(rest[-1].where, told)
    behind = rest[at + 1 :]
    status = behind.pop(0) if behind and "=" not in behind[0].text else None
    return _Parts(source, rest[:at], rest[at], status, behind)


def _odd(words: list[Word]) -> Problem | None:
    """What no line of this file has, and lines of others do: other comments, other configurations, quotes, arrows."""
    first = words[0]
    if first.text == "//" or first.text.startswith((";", "--")):
        return Problem(first.where, f"{first.text[:2]!r} begins no comment; a line that begins with # is one")
    for word in words[:3]:
        if word.text[0] in "\"'`":
            return Problem(word.where, f"{word.text}: paths stand without quotes; a blank in one is written %20")
        if word.text in ("->", "=>", "=", ":"):
            return Problem(
                word.where, f"{word.text!r}: nothing stands between a path and where it leads: /from /to 301"
            )
    if not _TARGET.match(first.text):
        told = f"{first.text!r} is no path: a line begins with a slash, or with https:// and a host: /from /to 301"
        return Problem(first.where, told)
    return None


def _target_of(source: str, status: int) -> str:
    """Where a rule leads that has no target: to what is asked for, or to the site's own page of an error."""
    if status in ERRORS:
        return ""
    return (_ORIGIN.sub("", source, count=1) or "/").replace("*", ":splat", 1)


def _refused(word: Word) -> Problem:
    name, equals, _ = word.text.partition("=")
    if not equals:
        hint = "; force is written in one word: 301!" if word.text == "!" else ""
        return Problem(word.where, f"{word.text!r} stands behind the status, where conditions would{hint}")
    known = next((one for one in _CONDITIONS if one.lower() == name.lower()), None)
    if known is not None:
        return Problem(word.where, f"{word.text!r}: {_CONDITIONS[known]}")
    meant = alike(name, _CONDITIONS)
    hint = f"did you mean {meant}?" if meant else "parameters of the query stand before the target: /from id=1 /to"
    return Problem(word.where, f"{word.text!r} is no condition; {hint}")


def _where(parts: _Parts, part: Part) -> Where:
    """Where a part of the rule stands."""
    words = {"to": parts.target, "status": parts.status, "query": parts.query[0] if parts.query else None}
    word = words.get(part)
    return word.where if word else parts.source.where
