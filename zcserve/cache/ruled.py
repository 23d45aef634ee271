"""A root with its rules: those that are configured, and those that its own files `_headers` and `_redirects` hold.

These two are read and not served. They are watched like content, and a change of one makes the next generation.
"""

from __future__ import annotations

import os

from zcserve.cache.root import Root
from zcserve.errors import UsageError, reason_of
from zcserve.rules.book import Rulebook
from zcserve.rules.bounds import FILES
from zcserve.rules.lines import FILE_BYTES_MAX


def open_root(path: str | os.PathLike[str], book: Rulebook, site: int = 0) -> Root:
    """The root of a site as it is now, with its rules. Raises UsageError."""
    root = Root(path, site=site)
    root.rules = book.rules(*_files_of(root))
    return root


def changed_files(root: Root, book: Rulebook) -> list[bytes]:
    """The names of the files of rules that hold something else than they did when `book` read them last."""
    try:
        now = _files_of(root)
    except UsageError:
        return list(FILES)  # the next generation tells
    return [name for name, content, before in zip(FILES, now, book.files, strict=True) if content != before]


def _files_of(root: Root) -> list[bytes | None]:
    """What the files of rules hold. Raises UsageError where one is there and cannot be read: it may hide something."""
    return [_content(root, name) for name in FILES]


def _content(root: Root, name: bytes) -> bytes | None:
    try:
        fd, _ = root.open_file(name)
        with open(fd, "rb") as file:
            return file.read(FILE_BYTES_MAX + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise UsageError(f"{name.decode()} of the root cannot be read: {reason_of(error)}") from None
