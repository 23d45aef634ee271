"""Charts as SVG: lines over a logarithmic x, and bars. Readable on light and dark pages, and without colour.

It must not know what the numbers mean. A chart brings its own background: the colours follow the reader's scheme
(prefers-color-scheme), which need not be that of the page around it. Lines differ in marker and dash as well as in
colour. Text is laid out by an estimated width, so it is kept short.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape

WIDTH = 960
MARGIN = 24
GAP = 36
PANEL_WIDTH = (WIDTH - 2 * MARGIN - GAP) // 2
PLOT_HEIGHT = 200
# Above the plot stands the panel's title, below it numbers and the axis's name, left of it numbers.
ABOVE, BELOW, LEFT = 30, 46, 46
CHARACTER_WIDTH, TITLE_CHARACTER_WIDTH = 6.6, 7.8  # of 12 px and of 13 px bold sans-serif, on the wide side
TITLE_LINE = 17
BAR, BAR_PITCH, BAR_NAMES, BAR_VALUES = 16, 24, 104, 64


@dataclass(frozen=True)
class Line:
    """A name of `STYLES` (or another, drawn grey) and its points."""

    name: str
    points: tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class Panel:
    """One plot. `title` says what y is, with its unit. x is logarithmic, y is where `log` says so."""

    title: str
    x_label: str
    x_ticks: tuple[tuple[float, str], ...]
    lines: tuple[Line, ...]
    log: bool = False


@dataclass(frozen=True)
class Bars:
    """One group of bars from zero: (name of STYLES, value); `title` says what they are, with their unit."""

    title: str
    bars: tuple[tuple[str, float], ...]


@dataclass(frozen=True)
class Style:
    """Colours on light and on dark ground, the line's dashes, its marker as a path around 0,0, its width."""

    light: str
    dark: str
    dash: str
    marker: str
    width: float = 2


_CIRCLE = "M-4 0a4 4 0 1 0 8 0a4 4 0 1 0 -8 0z"
_SQUARE = "M-3.5 -3.5h7v7h-7z"
_DIAMOND = "M0 -5l5 5l-5 5l-5 -5z"
_UP = "M0 -5l4.6 8h-9.2z"
_DOWN = "M0 5l4.6 -8h-9.2z"
_CROSS = "M-4 -4l8 8M-4 4l8 -8"
STYLES = {
    "zcserve": Style("#0b5fd9", "#6cb0ff", "", _CIRCLE, 3),
    "zcserve-python": Style("#0b5fd9", "#6cb0ff", "6 4", _CIRCLE),
    "zcserve-log": Style("#0b5fd9", "#6cb0ff", "2 3", _CIRCLE),
    "nginx": Style("#00785a", "#3fcf9f", "", _SQUARE),
    "h2o": Style("#c2410c", "#ff9a5c", "", _UP),
    "lighttpd": Style("#8a3ffc", "#c69bff", "", _DIAMOND),
    "caddy": Style("#8f6a00", "#e6c04a", "", _DOWN),
    "floor": Style("#6a737d", "#a0a8b2", "3 3", _CROSS),
}
OTHER = "other"
STYLES[OTHER] = Style("#6a737d", "#a0a8b2", "", _SQUARE)

CSS = """
svg { font: 12px system-ui, -apple-system, "Segoe UI", "Liberation Sans", sans-serif; }
.page { fill: #ffffff; stroke: #d8dee4; } .hole { fill: #ffffff; } .ink { fill: #1f2328; } .soft { fill: #57606a; }
.grid { stroke: #e4e8ec; } .axis { stroke: #8c959f; } .head { font-size: 18px; font-weight: 600; }
.title { font-size: 13px; font-weight: 600; } .line { fill: none; stroke-linejoin: round; }
.end { text-anchor: end; } .mid { text-anchor: middle; }
"""
DARK_CSS = """
.page { fill: #0d1117; stroke: #30363d; } .hole { fill: #0d1117; } .ink { fill: #e6edf3; } .soft { fill: #9aa4af; }
.grid { stroke: #262c33; } .axis { stroke: #6e7681; }
"""


def _css() -> str:
    def colours(dark: bool) -> str:
        rules = []
        for name, style in STYLES.items():
            colour = style.dark if dark else style.light
            rules.append(f".{name} {{ stroke: {colour}; }} .{name}-fill {{ fill: {colour}; }}")
        return "\n".join(rules)

    return f"{CSS}{colours(False)}\n@media (prefers-color-scheme: dark) {{{DARK_CSS}{colours(True)}\n}}\n"


