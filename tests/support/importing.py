"""A working directory of modules that are imported, and forgotten when the test is over."""

from __future__ import annotations

import importlib
import itertools
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from zcserve.servlets.imports import Imports

_numbers = itertools.count()


class Here:
    """A working directory with a package `name`, and what is noted of imports there. PKG stands for that name."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.name = f"fresh_{next(_numbers)}"
        self.imports = Imports(str(directory), [self.name])

    def write(self, path: str, source: str = "") -> Path:
        file = self.directory / path.replace("PKG", self.name)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(source.replace("PKG", self.name))
        return file

    def load(self, name: str = "PKG") -> Any:
        return importlib.import_module(name.replace("PKG", self.name))

    def noted(self) -> set[str]:
        return {name.replace(self.name, "PKG") for name in self.imports.loaded}


@contextmanager
def importing(directory: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Here]:
    """`here` below a directory, and `elsewhere`: both are looked at for modules."""
    before = set(sys.modules)
    (directory / "here").mkdir()
    monkeypatch.setattr(sys, "path", [str(directory / "here"), str(directory / "elsewhere"), *sys.path])
    made = Here(directory / "here")
    yield made
    made.imports.close()
    assert made.imports not in sys.meta_path
    for name in set(sys.modules) - before:
        del sys.modules[name]
