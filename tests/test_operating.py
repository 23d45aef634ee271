"""docs/operating.md keeps its promises: what it has an operator type prints what it says, and each line of the log that
warns, each alert and each setting of the kernel stands in it."""

from __future__ import annotations

import ast
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

import zcserve
from tests.support import typed
from tools.ports import free_port

ROOT = Path(__file__).parents[1]
PACKAGE = Path(zcserve.__file__).parent
PAGE = (ROOT / "docs" / "operating.md").read_text()

# The first hour takes 6 s on a busy machine.
HOUR_WITHIN_S = 60.0

# --- lines of the log -----------------------------------------------------------------------------------------

GRAVE = frozenset(("warning", "error", "exception", "critical"))
# Lines with no words of their own: what stands in the page for them, and where the words come from.
EXCEPTIONS = {
    ("banner", "%s"): ("is of no use", "config/keys.py: what was set and changes nothing"),
    ("check", "%s"): ("is of no use", "the same for --check, and what the budget says"),
    ("server", "%s"): ("the process may be killed without a word", "cache/budget.py: the budget is too much"),
    ("content/told", "%s"): ("memory: the entries of N files take SIZE", "cache/budget.py: no room for content"),
    ("content/builder", "%s%s"): ("FILE:LINE:COLUMN: WHY", "rules/: what is wrong in a root's own files"),
    ("check", "%s%s"): ("FILE:LINE:COLUMN: WHY", "the same for --check, and which rules never match"),
    ("content/told", "%s: %s"): ("FILE: WHY", "a file that is not served, and why"),
    ("cache/fetcher", "%s: %s"): ("FILE: WHY", "a file that cannot be read, in the system's words"),
    ("cache/siblings", "%s: %s"): ("does not decode to its file's bytes", "cache/siblings.py: what was found"),
    ("cache/crew", "%s"): ("no thread can be had for", "threads.py"),
    ("net/shortage", "%s: closed %s to make room, refused %s with 503%s"): (
        "REASON: closed N to make room, refused N with 503",
        "begins with why",
    ),
    ("net/failures", "%s: %s%s"): ("`REQUEST: WHAT`", "an answer that failed"),
    ("net/slow", "slow: %s%s"): ("`slow: REQUEST: answered STATUS after N s", "one short word"),
    ("fleet/nats_link", "%s (%s); it is tried again until it is there"): (
        "`NATS is away: WHY (URL)`",
        "begins with why",
    ),
    ("servlets/context", "%s: %d: %s"): ("NAME: STATUS: REASON", "an HttpError of an application's"),
    ("servlets/wsgi", "%s: %s"): ("`NAME: WORDS` (ERROR)", "what it writes to wsgi.errors"),
}


def _text(node: ast.expr, around: ast.AST) -> str:
    """A message, that may stand in a variable of the same function."""
    if isinstance(node, ast.Name):
        for one in ast.walk(around):
            if isinstance(one, ast.Assign) and getattr(one.targets[0], "id", "") == node.id:
                return _text(one.value, around)
    assert isinstance(node, ast.Constant), f"line {node.lineno}: what the log says is not to be seen from here"
    return str(node.value)


def _lines() -> Iterator[tuple[str, str]]:
    """Each (module, message) that is at least a warning."""
    for file in sorted(PACKAGE.rglob("*.py")):
        if "_log." not in (source := file.read_text()):
            continue
        module = file.relative_to(PACKAGE).with_suffix("").as_posix()
        functions = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.FunctionDef)]
        for function in functions:
            for call in ast.walk(function):
                if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute) and call.func.attr in GRAVE:
                    of = call.func.value
                    if isinstance(of, ast.Name) and of.id == "_log":
                        yield module, _text(call.args[0], function)


@pytest.fixture(scope="module")
def lines() -> list[tuple[str, str]]:
    return sorted(set(_lines()))


# What the page quotes in the first column of its tables, but for commands and alerts.
LOG = PAGE.partition("## The log, line by line")[2].partition("## How much")[0]
QUOTED = [
    quoted
    for row in re.findall(r"^\| (`.*?) \| ", LOG, re.MULTILINE)
    for quoted in re.findall(r"`([^`]+)`", row)
]  # fmt: skip
DIFFERS = re.compile(r"\b[A-Z]+\b|\.\.\.")


def _quotes(quoted: str, message: str) -> bool:
    """Whether this is how the message begins: words in capitals stand for anything."""
    pieces = DIFFERS.split(quoted)
    return len("".join(pieces)) >= 8 and re.match(".+?".join(map(re.escape, pieces)), message) is not None


def _is_told(module: str, message: str) -> bool:
    """Whether a line stands in the page."""
    if (module, message) in EXCEPTIONS:
        return EXCEPTIONS[module, message][0] in PAGE
    unnamed = re.sub(r"^%s(?=[\w-])", "", message)  # a line of a site may begin with its name
    return any(_quotes(quoted, unnamed) for quoted in QUOTED)


def test_each_line_that_warns_stands_in_the_page(lines: list[tuple[str, str]]) -> None:
    assert [line for line in lines if not _is_told(*line)] == []


def _said() -> Iterator[str]:
    """Each text of the package; NUL is where an f-string has a value."""
    for file in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.JoinedStr):
                yield "".join(str(one.value) if isinstance(one, ast.Constant) else "\0" for one in node.values)
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield node.value


def test_what_the_page_quotes_is_what_the_program_says() -> None:
    said = "\n".join(_said())
    # A line may be put together at a comma.
    longest = {quoted: max(re.split(rf"{DIFFERS.pattern}|, ", quoted), key=len).strip(" :;") for quoted in QUOTED}
    assert [quoted for quoted, piece in longest.items() if piece not in said] == []


def test_an_exception_is_a_line_that_there_is(lines: list[tuple[str, str]]) -> None:
    assert EXCEPTIONS.keys() - set(lines) == set()
    assert len(lines) > 60  # else they were looked for in the wrong way


def test_each_alert_and_each_setting_of_the_kernel_stands_in_the_page() -> None:
    alerts = re.findall(r"- alert: (\w+)", (ROOT / "deploy/prometheus/alerts.yml").read_text())
    settings = re.findall(r"^([\w.]+) = ", (ROOT / "deploy/90-zcserve.conf").read_text(), re.MULTILINE)
    assert alerts
    assert settings
    assert re.findall(r"^\| (Zcserve\w+) \|", PAGE, re.MULTILINE) == alerts
    assert [name for name in settings if f"| `{name}` |" not in PAGE] == []


# --- the first hour -------------------------------------------------------------------------------------------


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_the_first_hour_goes_as_the_page_says(tmp_path: Path) -> None:
    typed.programs(tmp_path / "bin", zcserve="-m zcserve")
    shutil.copytree(ROOT / "www", tmp_path / "www")
    port = str(free_port())
    environ = {"PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT), "ZCSERVE_PORT": port}
    hour = typed.commands_of(PAGE)
    assert typed.astray(hour, tmp_path, {"8080": port}, environ, HOUR_WITHIN_S) == []
