"""The servlets of a server, for tests that look at what they keep and what waits for them."""

from __future__ import annotations

from zcserve.server import Server
from zcserve.servlets.application import Servlets
from zcserve.servlets.results import Results


def servlets_of(server: Server) -> Servlets:
    """What answers where no file does."""
    application = server.site.application
    assert isinstance(application, Servlets)
    return application


def results_of(server: Server) -> Results:
    """The results that are kept."""
    results = servlets_of(server).results
    assert results is not None
    return results
