"""What files hold: lines of 32 bytes, each with the file's number and version. So any part of it tells what the whole
is, and a byte of another file, of another version, or at another place is seen.
"""

from __future__ import annotations

import re
from pathlib import Path

LINE_BYTES = 32
PART_BYTES_MIN = 2 * LINE_BYTES  # has a whole line in it
SIZES = (100, 900, 4000, 15_000, 20_000, 70_000, 300_000)
FILES_PER_DIRECTORY = 100


class WrongError(Exception):
    """An answer is not what it has to be."""


def target_of(number: int) -> str:
    """The request target of a file."""
    return f"/d{number // FILES_PER_DIRECTORY:04}/{number:08}.bin"


def size_of(number: int, version: int) -> int:
    """Versions differ in length, too, by some bytes."""
    return SIZES[number % len(SIZES)] + version % 61


def content(number: int, version: int, size: int | None = None) -> bytes:
    """The bytes of a file; `size`: of which, where it is not `size_of`."""
    size = size_of(number, version) if size is None else size
    line = b"file %08d version %08d \n" % (number, version)
    return (line * (size // LINE_BYTES + 1))[:size]


def version_of(number: int, part: bytes, start: int = 0) -> int:
    """The version that this part is of, which begins at `start` and has PART_BYTES_MIN. Raises WrongError."""
    skipped = -start % LINE_BYTES
    found = re.fullmatch(rb"file (\d{8}) version (\d{8}) \n", part[skipped : skipped + LINE_BYTES])
    if found is None or int(found[1]) != number:
        raise WrongError(f"file {number} from {start}: {part[:80]!r}")
    version = int(found[2])
    inset = start % LINE_BYTES
    if content(number, version, inset + len(part))[inset:] != part:
        raise WrongError(f"file {number} from {start}: not all of {len(part)} bytes are of version {version}")
    return version


def whole_of(number: int, body: bytes, size: int | None = None) -> int:
    """The version that this whole body is of. Raises WrongError."""
    version = version_of(number, body)
    due = size_of(number, version) if size is None else size
    if len(body) != due:
        raise WrongError(f"file {number}, version {version}: {len(body)} bytes, not {due}")
    return version


def publish(root: Path, number: int, version: int, size: int | None = None) -> None:
    """Put a version in place by rename, from a name that is not served."""
    path = root / target_of(number)[1:]
    aside = path.with_name(f".{path.name}.new")
    aside.write_bytes(content(number, version, size))
    aside.rename(path)


def make(root: Path, files: int, version: int, size: int | None = None) -> None:
    """Write so many files."""
    for number in range(files):
        path = root / target_of(number)[1:]
        if number % FILES_PER_DIRECTORY == 0:
            path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content(number, version, size))
