"""Manifests that tests make by hand: a file of given bytes, as a manifest says it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from zcserve.cache.tags import tag_of
from zcserve.fleet.manifest import Encoding, File, Manifest


def encoding_of(content: bytes) -> Encoding:
    """A sibling of these bytes."""
    return Encoding(len(content), hashlib.sha256(content).hexdigest(), tag_of(content).decode())


def file_of(
    content: bytes,
    *,
    content_type: str = "text/html; charset=utf-8",
    encodings: Mapping[str, bytes] | None = None,
    tags: tuple[str, ...] = (),
    priority: int = 0,
) -> File:
    """A file of these bytes, with siblings of others."""
    coded = {coding: encoding_of(one) for coding, one in (encodings or {}).items()}
    return File(*encoding_of(content), content_type, coded, tags, priority)


def release_of(contents: Mapping[str, bytes], *, site: str = "www", sequence: int = 1) -> Manifest:
    """An unsigned release of files by path."""
    return Manifest.of(site, sequence, {path: file_of(content) for path, content in contents.items()})


def with_tree(members: dict[str, Any]) -> bytes:
    """A manifest of these members with the tree that its files have, whatever they are."""
    files = json.dumps(members["files"], sort_keys=True, separators=(",", ":")).encode()
    return json.dumps({**members, "tree": hashlib.sha256(files).hexdigest()}).encode()
