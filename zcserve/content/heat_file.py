"""`--heat-file`: the heat of all sites, kept between two processes (the form is cache/heat_lines.py's).

It is written as a whole beside its place and renamed, so that a reader finds the last one or this one. What is wrong
with it is one line in the log, and the start goes on as without it: it is knowledge of the past, and no content. The
heat of a site whose root is another one now is left out: its paths mean other files.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress

from zcserve.cache import heat_lines
from zcserve.cache.entry import Entry
from zcserve.cache.heat import decay, size_of
from zcserve.cache.heat_lines import HeatError, Told
from zcserve.config.units import counted
from zcserve.errors import reason_of
from zcserve.log import Log
from zcserve.site.site import Site

_log = Log(__name__)

# How often it is written: what a process that is killed has not written down.
WRITTEN_EVERY_S = 300.0
# A million files have 100 MB.
FILE_BYTES_MAX = 1 << 30
# Paths of what asks for a password may stand in it.
_MODE = 0o600


def lines_of(sites: Iterable[Site]) -> Iterator[bytes]:
    """What is known of these, as of now. In any thread."""
    yield heat_lines.first_line(time.time())
    count = 0
    for site in sites:
        yield heat_lines.root_line(site.name, root_of(site))
        for some in site.heat.items():
            for key, uses in some:
                entry = site.live.resources.get(key)
                count += 1
                yield heat_lines.file_line(site.name, key, size_of(entry) if isinstance(entry, Entry) else 0, uses)
    yield heat_lines.last_line(count)


def root_of(site: Site) -> str:
    """What the configuration calls its directory: a release re-points a symlink, and it is the same site."""
    return os.path.abspath(site.root.path)


class HeatFile:
    """The file at a path. `read` before the loop turns; `write` in one thread at a time."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._has_failed = False  # and the log says so

    def read(self, sites: Iterable[Site]) -> None:
        """Have the heat of these sites know what stands in the file."""
        try:
            with open(self._path, "rb") as file:
                if os.fstat(file.fileno()).st_size > FILE_BYTES_MAX:
                    raise HeatError(f"it has more than {FILE_BYTES_MAX} bytes")
                told = heat_lines.read(file)
        except FileNotFoundError:
            self._warn(
                "it is not there, as at a first start: it is written when the server ends, and every few minutes"
            )
            return
        except (OSError, HeatError) as error:
            self._warn(reason_of(error))
            return
        self._take(told, sites)

    def _take(self, told: Told, sites: Iterable[Site]) -> None:
        of = {}
        for site in sites:
            root = told.roots.get(site.name)
            if root == root_of(site):
                of[site.name] = site.heat
            elif root is not None:
                why = f"its root was {root!r}, and is {root_of(site)!r}"
                _log.warning("%sheat_file: nothing is known from %r: %s", site.label, self._path, why)
        left = decay(time.time() - told.at)
        files = 0
        for name, path, _, uses in told.files:
            if name in of:
                of[name].add(path.encode(), uses * left)
                files += 1
        if files:
            _log.info(
                "heat_file: it is known of %s how hot %s", counted(files, "file"), "it is" if files == 1 else "they are"
            )

    def write(self, sites: Iterable[Site]) -> None:
        """Write down what the heat of these sites knows."""
        beside = f"{self._path}.new"
        try:
            fd = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, _MODE)
            with open(fd, "wb", 1 << 16) as file:
                file.writelines(lines_of(sites))
                file.flush()
                os.fsync(fd)
            os.rename(beside, self._path)
            _sync_directory(os.path.dirname(self._path) or ".")
        except OSError as error:
            with suppress(OSError):
                os.unlink(beside)
            if not self._has_failed:
                _log.warning("heat_file: %r cannot be written: %s", self._path, reason_of(error))
            self._has_failed = True
        else:
            self._has_failed = False

    def _warn(self, why: str) -> None:
        _log.warning("heat_file: nothing is known from %r: %s", self._path, why)


def _sync_directory(path: str) -> None:
    """Have the rename be on the disk."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
