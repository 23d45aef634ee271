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
from tools.fleet_demo.playing import Scene
from tools.fleet_demo.processes import StageError, missing
from tools.fleet_demo.scenes.programme import SCENES
from tools.fleet_demo.stage import PROGRAMS, SHORT, Stage, Waits

MODULES = ("cryptography", "nats", "urllib3")


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
    lacks = lacks_of(chosen_by(arguments), arguments.bus)
    if lacks:
        print("\n".join(f"fleet_demo: {lack}" for lack in lacks), file=sys.stderr)
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


def chosen_by(arguments: argparse.Namespace) -> list[Scene]:
    """The scenes that the command line names; all, where it names none."""
    return [scene for scene in SCENES if not arguments.only or scene.name in arguments.only]


def lacks_of(scenes: list[Scene], bus: str) -> list[str]:
    """What these scenes need and this machine lacks, each with the command that installs it."""
    played = [scene for scene in scenes if scene.is_of(bus)]
    programs = missing([*PROGRAMS[bus], *(name for scene in played for name in scene.programs)])
    modules = [name for name in MODULES if not has(name)]
    return [
        *(f"no program {name}: apt-get install {name}" for name in programs),
        *(f"no module {name}: pip install 'zcserve[fleet]'" for name in modules),
    ]


def has(module: str) -> bool:
    """Whether a module of the extra is installed."""
    from importlib.util import find_spec

    return find_spec(module) is not None


def run(arguments: argparse.Namespace, folder: Path) -> int:
    """The exit code. Raises StageError, where the stage does not stand."""
    stage = Stage(folder, arguments.bus, SHORT if arguments.short else Waits())
    outcomes, lines = [], []

    def tell(line: str) -> None:
        lines.append(line)
        print(line, flush=True)

    try:
        stage.start()
        for scene in chosen_by(arguments):
            if not scene.is_of(arguments.bus):
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
