"""Which names a release may have, and where its files lie: everything in its own folder, and nothing that a walk would
pass over.

A manifest names files by the server's keys (`http.canonical_path`): ASCII, whatever the bytes of a name are, and one
spelling for each file. A key that a walk of the release would not find is refused, whatever else it means: so no path
leads out of a folder, into a hidden file, or twice to one file.

Nothing here asks the file system.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from urllib.parse import unquote_to_bytes

from zcserve.cache.counted_names import DEPTH_MAX, SIBLING_CODINGS, is_hidden
from zcserve.errors import HttpError
from zcserve.http import canonical_path, encode_path
from zcserve.rules.bounds import FILES

# Of one name on disk, in bytes: NAME_MAX of Linux.
NAME_BYTES_MAX = 255
# Of a file's path in a release, in bytes: PATH_MAX is 4,096, and the folder has a path, too.
PATH_BYTES_MAX = 3072

# Most paths: no escape, no name that begins with a dot, none that is too long even with the ending of a sibling.
_PLAIN = re.compile(r"(?:/[A-Za-z0-9!$&'()*+,;=:@_~-][A-Za-z0-9!$&'()*+,;=:@_~.-]{0,239}){1,12}").fullmatch

_ENDINGS = {coding.decode(): ending.decode() for ending, coding in SIBLING_CODINGS.items()}
# Read by the server, and not served.
RULES = frozenset(encode_path(b"/" + name).decode() for name in FILES)


class NameRefusedError(ValueError):
    """A path that no release may have; says why, without the path."""


def check_path(path: str) -> None:
    """Raises NameRefusedError unless a walk of a release would find a file by this key."""
    if _PLAIN(path):
        return  # most end here
    if not path.isascii():
        raise NameRefusedError("is not percent-encoded")
    key = path.encode()
    names = unquote_to_bytes(key).split(b"/")[1:]
    if b".." in names:
        raise NameRefusedError("leaves its directory")
    try:
        canonical = canonical_path(key)
    except HttpError as error:
        raise NameRefusedError(error.reason) from None
    if canonical != key:
        raise NameRefusedError(f"is another spelling of {canonical.decode()[:200]}")
    if key.endswith(b"/"):
        raise NameRefusedError("is a directory")
    if any(is_hidden(b"/".join(names[:at]), name) for at, name in enumerate(names)):
        raise NameRefusedError("has a name that begins with a dot, which is not served")
    if max(map(len, names)) > NAME_BYTES_MAX:
        raise NameRefusedError(f"has a name of more than {NAME_BYTES_MAX} bytes")
    if sum(map(len, names)) + len(names) > PATH_BYTES_MAX:
        raise NameRefusedError(f"is longer than {PATH_BYTES_MAX} bytes")
    if len(names) - 1 > DEPTH_MAX:
        raise NameRefusedError(f"lies below more than {DEPTH_MAX} directories")


def sibling_path(path: str, coding: str) -> str:
    """The path of a file's sibling in a content coding. Raises NameRefusedError where its name is too long."""
    sibling = path + _ENDINGS[coding]
    if len(sibling) > NAME_BYTES_MAX and len(unquote_to_bytes(sibling[sibling.rfind("/") + 1 :])) > NAME_BYTES_MAX:
        raise NameRefusedError(f"has no room for the ending of {coding}: {NAME_BYTES_MAX} bytes a name at most")
    return sibling


def base_of(name: bytes) -> bytes | None:
    """The name of the file that one of this name may be a sibling of; None: of none."""
    return next((name.removesuffix(ending) for ending in SIBLING_CODINGS if name.endswith(ending)), None)


def file_of(path: str) -> str:
    """The name of a file relative to its release, for `open` (os.fsdecode's)."""
    return path[1:] if "%" not in path else os.fsdecode(unquote_to_bytes(path)[1:])


def check_together(codings: Mapping[str, Iterable[str]]) -> None:
    """Raises NameRefusedError, which names the path, where two of these files cannot lie in one folder; `codings` are
    of the siblings by path."""
    siblings = {sibling: path for path, some in codings.items() for sibling in _siblings(path, some)}
    directories: set[str] = set()
    for path in codings:
        above = path[: path.rfind("/")]
        while above and above not in directories:
            directories.add(above)
            above = above[: above.rfind("/")]
    for sibling, path in siblings.items():
        if sibling in codings:
            raise NameRefusedError(f"{sibling!r} is there twice: as a file, and as an encoding of {path!r}")
    both = next((path for path in (*codings, *siblings) if path in directories), "")
    if both:
        raise NameRefusedError(f"{both!r} is a file, and a directory of others")


def _siblings(path: str, codings: Iterable[str]) -> Iterator[str]:
    for coding in codings:
        try:
            yield sibling_path(path, coding)
        except NameRefusedError as error:
            raise NameRefusedError(f"{path!r}: {error}") from None
