"""A manifest in canonical form, taken apart in one pass, by a pattern that is of nothing else.

All that writes manifests writes the canonical form (manifest.py), so nearly all that is read is in it. There each file
is one match, and what is matched is written as the canonical form writes it: so the digest of the files is that of the
bytes that lie there, and nothing has to be written anew for it. That takes a quarter of the time of the general way.

What does not match is None here, whatever is wrong with it: the general way reads it, or says why not.
"""

from __future__ import annotations

import json
import re
from json.encoder import encode_basestring_ascii as quoted
from typing import NamedTuple, TypeAlias

_BEGINS = b'{"files":{'

_CODING = r'"(br|gzip|zstd)":'
_ETAG = r'"etag":"(?:\\"([0-9a-f]{32})\\")?+"'
_SHA256 = r'"sha256":"([0-9a-f]{64})"'
_SIZE = r'"size":(0|[1-9][0-9]{0,15}+)'
_TEXT = r'"[^"\\]*+(?:\\.[^"\\]*+)*+"'

_encoding = re.compile(rf"{_CODING}\{{{_ETAG},{_SHA256},{_SIZE}\}}(,|$)")
_file = re.compile(
    rf'"(/[!#-\[\]-~]*+)":\{{"encodings":\{{((?:"[a-z]+":\{{[^{{}}]*+\}},?+)*+)\}},{_ETAG},'
    rf'"priority":(0|-?[1-9][0-9]{{0,2}}+),{_SHA256},{_SIZE},"tags":\[((?:{_TEXT},?+)*+)\],"type":({_TEXT})\}}([,}}])'
)

# coding, hex digits of the ETag (None: it has none), SHA-256, size
Coded: TypeAlias = "tuple[str, str | None, str, int]"


# path; encodings (the text between the braces, for `encodings_in`); hex digits of the ETag (None: it has none);
# priority; SHA-256; size; tags (the text between the brackets) and type (with its quotes), both for `texts_in`; what
# ends the file. A plain tuple: of 10,000 files others take 10 ms longer.
ScannedFile: TypeAlias = "tuple[str, str, str | None, str, str, str, str, str, str]"


class Scanned(NamedTuple):
    """A manifest, taken apart.

    text   of the member "files", in canonical form as far as `encodings_in` and `texts_in` are right, too
    files  in their order, each path once
    rest   an object of all other members
    """

    text: bytes
    files: list[ScannedFile]
    rest: bytes


def scan(data: bytes) -> Scanned | None:
    """A manifest, if its files are in canonical form, and there is one at least; None else."""
    if not data.startswith(_BEGINS) or not data.isascii():
        return None
    text = data.decode("ascii")
    match = _file.scanner(text, len(_BEGINS)).match  # type: ignore[attr-defined]  # typeshed lacks it
    files: list[ScannedFile] = []
    last, end, ends = "", 0, ","
    while found := match():
        file = found.groups()
        if ends != "," or file[0] <= last:
            return None
        files.append(file)
        last, ends, end = file[0], file[-1], found.end()
    if ends != "}" or data[end : end + 1] != b",":
        return None
    return Scanned(data[len(_BEGINS) - 1 : end], files, b"{" + data[end + 1 :])


def encodings_in(text: str) -> list[Coded] | None:
    """The encodings of a file, in order, each once; None where they are not in canonical form."""
    found: list[Coded] = []
    at, comma = 0, ","
    for match in _encoding.finditer(text):
        coding, etag, digest, size, comma = match.groups()
        if match.start() != at or (found and found[-1][0] >= coding):
            return None
        found.append((coding, etag, digest, int(size)))
        at = match.end()
    return found if at == len(text) and (not text or not comma) else None


def texts_in(text: str) -> list[str] | None:
    """Texts that are separated by commas; None where they are not in canonical form."""
    try:
        found: list[str] = json.loads(f"[{text}]")
    except ValueError:
        return None
    return found if ",".join(map(quoted, found)) == text else None
