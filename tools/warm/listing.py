"""The list of what comes first: its lines, and the entries that they name.

A line is a path below the root, a URL's path, or a URL. A name on disk is tried first: "100%.txt" is one, and no path
of a URL.
"""

from __future__ import annotations

import os
import posixpath
import re
import sys
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from zcserve.cache.entry import Entry, Redirect
from zcserve.cache.index import Generation
from zcserve.errors import HttpError, UsageError
from zcserve.http import canonical_path, encode_path

_ORIGIN = re.compile(rb"[A-Za-z][A-Za-z0-9+.-]*://[^/?#]*")


def read_list(file: str) -> list[bytes]:
    """The lines of a list that name something; `-` is standard input. Raises UsageError."""
    try:
        content = sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
    except OSError as error:
        raise UsageError(f"the list {file!r} cannot be read: {error.strerror}") from None
    lines = (line.strip() for line in content.splitlines())
    return [line for line in lines if line and not line.startswith(b"#")]


def find(generation: Generation, line: bytes) -> Entry | None:
    """The entry that a line of the list names: as a name on disk, else as a URL's path."""
    path = b"/" + _ORIGIN.sub(b"", line, count=1).lstrip(b"/")
    keys = [encode_path(posixpath.normpath(path))]
    with suppress(HttpError):
        keys.append(canonical_path(re.split(rb"[?#]", path, maxsplit=1)[0]))
    return next((entry for key in keys if (entry := _entry(generation, key)) is not None), None)


def _entry(generation: Generation, key: bytes) -> Entry | None:
    """The entry at a key, or where its redirect leads."""
    resource = generation.resources.get(key)
    if isinstance(resource, Redirect):
        resource = generation.resources.get(resource.location)
    return resource if isinstance(resource, Entry) else None


def resolve(generation: Generation, lines: Iterable[bytes]) -> tuple[list[Entry], list[str]]:
    """What a list names, each once and in its order, and the lines that name nothing."""
    found: dict[Entry, None] = {}
    unknown = []
    for line in lines:
        entry = find(generation, line)
        if entry is None:
            unknown.append(os.fsdecode(line))
        else:
            found[entry] = None
    return list(found), unknown
