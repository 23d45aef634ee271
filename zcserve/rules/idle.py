"""Globs that match nothing that is there: that is how a slip in a path shows.

It is no error. Files come and go, so a glob may be for those of tomorrow; and what answers where no file is has fields
of rules, too: redirects, the page for what is absent, applications that fail. So a glob is told only where it can be
for none of these, as far as the text before its first wildcard says.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from typing import NamedTuple

from zcserve.config.globs import full_glob
from zcserve.errors import alike
from zcserve.paths import decoded
from zcserve.rules.globbed import GlobTable
from zcserve.rules.where import Written

# To look for the name that was meant takes all paths: so many times at most.
NEAR_MAX = 20

_REGEX = re.compile(r"\([^()]*[|?\\[.][^()]*\)|\.\*|^/?\^|\$$|\\")
_WILD = re.compile(r"[*?[]")


class Place(NamedTuple):
    """Globs that stand at one place: a text of a list, or a path of `_headers`."""

    where: str
    globs: tuple[str, ...]


def places_of(globs: Sequence[str], written: Written) -> list[Place]:
    """Where the globs of a rule stand, in their order."""
    found: dict[str, list[str]] = {}
    for number, glob in enumerate(globs):
        where = written.where("path", number) if len(globs) > 1 else written.where("path")
        found.setdefault(where, []).append(glob)
    return [Place(where, tuple(some)) for where, some in found.items()]


def unmatched(places: Iterable[Place], keys: Iterable[bytes], heads: Collection[str] = ()) -> list[Place]:
    """Those whose globs match none of these keys, and no path that begins with one of `heads`."""
    all_places = list(places)
    table = GlobTable((glob, number) for number, place in enumerate(all_places) for glob in place.globs)
    idle = set(range(len(all_places)))
    for key in keys:
        if not idle:
            return []
        idle.difference_update(table.numbers(decoded(key)))
    return [all_places[number] for number in sorted(idle) if not _may_meet(all_places[number], heads)]


def _may_meet(place: Place, heads: Collection[str]) -> bool:
    """Whether a glob may be for paths that begin with one of `heads`. One for names anywhere (`*.css`) is for files,
    unless any path may be such a path."""
    begins = [_WILD.split(full_glob(glob), maxsplit=1)[0] for glob in place.globs]
    return any(
        begin.startswith(head) or (begin != "/" and head.startswith(begin)) for begin in begins for head in heads
    )


def told(places: Iterable[Place], keys: Callable[[], Iterable[bytes]], heads: Collection[str] = ()) -> Iterator[str]:
    """The same in words, a line each, with the name that may be meant. `keys` is called each time they are read."""
    idle: dict[tuple[str, str], Place] = {}
    for place in unmatched(places, keys(), heads):
        idle.setdefault((place.where, place.globs[0]), place)
    for number, (where, globs) in enumerate(idle.values()):
        found = (near(glob, keys()) for glob in globs) if number < NEAR_MAX else ()
        meant = next(filter(None, found), "")
        what = repr(globs[0]) if len(globs) == 1 else "this path"
        hint = f"; did you mean {meant!r}?" if meant else ""
        if _REGEX.search(globs[0]):
            star = "what is in a name, ** all below" if len(globs) == 1 else "all that follows"
            hint = f"; it is no regular expression: * takes {star}"
        yield f"{where}: {what} matches no file{hint}"


def near(glob: str, keys: Iterable[bytes]) -> str:
    """What a glob may mean: the glob with the first of its names that is not there replaced by one like it; "": there
    is none. Of `*.wof2` the ending is looked at."""
    paths = map(decoded, keys)
    if "/" not in glob:
        stem, dot, ending = glob.rpartition(".")
        endings = {path.rpartition(".")[2] for path in paths if dot}
        meant = alike(ending, endings) if not _WILD.search(ending) else ""
        return f"{stem}.{meant}" if meant and meant != ending else ""
    parts = ["", *glob.removeprefix("/").split("/")]
    there: list[set[str]] = [set() for _ in parts]  # of each name: those that stand behind the names before it
    for path in paths:
        for depth, name in enumerate(path.split("/")[: len(parts)]):
            there[depth].add(name)
            if name != parts[depth]:
                break
    for depth, part in enumerate(parts):
        if _WILD.search(part):
            return ""
        if part not in there[depth]:
            meant = _like(part, there[depth])
            return "/".join((*parts[:depth], meant, *parts[depth + 1 :])) if meant else ""
    return ""


def _like(name: str, there: Iterable[str]) -> str:
    """Of these names the one that may be meant; where some have the same ending, one of them: an ending alone is no
    likeness."""
    stem, dot, ending = name.rpartition(".")
    stems = [one.removesuffix(dot + ending) for one in there if dot and one.endswith(dot + ending)]
    if stems:
        meant = alike(stem, stems)
        return f"{meant}.{ending}" if meant else ""
    return alike(name, there) if name else ""
