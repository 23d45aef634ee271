"""Accounts: the names under which requests are counted by site.

A site's requests, the bytes of its answers and its hits are counted for its account. Each name gets one when it first
comes, and keeps it as long as the process: a site that is built anew goes on with the figures that it had, and those of
a site that is gone stay as they are. So none of them falls, as a counter of Prometheus may not, and all together are
the total.

    0        "(none)": what is no site's. A host that no site has (421), what is no request (400, 408, 414, 431, 505),
             and clients that are turned away (503)
    1        "(others)": the sites that come when NAMED_MAX have one
    2, 3...  a site's of its own

So a hoster with a thousand sites has as many figures as one with NAMED_MAX.
"""

from __future__ import annotations

# Names that are told. A scraper keeps a series for each, with each code and method.
NAMED_MAX = 64
NONE, OTHERS = "(none)", "(others)"  # no site is called so
_FIRST = (NONE, OTHERS)
NONE_NUMBER, OTHERS_NUMBER = range(2)
# The lane has room for so many (net/lane/counts.pxd).
ACCOUNTS_MAX = len(_FIRST) + NAMED_MAX


class Accounts:
    """Of a server, by number. One thread gives them, any may read."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}

    def number(self, name: str) -> int:
        """That of a site, which may be new."""
        found = self._numbers.get(name)
        if found is None:
            if len(self._numbers) >= NAMED_MAX:
                return OTHERS_NUMBER
            found = self._numbers[name] = len(_FIRST) + len(self._numbers)
        return found

    @property
    def names(self) -> tuple[str, ...]:
        """All of them, in the order of their numbers."""
        return (*_FIRST, *self._numbers)

    @property
    def are_several(self) -> bool:
        """Whether there has been more than one site."""
        return len(self._numbers) > 1
