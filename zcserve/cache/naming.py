"""Which names belong together: a file and its siblings, a directory and its index, an entry and its file.

A sibling (`page.css.gz` beside `page.css`) is a variant of its base, in the coding that its ending names. A directory's
key (`/docs/`) leads to its index, the key without the slash redirects to it; so two keys besides the index's own depend
on one file. These rules hold alike for names, for paths and for keys: no ending has a byte that is encoded in a URL.

Nothing here asks the file system.
"""

from __future__ import annotations

import os
from collections.abc import Container
from typing import TypeGuard
from urllib.parse import unquote_to_bytes

from zcserve.cache.counted_names import SIBLING_CODINGS, SIBLING_ENDINGS
from zcserve.cache.entry import Entry

_ENDING_OF = {coding: ending for ending, coding in SIBLING_CODINGS.items()}


def base_of(name: bytes) -> bytes:
    """The name of the file that this one is a sibling of, if there is such a file; b"" where no ending says so."""
    return name[: name.rfind(b".")] if name.endswith(SIBLING_ENDINGS) else b""


def coding_of(sibling: bytes) -> bytes:
    """The content coding that a sibling's name tells."""
    return SIBLING_CODINGS[sibling[sibling.rfind(b".") :]]


def sibling_of(name: bytes, coding: bytes) -> bytes:
    """The name of a file's sibling in a coding."""
    return name + _ENDING_OF[coding]


def siblings_of(name: bytes) -> list[tuple[bytes, bytes]]:
    """Each coding that a file may have a sibling in, and that sibling's name."""
    return [(coding, name + ending) for ending, coding in SIBLING_CODINGS.items()]


def is_as_new(sibling: os.stat_result, base: os.stat_result) -> bool:
    """Whether a sibling may be a variant: it was not made of an older version of its base."""
    return sibling.st_mtime_ns >= base.st_mtime_ns


def path_of(entry: Entry) -> bytes:
    """The entry's file, relative to the root; of a variant that was made here, its base's."""
    path = (unquote_to_bytes(entry.key) if b"%" in entry.key else entry.key)[1:]
    return sibling_of(path, entry.encoding) if entry.encoding and not entry.made else path


def name_of(entry: Entry) -> str:
    """The last segment of the key; its extension decides the media type."""
    return entry.key[entry.key.rfind(b"/") + 1 :].decode()


def directory_of(key: bytes) -> bytes:
    """The key of the directory that a key lies in; of a directory's own key, itself."""
    return key[: key.rfind(b"/") + 1]


def keys_of(directory: bytes) -> tuple[bytes, bytes]:
    """The keys that lead to a directory's index: its own, and the one that redirects to it (b"" for the root's)."""
    return directory, directory[:-1]


def is_index(resource: object, files: Container[bytes]) -> TypeGuard[Entry]:
    """Whether `resource`, which stands at a directory's key, is the index, and its file's key is among `files`."""
    return isinstance(resource, Entry) and resource.key in files
