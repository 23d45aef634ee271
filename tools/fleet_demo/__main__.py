"""Command line of the demo.

Exit codes: 0 all scenes are ok; 1 one has failed; 2 wrong use, or something is missing; 130 interrupted.
"""

from __future__ import annotations

import argparse
import shutil
import signal
import sys
import tempfile
from pathlib import Path
from types import FrameType

from tools.fleet_demo import playing
from tools.fleet_demo.processes import StageError
from tools.fleet_demo.scenes.programme import SCENES
from tools.fleet_demo.stage import SHORT, Stage, Waits

NEEDED = ("cryptography", "nats", "urllib3")


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(prog="python -m tools.fleet_demo", description="A fleet on one machine, in scenes.")
    names = [scene.name for scene in SCENES]
    made.add_argument("--only", action="append", choices=names, metavar="SCENE", help=f"of {', '.join(names)}")
    made.add_argument("--bus", choices=("nats", "http"), default="nats", help="what carries commands (default nats)")
    made.add_argument(
        "--svg", metavar="FILE", type=Path, help="write a timeline there, and beside it a record in words (.txt)"
    )
    made.add_argument("--short", action="store_true", help="what is away is away for 5 seconds")
    made.add_argument("--keep", action="store_true", help="leave the folder with its logs")
    return made


def main(words: list[str]) -> int:
    """Play, and tell."""
    arguments = parser().parse_args(words)
    missing = [name for name in NEEDED if not has(name)]
    if missing:
        print(f"fleet_demo: {', '.join(missing)} is missing: pip install 'zcserve[fleet]'", file=sys.stderr)
        return 2

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, interrupt)
    folder = Path(tempfile.mkdtemp(prefix="fleet-demo-"))
    try:
        return run(arguments, folder)
    except StageError as error:
        print(f"fleet_demo: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("fleet_demo: interrupted", file=sys.stderr)
        return 130
    finally:
        if arguments.keep:
            print(f"fleet_demo: {folder} is left")
        else:
            shutil.rmtree(folder, ignore_errors=True)


def has(module: str) -> bool:
    """Whether a module of the extra is installed."""
    from importlib.util import find_spec

    return find_spec(module) is not None


def run(arguments: argparse.Namespace, folder: Path) -> int:
    """The exit code. Raises StageError, where the stage does not stand."""
    stage = Stage(folder, arguments.bus, SHORT if arguments.short else Waits())
    chosen = [scene for scene in SCENES if not arguments.only or scene.name in arguments.only]
    outcomes, lines = [], []

    def tell(line: str) -> None:
        lines.append(line)
        print(line, flush=True)

    try:
        stage.start()
        for scene in chosen:
            if scene.needs not in ("", arguments.bus):
                tell(f"left out {scene.name}: it is of --bus {scene.needs}")
                continue
            outcomes.append(playing.play(stage, scene))
            tell(playing.line_of(outcomes[-1]))
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)  # all ends first
        stage.end()
    tell(playing.summary_of(stage, outcomes))
    if arguments.svg:
        playing.write(stage, outcomes, lines, arguments.svg)
    return 1 if any(outcome.faults for outcome in outcomes) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
