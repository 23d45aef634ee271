"""Make a key that signs manifests: FILE is private, FILE.pub is for the nodes.

FILE can be read by its owner alone, and has no passphrase. Neither file is written over.

Exit codes: 0 it is made; 2 a file is there already, or cannot be written; 130 interrupted.
"""

from __future__ import annotations

import argparse
import json

from tools.warm.arguments import EXIT_RIGHT
from zcserve.fleet.signing import PUBLIC_ENDING, make_key


def add(parser: argparse.ArgumentParser) -> None:
    """The arguments."""
    parser.add_argument("file", metavar="FILE", help="where the private key goes")
    parser.add_argument("--json", action="store_true", help="report as JSON")


def run(arguments: argparse.Namespace) -> int:
    """Make it, and say its id."""
    key, public = make_key(arguments.file), f"{arguments.file}{PUBLIC_ENDING}"
    made = {"key": key, "private": arguments.file, "public": public}
    print(json.dumps(made) if arguments.json else f"key {key}: keep {arguments.file}, give {public} to the nodes")
    return EXIT_RIGHT
