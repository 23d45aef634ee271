"""Many globs asked at once: which of them match a path?

To ask ten thousand globs one after the other of a hundred thousand files would take minutes. So each glob is filed
under what is literal in it: the text before its first wildcard, or that behind its last one, whichever fewer others
share. A path looks up its own beginnings and endings, of the lengths that there are, and asks those alone that it
finds. What is literal as a whole is found so, too.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import TypeAlias

from zcserve.config.globs import full_glob, parse_glob

_WILD = re.compile(r"[*?[]")
_LAST_WILD = re.compile(r"[*?\]]")


class _Glob:
    """One glob, and the rule that it belongs to. Its regular expression is made when it is first needed."""

    __slots__ = ("_pattern", "_text", "number", "prefix", "suffix")

    def __init__(self, text: str, number: int) -> None:
        self._text = text
        self._pattern: re.Pattern[str] | None = None
        self.number = number
        full = full_glob(text)
        first = _WILD.search(full)
        self.prefix = full[: first.start()] if first else full
        self.suffix = full[max((found.end() for found in _LAST_WILD.finditer(full)), default=0) :]

    def matches(self, path: str) -> bool:
        if self._pattern is None:
            self._pattern = parse_glob(self._text)
        return self._pattern.fullmatch(path) is not None


_Filed: TypeAlias = dict[str, list[_Glob]]


class GlobTable:
    """Globs with numbers. Immutable, but for what is made late."""

    __slots__ = ("_by_prefix", "_by_suffix", "_prefix_lengths", "_suffix_lengths")

    def __init__(self, globs: Iterable[tuple[str, int]]) -> None:
        """Raises UsageError for what is no glob, at the latest when a path is asked for that may match it."""
        made = [_Glob(text, number) for text, number in globs]
        prefixes = Counter(glob.prefix for glob in made)
        suffixes = Counter(glob.suffix for glob in made)
        self._by_prefix: _Filed = {}
        self._by_suffix: _Filed = {}
        for glob in made:
            if prefixes[glob.prefix] <= suffixes[glob.suffix]:
                self._by_prefix.setdefault(glob.prefix, []).append(glob)
            else:
                self._by_suffix.setdefault(glob.suffix, []).append(glob)
        self._prefix_lengths = sorted({len(prefix) for prefix in self._by_prefix})
        self._suffix_lengths = sorted({len(suffix) for suffix in self._by_suffix})

    def __bool__(self) -> bool:
        return bool(self._by_prefix or self._by_suffix)

    def numbers(self, path: str) -> tuple[int, ...]:
        """The numbers of the globs that match a path ("/a b.html", decoded), each once, in order."""
        found = [glob.number for glob in self._candidates(path) if glob.matches(path)]
        return tuple(sorted(set(found))) if len(found) > 1 else tuple(found)

    def _candidates(self, path: str) -> Iterator[_Glob]:
        for length in self._prefix_lengths:
            if length > len(path):
                break
            yield from self._by_prefix.get(path[:length], ())
        for length in self._suffix_lengths:
            if length > len(path):
                break
            yield from self._by_suffix.get(path[len(path) - length :], ())
