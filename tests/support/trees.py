"""What the tests of `cache/` stand on: a directory of real files, and a look at the memory and descriptors they cost.

Nothing here is mocked: files lie on a disk, memory in memfds, and both are asked of the kernel.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
import random
import resource
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from zcserve.cache.entry import Body, DiskSpan, Entry, Span, identity_of
from zcserve.cache.index import Generation
from zcserve.cache.loader import Loader
from zcserve.cache.root import Root
from zcserve.cache.store import Store
from zcserve.cache.walk import walk
from zcserve.config.table import Config
from zcserve.rules.book import Rulebook
from zcserve.rules.compiled import NO_RULES

NOBODY = 65534
PR_SET_DUMPABLE = 4


class Tree:
    """A directory to be served, and loaders for it. Its walks go by the `rules` of the last loader's settings."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rules = NO_RULES
        self._stores: list[Store] = []

    def plant(self, files: dict[str, bytes]) -> None:
        """Write files by their path below the root; directories are made as needed."""
        for name, content in files.items():
            path = self.path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)

    def walk(self, *index: str, now: float | None = None, last: Generation | None = None) -> Generation:
        """What a walk finds; `index` defaults to index.html."""
        return walk(
            Root(self.path, self.rules), index=index or ("index.html",), now=now, known=() if last is None else (last,)
        )

    def entry(self, key: bytes) -> tuple[Root, Entry]:
        """The root, and the entry that a walk finds for `key` now."""
        generation = self.walk()
        return generation.root, entry_of(generation, key)

    def loader(self, **settings: Any) -> Loader:
        """A loader with a store of its own, under a Config of these settings. Most siblings here are stand-ins."""
        config = Config(root=self.path, **{"trust_siblings": True} | settings)
        self.rules = Rulebook(config).rules()
        store = Store(config.memory, slab_bytes=config.slab_bytes, small_body_bytes_max=config.small_body_bytes_max)
        self._stores.append(store)
        return Loader(store, config)

    def close(self) -> None:
        for store in self._stores:
            store.close()


def entry_of(generation: Generation, key: bytes) -> Entry:
    resource = generation.resources[key]
    assert isinstance(resource, Entry)
    return resource


def noise(size: int, seed: int = 0) -> bytes:
    """`size` bytes that are the same for the same seed, and do not compress."""
    return random.Random(seed).randbytes(size)


def prose(size: int, word: bytes = b"memory ") -> bytes:
    """`size` bytes that compress well."""
    return (word * (size // len(word) + 1))[:size]


def content_of(body: Body) -> bytes:
    """All of a body's content, from wherever it lies."""
    part = body.part(0, body.size)
    if isinstance(part, Span):
        return os.pread(part.fd, part.length, part.offset)
    if isinstance(part, DiskSpan):
        return os.pread(part.file.fd, part.length, part.offset)
    return bytes(part)


def field(head: bytes | memoryview, name: bytes) -> bytes | None:
    """The value of a head's field, or None."""
    for line in bytes(head).split(b"\r\n"):
        if line.startswith(name + b": "):
            return line[len(name) + 2 :]
    return None


def rewrite(path: Path, content: bytes) -> None:
    """Write a file in place; its identity is another afterwards, however coarse the kernel's clock is."""
    before = identity_of(path.stat())
    path.write_bytes(content)
    for _ in range(1_000_000):
        if identity_of(path.stat()) != before:
            return
        path.write_bytes(content)
    raise AssertionError("the clock stands still")


def rewrite_unseen(path: Path, content: bytes) -> None:
    """Write a file in place, and put its mtime back, to the nanosecond: ctime alone tells of it."""
    status = path.stat()
    for _ in range(1_000_000):
        path.write_bytes(content)
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
        if identity_of(path.stat()) != identity_of(status):
            return
    raise AssertionError("the clock stands still")


def renew_ctime(path: Path) -> None:
    """Set a file's mode to what it is: its ctime is another afterwards, and nothing else."""
    status = path.stat()
    for _ in range(1_000_000):
        path.chmod(status.st_mode)
        if identity_of(path.stat()) != identity_of(status):
            return
    raise AssertionError("the clock stands still")


def publish(path: Path, content: bytes) -> None:
    """Replace a file by rename."""
    aside = path.with_name(path.name + ".new")
    aside.write_bytes(content)
    aside.rename(path)


def descriptors(below: Path | None = None) -> int:
    """How many descriptors of files, directories and memfds this process has open, or only of those below a
    directory: others may belong to other tests of the same worker, and come and go."""
    gc.collect()
    count = 0
    for fd in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):  # the listing's own
            count += os.readlink(f"/proc/self/fd/{fd}").startswith(str(below or "/"))
    return count


def memfds(name: str) -> dict[int, tuple[list[int], int]]:
    """By inode, each memfd of this name: our descriptors of it, and its bytes of memory as the kernel counts them."""
    found: dict[int, tuple[list[int], int]] = {}
    for number in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):  # the listing's own descriptor
            if os.readlink(f"/proc/self/fd/{number}").startswith(f"/memfd:{name} "):
                status = os.fstat(int(number))
                found.setdefault(status.st_ino, ([], status.st_blocks * 512))[0].append(int(number))
    return found


def memfd_meter(name: str) -> Callable[[], int]:
    """A function that tells the bytes in memfds of this name that were made since."""
    gc.collect()
    before = set(memfds(name))
    return lambda: sum(size for inode, (_, size) in memfds(name).items() if inode not in before)


@contextlib.contextmanager
def no_descriptors_left() -> Iterator[None]:
    """Each attempt to open a descriptor meets EMFILE."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest_free = os.open(os.devnull, os.O_RDONLY)
    os.close(lowest_free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest_free, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@contextlib.contextmanager
def as_nobody() -> Iterator[None]:
    """Without root's privilege to read everything; another user stays as it is."""
    if os.geteuid() != 0:
        yield
        return
    try:
        os.seteuid(NOBODY)
    except OSError:
        pytest.skip("root cannot become nobody here")
    try:
        yield
    finally:
        os.seteuid(0)


@contextlib.contextmanager
def public_directory() -> Iterator[Path]:
    """A directory that any user can come to, which those of pytest are not."""
    with tempfile.TemporaryDirectory(prefix="zcserve-root-", ignore_cleanup_errors=True) as name:
        path = Path(name)
        path.chmod(0o755)
        yield path


@contextlib.contextmanager
def as_its_owner(root: Path) -> Iterator[None]:
    """The process is a user without privilege, whom the root belongs to. After it has imported what it needs."""
    if os.geteuid() != 0:
        yield
        return
    for path in (root, *root.rglob("*")):
        os.chown(path, NOBODY, NOBODY)
    os.seteuid(NOBODY)
    ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, 1)  # else /proc/self is root's
    try:
        yield
    finally:
        os.seteuid(0)
        ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, 1)


def keys(generation: Generation) -> set[bytes]:
    """Where files are, without directories and redirects."""
    return {entry.key for entry in generation.entries()}


def problems(generation: Generation) -> dict[str, str]:
    """Why, by the path that each problem is of."""
    assert len({problem.path for problem in generation.problems}) == len(generation.problems)
    return {problem.path: problem.why for problem in generation.problems}


def codings(entry: Entry) -> list[bytes]:
    """Of its variants, in order."""
    return [variant.encoding for variant in entry.variants]


def date(tree: Tree, **seconds: int) -> None:
    """Set mtimes; names with dots as keyword arguments spell them with underscores."""
    for name, mtime in seconds.items():
        os.utime(tree.path / name.replace("_", "."), (0, mtime))
