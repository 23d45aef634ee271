"""Variants that are kept between starts, in a directory (`--compress-dir`).

    DIR/3f/3f86...d1.br-1.1.0-11-9      two digits of the content's hash; the hash, coding, library and level

A file holds a digest of the content that it was made of, a digest of the rest, and the variant; the rest is empty where
the coding saves too little. What does not fit its digests (a file that was cut short, a disk with bad data,
another content of the same hash) is ignored, made anew and written over. Files come into place by `rename`, so several
processes may share a directory.

`sweep` removes what no file of the site refers to, and nothing else: names that are not of this form are left alone. So
a directory is for one site.
"""

from __future__ import annotations

import os
import re
import threading
import time
from collections.abc import Collection, Mapping
from contextlib import suppress
from hashlib import blake2b
from pathlib import Path

from zcserve.cache.compress import versions
from zcserve.config.table import Config
from zcserve.errors import UsageError
from zcserve.log import Log

_log = Log(__name__)

DIGEST_BYTES = 16
# A file under a temporary name that is older than this was left by a process that ended.
LEFT_S = 3600.0

_NAME = re.compile(r"([0-9a-f]{32})\.(?:br|gzip|zstd)-[A-Za-z0-9._-]+")
_TEMPORARY = re.compile(r"\.[0-9a-f]{32}\.[A-Za-z0-9._-]+~")


def _digest(content: bytes) -> bytes:
    return blake2b(content, digest_size=DIGEST_BYTES).digest()


def open_kept(config: Config) -> VariantDirectory | None:
    """Where `config` has variants kept; None: nowhere. Raises UsageError."""
    if not config.compress or not config.compress_dir:
        return None
    directory = Path(config.compress_dir)
    below = os.path.relpath(os.path.realpath(directory), os.path.realpath(config.directory)).split("/")
    hidden = below[1:] if below[0] in (".", ".well-known") else below
    if below[0] != ".." and not any(part.startswith(".") for part in hidden):
        raise UsageError(f"compress_dir: {str(directory)!r} lies in the root and would be served; accepted: another")
    return VariantDirectory(directory, versions())


class VariantDirectory:
    """The variants in one directory. `versions` tells for each coding what it is made by. Thread-safe."""

    def __init__(self, directory: Path, versions: Mapping[bytes, str]) -> None:
        """Makes the directory. Raises UsageError."""
        self.directory = directory
        self._versions = versions
        self._warned = False
        try:
            directory.mkdir(parents=True, exist_ok=True)
            probe = self._temporary(directory, "0" * 32 + ".probe")
            probe.touch()
            probe.unlink()
        except OSError as error:
            raise UsageError(
                f"compress_dir: {str(directory)!r} cannot be written: {error.strerror}; accepted: a directory"
            ) from None

    def get(self, tag: bytes, coding: bytes, content: bytes) -> bytes | None:
        """What was made of `content`, whose ETag is `tag`: b"" where it was not worth it; None: nothing is kept."""
        try:
            found = self._place(tag, coding).read_bytes()
        except OSError:
            return None
        made_of, itself, made = found[:DIGEST_BYTES], found[DIGEST_BYTES : 2 * DIGEST_BYTES], found[2 * DIGEST_BYTES :]
        return made if itself == _digest(made) and made_of == _digest(content) else None

    def put(self, tag: bytes, coding: bytes, content: bytes, made: bytes) -> None:
        """Keep what was made of `content`. Where that fails it is made anew at the next start."""
        place = self._place(tag, coding)
        temporary = self._temporary(place.parent, place.name)
        try:
            place.parent.mkdir(exist_ok=True)
            try:
                temporary.write_bytes(_digest(content) + _digest(made) + made)
                temporary.replace(place)
            except OSError:
                with suppress(OSError):
                    temporary.unlink()
                raise
        except OSError as error:
            if not self._warned:
                self._warned = True
                _log.warning("compress: variants cannot be kept in %s: %s", self.directory, error.strerror or error)

    def sweep(self, tags: Collection[bytes]) -> int:
        """Remove what was made of other content than that with these ETags; how many files."""
        removed = 0
        with suppress(OSError):  # it is gone
            for part in [part for part in os.scandir(self.directory) if re.fullmatch("[0-9a-f]{2}", part.name)]:
                with suppress(OSError):
                    removed += self._sweep(part.path, tags)
        return removed

    def _sweep(self, directory: str, tags: Collection[bytes]) -> int:
        removed = 0
        for entry in list(os.scandir(directory)):
            named = _NAME.fullmatch(entry.name)
            if named:
                unused = b'"%b"' % named[1].encode() not in tags or not entry.name.endswith(self._endings())
            else:
                is_temporary = _TEMPORARY.fullmatch(entry.name) is not None
                unused = is_temporary and time.time() - entry.stat().st_mtime > LEFT_S
            if unused:
                with suppress(OSError):
                    os.unlink(entry.path)
                    removed += 1
        with suppress(OSError):  # it is not empty
            os.rmdir(directory)
        return removed

    def _endings(self) -> tuple[str, ...]:
        return tuple(f".{coding.decode()}-{version}" for coding, version in self._versions.items())

    def _place(self, tag: bytes, coding: bytes) -> Path:
        digest = tag.strip(b'"').decode()
        return self.directory / digest[:2] / f"{digest}.{coding.decode()}-{self._versions[coding]}"

    def _temporary(self, directory: Path, name: str) -> Path:
        return directory / f".{name}-{os.getpid()}-{threading.get_native_id()}~"