def _text(x: float, y: float, text: str, kind: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" class="{kind}">{escape(text)}</text>'


def _rule(x1: float, y1: float, x2: float, y2: float, kind: str) -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" class="{kind}"/>'


def short(number: float) -> str:
    """A number for an axis: 0.05, 20, 50k, 3M."""
    for unit, sign in ((1e6, "M"), (1e3, "k")):
        if number >= unit:
            return f"{number / unit:g}{sign}"
    return f"{number:g}"


def linear_ticks(greatest: float) -> list[float]:
    """From zero to the first tick that is not below `greatest`, in about five steps of 1, 2 or 5 times a power."""
    if greatest <= 0:
        return [0.0, 1.0]
    power = 10.0 ** math.floor(math.log10(greatest / 5))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor * 5 >= greatest * (1 - 1e-9))
    return [step * n for n in range(math.ceil(greatest / step - 1e-9) + 1)]


def log_ticks(least: float, greatest: float) -> list[float]:
    """Ticks at 1, 2, 5 times powers of ten - only at the powers where they would be too many - around the range."""
    steps = [10.0**n * factor for n in range(-9, 13) for factor in (1, 2, 5)]
    for chosen in (steps, steps[::3]):
        below = max(tick for tick in chosen if tick <= least * (1 + 1e-9))
        above = min(tick for tick in chosen if tick >= greatest * (1 - 1e-9))
        ticks = [tick for tick in chosen if below <= tick <= above]
        if len(ticks) <= 8:
            break
    return [float(f"{tick:.6g}") for tick in (ticks if len(ticks) > 1 else [*ticks, ticks[0] * 10])]


def _place(value: float, ends: tuple[float, float], span: tuple[float, float], log: bool) -> float:
    """Where `value` of the range `ends` lies in the span of pixels."""
    low, high, here = (math.log10(number) if log else number for number in (*ends, value))
    return span[0] + (span[1] - span[0]) * (here - low) / (high - low)


def _known(name: str) -> str:
    return name if name in STYLES else OTHER


def _marker(name: str, x: float, y: float) -> str:
    """The line's marker, hollow where the line is dashed."""
    name = _known(name)
    style = STYLES[name]
    fill = "line" if style.marker == _CROSS else "hole" if style.dash else f"{name}-fill"
    place = f'd="{style.marker}" transform="translate({x:.1f} {y:.1f})"'
    return f'<path {place} class="{fill} {name}" stroke-width="1.5"/>'


def _curve(name: str, places: Sequence[tuple[float, float]]) -> str:
    name = _known(name)
    style = STYLES[name]
    points = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
    dash = f' stroke-dasharray="{style.dash}"' if style.dash else ""
    return f'<polyline points="{points}" class="line {name}" stroke-width="{style.width}"{dash}/>'


def _panel(panel: Panel, left: float, top: float) -> Iterable[str]:
    x_span = (left + LEFT, left + PANEL_WIDTH - 16)
    y_span = (top + ABOVE + PLOT_HEIGHT, top + ABOVE)
    lines = [Line(line.name, tuple(at for at in line.points if at[1] > 0 or not panel.log)) for line in panel.lines]
    values = [y for line in lines for _, y in line.points] or [1.0]
    ticks = log_ticks(min(values), max(values)) if panel.log else linear_ticks(max(values))
    ends, x_ends = (ticks[0], ticks[-1]), (panel.x_ticks[0][0], panel.x_ticks[-1][0])
    yield _text(left, top + 14, panel.title, "title ink")
    for tick in ticks:
        y = _place(tick, ends, y_span, panel.log)
        yield _rule(x_span[0], y, x_span[1], y, "grid")
        yield _text(x_span[0] - 8, y + 4, short(tick), "soft end")
    yield _rule(x_span[0], y_span[0], x_span[1], y_span[0], "axis")
    for number, label in panel.x_ticks:
        x = _place(number, x_ends, x_span, True)
        yield _rule(x, y_span[0], x, y_span[0] + 4, "axis")
        yield _text(x, y_span[0] + 18, label, "soft mid")
    yield _text((x_span[0] + x_span[1]) / 2, y_span[0] + 37, panel.x_label, "soft mid")
    for line in reversed(lines):  # the first named lies on top
        places = [(_place(x, x_ends, x_span, True), _place(y, ends, y_span, panel.log)) for x, y in line.points]
        yield _curve(line.name, places)
        yield from (_marker(line.name, x, y) for x, y in places)


