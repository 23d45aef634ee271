"""What a server would have besides files, for `zcserve check`: everything is loaded, nothing begins."""

from __future__ import annotations

from typing import NamedTuple

from zcserve.cache.index import Generation
from zcserve.cache.root import Root
from zcserve.config.table import Config
from zcserve.net.front import Front
from zcserve.paths import SentPath
from zcserve.rules.compiled import Nowhere
from zcserve.servlets.application import Servlets
from zcserve.site.site import Site


class Checked(NamedTuple):
    """What a server would have besides files, in words; what of it does not load, and which rewrites lead to what
    neither it nor the site has, a line each."""

    told: str
    faults: list[str]
    nowhere: list[str]


def check(config: Config, nowhere: Nowhere = lambda _: []) -> Checked:
    """What a server with this configuration would have; `nowhere` tells of rewrites that lead to what it has not.
    Raises UsageError where it could not start for another reason than that something does not load."""
    faults: list[str] = []
    application = Servlets(
        config,
        Site(0, Generation(Root(config.directory))),
        call_soon=lambda call: None,
        front=Front(),
        faults=faults,
    )
    try:
        has = lambda key, query: application.find_as_it_is(SentPath(key), query or None) is not None  # noqa: E731
        return Checked(application.describe(), [*application.broken(), *faults], [] if faults else nowhere(has))
    finally:
        application.close()
