"""Names that hold a hash of the file's content: such a file never changes under its name.

A wrong yes is kept by browsers for a year, a wrong no costs a question: so what is in doubt is none. That are digits
alone (dates, versions), letters alone (words), words with a number behind (`Figure12`), UUIDs (names of things, which
change), ids of databases (24 digits), and pages, which people come back to. What the tools write:

    webpack, MkDocs, Parcel, Next, Django    main.8e0d62a0.js, bundle.d6c3d61c.min.js, main-0a1b2c3d4e5f6789.js
    esbuild, Angular                         app-5T2XKZQH.js: base 32
    Vite, Rollup, Astro, SvelteKit           index-BVqDs1Xt.js: base 64

Of 8 random characters in base 64 or 32 three of ten look like a word and are not taken: where all of a folder is
hashed, a rule for the folder says so for sure.
"""

from __future__ import annotations

import re
from itertools import pairwise

# What lies between separators and looks like a hash in hexadecimal digits.
_HEX = re.compile(r"(?=[0-9a-f]*[a-f])(?=[a-f]*[0-9])[0-9a-f]{8,64}")
_HEX_ALONE_LENGTHS = (16, 20, 32, 40, 64)  # webpack, Next: the name has nothing else
# The eight characters before the extensions: of several tools none writes another length by itself.
_BEFORE_EXTENSIONS = re.compile(r".+[-.]([A-Za-z0-9_-]{8})(?:\.[A-Za-z][A-Za-z0-9]{0,9}){1,3}")
_BASE32 = re.compile(r"[A-Z2-7]{8}")
_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
_PAGES = (".html", ".htm", ".xhtml")
_BASE32_CHANGES_MIN, _BASE64_CHANGES_MIN = 2, 4  # between kinds of characters; words have fewer


def is_hashed(name: str) -> bool:
    """Whether a file's name (its last segment) holds a hash of its content."""
    if name.lower().endswith(_PAGES) or _UUID.search(name):
        return False
    stem, *more = re.split(r"[-._~]", name)
    if _HEX.fullmatch(stem) and len(stem) in _HEX_ALONE_LENGTHS:
        return True
    if any(map(_HEX.fullmatch, more[:-1])):  # the last is the extension
        return True
    found = _BEFORE_EXTENSIONS.fullmatch(name)
    if found is None:
        return False
    changes = _changes(found[1])
    if _BASE32.fullmatch(found[1]):
        return changes >= _BASE32_CHANGES_MIN
    return changes >= _BASE64_CHANGES_MIN


def _changes(text: str) -> int:
    """How often upper case, lower case and digits follow one another; signs are passed over."""
    kinds = ["A" if one.isupper() else "a" if one.islower() else "0" for one in text if one not in "-_"]
    return sum(one != other for one, other in pairwise(kinds))
