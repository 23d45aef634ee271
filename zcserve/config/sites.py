"""The sites of a server: the tables `[sites.NAME]` of a file, read into `SiteTable`s, and the configuration of each.

What is wrong with a table is told with its place.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from zcserve.config.checks import check_outside, each, real_roots
from zcserve.config.hosts import parse_site_host
from zcserve.config.keys import BY_WORD, Key
from zcserve.config.option import MEMORY, TEXTS, Option
from zcserve.config.site import INHERITED, NO_LOG, OWN, SITES_OWN, SiteTable
from zcserve.config.site_names import DEFAULT_NAME
from zcserve.config.table import TABLES, Config
from zcserve.config.tables import Source, follow, leave, tables_of
from zcserve.config.units import PIB
from zcserve.errors import UsageError, alike

_KEYS: dict[str, Key] = {word: key for word, key in BY_WORD.items() if key.name in (*INHERITED, *OWN)}
_SHARE = Option(MEMORY, "", (0, PIB), (), "", None, 0, "")
_OWN: dict[str, Option] = {
    "hosts": Option(TEXTS, "", None, (), "", each(parse_site_host), 0, ""),
    "memory_min": _SHARE,
    "memory_max": _SHARE,
}
assert tuple(_OWN) == SITES_OWN


def configs_of(config: Config) -> dict[str, Config]:
    """The configuration of each site by its name, that of the default site first, if there is one. Of what a site does
    not say, `INHERITED` is the server's. Raises UsageError."""
    found = {DEFAULT_NAME: replace(config, sites=())} if config.root is not None else {}
    for table in config.sites:
        values: dict[str, Any] = {"servlets": "", "mount": (), "rules": (), "redirects": (), "auth": (), **table.values}
        values["places"] = {**config.places, **{_key_of(word): where for word, where in table.places().items()}}
        values["error_pages"] = (values.get("error_pages", {}), config.error_pages)
        try:
            found[table.name] = replace(config, **values, hosts=table.hosts, sites=())
        except UsageError as error:
            raise table.refuse(error) from None
    _check_users(found)
    return found


def _key_of(word: str) -> str:
    """The name of the key that a word of a site means."""
    return _KEYS[word].name if word in _KEYS else word


def follow_file(old: Config, new: Config) -> None:
    """The file was read again, and a site's configuration is as it was: its tables stand where those of `new` do, and
    the file as it was before is kept no longer for them."""
    for name in TABLES:
        follow(getattr(old, name), getattr(new, name))


def leave_file(old: Config) -> None:
    """A site's configuration is another by now: what is made of this one keeps the file no longer."""
    for name in TABLES:
        leave(getattr(old, name))


def _check_users(configs: Mapping[str, Config]) -> None:
    """No site serves the users of another one: their files lie below no root. Raises UsageError."""
    tables = [table for config in configs.values() for table in tables_of(config.auth, ("auth",))]
    roots = real_roots(config.directory for config in configs.values()) if tables else {}
    for table in tables:
        if isinstance(file := table.get("users_file"), str):
            try:
                check_outside(file, roots)
            except UsageError as error:
                raise table.refuse(error, "users_file") from None


def read_sites(given: object, source: Source) -> tuple[SiteTable, ...]:
    """What a file has under `sites`. Raises UsageError."""
    if not isinstance(given, Mapping):
        raise UsageError(f"{source.where(('sites',))}: sites: is no table; accepted: tables such as [sites.blog]")
    names = [name for name, table in given.items() if not _is_nobodys(table)]
    for name, table in given.items():
        if name not in names and (meant := alike(name, names)):
            word = next(iter(table))
            where = source.where(("sites", name))
            told = f"no site is called {name}, which has neither root nor hosts; the nearest known is {meant}"
            raise UsageError(f"{where}: sites.{name}.{word}: {told}")
    return tuple(_Reader(name, source).read(table) for name, table in given.items())


def _is_nobodys(table: object) -> bool:
    """Whether a table is made by the tables in it alone: no `[sites.NAME]` says what it is."""
    return isinstance(table, Mapping) and bool(table) and not table.keys() & {"root", "hosts"}


class _Reader:
    """Reads one table. Raises UsageError."""

    def __init__(self, name: str, source: Source) -> None:
        self._name = name
        self._source = source

    def _where(self, *path: str | int) -> str:
        """Begins an error about what stands there."""
        return f"{self._source.where(('sites', self._name, *path))}: "

    def read(self, table: object) -> SiteTable:
        """All of it."""
        name = self._name
        if not isinstance(table, Mapping):
            accepted = "a table for each site: [sites.blog]" if name in (*_OWN, *_KEYS) else f"[sites.{name}]"
            raise UsageError(f"{self._where()}sites.{name}: is no table; accepted: {accepted}")
        own: dict[str, Any] = {}
        values: dict[str, Any] = {}
        words: dict[str, str] = {}
        for word, value in table.items():
            if (option := _OWN.get(word)) is not None:
                own[word] = self._accepted(option, word, value)
            elif word in TABLES:
                values[word] = TABLES[word](value, ("sites", name, word), self._source)
            elif (key := _KEYS.get(word)) is not None:
                if (other := words.setdefault(key.name, word)) != word:
                    raise UsageError(f"{self._where(word)}{other} and {word} are the same key; accepted: one of them")
                accepted = self._accepted(key.option, word, value)
                values[key.name] = "" if word == "access_log" and accepted == NO_LOG else accepted
            else:
                raise UsageError(self._where(word) + _about_unknown(word))
        hosts = own.pop("hosts", ())
        return SiteTable(name=name, hosts=hosts, values=values, words=tuple(table), find=self._where, **own)

    def _accepted(self, option: Option, word: str, value: Any) -> Any:
        """The value, checked; of a list the element is told that is wrong, if it is one."""
        if option.kind is TEXTS and isinstance(value, list):
            for number, item in enumerate(value):
                option.accept_at(partial(self._where, word, number), word, [item])
        return option.accept_at(partial(self._where, word), word, value)


def _about_unknown(word: str) -> str:
    if word == "host":
        return "host is an address to listen at, which no site has; accepted: hosts, the names that a site answers to"
    if word in BY_WORD:
        return f"{word} is the server's key, and no site's; accepted: it stands at the top of the file"
    from zcserve.config.words import about_unknown  # late: only a mistake needs it

    return about_unknown(word, [*_OWN, *_KEYS, *TABLES])
