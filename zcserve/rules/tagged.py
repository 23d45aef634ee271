"""Tags: names for sets of files, which rules give by glob, so that a purge of one name is of all of them.

A tag is the rules that give it, and nothing is stored with a file: which tags it has is found as its fields are. A
CDN in front learns them from a field of each answer, where that is told, and purges by the same names:

    Surrogate-Key: css assets      blanks between them (Fastly, Varnish's xkey)
    Cache-Tag: css,assets          commas (Cloudflare, Akamai, Netlify)
"""

from __future__ import annotations

import re
from bisect import bisect
from collections.abc import Iterable, Sequence

from zcserve.config.refusal import refusal
from zcserve.errors import nearest
from zcserve.http import FieldLines
from zcserve.rules.bounds import TAG_CHARACTERS_MAX
from zcserve.rules.rule import HeaderRule

# Of one rule. A file has those of all rules that match it, and CDNs take 16 KiB of them (Fastly, Cloudflare).
TAGS_MAX = 32
# To compare a word with so many takes some milliseconds.
COMPARED_MAX = 100

_TAG = re.compile(rf"[A-Za-z0-9._:-]{{1,{TAG_CHARACTERS_MAX}}}")
_BETWEEN = {"Surrogate-Key": " ", "Cache-Tag": ","}


def check_tag(text: str) -> str:
    """The tag itself, if it can be one. Raises UsageError."""
    if not _TAG.fullmatch(text):
        raise refusal(text[:120], "is not a tag", f"letters, digits and -_.:, {TAG_CHARACTERS_MAX} at most")
    return text


class Tags:
    """Which rules give which tag. Immutable.

    names   all tags, sorted
    """

    __slots__ = ("_givers", "_header", "_rules", "names")

    def __init__(self, rules: Sequence[HeaderRule], header: str = "none") -> None:
        """`header` is the field that tells of them; "none": none does."""
        self._header = header
        self._rules = {number: rule.tags for number, rule in enumerate(rules) if rule.tags}
        self._givers: dict[str, set[int]] = {}
        for number, tags in self._rules.items():
            for tag in tags:
                self._givers.setdefault(tag, set()).add(number)
        self.names = tuple(sorted(self._givers))

    def __contains__(self, tag: str) -> bool:
        return tag in self._givers

    def givers(self, tag: str) -> frozenset[int]:
        """The numbers of the rules that give a tag."""
        return frozenset(self._givers.get(tag, ()))

    def nearest(self, tag: str) -> str | None:
        """The known one that may be meant; of many, one that begins alike. None: there are none."""
        at = bisect(self.names, tag)
        some = self.names[max(at - COMPARED_MAX // 2, 0) : at + COMPARED_MAX // 2]
        return nearest(tag, some) if some else None

    def of(self, numbers: Iterable[int]) -> tuple[str, ...]:
        """The tags that these rules give, each once."""
        given = (self._rules.get(number, ()) for number in numbers)
        return tuple(dict.fromkeys(tag for tags in given for tag in tags))

    def lines(self, numbers: Iterable[int]) -> FieldLines:
        """The field that tells of these, where it is told."""
        between = _BETWEEN.get(self._header)
        if between is None or not (tags := self.of(numbers)):
            return ()
        return ((self._header.encode(), between.join(tags).encode()),)
