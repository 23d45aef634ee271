"""What a complete release holds, as the manifest beside its folder says: without judging that manifest again.

A release's folder is called by its tree, which is the digest of the files of its manifest in canonical form
(manifest.py). Those were judged when the release came. So what has that digest is what was judged, and anything else is
not: to read it takes half the time of `Manifest.parse`, which a node would spend at each release for the one
before.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import cached_property
from hashlib import sha256

from zcserve import collector
from zcserve.fleet.folders import Listed
from zcserve.fleet.manifest import Manifest
from zcserve.fleet.names import file_of, sibling_path

# Between these two the canonical form has its files.
_BEFORE, _BEHIND = b'{"files":', b',"format":'


class KeptListing:
    """The files of a manifest in canonical form."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._files = data[len(_BEFORE) : data.rfind(_BEHIND)]

    @cached_property
    def tree(self) -> str:
        """What the files come to. Where it is no tree that is known, they are not to be asked for."""
        return sha256(self._files).hexdigest()

    def to_bytes(self) -> bytes:
        """All of it, as it lay there."""
        return self._data

    def fetches(self) -> Iterator[tuple[str, int, str]]:
        """As `Manifest.fetches`. Only for a `tree` that is known: nothing else is looked at."""
        with collector.paused():  # many objects, and no circle among them
            files = json.loads(self._files)
        for path, file in files.items():
            yield file_of(path), file["size"], file["sha256"]
            for coding, encoding in file["encodings"].items():
                yield file_of(sibling_path(path, coding)), encoding["size"], encoding["sha256"]


def read_kept(data: bytes) -> Listed:
    """What a manifest lists that lies beside a folder; its `tree` is to be compared with the folder's name before its
    files are asked for. In another form than the canonical one it is judged anew: raises ManifestError."""
    if data.startswith(_BEFORE) and data.rfind(_BEHIND) > 0:
        return KeptListing(data)
    return Manifest.parse(data)
