"""One table `[sites.NAME]`: what a site has of its own, and what several sites may not say together.

A site has most keys of the server's, and where it does not say one, the server's value is its own (`configs_of`). But
what is served, its names, its applications and its rules are told for each site: a directory or an application that
answers on another name than its own would be no default, but a leak.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from zcserve.config.hosts import parse_site_host
from zcserve.config.site_names import DEFAULT_NAME
from zcserve.config.units import PIB, Share, show_memory, size_text
from zcserve.errors import UsageError

ROOT_ACCEPTED = "accepted: a directory that is there; a relative path starts at the working directory"
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,62}")

# Keys that a site has from the server where it does not say them, and those that are its own.
INHERITED = (
    "access_log",
    "index",
    "pin",
    "cache_control",
    "clean_urls",
    "spa",
    "immutable",
    "listing",
    "secure_headers",
    "tag_header",
    "rules_dialect",
    "charset",
    "type",
    "keep_generations",
    "keep_for_s",
)
OWN = ("root", "servlets", "mount", "rules", "redirects", "error_pages", "auth")
# What a site says that has no access log.
NO_LOG = "off"
# Files that sites may name together: each has a thread and a descriptor (net/access_logs.py).
LOGS_MAX = 64
# What a site has that is no key of the server's, or means another thing there.
SITES_OWN = ("hosts", "memory_min", "memory_max")


def _nowhere(*_: str) -> str:
    """`find` of a table that no file has."""
    return ""


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteTable:
    """One site beside the default one.

    name        in the log, in figures, and as an operator calls it
    hosts       the names that it answers to: exact, or `*.` and a name for all below that; one at least
    values      keys of `INHERITED` and `OWN`; `root` at least
    memory_min  what others leave it of the server's memory; a `Share` is a part of that
    memory_max  what it takes of the server's memory at most
    words       that the file has in the table
    find        begins an error about what a word of the table says, and without a word each other one: the file and the
                place, if there is one. It is asked when there is an error: most files have none

    Raises UsageError.
    """

    name: str
    hosts: tuple[str, ...]
    values: Mapping[str, Any] = field(default_factory=dict)
    memory_min: int = 0
    memory_max: int = Share(100)
    words: tuple[str, ...] = field(default=(), compare=False, repr=False)
    find: Callable[..., str] = field(default=_nowhere, compare=False, repr=False)

    def place(self, word: str = "") -> str:
        """Begins an error about what this key says, or the table."""
        return self.find(word) if word else self.find()

    def places(self) -> dict[str, str]:
        """What begins an error about each word that the file has."""
        return {word: self.find(word) for word in self.words}

    def refuse(self, error: UsageError, word: str = "") -> UsageError:
        """The error, which begins with the place of a key, or of the table, and with the site. One of a table of the
        same file (`[[sites.NAME.rules]]`) says its place and the site itself."""
        file = self.place().rsplit(":", 3)[0]  # "site.toml:3:1: "
        if file and str(error).startswith(f"{file}:"):
            return error
        return UsageError(f"{self.place(word)}sites.{self.name}: {error}")

    def refuse_root(self, error: UsageError) -> UsageError:
        """As `refuse`, of a root that cannot be read."""
        return self.refuse(UsageError(f"{error}; {ROOT_ACCEPTED}"), "root")

    def __post_init__(self) -> None:
        try:
            self._check()
        except UsageError as error:
            raise UsageError(f"{self.place()}{error}") from None
        self._check_share()

    def _check(self) -> None:
        if self.name == DEFAULT_NAME:
            raise UsageError(f"sites.{self.name}: the site at the top of the file is called so; accepted: another name")
        if not _NAME.fullmatch(self.name):
            raise UsageError(f"sites.{self.name!r} is not a name; accepted: up to 63 letters, digits, '.', '-' and '_'")
        if not self.hosts:
            raise UsageError(f"sites.{self.name} has no hosts; accepted: the names that it answers to")
        if "root" not in self.values:
            raise UsageError(f"sites.{self.name} has no root; accepted: the directory that it serves")
        if unknown := self.values.keys() - {*INHERITED, *OWN}:
            raise UsageError(f"sites.{self.name}: no site has {min(unknown)}")
        object.__setattr__(self, "hosts", tuple(map(parse_site_host, self.hosts)))

    def _check_share(self) -> None:
        least, most = self.memory_min, self.memory_max
        is_share = isinstance(least, Share)
        # A share and a size are compared when it is known what there is (`check_shares`).
        if is_share == isinstance(most, Share) and part_of(least, PIB) > part_of(most, PIB):
            told = f"{show_memory(least)} is more than memory_max, which is {show_memory(most)}"
            raise UsageError(f"{self.place('memory_min')}memory_min: {told}")


def part_of(share: int, budget: int) -> int:
    """What a share of the server's memory comes to, in bytes, where that is `budget`."""
    return min(int(budget * share.percent / 100), share) if isinstance(share, Share) else share


class Memory(NamedTuple):
    """What a site has of the server's memory, in bytes; `most` None: all there is."""

    least: int = 0
    most: int | None = None


# Of a site that says nothing of it.
ALL = Memory()


def memory_of(tables: Iterable[SiteTable], budget: int) -> Mapping[str, Memory]:
    """What each site has, by its name, where `budget` is what there is."""
    found: dict[str, Memory] = defaultdict(Memory)
    for table in tables:
        most = part_of(table.memory_max, budget)
        found[table.name] = Memory(part_of(table.memory_min, budget), most if most < budget else None)
    return found


def check_together(tables: Iterable[SiteTable], hosts: Iterable[str]) -> None:
    """Whether each name is of one site, and each host, and there are not too many logs; `hosts` are the default site's.
    Raises UsageError."""
    owner = dict.fromkeys(hosts, DEFAULT_NAME)
    names: set[str] = set()
    logs: set[str] = set()
    for table in tables:
        if path := table.values.get("access_log"):
            logs.add(path)
        if len(logs) > LOGS_MAX:
            raise UsageError(
                f"{table.place('access_log')}access_log: sites name more than {LOGS_MAX} files; accepted: one for "
                'several sites, with access_log_fields = ["host"]'
            )
        if table.name in names:
            raise UsageError(f"{table.place()}two sites are called {table.name}")
        names.add(table.name)
        for host in table.hosts:
            if (other := owner.setdefault(host, table.name)) != table.name:
                raise UsageError(f"{table.place('hosts')}hosts: {host} is a name of the site {other} already")


def check_shares(tables: Iterable[SiteTable], budget: int) -> None:
    """Whether what sites are guaranteed is there, once it is known what there is. Raises UsageError."""
    guaranteed = 0
    for table in tables:
        least = part_of(table.memory_min, budget)
        guaranteed += least
        if least > part_of(table.memory_max, budget):
            raise UsageError(f"{table.place('memory_min')}memory_min: {size_text(least)} is more than memory_max")
        if guaranteed > budget:
            told = f"{size_text(guaranteed)}, and there is {size_text(budget)} (--memory)"
            raise UsageError(f"{table.place('memory_min')}memory_min: all sites together are guaranteed {told}")
