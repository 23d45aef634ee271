"""Modules, classes and functions stay as short as the house has them: a module is read in one sitting, a function fits
a screen. What grows past a limit has a part that belongs elsewhere."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import zcserve

PACKAGE = Path(zcserve.__file__).parent
TOOLS = Path(__file__).parent.parent / "tools"

# In lines.
MODULE_MAX, CLASS_MAX, FUNCTION_MAX = 500, 350, 60

FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
# A function of the compiled parts begins at the margin, and ends where the next line stands there.
COMPILED_FUNCTION = re.compile(r"^(?:cdef|cpdef|def)\b[^\n]*\(.*?(?=\n+(?:[^\s)#]|\Z))", re.MULTILINE | re.DOTALL)


def too_long(name: str, source: str) -> Iterator[tuple[str, int]]:
    """What of a module is past its limit, and its lines."""
    if (lines := source.count("\n")) > MODULE_MAX:
        yield name, lines
    if not name.endswith(".py"):
        for match in COMPILED_FUNCTION.finditer(source):
            if (lines := match[0].count("\n") + 1) > FUNCTION_MAX:
                yield f"{name}: {match[0].partition('(')[0]}", lines
        return
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, (ast.ClassDef, *FUNCTIONS)):
            lines = (node.end_lineno or 0) - node.lineno + 1
            if lines > (FUNCTION_MAX if isinstance(node, FUNCTIONS) else CLASS_MAX):
                yield f"{name}: {node.name}", lines


@pytest.mark.parametrize("folder", [PACKAGE, TOOLS], ids=lambda folder: folder.name)
def test_nothing_is_longer_than_the_house_has_it(folder: Path) -> None:
    files = [file for file in folder.rglob("*") if file.suffix in (".py", ".pyx", ".pxd")]
    assert files
    assert [found for file in files for found in too_long(file.name, file.read_text())] == []


@pytest.mark.parametrize(
    ("name", "source", "found"),
    [
        ("a.py", "\n" * MODULE_MAX, []),
        ("a.py", "\n" * (MODULE_MAX + 1), [("a.py", MODULE_MAX + 1)]),
        ("a.py", "def f():\n" + " x\n" * (FUNCTION_MAX - 1), []),
        ("a.py", "def f():\n" + " x\n" * FUNCTION_MAX, [("a.py: f", FUNCTION_MAX + 1)]),
        ("a.py", "class C:\n" + " x\n" * CLASS_MAX, [("a.py: C", CLASS_MAX + 1)]),
        ("a.pxd", "cdef int f(int x):\n" + "    x\n" * (FUNCTION_MAX - 1) + "\n\ncdef enum:\n    A\n", []),
        ("a.pxd", "cdef int f(int x):\n" + "    x\n" * FUNCTION_MAX, [("a.pxd: cdef int f", FUNCTION_MAX + 1)]),
    ],
)
def test_a_limit_is_the_last_that_is_let_through(name: str, source: str, found: list[tuple[str, int]]) -> None:
    assert list(too_long(name, source)) == found
