"""A run as a picture: time goes down, a band for each scene, a lane for each node, a colour for each build.

Scenes last from a second to two minutes, so a band is as high as the root of its time, and says how long it took. In a
lane stands what a node has reported as live; beside it, narrow, what it has prepared. A gap: its server was down. A
dashed line: its agent was cut off, or had no room. A cross: the judge has found a fault.

It is read in light and in dark: colours are of middle lightness, and all else follows the reader's scheme.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterable, Sequence
from typing import NamedTuple
from xml.sax.saxutils import escape

from tools.fleet_demo.record import Event

# In pixels.
WIDTH, MARGIN, HEAD, LANE, GAP = 980, 16, 70, 62, 26
TEXT_AT, LANES_AT, ROW_MIN, ROW_PER_ROOT_S = 16, 650, 46, 9
LINE_CHARACTERS, LINES_MAX, LINE_HEIGHT = 100, 3, 14
COLOURS = ("#4c78a8", "#c77d22", "#3d9a63", "#b3525e", "#7a63b0", "#3f97a3", "#96872a", "#b05c96")
_LEGEND = (
    "Time goes down. Colours and numbers are builds; narrow: prepared.",
    "Gap: server down. Dashed: agent cut off, or without room. Cross: fault.",
)
_STYLE = """\
text { font: 12px system-ui, sans-serif; fill: #1f2328; }
.name { font-weight: 600; font-size: 13px; } .small { font-size: 11px; fill: #59636e; } .in { fill: #fff; }
.band { fill: #f3f5f7; } .line { stroke: #d1d9e0; } .down { fill: none; stroke: #59636e; stroke-dasharray: 2 3; }
.cut { stroke: #cf222e; stroke-width: 2; stroke-dasharray: 5 3; } .fault { stroke: #cf222e; stroke-width: 2.5; }
.failed { fill: #cf222e; } .ok { fill: #1a7f37; }
@media (prefers-color-scheme: dark) {
text { fill: #e6edf3; } .small { fill: #9198a1; } .band { fill: #1b212a; } .line { stroke: #3d444d; }
.down { stroke: #9198a1; } .cut, .fault { stroke: #ff7b72; } .failed { fill: #ff7b72; } .ok { fill: #56d364; }
.page { fill: #0d1117; } }
"""


class Row(NamedTuple):
    """A scene: its name, what came of it, and when, in seconds since the run began."""

    name: str
    text: str
    is_ok: bool
    began: float
    ended: float


class Span(NamedTuple):
    """Something that lasts in a lane. kind: live, prepared, down, cut."""

    kind: str
    began: float
    ended: float
    build: int | None = None


_ENDS = {"up": "down", "restored": "cut"}


def spans_of(events: Iterable[Event], lane: str, end: float) -> list[Span]:
    """What lasts in a lane, in the order in which it ends."""
    begun: dict[str, Event] = {}
    spans: list[Span] = []

    def ends(kind: str, at: float) -> None:
        event = begun.pop(kind, None)
        if event is not None and at > event.at:
            spans.append(Span(kind, event.at, at, event.build))

    for event in events:
        if event.lane != lane:
            continue
        if event.kind in ("live", "prepared", "down", "cut"):
            ends(event.kind, event.at)
            begun[event.kind] = event
        if event.kind == "live" and "prepared" in begun:
            ends("prepared", event.at)
        if event.kind in _ENDS:
            ends(_ENDS[event.kind], event.at)
        if event.kind == "let go":
            ends("prepared", event.at)
    for kind in list(begun):
        ends(kind, end)
    return spans


class Scale:
    """From seconds to pixels: each row by itself is even."""

    def __init__(self, rows: Sequence[Row]) -> None:
        self._rows = rows
        self.tops = [float(HEAD)]
        for row in rows:
            height = max(ROW_MIN, 20 + LINE_HEIGHT * len(lines_of(row.text)), ROW_PER_ROOT_S * _root_of(row))
            self.tops.append(self.tops[-1] + height)

    def at(self, when: float) -> float:
        """Where a time is; one before the first row, or after the last one, at its edge."""
        for row, top, below in zip(self._rows, self.tops, self.tops[1:], strict=False):
            if when < row.ended:
                share = (when - row.began) / max(row.ended - row.began, 1e-9)
                return top + max(0.0, share) * (below - top)
        return self.tops[-1]


def _root_of(row: Row) -> float:
    return math.sqrt(max(0.0, row.ended - row.began))


def lines_of(text: str) -> list[str]:
    """A text as it stands in a band."""
    lines = textwrap.wrap(text, LINE_CHARACTERS) or [""]
    return lines[:LINES_MAX] if len(lines) <= LINES_MAX else [*lines[: LINES_MAX - 1], lines[LINES_MAX - 1] + " ..."]


def colour_of(build: int | None) -> str:
    """Of a build."""
    return COLOURS[((build or 1) - 1) % len(COLOURS)]


def svg(rows: Sequence[Row], events: Sequence[Event], lanes: Sequence[str], title: str) -> str:
    """The picture. Events of one lane come in the order of their times."""
    scale = Scale(rows)
    height = scale.tops[-1] + MARGIN
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:.0f}" role="img">',
        f"<title>{escape(title)}</title><style>{_STYLE}</style>",
        f'<rect class="page" width="{WIDTH}" height="{height:.0f}" fill="#fff"/>',
        f'<text class="name" x="{TEXT_AT}" y="24">{escape(title)}</text>',
        f'<text class="small" x="{TEXT_AT}" y="42">{_LEGEND[0]}</text>',
        f'<text class="small" x="{TEXT_AT}" y="57">{_LEGEND[1]}</text>',
    ]
    for number, lane in enumerate(lanes):
        x = LANES_AT + number * (LANE + GAP)
        parts.append(f'<text class="name" x="{x + LANE / 2:.0f}" y="{HEAD - 8}" text-anchor="middle">{lane}</text>')
    for number, row in enumerate(rows):
        parts += _band(row, scale.tops[number], scale.tops[number + 1], number % 2 == 0)
    end = rows[-1].ended if rows else 0.0
    for number, lane in enumerate(lanes):
        x = LANES_AT + number * (LANE + GAP)
        for span in sorted(spans_of(events, lane, end), key=lambda span: span.kind == "down"):
            parts += _drawn(span, x, scale)
        faults = [event for event in events if event.kind == "fault" and event.lane == lane]
        parts += [_cross(x + LANE / 2, scale.at(fault.at)) for fault in faults]
    return "\n".join([*parts, "</svg>"]) + "\n"


def _band(row: Row, top: float, below: float, is_filled: bool) -> list[str]:
    parts = []
    if is_filled:
        parts.append(f'<rect class="band" x="0" y="{top:.1f}" width="{WIDTH}" height="{below - top:.1f}"/>')
    state, word = ("ok", "ok") if row.is_ok else ("failed", "FAILED")
    took = f"{row.ended - row.began:.1f} s"
    parts.append(f'<line class="line" x1="0" x2="{WIDTH}" y1="{top:.1f}" y2="{top:.1f}"/>')
    parts.append(
        f'<text class="name" x="{TEXT_AT}" y="{top + 17:.1f}">{escape(row.name)} <tspan class="small">{took}</tspan> '
        f'<tspan class="{state}">{word}</tspan></text>'
    )
    for number, line in enumerate(lines_of(row.text)):
        y = top + 17 + LINE_HEIGHT * (number + 1)
        parts.append(f'<text class="small" x="{TEXT_AT}" y="{y:.1f}">{escape(line)}</text>')
    return parts


def _drawn(span: Span, x: float, scale: Scale) -> list[str]:
    top, below = scale.at(span.began), scale.at(span.ended)
    height = max(1.5, below - top)
    match span.kind:
        case "live":
            parts = [_bar(x, top, LANE, height, colour_of(span.build))]
            if height > 14:
                parts.append(
                    f'<text class="in" x="{x + LANE / 2:.0f}" y="{top + 12:.1f}" '
                    f'text-anchor="middle">{span.build}</text>'
                )
            return parts
        case "prepared":
            return [_bar(x + LANE + 2, top, 8, height, colour_of(span.build))]
        case "down":
            return [
                f'<rect class="page" x="{x}" y="{top:.1f}" width="{LANE}" height="{height:.1f}" fill="#fff"/>',
                f'<rect class="down" x="{x}" y="{top:.1f}" width="{LANE}" height="{height:.1f}"/>',
            ]
    return [f'<line class="cut" x1="{x - 6}" x2="{x - 6}" y1="{top:.1f}" y2="{top + height:.1f}"/>']


def _bar(x: float, top: float, width: float, height: float, colour: str) -> str:
    return f'<rect x="{x}" y="{top:.1f}" width="{width}" height="{height:.1f}" fill="{colour}"/>'


def _cross(x: float, y: float) -> str:
    return f'<path class="fault" d="M{x - 6:.1f} {y - 6:.1f} l12 12 m0 -12 l-12 12"/>'
