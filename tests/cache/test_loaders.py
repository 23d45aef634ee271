"""zcserve.cache.loaders: each site's files are loaded as that site's configuration says."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.contents import Shop
from zcserve.cache.loader import Loader
from zcserve.cache.loaders import Loaders
from zcserve.cache.root import Root
from zcserve.config.table import Config


def test_a_root_has_the_loader_of_its_site(tmp_path: Path) -> None:
    shop = Shop(tmp_path / "one")
    other = Loader(shop.store, Config(root=tmp_path))
    loaders = Loaders(shop.store)
    loaders.add(0, shop.loader)
    loaders.add(3, other)
    assert loaders.store is shop.store
    assert loaders.of(Root(tmp_path)) is shop.loader
    assert loaders.of(Root(tmp_path, site=3)) is other
    loaders.remove(3)
    with pytest.raises(KeyError):
        loaders.of(Root(tmp_path, site=3))
    assert shop.loader.of(Root(tmp_path, site=3)) is shop.loader
    other.variants.close()
    shop.close()
