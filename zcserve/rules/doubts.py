"""Redirects that do what is written, and hardly what was meant, which `zcserve check` tells.

    another language's signs    `/old/(.*)` to `/new/$1`: here they stand for themselves
    a file goes before          `/about.html` to `/about` without force, where about.html is
    it leads to where it is     `/old/*` to `/old/:splat`
    nothing is there            a page for an error, or all below which a rewrite leads, that the root does not have

None of these is an error: files come and go, and a path may hold any sign.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence

from zcserve.rules.checks import stays
from zcserve.rules.patterns import SPLAT
from zcserve.rules.redirects import ERRORS, REDIRECTS, REWRITE, Redirect

_REGEX = "a pattern is no regular expression: * takes all that follows, :name one segment"
_BEHIND = "what stands at its end belongs to the path: words are parted by blanks alone"
# Signs in a pattern, and in a target, and what is to be said of them.
_IN_PATTERN: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"\(\.[*+]\)|\([^()]*[|?\\[][^()]*\)|\.[*+]|/\^|\$\Z|\\[.dwb/]|\[[^]]*-[^]]*\]|\)\?"), _REGEX),
    (re.compile(r"\{\w+\}|<\w+>"), "a placeholder is written :name"),
    (re.compile(r"[,;]\Z"), _BEHIND),
)
_IN_TARGET: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"\*"), "a star in a target stands for itself; what the pattern's star takes is :splat"),
    (
        re.compile(r"\$[0-9]|\\[0-9]"),
        "it stands for itself; what the pattern's star takes is :splat, and :name is :name",
    ),
    (re.compile(r"\{\w+\}|<\w+>"), "it stands for itself; what a placeholder takes is :name"),
    (re.compile(r"[,;]\Z"), _BEHIND),
)

HasFile = Callable[[bytes], bool]


def doubts(
    rules: Sequence[Redirect],
    has_file: HasFile,
    keys: Callable[[], Iterable[bytes]],
    heads: Collection[bytes] = (),
) -> Iterator[str]:
    """A line each, in the order of the rules. `has_file` tells whether a file answers a key, `keys` are those of all
    files; applications may have what begins with one of `heads`."""
    empty = _empty_heads(rules, keys, heads)
    for rule in rules:
        for told in (_of_signs(rule), _of_file(rule, has_file), _of_itself(rule), _of_target(rule, has_file, empty)):
            if told:
                yield f"{rule.where}: {told}"


def _of_signs(rule: Redirect) -> str:
    """The first sign that has a meaning elsewhere."""
    texts = [(rule.pattern.text, _IN_PATTERN)]
    if rule.target is not None:
        texts.append((rule.target.text, _IN_TARGET))
    for text, signs in texts:
        for sign, told in signs:
            if (found := sign.search(text)) is not None:
                return f"{found[0]!r} in {text!r}: {told}"
    return ""


def _of_file(rule: Redirect, has_file: HasFile) -> str:
    """A file at the one path that a rule is for."""
    key = rule.pattern.head
    if rule.force or not rule.pattern.is_exact or _leads_to(rule, key):
        return ""
    there = next((one for one in (key, key.removesuffix(b"/") + b"/") if has_file(one)), None)
    if there is None:
        return ""
    return (
        f"{rule.pattern.text!r} never answers: a file is at {there.decode()}, and goes before; force has the rule hold"
    )


def _leads_to(rule: Redirect, key: bytes) -> bool:
    """Whether what is served is what is asked for (`/admin/* 200`)."""
    return rule.status == REWRITE and rule.target is not None and rule.target.path_of({}) == key


def _of_itself(rule: Redirect) -> str:
    """A target that is written as its pattern is."""
    target = rule.target
    if rule.status not in REDIRECTS or target is None or target.query is not None or stays(rule):
        return ""
    if target.text != rule.pattern.text.replace("*", f":{SPLAT}", 1):
        return ""
    return f"{rule.pattern.text!r} leads to where it is: no more than a slash at the end is another"


def _of_target(rule: Redirect, has_file: HasFile, empty: Collection[bytes]) -> str:
    """A file that is named and is not there. What one rewrite leads to is looked at elsewhere (`Rules.nowhere`)."""
    target = rule.target
    if target is None or target.origin:
        return ""
    if rule.status in ERRORS and not target.names and not has_file(target.path_of({})):
        return f"no file is at {target.text}; until there is one, another page answers with {rule.status}"
    if rule.status == REWRITE and target.names and target.head in empty:
        return f"{rule.pattern.text!r} leads to what begins with {target.head.decode()}, where nothing is"
    return ""


def _empty_heads(
    rules: Iterable[Redirect], keys: Callable[[], Iterable[bytes]], heads: Collection[bytes]
) -> set[bytes]:
    """Of what paths begin with that rewrites fill in: where neither a file nor an application is."""
    empty = {rule.target.head for rule in rules if rule.status == REWRITE and rule.target is not None}
    empty = {one for one in empty if not any(one.startswith(head) or head.startswith(one) for head in heads)}
    if empty:
        for key in keys():
            empty = {one for one in empty if not key.startswith(one)}
            if not empty:
                break
    return empty
