"""The findings in words: a text for people, JSON for programs, and the bar while there are none yet."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

from tools.warm.comparing import AskedClass, Compared
from tools.warm.loading import Loaded, LoadedClass
from zcserve.config.units import size_text


def _printable(text: str) -> str:
    """A name as it is, or escaped where it would play with the terminal."""
    return text if text.isprintable() else ascii(text)


def _cell(name: str, value: Any) -> str:
    if name == "seconds":
        return f"{value:.3f}"
    if name.endswith("bytes"):
        return size_text(value)
    return str(value) if isinstance(value, str) else f"{value:,}"


def table(rows: Iterable[LoadedClass] | Iterable[AskedClass]) -> str:
    """The rows under their fields' names, with their sum below."""
    dicts = [asdict(row) for row in rows]
    if not dicts:
        return "nothing to serve"
    sums: Counter[str] = Counter()
    for row in dicts:
        sums.update({name: value for name, value in row.items() if name != "name"})
    names = list(dicts[0])
    heads = ["class", *(name.replace("_", " ") for name in names[1:])]
    lines = [heads, *([_cell(name, row[name]) for name in names] for row in [*dicts, {"name": "all", **sums}])]
    widths = [max(len(line[at]) for line in lines) for at in range(len(names))]
    return "\n".join("  ".join([line[0].ljust(widths[0]), *map(str.rjust, line[1:], widths[1:])]) for line in lines)


def _listing(title: str, lines: list[str], shown: int) -> list[str]:
    """A title with its number and at most `shown` lines; nothing where there are none."""
    if not lines:
        return []
    more = [f"  and {len(lines) - shown} more"] if len(lines) > shown else []
    return [f"{title}: {len(lines)}", *(f"  {line}" for line in lines[:shown]), *more]


def _shared_listings(report: Loaded | Compared, shown: int) -> list[str]:
    served = [f"{_printable(problem.path)}: {problem.why}" for problem in report.not_served]
    return [
        *_listing("not served as it lies there", served, shown),
        *_listing("listed, but not there", [_printable(line) for line in report.unknown], shown),
    ]


def _name(path: str, coding: str) -> str:
    return f"{path} ({coding})" if coding else path


def text_of(report: Loaded | Compared, shown: int) -> str:
    """The report for people; of each kind of trouble at most `shown` are named."""
    return "\n".join(_loaded_lines(report, shown) if isinstance(report, Loaded) else _compared_lines(report, shown))


def _loaded_lines(report: Loaded, shown: int) -> list[str]:
    left_out = [f"{_name(one.path, one.coding)}: {size_text(one.bytes)}" for one in report.left_out]
    return [
        f"root {_printable(report.root)}: walked in {report.walk_s:.2f} s, loaded in {report.load_s:.2f} s",
        f"memory {size_text(report.committed)} of {size_text(report.budget)}",
        table(report.classes),
        *_listing("would not fit", left_out, shown),
        *_shared_listings(report, shown),
    ]


def _compared_lines(report: Compared, shown: int) -> list[str]:
    faults = [f"{_name(one.path, one.coding)}: {one.why}" for one in report.faults]
    asked = sum(row.requests for row in report.classes)
    return [
        f"{report.url} against {_printable(report.root)}: {asked} requests in {report.seconds:.2f} s",
        table(report.classes),
        *_listing("different", faults, shown),
        *([f"not asked, since the server stopped answering: {report.not_asked}"] if report.not_asked else []),
        *_shared_listings(report, shown),
        "all right" if report.right else f"{len(faults)} of {asked} answers differ from the tree",
    ]


def json_of(report: Loaded | Compared) -> str:
    """The report for programs: its fields by name, all that is named in it, and `right`."""
    return json.dumps({"right": report.right, **asdict(report)}, indent=2)
