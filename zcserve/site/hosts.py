"""Which site a request is for, by the name of its host (RFC 9110 section 7.2).

    a name of a site's own -> that site; else the longest `*.` that it lies below; else the default site, or none

A name that has an empty label (`.example.org`, `a..example.org`) is none in DNS, and lies below nothing.

A request may name no host (HTTP/1.0, or an empty Host): that is for the default site. Where there is none, and where a
name that no site has is refused (`--unknown-host 421`), `nowhere` stands for it: a site that has nothing, and of which
all requests are misdirected (section 15.5.20).
"""

from __future__ import annotations

from collections.abc import Sequence

from zcserve.cache.index import Generation
from zcserve.cache.root import Root
from zcserve.config.hosts import WILDCARD
from zcserve.config.site_names import DEFAULT_NAME
from zcserve.site.site import Site

_BELOW = WILDCARD.encode()
# The number of the site that stands for it.
NOWHERE = -1
# Of a name in DNS (RFC 1035 section 2.3.4). A longer one is no site's: each of its labels would be a look-up.
NAME_BYTES_MAX = 255


class Hosts:
    """The sites of a server, by name.

    is_one   every name is of the same site: there is nothing to look for
    exact    the sites by the names that are written in full
    unnamed  the site of a request that names no host
    unknown  the site of a name that no site has
    """

    def __init__(self, sites: Sequence[Site], *, refuses_unknown: bool = False) -> None:
        """`sites` are one at least, no two with the same name."""
        default = next((site for site in sites if site.name == DEFAULT_NAME), None)
        if default is not None and not refuses_unknown:
            self.unnamed = self.unknown = default
        else:
            self.unknown = Site(NOWHERE, Generation(Root("/")), name="nowhere", is_nowhere=True)
            self.unnamed = default or self.unknown
        self.is_one = len(sites) == 1 and self.unknown is default
        self.exact = {name: site for site in sites for name in site.names if not name.startswith(_BELOW)}
        self._below = {name[2:]: site for site in sites for name in site.names if name.startswith(_BELOW)}

    @property
    def numbers(self) -> tuple[dict[bytes, int], int | None, int | None]:
        """The sites' numbers by name, then of a request that names no host, and of a name that no site has; None where
        such requests are misdirected. For what finds sites by itself (`Front.set_hosts`)."""
        names = {name: site.id for name, site in self.exact.items()}
        names |= {_BELOW + name: site.id for name, site in self._below.items()}
        unnamed, unknown = (None if site.is_nowhere else site.id for site in (self.unnamed, self.unknown))
        return names, unnamed, unknown

    def find(self, name: bytes) -> Site:
        """The site of a name as `http.host_name` gives it; of b"" `unnamed`."""
        if not name:
            return self.unnamed
        site = self.exact.get(name)
        if site is None and self._below and len(name) <= NAME_BYTES_MAX and name[:1] != b"." and b".." not in name:
            at = name.find(b".")
            while site is None and at >= 0:
                site = self._below.get(name[at + 1 :])
                at = name.find(b".", at + 1)
        return self.unknown if site is None else site
