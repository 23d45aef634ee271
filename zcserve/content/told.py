"""What became of the content, in words."""

from __future__ import annotations

from collections.abc import Sequence

from zcserve.cache.budget import eaten
from zcserve.cache.index import Problem
from zcserve.cache.preload import Preloaded
from zcserve.cache.store import Store
from zcserve.config.units import counted, size_text
from zcserve.log import Log

_log = Log(__name__)

# Problems named one by one; of more, only the number.
PROBLEMS_NAMED_MAX = 20
# Preloading shows its progress on a terminal when it takes longer than this.
PROGRESS_AFTER_S = 1.0


def loading(done: int, total: int) -> str:
    """How far preloading is, for a terminal."""
    return f"loading   {done} of {counted(total, 'file')} ({100 * done // total}%)"


def tell_problems(problems: Sequence[Problem]) -> None:
    """Name some of them in the log, and count the rest: a checkout can have thousands at once."""
    for problem in problems[:PROBLEMS_NAMED_MAX]:
        _log.warning("%s: %s", problem.path, problem.why)
    if len(problems) > PROBLEMS_NAMED_MAX:
        _log.warning("and %d more", len(problems) - PROBLEMS_NAMED_MAX)


def report_problems(problems: Sequence[Problem]) -> None:
    """Say what is not served, in the log."""
    tell_problems(problems)
    if problems:
        _log.warning("not served as they lie there: %s", counted(len(problems), "file"))


def warn_of_memory(store: Store, report: Preloaded) -> None:
    """Say so where what is known of the files leaves no room for their content."""
    if report.left_out and (why := eaten(store, report.files - report.variants, report.bytes)):
        _log.warning("%s", why)


def resident(report: Preloaded) -> str:
    """What is in memory, in words."""
    files = report.resident_files - report.resident_variants
    variants = f" with {counted(report.resident_variants, 'variant')}" if report.resident_variants else ""
    text = f"{files} resident{variants} ({size_text(report.resident_bytes)})"
    if report.left_out:
        missing = report.variants - report.resident_variants
        text += f", {report.left_out - missing}" + (f" and {counted(missing, 'variant')}" if missing else "")
        text += f" stay on disk until asked for ({size_text(report.bytes - report.resident_bytes)})"
    return text
