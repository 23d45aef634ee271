"""The loaders of several sites, by the roots whose files they load: what a thread that serves them all asks."""

from __future__ import annotations

from typing import Protocol

from zcserve.cache.loader import Loader
from zcserve.cache.root import Root
from zcserve.cache.store import Store


class Loads(Protocol):
    """A `Loader`, or several: all put what they load into one store."""

    @property
    def store(self) -> Store:
        """Where content lies."""

    def of(self, root: Root) -> Loader:
        """What loads the files of this root."""


class Loaders:
    """The loader of each site, by its number. Any thread may ask."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._by_site: dict[int, Loader] = {}

    @property
    def store(self) -> Store:
        """As `Loads.store`."""
        return self._store

    def add(self, site: int, loader: Loader) -> None:
        """From now on this loads the files of a site."""
        self._by_site[site] = loader

    def remove(self, site: int) -> None:
        """A site is gone, and nothing of it is asked for."""
        del self._by_site[site]

    def of(self, root: Root) -> Loader:
        """As `Loads.of`."""
        return self._by_site[root.site]
