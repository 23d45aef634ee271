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


def defined() -> dict[str, set[str]]:
    """What each class and each module, by its stem, defines: functions, classes, names, attributes of `self`, slots. A
    module has what its classes have. Of what several have, all that one of them has."""
    found: defaultdict[str, set[str]] = defaultdict(set)
    for file in MODULES:
        _add(ast.parse(file.read_bytes()), (found[file.stem],), found)
    return found


def _add(tree: ast.AST, owners: tuple[set[str], ...], found: dict[str, set[str]]) -> None:
    """Tell the owners of what stands below a node; once for each node, however deep classes lie in each other."""
    for node in ast.iter_child_nodes(tree):
        match node:
            case (
                ast.FunctionDef(name)
                | ast.ClassDef(name)
                | ast.Name(name, ast.Store())
                | ast.Attribute(ast.Name("self"), name, ast.Store())
            ):
                for owner in owners:
                    owner.add(name)
        _add(node, (*owners, found[node.name]) if isinstance(node, ast.ClassDef) else owners, found)


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
