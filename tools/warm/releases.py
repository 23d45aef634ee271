"""What the subcommands of releases share: a manifest of a file or of a directory, and how what came up is told."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING

from tools.warm.making_told import ForPeople
from zcserve.config.site_names import DEFAULT_NAME
from zcserve.errors import UsageError, reason_of
from zcserve.fleet.manifest import Manifest, ManifestError

if TYPE_CHECKING:
    from zcserve.config.table import Config
    from zcserve.fleet.making import Made


def add_configuration(parser: argparse.ArgumentParser) -> None:
    """The arguments by which a directory is looked at as a server of it would."""
    parser.add_argument("--config", metavar="FILE", help="the server's TOML file: types, tags, priorities")
    parser.add_argument("--site", metavar="NAME", default=DEFAULT_NAME, help="the site, also of that file's tables")


def configured(root: str | Path, arguments: argparse.Namespace) -> Config:
    """The configuration of a server of `root`. Raises UsageError."""
    from zcserve.config.sources import load  # late: where a manifest is a file, no directory is looked at
    from zcserve.fleet.making import config_of

    return config_of(load({"root": str(root)}, os.environ, arguments.config), arguments.site)


def add_leave_out(parser: argparse.ArgumentParser) -> None:
    """The argument by which something may lack in what is made of a directory."""
    parser.add_argument(
        "--leave-out", action="store_true", help="leave out what cannot be in a release, which is refused otherwise"
    )


def made_of(
    root: str | Path,
    arguments: argparse.Namespace,
    sequence: int = 1,
    *,
    encodings: bool = False,
    leave_out: bool,
    told: ForPeople | None = None,
) -> Made:
    """What is made of a directory; what comes up is told. Raises UsageError and ManifestError."""
    from zcserve.fleet.making import LeftOutError, make_manifest  # late: as in `configured`

    told = told or ForPeople()
    config = configured(root, arguments)
    try:
        with told.reading(str(root)) as progress:
            made = make_manifest(
                config, arguments.site, sequence, encodings=encodings, leave_out=leave_out, progress=progress
            )
    except LeftOutError as error:
        told.left_out(error.left_out)
        raise ManifestError(f"{error}; --leave-out makes it of the rest") from None
    told.doubts(made.doubts)
    told.left_out(made.left_out)
    told.encodings(made.written)
    return made


def manifest_at(path: Path, arguments: argparse.Namespace, *, leave_out: bool) -> Manifest:
    """The manifest in a file, or of a directory. Raises UsageError and ManifestError."""
    return made_of(path, arguments, leave_out=leave_out).manifest if path.is_dir() else read_manifest(path)


def read_manifest(path: Path) -> Manifest:
    """The manifest in a file. Raises UsageError and ManifestError."""
    try:
        return Manifest.read(path)
    except ManifestError as error:
        raise ManifestError(f"{path}: {error}") from None
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {reason_of(error)}") from None
