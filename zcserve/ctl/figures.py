"""An answer's object -> text for people.

Names say their units (`_bytes`, `_s`, `_total`, `_share`), so a table needs to know no verb and no key. What comes from
outside, a path among it, is escaped: it must not speak to the terminal.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from math import inf, isfinite
from typing import Any

_INDENT = "  "
_LABEL_CHARACTERS_MAX = 28
_SCALARS_ON_A_LINE = 8
_QUANTILES = (0.5, 0.9, 0.99)


def table(value: Mapping[str, Any]) -> str:
    """All of an object, a line for each figure."""
    return "".join(f"{line}\n" for line in _lines(value, ""))


def printable(text: str) -> str:
    """With every character escaped that is no letter, mark, digit, sign or plain space."""
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in text)


def count_text(count: float) -> str:
    """1,234,567; of a fraction three digits."""
    if isinstance(count, int) or (isfinite(count) and count == int(count)):
        return f"{int(count):,}"
    return f"{count:,.3g}" if abs(count) < 100 else f"{count:,.0f}"


def size_text(size: float) -> str:
    """Bytes, rounded: "1.5 MiB"."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(size) < 1024:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} TiB"


def span_text(seconds: float) -> str:
    """A time, rounded: "120 us", "1.2 ms", "3.4 s", "5m 3s", "2d 4h"."""
    if seconds == 0:
        return "0 s"
    if seconds < 0.001:
        return f"{seconds * 1e6:.0f} us"
    if seconds < 1:
        return f"{seconds * 1e3:.3g} ms"
    if seconds < 60:
        return f"{seconds:.3g} s"
    whole = int(seconds)
    for unit, smaller, count, part in (("m", "s", 60, 1), ("h", "m", 3600, 60), ("d", "h", 86400, 3600)):
        if whole < count * (60 if unit == "m" else 24) or unit == "d":
            return f"{whole // count}{unit} {whole % count // part}{smaller}"
    raise AssertionError


def share_text(share: float) -> str:
    """0.98 is "98%". Only all of it is 100%."""
    return "100%" if share >= 1 else f"{min(share * 100, 99.99):.2f}%" if share > 0.99 else f"{share * 100:.1f}%"


def is_histogram(value: object) -> bool:
    """Whether it is {"bounds": [...], "counts": [...], ...}."""
    return isinstance(value, Mapping) and {"bounds", "counts"} <= value.keys()


def quantile(histogram: Mapping[str, Any], share: float) -> float | None:
    """What so many of the observations are at most, in seconds: linear within its bucket, as Prometheus'
    `histogram_quantile` has it; inf above the last bound, None of none."""
    counts = buckets_of(histogram)
    wanted = share * sum(counts)
    if not wanted:
        return None
    below, lower = 0.0, 0.0
    for bound, count in zip((*histogram["bounds"], inf), counts, strict=False):
        if below + count >= wanted and count:
            return inf if bound == inf else lower + (bound - lower) * (wanted - below) / count
        below, lower = below + count, bound
    return inf


def buckets_of(histogram: Mapping[str, Any]) -> list[float]:
    """How many are in each bucket alone, the last of which has no bound."""
    counts = list(histogram["counts"])
    total = histogram.get("count", sum(counts))
    if counts and sum(counts) != total and counts[-1] == total:  # each with those below it, as Prometheus has them
        counts = [count - before for count, before in zip(counts, [0, *counts], strict=False)]
    bounds = len(histogram["bounds"])
    return counts if len(counts) > bounds else [*counts, max(total - sum(counts), 0)]


def quantiles_text(histogram: Mapping[str, Any]) -> str:
    """The usual ones: "p50 1.2 ms, p90 3 ms, p99 > 10 s"."""
    found = [(share, quantile(histogram, share)) for share in _QUANTILES]
    if any(at is None for _, at in found):
        return "none yet"
    most = histogram["bounds"][-1] if histogram["bounds"] else 0.0
    return ", ".join(
        f"p{share * 100:g} " + (f"> {span_text(most)}" if at == inf else span_text(at or 0.0)) for share, at in found
    )


def _lines(value: Mapping[str, Any], indent: str) -> Iterator[str]:
    labels = _labels(value)
    simple = {key: item for key, item in value.items() if not _is_nested(item)}
    width = min(max((len(labels[key]) for key in simple), default=0), _LABEL_CHARACTERS_MAX)
    for key, item in value.items():
        if key in simple:
            yield f"{indent}{labels[key]:{width}}{_INDENT}{_text(key, item)}"
        elif isinstance(item, Mapping):
            yield f"{indent}{labels[key]}"
            yield from _lines(item, indent + _INDENT)
        elif isinstance(item[0], Mapping):
            yield f"{indent}{labels[key]}"
            if any(isinstance(one, Mapping) and _is_nested(one) for row in item for one in row.values()):
                for row in item:
                    yield from _lines(row, indent + _INDENT)
            else:
                yield from (indent + _INDENT + line for line in columns(item))
        else:
            yield f"{indent}{labels[key]}"
            yield from (f"{indent}{_INDENT}{_text(key, one)}" for one in item)


def columns(rows: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Objects as lines with their keys above them. Numbers stand to the right."""
    keys = list(dict.fromkeys(key for row in rows for key in row))
    cells = [[_text(key, row.get(key)) for key in keys] for row in rows]
    heads = list(_labels(keys).values())
    widths = [max(map(len, column)) for column in zip(heads, *cells, strict=True)]
    numbers = [all(isinstance(row.get(key), int | float) for row in rows) for key in keys]
    for line in (heads, *cells):
        yield _INDENT.join(
            f"{cell:>{width}}" if is_number else f"{cell:{width}}"
            for cell, width, is_number in zip(line, widths, numbers, strict=True)
        ).rstrip()


def _is_nested(item: object) -> bool:
    if isinstance(item, Mapping):
        return bool(item) and not is_histogram(item)
    if isinstance(item, list) and item:
        is_long = len(item) > _SCALARS_ON_A_LINE or any(isinstance(one, str) for one in item)
        return any(isinstance(one, Mapping) for one in item) or is_long
    return False


def _labels(keys: Iterable[str]) -> dict[str, str]:
    """What each is called: without its unit, unless two would be called alike."""
    short = {key: _without_unit(key) for key in keys}
    called = list(short.values())
    return {key: printable((text if called.count(text) == 1 else key).replace("_", " ")) for key, text in short.items()}


def _without_unit(key: str) -> str:
    for unit in ("_total", "_bytes", "_s"):
        key = key.removesuffix(unit)
    return key.removeprefix("is_")


def _text(key: str, value: Any) -> str:
    if value is None or value in ([], {}, ""):
        return "-"
    match value:
        case bool():
            return "yes" if value else "no"
        case str():
            return printable(value)
        case int() | float():
            return _number(key, value)
        case list():
            return ", ".join(_text(key, one) for one in value)
        case _ if is_histogram(value):
            return f"{quantiles_text(value)} of {count_text(sum(buckets_of(value)))}"
        case _:
            return printable(str(value))


def _number(key: str, value: float) -> str:
    stem = key.removesuffix("_total")
    if stem in ("time", "since") or stem.endswith("_time"):
        from time import localtime, strftime  # late: few answers hold one

        return strftime("%Y-%m-%d %H:%M:%S", localtime(value))
    if stem.endswith("bytes"):
        return size_text(value)
    if stem.endswith("_s"):
        return span_text(value)
    if stem.endswith(("share", "ratio")):
        return share_text(value)
    if stem in ("pid", "code", "version", "port", "lane"):
        return str(value)
    return count_text(value)
