"""What a complete release holds, as the manifest beside its folder says: without judging that manifest again.

A release's folder is called by its tree, which is the digest of the files of its manifest in canonical form
(manifest.py). Those were judged when the release came. So what has that digest is what was judged, and anything else is
not: to read it takes half the time of `Manifest.parse`, which a node would spend at each release for the one
before. And what came to this process, or was read by it, it knows (`Listings`).
"""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Iterator
from functools import cached_property
from hashlib import sha256

from zcserve import collector
from zcserve.fleet.folders import Listed
from zcserve.fleet.manifest import Manifest
from zcserve.fleet.names import file_of, sibling_path

# As many as are searched for what did not change (fetching.py), and the one that came.
REMEMBERED_MAX = 3
# Of one that is remembered, in bytes: some 17,000 files. Three of them take 25 MB.
REMEMBERED_BYTES_MAX = 4 << 20
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


class Listings:
    """What the manifests list that came last, or were read last: they are not read again. For one thread at a time.

    Of 10,000 files each takes 5 MB.
    """

    def __init__(self) -> None:
        self._known: OrderedDict[bytes, _Known] = OrderedDict()

    def came(self, manifest: Manifest) -> None:
        """It was judged, and its release is complete."""
        data = manifest.to_bytes()
        if len(data) <= REMEMBERED_BYTES_MAX:
            self._remember(sha256(data).digest(), _Known(data, manifest.tree, tuple(manifest.fetches())))

    def read(self, data: bytes) -> Listed:
        """As `read_kept`. Raises ManifestError."""
        if len(data) > REMEMBERED_BYTES_MAX:
            return read_kept(data)
        digest = sha256(data).digest()
        known = self._known.get(digest) or _Known.of(read_kept(data))
        self._remember(digest, known)
        return known

    def _remember(self, digest: bytes, known: _Known) -> None:
        self._known[digest] = known
        self._known.move_to_end(digest)
        while len(self._known) > REMEMBERED_MAX:
            self._known.popitem(last=False)


class _Known:
    """A `Listed`, whose files are read once, when they are asked for."""

    def __init__(self, data: bytes, tree: str, files: tuple[tuple[str, int, str], ...] | None = None) -> None:
        self._data, self.tree, self._files = data, tree, files

    @classmethod
    def of(cls, listed: Listed) -> _Known:
        return cls(listed.to_bytes(), listed.tree)

    def to_bytes(self) -> bytes:
        return self._data

    def fetches(self) -> Iterator[tuple[str, int, str]]:
        if self._files is None:
            self._files = tuple(read_kept(self._data).fetches())
        return iter(self._files)


def read_kept(data: bytes) -> Listed:
    """What a manifest lists that lies beside a folder; its `tree` is to be compared with the folder's name before its
    files are asked for. In another form than the canonical one it is judged anew: raises ManifestError."""
    if data.startswith(_BEFORE) and data.rfind(_BEHIND) > 0:
        return KeptListing(data)
    return Manifest.parse(data)
