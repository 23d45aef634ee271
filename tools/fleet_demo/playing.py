"""Scenes are played one after the other; what each has come to."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from tools.fleet_demo.processes import StageError
from tools.fleet_demo.stage import Stage
from tools.fleet_demo.timeline import Row, svg


class Scene(NamedTuple):
    """A name for --only, and what plays it.

    needs     the bus without which it makes no sense; "": none
    programs  what it starts beside those of the stage
    """

    name: str
    play: Callable[[Stage], str]
    needs: str = ""
    programs: tuple[str, ...] = ()

    def is_of(self, bus: str) -> bool:
        """Whether it can be played with this bus."""
        return self.needs in ("", bus)


class Outcome(NamedTuple):
    """faults: what failed, in words; none: nothing."""

    scene: str
    told: str
    faults: list[str]
    began: float
    ended: float

    @property
    def took_s(self) -> float:
        """Seconds."""
        return self.ended - self.began

    def row(self) -> Row:
        """Its band of the timeline."""
        return Row(self.scene, self.faults[0] if self.faults else self.told, not self.faults, self.began, self.ended)


FAULTS_SHOWN = 5


def play(stage: Stage, scene: Scene) -> Outcome:
    """One scene under the load; what the judge finds meanwhile is its fault."""
    record, court = stage.record, stage.court
    before, began = len(court.faults), record.now()
    record.add(scene.name, "note", (scene.play.__doc__ or "").strip())
    told, faults = "", []
    try:
        told = scene.play(stage)
    except StageError as error:
        faults.append(str(error))
    except Exception as error:
        traceback.print_exc()
        faults.append(f"{type(error).__name__}: {error}")
    court.apart.clear()
    for fault in faults:
        record.add(scene.name, "fault", fault)
    faults += court.faults[before:]
    folder = f"{stage.folder}/"
    return Outcome(
        scene.name, told.replace(folder, ""), [one.replace(folder, "") for one in faults], began, record.now()
    )


def line_of(outcome: Outcome) -> str:
    """A line a scene, and what failed below it."""
    if not outcome.faults:
        return f"ok      {outcome.scene:<12} {outcome.took_s:6.1f} s  {outcome.told}"
    lines = [f"FAILED  {outcome.scene:<12} {outcome.took_s:6.1f} s  {outcome.faults[0]}"]
    lines += [f"        {fault}" for fault in outcome.faults[1:FAULTS_SHOWN]]
    if len(outcome.faults) > FAULTS_SHOWN:
        lines.append(f"        and {len(outcome.faults) - FAULTS_SHOWN} more")
    return "\n".join(lines)


def summary_of(stage: Stage, outcomes: Sequence[Outcome]) -> str:
    """The last lines."""
    failed = [one.scene for one in outcomes if one.faults]
    counts, judge = stage.court.counts, stage.judge
    text = f"{len(outcomes) - len(failed)} of {len(outcomes)} scenes are ok"
    text += f"; FAILED: {', '.join(failed)}" if failed else ""
    text += f". {judge.judged:,} answers judged ({counts['front']:,} by HAProxy), {len(stage.court.faults)} faults"
    text += f", {judge.absent:,} not found where the node had no part in that build"
    text += f"; {counts['broken']:,} of them a page named"
    return text


def write(stage: Stage, outcomes: Sequence[Outcome], lines: Sequence[str], file: Path) -> None:
    """The timeline as SVG, and beside it the record in words."""
    lanes = [*stage.nodes, *(["nats"] if stage.bus == "nats" else [])]
    title = f"A fleet on one machine: {len(stage.nodes)} nodes, {len(outcomes)} scenes over {stage.bus.upper()}"
    file.write_text(svg([outcome.row() for outcome in outcomes], stage.record.events, lanes, title))
    notes = [f"{event.at:8.2f} s  {event.lane:<10} {event.text}" for event in stage.record.events]
    text = "\n".join([*lines, "", *notes]) + "\n"
    file.with_suffix(".txt").write_text(text.replace(f"{stage.folder}/", ""))
