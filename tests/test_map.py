"""The map keeps its promises: what zcserve/README.md names is there, and every module has a place in it."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from pathlib import Path

import zcserve

PACKAGE = Path(zcserve.__file__).parent
MAP = (PACKAGE / "README.md").read_text()
MODULES = sorted(PACKAGE.rglob("*.py"))


def members(tree: ast.AST) -> set[str]:
    """What a class or a module defines: functions, classes, names, attributes, slots."""
    found: set[str] = set()
    for node in ast.walk(tree):
        match node:
            case ast.FunctionDef(name) | ast.ClassDef(name) | ast.Name(name, ast.Store()):
                found.add(name)
            case ast.Attribute(ast.Name("self"), name, ast.Store()):
                found.add(name)
    return found


def defined() -> dict[str, set[str]]:
    """The members of every class, and of every module by its stem; of what several have, all that one of them has."""
    found: defaultdict[str, set[str]] = defaultdict(set)
    for file in MODULES:
        tree = ast.parse(file.read_bytes())
        found[file.stem] |= members(tree)
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef):
                found[node.name] |= members(node)
    return found


def test_what_the_map_names_of_a_class_or_a_module_is_there() -> None:
    known = defined()
    named = [name for name in re.findall(r"`([A-Za-z_]\w*\.\w+)(?:\(\))?`", MAP) if not name.endswith((".py", ".pxd"))]
    assert len(named) > 60
    assert [name for name in named if (owner := name.split("."))[0] in known and owner[1] not in known[owner[0]]] == []


def test_files_that_the_map_names_are_there() -> None:
    files = {str(file.relative_to(PACKAGE.parent)) for top in ("zcserve", "tests") for file in _files(top)}
    named = set(re.findall(r"`((?:\w+/)+\w+\.(?:pyx?|pxd))`", MAP))
    assert len(named) > 100
    assert {name for name in named if name not in files and f"zcserve/{name}" not in files} == set()


def _files(top: str) -> list[Path]:
    return [*(PACKAGE.parent / top).rglob("*.p*")]


def test_every_module_has_a_place_in_the_map() -> None:
    told = set(re.findall(r"`((?:\w+/)*\w+\.pyx?)`", MAP))
    modules = {str(file.relative_to(PACKAGE)) for file in MODULES if not file.name.startswith("__")}
    assert modules - told == set()
