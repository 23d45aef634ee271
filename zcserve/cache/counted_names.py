"""Which names of a root count, and for what: endings of siblings, what is hidden, how deep a walk goes.

It imports nothing. What reads a manifest asks the same of names, and is not to wait for what walks a root (naming.py
and walk.py have the rest).
"""

from __future__ import annotations

# A file's variants lie beside it under these endings, the one that is preferred first. _walk.pyx has them by naming.py.
SIBLING_CODINGS = {b".br": b"br", b".zst": b"zstd", b".gz": b"gzip"}
SIBLING_ENDINGS = tuple(SIBLING_CODINGS)
# Directories below directories; a bound for symlinks that lead back up by other names. Linux stops at 40 links a path.
DEPTH_MAX = 100


def is_hidden(directory: bytes, name: bytes) -> bool:
    """Whether nothing that has to do with this name in this directory matters."""
    return name.startswith(b".") and (name != b".well-known" or directory != b"")
