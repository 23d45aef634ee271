"""Compare a directory with a manifest: is each file there, with its size and content, and nothing else?

With --keys the manifest must be signed by one of these keys, too. What a server passes over (names that begin with a
dot) is passed over.

Exit codes: 0 it is the release; 1 it is not, or the manifest is refused; 2 wrong use; 130 interrupted.
"""

from __future__ import annotations

import argparse
import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

from tools.warm.arguments import EXIT_RIGHT, EXIT_WRONG
from tools.warm.progress import shown
from tools.warm.releases import read_manifest
from tools.warm.words import printable
from zcserve.cache.naming import path_of
from zcserve.config.table import Config
from zcserve.config.units import counted, size_text
from zcserve.fleet.contents import Contents, Progress
from zcserve.fleet.manifest import Manifest, ManifestError
from zcserve.fleet.signing import Keyring

# Names that people are told.
SHOWN = 20


@dataclass(frozen=True, slots=True)
class Verified:
    """What came of it. Faults are by file, relative to the directory: why it is not what the manifest says."""

    site: str
    sequence: int
    digest: str
    tree: str
    signed_by: tuple[str, ...]
    faults: dict[str, str]

    @property
    def right(self) -> bool:
        """Whether this is the release."""
        return not self.faults


def add(parser: argparse.ArgumentParser) -> None:
    """The arguments."""
    parser.add_argument("root", metavar="ROOT", help="the directory of files")
    parser.add_argument("manifest", metavar="release.json", help="the manifest")
    parser.add_argument(
        "--keys", metavar="DIR", action="append", default=[], help="public keys: NAME.pub in DIR, or files (repeatable)"
    )
    parser.add_argument("--json", action="store_true", help="report as JSON, everything named")


def run(arguments: argparse.Namespace) -> int:
    """Compare, and say what came of it."""
    ring = Keyring.read(arguments.keys) if arguments.keys else None
    manifest = read_manifest(Path(arguments.manifest))
    try:
        signed_by = ring.verify(manifest) if ring is not None else ()
    except ManifestError as error:
        raise ManifestError(f"{arguments.manifest}: {error}") from None
    with shown(f"reading {arguments.root}") as progress:
        faults = faults_of(manifest, Path(arguments.root), progress)
    found = Verified(manifest.site, manifest.sequence, manifest.digest, manifest.tree, signed_by, faults)
    print(json.dumps({"right": found.right, **asdict(found)}, indent=2) if arguments.json else text_of(manifest, found))
    return EXIT_RIGHT if found.right else EXIT_WRONG


def faults_of(manifest: Manifest, root: Path, progress: Progress) -> dict[str, str]:
    """By file of the directory or of the release, what is wrong. Raises UsageError and ManifestError."""
    contents = Contents(Config(root=root))
    there = {os.fsdecode(path_of(entry)): content for entry, content in contents.read(progress).items()}
    faults = {problem.path: problem.why for problem in contents.problems}
    for name, size, digest in manifest.fetches():
        if (content := there.pop(name, None)) is None:
            faults.setdefault(_shown(name), "is not there")
        elif content.size != size:
            faults[_shown(name)] = f"has {content.size} bytes; the manifest says {size}"
        elif content.sha256 != digest:
            faults[_shown(name)] = "has another content"
    faults |= {_shown(name): "is no file of the release" for name in there}
    return dict(sorted(faults.items()))


def _shown(name: str) -> str:
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def text_of(manifest: Manifest, found: Verified) -> str:
    """The report for people."""
    lines = [f"{printable(name)}: {why}" for name, why in list(found.faults.items())[:SHOWN]]
    if len(found.faults) > SHOWN:
        lines.append(f"and {len(found.faults) - SHOWN:,} more")
    files = sum(1 for _ in manifest.fetches())
    signed = f", signed by {', '.join(found.signed_by)}" if found.signed_by else ""
    what = f"{found.site} {found.sequence}, tree {found.tree[:16]}{signed}"
    is_it = f"is {what}" if found.right else f"is not {what}: {counted(len(found.faults), 'file')} differ"
    return "\n".join([*lines, f"{is_it}; {counted(files, 'file')}, {size_text(manifest.size)}"])
