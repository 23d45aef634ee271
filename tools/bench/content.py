"""The files that the servers serve: made afresh from a seed, so that every run serves the same bytes.

It must not know what serves them. Sizes are uniform between 200 and 8192 bytes; bodies are text, no two alike.
"""

from __future__ import annotations

import gzip
import importlib.util
import json
import os
import random
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tools.bench.errors import BenchError

PAGE = "/1000.html"
PAGE_BYTES = 1000
HELLO = "/hello.txt"
HELLO_BODY = b"Hello, world\n"
FILE_BYTES_MIN = 200
FILE_BYTES_MAX = 8192
FILES_PER_DIRECTORY = 100
# Bodies of one size each, for the workloads about size.
BODY_BYTES = (100, 1000, 10_000, 65_536, 100_000, 1_000_000, 10_000_000)
SPACED = "/with space.html"  # the page's bytes, behind a target with %20
FOLDER = "/folder"  # a directory, whose target has no slash at its end
# A site as browsers see one, and the bytes of its files; of what is text there are a .br and a .gz, too.
SITE = "/site"
SITE_BYTES = {
    "index.html": 12_000, "about.html": 1000, "article.html": 40_000, "main.css": 90_000, "print.css": 3000,
    "app.js": 300_000, "vendor.js": 180_000, "chunk.js": 25_000, "menu.js": 6000, "logo.svg": 2000, "icons.svg": 60_000,
    "text.woff2": 24_000, "title.woff2": 70_000, "small.webp": 30_000, "photo.webp": 120_000, "hero.webp": 200_000,
    "state.json": 1000, "list.json": 45_000, "search.json": 150_000, "manifest.json": 2000,
}  # fmt: skip
SITE_TEXT = (".html", ".css", ".js", ".svg", ".json")
AGE_S = 3600
SUFFIXES = (".html", ".css", ".js", ".json", ".svg")
DEMO_SITE = Path(__file__).parents[2] / "www"
# What a tree says about itself, hidden so that no server serves it.
MARKER = ".bench-tree.json"


@dataclass(frozen=True)
class Tree:
    """`paths` are request targets beneath `root`; `content_bytes` is the sum of their sizes."""

    root: Path
    paths: tuple[str, ...]
    content_bytes: int


def file_paths(files: int, prefix: str = "") -> Iterator[str]:
    """Request targets `PREFIX/d0000/f000042.html`, a hundred to a directory."""
    for number in range(files):
        directory = number // FILES_PER_DIRECTORY
        yield f"{prefix}/d{directory:04}/f{number:06}{SUFFIXES[number % len(SUFFIXES)]}"


def make_files(
    root: Path, files: int, prefix: str = "", seed: int = 1, sizes: tuple[int, int] = (FILE_BYTES_MIN, FILE_BYTES_MAX)
) -> Tree:
    """Write `files` files beneath `root`, of `sizes` from and to; the same arguments give the same bytes."""
    rng = random.Random(seed)
    letters = rng.choices("abcdefghijklmnopqrstuvwxyz     \n", k=16 * FILE_BYTES_MAX)
    pool = "".join(letters).encode()
    paths = tuple(file_paths(files, prefix))
    total = 0
    for number, path in enumerate(paths):
        target = root / path[1:]
        if number % FILES_PER_DIRECTORY == 0:
            target.parent.mkdir(parents=True, exist_ok=True)
        size = rng.randint(*sizes)
        start = rng.randrange(len(pool) - size)
        target.write_bytes((b"%d\n" % number + pool[start : start + size])[:size])
        total += size
    return Tree(root, paths, total)


def make_page(root: Path) -> None:
    """The page of the seed benchmark: the demo site's own, or where there is none, one of the same length."""
    source = DEMO_SITE / PAGE[1:]
    if source.is_file():
        body = source.read_bytes()
    else:
        body = b"<!doctype html><title>1000 bytes</title><p>".ljust(PAGE_BYTES - 1, b".") + b"\n"
    (root / PAGE[1:]).write_bytes(body)


def make_hello(root: Path) -> None:
    """What the programs of other servers say, as a file."""
    (root / HELLO[1:]).write_bytes(HELLO_BODY)


def make_names(root: Path) -> None:
    """The page once more, below names that need a space, or a slash at their end."""
    page = (root / PAGE[1:]).read_bytes()
    (root / SPACED[1:]).write_bytes(page)
    (root / FOLDER[1:]).mkdir()
    (root / FOLDER[1:] / "index.html").write_bytes(page)


def site_lacks() -> str:
    """What is missing for the site, and how to install it; empty when nothing is."""
    return "" if importlib.util.find_spec("brotli") else "brotli not installed (pip install brotli)"


def make_site(root: Path, seed: int = 1) -> None:
    """Write the site's files, text about as compressible as that of sites. Raises BenchError without brotli."""
    if lack := site_lacks():
        raise BenchError(lack)
    import brotli

    rng = random.Random(seed)
    words = ["".join(rng.choices("abcdefghijklmnopqrstuvwxyz", k=rng.randint(2, 12))) for _ in range(1500)]
    text = " ".join(rng.choices(words, k=max(SITE_BYTES.values()))).encode()
    folder = root / SITE[1:]
    folder.mkdir()
    for name, size in SITE_BYTES.items():
        path = folder / name
        start = rng.randrange(len(text) - size)
        body = text[start : start + size] if path.suffix in SITE_TEXT else rng.randbytes(size)
        path.write_bytes(body)
        if path.suffix in SITE_TEXT:
            Path(f"{path}.br").write_bytes(brotli.compress(body, quality=5))
            Path(f"{path}.gz").write_bytes(gzip.compress(body, compresslevel=6, mtime=0))


def make_old(root: Path) -> None:
    """Date all files an hour back: only then is their date a strong validator (RFC 9110 8.8.2.2)."""
    then = time.time() - AGE_S
    for path in root.rglob("*"):
        os.utime(path, (then, then))


def body_path(size: int) -> str:
    """The request target of the body of `size` bytes, one of BODY_BYTES."""
    return f"/bodies/{size}.bin"


def make_bodies(root: Path, seed: int = 1) -> None:
    """Write a body of each size; the same seed gives the same bytes."""
    pool = random.Random(seed).randbytes(max(BODY_BYTES))
    for size in BODY_BYTES:
        path = root / body_path(size)[1:]
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(pool[:size])


def keep_tree(root: Path, files: int, sizes: tuple[int, int] = (FILE_BYTES_MIN, FILE_BYTES_MAX)) -> Tree:
    """The tree of `make_files` at `root`, reused when it is there already.

    Raises BenchError when `root` holds anything else: the benchmark never writes among foreign files.
    """
    marker = root / MARKER
    if marker.is_file():
        kept = json.loads(marker.read_text())
        if kept["files"] != files:
            raise BenchError(f"{root} holds {kept['files']} files, not {files}: name another --tree")
        return Tree(root, tuple(file_paths(files)), kept["content_bytes"])
    if root.exists() and (not root.is_dir() or any(root.iterdir())):
        raise BenchError(f"{root} is not a benchmark tree: name a new or empty directory for --tree")
    tree = make_files(root, files, sizes=sizes)
    root.mkdir(parents=True, exist_ok=True)
    marker.write_text(json.dumps({"files": files, "content_bytes": tree.content_bytes}))
    return tree
