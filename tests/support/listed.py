"""Releases for tests of the fleet: files on disk, and what a manifest says of them, without the manifest."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.parse import unquote_to_bytes


class Listing:
    """Names, contents or sizes and digests: as much of a manifest as a fetch needs. `sequence` makes two of one tree
    differ."""

    def __init__(self, files: Mapping[str, tuple[int, str]], sequence: int = 1) -> None:
        self.files = dict(files)
        self.sequence = sequence
        listed = json.dumps(sorted(self.files.items())).encode()
        self.tree = hashlib.sha256(listed).hexdigest()

    @classmethod
    def of(cls, contents: Mapping[str, bytes], sequence: int = 1) -> Listing:
        digests = {_on_disk(name): (len(what), hashlib.sha256(what).hexdigest()) for name, what in contents.items()}
        return cls(digests, sequence)

    @classmethod
    def parse(cls, data: bytes) -> Listing:
        read = json.loads(data)
        return cls({name: (size, sha256) for name, (size, sha256) in read["files"].items()}, read["sequence"])

    def to_bytes(self) -> bytes:
        return json.dumps({"files": self.files, "sequence": self.sequence}).encode()

    def fetches(self) -> Iterator[tuple[str, int, str]]:
        for name, (size, sha256) in self.files.items():
            yield name, size, sha256


def write_files(root: Path, contents: Mapping[str, bytes]) -> None:
    """Files of these names, percent-encoded, below a directory."""
    for name, what in contents.items():
        path = root / _on_disk(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(what)


def read_files(root: Path) -> dict[str, bytes]:
    """What lies below a directory, by names as they are on disk."""
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def on_disk(contents: Mapping[str, bytes]) -> dict[str, bytes]:
    """Contents by names as `read_files` has them."""
    return {_on_disk(name): what for name, what in contents.items()}


def _on_disk(name: str) -> str:
    return unquote_to_bytes(name.removeprefix("/")).decode(errors="surrogateescape")
