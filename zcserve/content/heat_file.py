"""`--heat-file`: the heat of all sites, kept between two processes (the form is cache/heat_lines.py's).

The file is replaced as a whole (replacing.py), so a reader finds the last one or this one. What is wrong with it is one
line in the log, and the start goes on as without it: it is knowledge of the past, and no content. The heat of a site
whose root is another one now is left out: its paths mean other files.
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from zcserve.cache import heat_lines
from zcserve.cache.entry import Entry
from zcserve.cache.heat import Heat, decay, size_of
from zcserve.cache.heat_lines import FileTold, HeatError, Told
from zcserve.config.units import counted
from zcserve.errors import reason_of
from zcserve.log import Log
from zcserve.replacing import replace
from zcserve.site.site import Site

_log = Log(__name__)

# How often it is written: what a process that is killed has not written down.
WRITTEN_EVERY_S = 300.0
# A million files have 100 MB.
FILE_BYTES_MAX = 1 << 30


class Kept(NamedTuple):
    """A site whose heat is kept: its name, its root as the configuration calls it, and the heat."""

    site: str
    root: str | Path
    heat: Heat

    @classmethod
    def of(cls, site: Site) -> Kept:
        """That of a site that is served."""
        return cls(site.name, site.root.path, site.heat)

    @property
    def place(self) -> str:
        """The root, in full. A release re-points a symlink, and it is the same place."""
        return os.path.abspath(self.root)


def lines_of(sites: Iterable[Site]) -> Iterator[bytes]:
    """What is known of these, as of now. In any thread."""
    yield heat_lines.first_line(time.time())
    count = 0
    for site in sites:
        yield heat_lines.root_line(site.name, Kept.of(site).place)
        for some in site.heat.items():
            for key, uses in some:
                entry = site.live.resources.get(key)
                count += 1
                yield heat_lines.file_line(site.name, key, size_of(entry) if isinstance(entry, Entry) else 0, uses)
    yield heat_lines.last_line(count)


class HeatFile:
    """The file at a path. `read` before the loop turns; `write` in one thread at a time."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._has_failed = False  # and the log says so

    def read(self, sites: Iterable[Kept]) -> None:
        """Have the heat of these sites know what stands in the file."""
        known = {one.site: one for one in sites}
        try:
            with open(_open(self._path), "rb") as file:
                found = self._found(heat_lines.lines_in(file), known)
        except FileNotFoundError:
            self._warn("it is not there, as at a first start: it is written every few minutes, and at the end")
            return
        except (OSError, HeatError) as error:
            self._warn(reason_of(error))
            return
        files = 0
        for site, heat in found.items():
            files += len(heat)
            for some in heat.items():
                for key, uses in some:
                    known[site].heat.add(key, uses)
        if files:
            _log.info("heat_file: it is known how hot %s %s", counted(files, "file"), "is" if files == 1 else "are")

    def _found(self, lines: Iterable[bytes], known: Mapping[str, Kept]) -> dict[str, Heat]:
        """What lines say of sites whose roots are the same, as of now. Raises HeatError."""
        found: dict[str, Heat] = {}
        left = 1.0
        for one in heat_lines.read(lines):
            if isinstance(one, Told):
                left = decay(time.time() - one.at)
            elif isinstance(one, FileTold):
                if (heat := found.get(one.site)) is not None:
                    heat.add(one.path.encode(), one.uses * left)
            elif (kept := known.get(one.site)) is not None and one.root == kept.place:
                found[one.site] = Heat()
            elif kept is not None:
                self._warn(f"the root of the site {one.site} was {one.root}, and is {kept.place}")
        return found

    def fault(self) -> str:
        """Why it could not be written, as far as can be said without writing; "" where it could."""
        if os.path.isdir(self._path):
            return "it is a directory"
        place = os.path.dirname(self._path) or "."
        return "" if os.access(place, os.W_OK | os.X_OK) else f"{place} is no directory that may be written"

    def write(self, sites: Iterable[Site]) -> None:
        """Write down what the heat of these sites knows."""
        try:
            replace(self._path, lines_of(sites))
        except OSError as error:
            if not self._has_failed:
                _log.warning("heat_file: %r cannot be written: %s", self._path, reason_of(error))
            self._has_failed = True
        else:
            self._has_failed = False

    def _warn(self, why: str) -> None:
        _log.warning("heat_file: nothing is known from %r: %s", self._path, why)


def _open(path: str) -> int:
    """A descriptor of the file at a path, which is waited for by nothing. Raises OSError and HeatError."""
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    status = os.fstat(fd)
    if stat.S_ISREG(status.st_mode) and status.st_size <= FILE_BYTES_MAX:
        return fd
    os.close(fd)
    raise HeatError(f"it is no file, or has more than {FILE_BYTES_MAX} bytes")
