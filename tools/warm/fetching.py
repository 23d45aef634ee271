"""Fetch a release: its files from a source into a folder of releases, complete or not at all.

URL is a directory, http(s)://HOST/PATH, s3://BUCKET/PREFIX[?endpoint=URL&region=R] or nats://HOST:PORT/BUCKET. What did
not change since the last release is linked. A run that failed or was interrupted goes on where it was when the same
command is given again.

--json prints an object a line: begin, waiting, kept, shared, received (a path), retry (a path, why, and in how many
seconds), bytes (once a second), and last complete or failed (with why, by path).

Exit codes: 0 the release is complete; 1 it is not, or the manifest is refused; 2 wrong use; 130 interrupted.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, TypeVar

from tools.warm.arguments import EXIT_RIGHT, EXIT_WRONG, number
from tools.warm.making_told import tell
from tools.warm.progress import shown
from tools.warm.releases import read_manifest
from zcserve.config.units import counted, parse_duration, parse_size, size_text
from zcserve.errors import UsageError
from zcserve.fleet.fetching import PARALLEL, PARALLEL_MAX, Fetch, Fetched, FetchError, Progress
from zcserve.fleet.folders import FolderError, Folders
from zcserve.fleet.manifest import Manifest, ManifestError
from zcserve.fleet.pacing import TokenBucket
from zcserve.fleet.receiving import Pace
from zcserve.fleet.signing import Keyring
from zcserve.fleet.sources.choosing import source_of

# How often a program is told of bytes that have come.
TOLD_EVERY_S = 1.0
# Files that failed, of which people are told.
SHOWN = 20
KEEP_MAX = 10_000

T = TypeVar("T")


def add(parser: argparse.ArgumentParser) -> None:
    """The arguments."""
    parser.add_argument("manifest", metavar="release.json", help="the manifest")
    parser.add_argument("--from", metavar="URL", dest="source", required=True, help="where its files come from")
    parser.add_argument("--to", metavar="RELEASES", required=True, help="the directory of release folders")
    parser.add_argument(
        "--keys", metavar="DIR", action="append", default=[], help="public keys: NAME.pub in DIR, or files (repeatable)"
    )
    parser.add_argument("--rate", metavar="SIZE", type=_typed(_rate), help="at most so many bytes a second, of all")
    parser.add_argument(
        "--parallel",
        metavar="N",
        type=number(1, PARALLEL_MAX),
        default=PARALLEL,
        help=f"files at a time, up to {PARALLEL_MAX} (default {PARALLEL})",
    )
    parser.add_argument(
        "--keep", metavar="N", type=number(0, KEEP_MAX), help="then remove all but the last N other releases"
    )
    parser.add_argument(
        "--keep-for", metavar="TIME", type=_typed(parse_duration), help="and of these what was last used before that"
    )
    parser.add_argument("--json", action="store_true", help="tell what happens as JSON, an object a line")


def _rate(text: str) -> int:
    rate = parse_size(text)
    if not rate:
        raise UsageError("a rate of 0 never ends")
    return rate


def _typed(parse: Callable[[str], T]) -> Callable[[str], T]:
    def typed(text: str) -> T:
        try:
            return parse(text)
        except UsageError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return typed


def run(arguments: argparse.Namespace) -> int:
    """Fetch, and say what came of it."""
    if arguments.keep_for is not None and arguments.keep is None:
        raise UsageError("--keep-for has no effect without --keep")
    ring = Keyring.read(arguments.keys) if arguments.keys else None
    manifest = read_manifest(Path(arguments.manifest))
    try:
        if ring is not None:
            ring.verify(manifest)
    except ManifestError as error:
        raise ManifestError(f"{arguments.manifest}: {error}") from None
    folders = Folders(arguments.to)
    pace = Pace(rate=TokenBucket(arguments.rate) if arguments.rate else None)
    with closing(source_of(arguments.source, parallel=arguments.parallel)) as source:
        try:
            with _told(arguments.json, source.name) as on_progress:
                done = Fetch(
                    manifest, source, folders, pace=pace, parallel=arguments.parallel, on_progress=on_progress
                ).run()
        except (FetchError, FolderError) as error:
            _tell_failure(error, arguments.json)
            return EXIT_WRONG
        gone = _collect(folders, manifest, arguments)
        if arguments.json:
            _print("complete", **_of(done, gone), folder=folders.path_of(manifest.tree))
        else:
            print(text_of(done, gone, folders.path_of(manifest.tree), source.name))
    return EXIT_RIGHT


def _collect(folders: Folders, manifest: Manifest, arguments: argparse.Namespace) -> list[str]:
    if arguments.keep is None:
        return []
    age_s = arguments.keep_for if arguments.keep_for is not None else float("inf")
    return folders.collect(arguments.keep, age_s, never={manifest.tree})


def text_of(done: Fetched, gone: list[str], folder: str, source: str) -> str:
    """The report for people."""
    came = size_text(done.moved)
    shared = "".join(f", {counted(count, 'file')} {how}" for how, count in done.shared.items())
    removed = f"; {counted(len(gone), 'old release')} removed" if gone else ""
    whole = f"{counted(done.files, 'file')}, {size_text(done.size)}"
    return f"{folder}: {whole}; {came} came from {source}{shared}{removed}; {done.seconds:.1f} s"


def _of(done: Fetched, gone: list[str]) -> dict[str, Any]:
    return {
        "tree": done.release.tree,
        "files": done.files,
        "size": done.size,
        "moved": done.moved,
        "shared": done.shared,
        "removed": gone,
        "seconds": round(done.seconds, 3),
    }


def _tell_failure(error: FetchError | FolderError, as_json: bool) -> None:
    failures = error.failures if isinstance(error, FetchError) else {}
    if as_json:
        _print("failed", error=str(error), failures=failures)
        return
    lines = [f"{path}: {why}" for path, why in list(failures.items())[:SHOWN]]
    tell(lines or [str(error)])
    tell(["the release is not complete; the same command goes on where this one was"])


@contextmanager
def _told(as_json: bool, source: str) -> Iterator[Callable[[Progress], object]]:
    """What a fetch tells its progress."""
    if as_json:
        yield _Lines(source)
        return
    with shown("fetching", of_bytes=True) as progress:

        def show(now: Progress) -> None:
            if now.kind == "retry":
                tell([f"{now.path}: {now.reason}; asked again in {now.wait_s:.1f} s"])
            progress(now.bytes_done, now.size)

        yield show


class _Lines:
    """Prints what happens, an object a line."""

    def __init__(self, source: str) -> None:
        self._source = source
        self._next_s = 0.0

    def __call__(self, now: Progress) -> None:
        if now.kind == "complete":
            return  # `run` says more of it
        if now.kind == "bytes":
            if time.monotonic() < self._next_s:
                return
            self._next_s = time.monotonic() + TOLD_EVERY_S
        about: dict[str, Any] = {"path": now.path} if now.path else {}
        if now.kind == "begin":
            about["from"] = self._source
        if now.reason:
            about["reason"] = now.reason
        if now.kind == "retry":
            about["wait_s"] = round(now.wait_s, 3)
        counts = {name: getattr(now, name) for name in ("files", "size", "files_done", "bytes_done", "moved")}
        _print(now.kind, **about, **counts)


def _print(event: str, **fields: Any) -> None:
    print(json.dumps({"event": event, **fields}), flush=True)