def _wrapped(words: str, width: float, character_width: float = CHARACTER_WIDTH) -> list[str]:
    """Lines of at most `width` pixels, broken at blanks."""
    lines = [""]
    for word in words.split():
        longer = f"{lines[-1]} {word}".strip()
        if lines[-1] and len(longer) * character_width > width:
            lines.append(word)
        else:
            lines[-1] = longer
    return lines


def _header(title: str, note: str) -> tuple[list[str], float]:
    """Title and note, and the height that they take."""
    parts, y = [_text(MARGIN, MARGIN + 16, title, "head ink")], MARGIN + 38.0
    for line in _wrapped(note, WIDTH - 2 * MARGIN):
        parts.append(_text(MARGIN, y, line, "soft"))
        y += 16
    return parts, y


def _legend(names: Iterable[str], top: float) -> tuple[list[str], float]:
    """Each name once, with its line and marker, and the height below."""
    parts, x, y = [], float(MARGIN), top + 14
    for name in names:
        width = 36 + len(name) * CHARACTER_WIDTH + 22
        if x > MARGIN and x + width > WIDTH - MARGIN:
            x, y = float(MARGIN), y + 20
        parts += [_curve(name, [(x, y), (x + 28, y)]), _marker(name, x + 14, y)]
        parts.append(_text(x + 36, y + 4, name, "ink"))
        x += width
    return parts, y + 22


def _document(title: str, height: float, parts: Iterable[str]) -> str:
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:.0f}" width="{WIDTH}" '
        f'height="{height:.0f}" role="img" aria-label="{escape(title, {chr(34): "&quot;"})}">'
    )
    page = f'<rect x="0.5" y="0.5" width="{WIDTH - 1}" height="{height - 1:.0f}" rx="8" class="page"/>'
    return "\n".join([head, f"<title>{escape(title)}</title>", f"<style>{_css()}</style>", page, *parts, "</svg>", ""])


def lines_chart(title: str, note: str, panels: Sequence[Panel]) -> str:
    """Panels two by two under one legend; `note` is the small print beneath the title."""
    parts, y = _header(title, note)
    names = dict.fromkeys(line.name for panel in panels for line in panel.lines)
    legend, y = _legend(names, y)
    parts += legend
    pitch = ABOVE + PLOT_HEIGHT + BELOW + 10
    for number, panel in enumerate(panels):
        parts += _panel(panel, MARGIN + number % 2 * (PANEL_WIDTH + GAP), y + number // 2 * pitch)
    return _document(title, y + math.ceil(len(panels) / 2) * pitch + MARGIN / 2, parts)


def _title_lines(group: Bars) -> list[str]:
    return _wrapped(group.title, PANEL_WIDTH, TITLE_CHARACTER_WIDTH)


def _bars(group: Bars, left: float, top: float, title_height: float) -> Iterable[str]:
    for number, line in enumerate(_title_lines(group)):
        yield _text(left, top + 14 + number * TITLE_LINE, line, "title ink")
    greatest = max((value for _, value in group.bars), default=0.0) or 1.0
    room = PANEL_WIDTH - BAR_NAMES - BAR_VALUES
    for number, (name, value) in enumerate(group.bars):
        y = top + title_height + number * BAR_PITCH
        width = max(1.0, room * value / greatest)
        yield _text(left + BAR_NAMES - 8, y + 12, name, "ink end")
        bar = f'<rect x="{left + BAR_NAMES:.1f}" y="{y:.1f}" width="{width:.1f}" height="{BAR}" rx="2"'
        faint = ' fill-opacity="0.45"' if STYLES[_known(name)].dash else ""
        yield f'{bar} class="{_known(name)}-fill"{faint}/>'
        yield _text(
            left + BAR_NAMES + width + 6, y + 12, f"{value:,.{2 if value < 10 else 1 if value < 100 else 0}f}", "soft"
        )


def bars_chart(title: str, note: str, groups: Sequence[Bars]) -> str:
    """Groups of bars two by two, each with its own scale from zero."""
    parts, y = _header(title, note)
    y += 10
    for at in range(0, len(groups), 2):
        row = groups[at : at + 2]
        title_height = 10 + TITLE_LINE * max(len(_title_lines(group)) for group in row)
        for place, group in enumerate(row):
            parts += _bars(group, MARGIN + place * (PANEL_WIDTH + GAP), y, title_height)
        y += title_height + max(len(group.bars) for group in row) * BAR_PITCH + 20
    return _document(title, y + MARGIN / 2, parts)
