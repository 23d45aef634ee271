"""What builds hold. Each file says its path and the build that it is of, so that no two contents are the same.

A build has a page that names its assets, pages that change now and then, a page of many bytes, assets whose names have
the hash of what they hold, and one asset that never changes. A build with `bulk` has as many pages more.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

PAGES = 24
PAGE_CHANGES_EVERY = 3  # builds
LARGE_BYTES = 300_000
INDEX = "/index.html"
BULK_BYTES = 10_000
BULK_FOLDER = "/bulk/"


class Shape(NamedTuple):
    """What a build holds beside its own few files.

    bulk     pages of BULK_BYTES
    changed  how many of these are new in this build; the others are of the build `base`
    """

    bulk: int = 0
    changed: int = 0
    base: int = 0


def digest_of(content: bytes) -> str:
    """What the judge compares."""
    return hashlib.sha256(content).hexdigest()


def text_of(path: str, build: int, size: int = 600) -> bytes:
    """A file's content: a line that says what it is, again and again."""
    line = f"{path} is of build {build}\n".encode()
    return (line * (size // len(line) + 1))[: max(size, len(line))]


def asset(name: str, ending: str, build: int) -> tuple[str, bytes]:
    """An asset whose name has its hash: its path and content."""
    content = text_of(f"{name}.{ending}", build, 2000)
    return f"/assets/{name}.{digest_of(content)[:10]}.{ending}", content


def files_of(build: int, shape: Shape) -> Iterator[tuple[str, bytes]]:
    """Paths and contents."""
    assets = dict((asset("app", "js", build), asset("style", "css", build), asset("base", "js", 0)))
    yield from assets.items()
    named = "".join(f"asset {path}\n" for path in assets).encode()
    yield INDEX, text_of(INDEX, build) + b"\n" + named
    yield "/large.html", text_of("/large.html", build, LARGE_BYTES)
    for number in range(PAGES):
        changed = max(0, build - (build - number) % PAGE_CHANGES_EVERY)
        yield f"/pages/{number}.html", text_of(f"/pages/{number}.html", changed)
    for number in range(shape.bulk):
        path = f"{BULK_FOLDER}{number:05}.html"
        yield path, text_of(path, build if number < shape.changed else shape.base, BULK_BYTES)


def assets_named(page: bytes) -> list[str]:
    """The assets that the page names."""
    return [line[6:].decode() for line in page.splitlines() if line.startswith(b"asset /")]


def write(root: Path, build: int, shape: Shape) -> dict[str, str]:
    """Write a build below `root`; the digests of its files, by path."""
    digests = {}
    made: set[str] = set()
    for path, content in files_of(build, shape):
        file = f"{root}{path}"
        folder = os.path.dirname(file)
        if folder not in made:
            os.makedirs(folder, exist_ok=True)
            made.add(folder)
        with open(file, "wb") as out:
            out.write(content)
        digests[path] = digest_of(content)
    return digests
