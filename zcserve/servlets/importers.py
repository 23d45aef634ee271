"""An import statement in a module of an application's finds that application's own modules.

sys.modules belongs to the process, and has one module of a name; sites have applications whose modules may have the
same names, and so have two versions of one. So it is the module with the statement that says what is found: its loader
(`OwnLoader`) knows whose it is, and an `Owner` knows its modules. `builtins.__import__` is replaced for it, once for
all; statements of all other modules go on to what was there before.

What sys.modules has is what was loaded last. That is found by what is no statement (importlib.import_module, pickle).
"""

from __future__ import annotations

import builtins
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from importlib.machinery import SourceFileLoader
from types import ModuleType
from typing import Any


class Owner:
    """What has modules of its own.

    in_force  these, by name; replaced as a whole
    """

    def __init__(self) -> None:
        self.in_force: Mapping[str, ModuleType] = {}

    def name_of(self, name: str) -> str:
        """The name in sys.modules of what its modules call so."""
        return name

    def bring(self, name: str, fromlist: Sequence[str]) -> bool:
        """A module that is in force asks for one that is not: load it, and what is asked of it, where sys.modules would
        give another one. False: it would not."""
        return False

    def importing(self, name: str) -> AbstractContextManager[object]:
        """What is imported in here, by a module of its own, is its own."""
        return nullcontext()


class OwnLoader(SourceFileLoader):
    """Loads a module of an `owner`'s."""

    def __init__(self, fullname: str, path: str, owner: Owner) -> None:
        super().__init__(fullname, path)
        self.owner = owner


def loader_of(module: ModuleType | None) -> OwnLoader | None:
    """What has loaded a module of an owner's; None for all others."""
    loader = getattr(getattr(module, "__spec__", None), "loader", None)
    return loader if isinstance(loader, OwnLoader) else None


_others = builtins.__import__


def begin() -> None:
    """Ask owners from now on."""
    global _others
    if builtins.__import__ is not _import:
        _others, builtins.__import__ = builtins.__import__, _import


def _import(
    name: str,
    globals: Mapping[str, Any] | None = None,
    locals: Mapping[str, Any] | None = None,
    fromlist: Sequence[str] | None = (),
    level: int = 0,
) -> ModuleType:
    loader = globals.get("__loader__") if globals is not None else None
    if globals is None or not isinstance(loader, OwnLoader):
        return _others(name, globals, locals, fromlist, level)
    owner = loader.owner
    full = name
    if level:
        package = str(globals.get("__package__")).rsplit(".", level - 1)[0]
        full = ".".join(filter(None, (package, name)))
    own, in_force = owner.name_of(full), owner.in_force
    asks = in_force.get(globals.get("__name__", ""))
    if asks is not None and asks.__dict__ is globals:  # else it is being loaded, or was replaced
        found = in_force.get(own)
        if found is not None and (not fromlist or all(hasattr(found, each) for each in fromlist)):
            return found if fromlist else in_force.get(own.partition(".")[0], found)
        if owner.bring(own, fromlist or ()):
            in_force = owner.in_force
            return in_force[own] if fromlist else in_force[own.partition(".")[0]]
    if own != full:
        return _others(own, globals, locals, fromlist, 0)
    with owner.importing(full):
        return _others(name, globals, locals, fromlist, level)
