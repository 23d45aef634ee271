"""zcserve.servlets.importers: an import statement in a module finds what is its owner's."""

from __future__ import annotations

import builtins
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

import pytest

from zcserve.servlets import importers
from zcserve.servlets.importers import Owner, OwnLoader, loader_of

LATE = """
def ask():
    import importers_words
    return importers_words.SAID

def ask_from():
    from importers_words import SAID
    return SAID

def ask_below():
    import importers_words.deep
    return importers_words.deep.SAID

def ask_more():
    from importers_words import MORE
    return MORE
"""


def said(name: str, **values: object) -> ModuleType:
    module = ModuleType(name)
    vars(module).update(values)
    return module


@pytest.fixture
def owner(monkeypatch: pytest.MonkeyPatch) -> Owner:
    monkeypatch.setitem(sys.modules, "importers_words", said("importers_words", SAID="the process's", MORE="more"))
    importers.begin()
    return Owner()


@pytest.fixture
def late(owner: Owner, tmp_path: Path) -> ModuleType:
    """A module of the owner's that imports inside functions."""
    file = tmp_path / "late.py"
    file.write_text(LATE)
    spec = spec_from_file_location("importers_late", file, loader=OwnLoader("importers_late", str(file), owner))
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_module_in_force_finds_its_owners_and_all_else_what_the_process_has(owner: Owner, late: ModuleType) -> None:
    deep = said("importers_words.deep", SAID="deep")
    own = said("importers_words", SAID="the owner's", deep=deep)
    in_force = {"importers_words": own, "importers_words.deep": deep, "importers_late": late}
    assert late.ask() == "the process's"  # it is being loaded, as far as its owner knows
    owner.in_force = in_force
    assert (late.ask(), late.ask_from(), late.ask_below()) == ("the owner's", "the owner's", "deep")
    assert late.ask_more() == "more"  # a name that the owner's lacks may come from elsewhere
    assert __import__("importers_words").SAID == "the process's"
    owner.in_force = {**in_force, "importers_late": said("importers_late")}
    assert late.ask() == "the process's"  # it was replaced


def test_an_owner_may_call_a_module_otherwise(owner: Owner, late: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(owner, "name_of", lambda name: f"{name}:shop" if name == "importers_words" else name)
    monkeypatch.setitem(sys.modules, "importers_words:shop", said("importers_words:shop", SAID="the shop's"))
    assert (late.ask(), late.ask_from()) == ("the shop's", "the shop's")


def test_imports_are_asked_about_once_however_often_that_begins(owner: Owner, late: ModuleType) -> None:
    before = builtins.__import__
    importers.begin()
    assert builtins.__import__ is before
    loader = loader_of(late)
    assert loader is not None
    assert loader.owner is owner
    assert loader_of(sys) is loader_of(None) is None
