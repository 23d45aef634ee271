"""A folder of servlets: NAME.py is the servlet NAME, and a changed file is another version of it.

`refresh` reads what is there, loads what differs from what was loaded, and lays everything that loads and does not
conflict into a new `Table`. What does not goes on as its last good version. Both are one `Loaded`, which does not
change: the caller flips to it as a whole. This module calls no servlet; when to refresh is the caller's business.

- **A version is its sources**: the file itself and those of the folder that it imports, found in its syntax tree,
  however deep. They are read once a refresh and compiled from what was read. Python's own .pyc files are neither read
  nor written: they know a source by its size and whole seconds, and would give yesterday's code for today's file.
- **The folder is not on sys.path**, or json.py here would be the process's json. A finder gives out its files whose
  names begin with "_" (helpers, never servlets), to all servlets the same module. It stays, for imports inside
  functions.
- **What fails leaves no trace**: sys.modules has the good version again, and linecache its lines, so that what goes on
  can be pickled, and its tracebacks show what it runs rather than what the file says now.

Odd: sys.modules belongs to the process, so the modules of a site have its name in theirs: "zcserve_servlet_hello:shop",
but for those of the site at the top of the file; and "zcserve_servlet_hello:shop#2" where a reload gives the site a new
folder while the old one is used. A helper that is imported by a computed name is imported, but not followed; in a site
with a name it is not found so.
"""

from __future__ import annotations

import importlib
import os
import re
import sys
import threading
import traceback
import weakref
from collections.abc import Container, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import module_from_spec, spec_from_file_location
from itertools import count
from pathlib import Path
from types import CodeType, ModuleType
from typing import NamedTuple

from zcserve.errors import UsageError, line_of
from zcserve.events import Event
from zcserve.log import Block, Log, put_back
from zcserve.servlets import importers, routes
from zcserve.servlets import sources as sources_module
from zcserve.servlets.folder_events import FolderEvents
from zcserve.servlets.importers import Owner, OwnLoader
from zcserve.servlets.loading import told_when_late
from zcserve.servlets.routes import ConflictError, Route, Table, routes_of
from zcserve.servlets.sources import Listing, SourceFile, SourceFiles, with_imports

_log = Log(__name__)

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]*")
_PREFIX = "zcserve_servlet_"
# Stands in names of modules before that of the site: no name that a file has, and no dot, as for parts of a package.
_SITE = ":"
# Behind that where the site has a folder already, which the next one takes the place of.
_NUMBER = "#"
_OF_THE_LOADER = {__file__, routes.__file__, importers.__file__, sources_module.__file__}


class _Loader(OwnLoader):
    """Runs the source that was read. `sources`: all that the module is made of."""

    def __init__(self, fullname: str, source: SourceFile, sources: SourceFiles, owner: Owner) -> None:
        super().__init__(fullname, str(source.path), owner)
        self.source = source
        self.sources = sources

    def get_code(self, fullname: str) -> CodeType:  # where SourceFileLoader would look for a .pyc
        return self.source.code()

    def spec(self) -> ModuleSpec:
        spec = spec_from_file_location(self.name, self.path, loader=self)
        assert spec is not None
        return spec


class _Known(NamedTuple):
    """The helpers of a folder, and what each consists of, the helper itself first."""

    sources: Mapping[str, tuple[SourceFile, SourceFiles]]
    owner: Owner


class _Helpers(MetaPathFinder):
    """Finds the helpers of folders. `known`: by what the folder's modules have behind their names; of two folders with
    the same, those of the one that was loaded last."""

    known: Mapping[str, _Known] = {}

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        name, colon, rest = fullname.partition(_SITE)
        known = self.known.get(colon + rest)
        if path is not None or known is None or (found := known.sources.get(name)) is None:
            return None
        return _Loader(fullname, *found, known.owner).spec()

    def loaded(self) -> dict[str, _Loader]:
        """The helpers in sys.modules, whichever folder's, by name."""
        private = [(name, module) for name, module in list(sys.modules.items()) if name.startswith("_")]
        loaders = ((name, getattr(getattr(module, "__spec__", None), "loader", None)) for name, module in private)
        return {name: loader for name, loader in loaders if isinstance(loader, _Loader)}

    def renew(self, suffix: str, known: _Known) -> dict[str, ModuleType]:
        """Give out `known` from now on; returns what is loaded otherwise, and was taken out of sys.modules for it."""
        if self not in sys.meta_path:
            sys.meta_path.insert(0, self)
        self.known = {**self.known, suffix: known}
        own = {name + suffix: sources for name, (_, sources) in known.sources.items()}
        stale = [
            name
            for name, loader in self.loaded().items()
            if "".join(name.partition(_SITE)[1:]) == suffix and own.get(name) != loader.sources
        ]
        taken = {name: sys.modules.pop(name, None) for name in stale}
        return {name: module for name, module in taken.items() if module is not None}

    def forget(self, suffix: str, owner: Owner) -> None:
        """Give out nothing of this folder's any more."""
        if (known := self.known.get(suffix)) is not None and known.owner is owner:
            self.known = {each: known for each, known in self.known.items() if each != suffix}


_helpers = _Helpers()
_folders: weakref.WeakValueDictionary[str, Folder] = weakref.WeakValueDictionary()  # by what is behind their names
_lock = threading.Lock()


@dataclass(frozen=True, slots=True, eq=False)
class _Version:
    """A servlet that was loaded."""

    module: ModuleType
    source: SourceFile
    routes: tuple[Route, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Module:
    """A servlet.

    error    the traceback of the last load, or with what its routes conflict; "" if all went well
    reason   the same on one line, without the way to it
    good     the version whose routes are in the table, None if none ever was
    wanted   the version that would be, but for a conflict
    sources  what the last load was made of, whether it went well or not
    """

    name: str
    file: Path
    sources: SourceFiles
    error: str = ""
    reason: str = ""
    good: _Version | None = None
    wanted: _Version | None = None

    @property
    def routes(self) -> tuple[Route, ...]:
        """Those that are in the table."""
        return self.good.routes if self.good is not None else ()

    def fault(self) -> str:
        """What is wrong with it, on one line that begins with the place in the folder: "servlets/hello.py:3: ..."."""
        places = re.findall(r'^ *File "(.+)", line (\d+)', self.error, re.MULTILINE)
        here = [(Path(file), f":{line}") for file, line in places if Path(file).parent == self.file.parent]
        file, line = here[-1] if here else (self.file, "")
        return f"{file.parent.name}/{file.name}{line}: {self.reason}"

    def changed(self) -> bool:
        """Whether a file that it was loaded from has changed or is gone: one os.stat for each."""
        return any(source.changed() for source in self.sources)


class Loaded(NamedTuple):
    """What was loaded together: servlets by name, the table of their routes, and the names that the directory had then
    (None: it was not read yet)."""

    modules: dict[str, Module]
    table: Table
    listing: Listing | None

    def changes(self) -> frozenset[str]:
        """The servlets that are not what was loaded any more, "" for the directory's own names: one os.stat for each
        file, and one for the directory."""
        found = {name for name, module in self.modules.items() if module.changed()}
        return frozenset(found | {""} if self.listing is None or self.listing.changed() else found)

    def fault(self) -> str:
        """Why not all that lies there is in use, on one line, or ""."""
        if self.listing is not None and self.listing.content is None:
            return f"servlets: {self.listing.path} cannot be read"
        faults = [module.fault() for module in self.modules.values() if module.error]
        return f"a servlet does not load: {'; '.join(faults)}" if faults else ""


NOTHING_LOADED = Loaded({}, Table(), None)


class Folder(Owner):
    """The servlets of a directory. `loaded` is replaced by `refresh`, in whichever thread: others take it once, and ask
    what they took both for a servlet and for its `changes`.

    late  event: a servlet takes long to load, in another thread
    """

    def __init__(self, directory: Path, site: str | None = None) -> None:
        """Nothing is loaded before the first `refresh`. `site`: the modules' names have this behind them, so that those
        of no two folders are the same; "" for the site at the top of the file; None: they have nothing, whatever
        others have. Raises UsageError if it is no directory."""
        super().__init__()
        importers.begin()
        if not directory.is_dir():
            raise UsageError(f"servlets: {str(directory)!r} is not a directory")
        self.directory = Path(os.path.abspath(directory))  # symlinks stay: where they lead may change
        self.loaded = NOTHING_LOADED
        self._is_over = False
        self._suffix = self._own_suffix(site) if site is not None else ""
        self._known = _Known({}, self)
        self._sources: dict[str, SourceFile] = {}
        self._ignored: set[str] = set()
        self.late: Event[()] = Event()

    @property
    def modules(self) -> dict[str, Module]:
        """The servlets by name, of `loaded`."""
        return self.loaded.modules

    def listen(self) -> FolderEvents:
        """What tells whether it is worth asking `changed`, of what is loaded now."""
        return FolderEvents(self.directory, [f"{name}.py" for name in self._sources])

    def refresh(self, *, everything: bool = False) -> None:
        """Load what is new or has changed (or `everything`), drop what is gone, and make the new table.

        Imports, so it takes as long as they do; by one thread at a time. Raises nothing (but KeyboardInterrupt): what
        is wrong with a servlet is its `error`, and in the log.
        """
        listing = Listing(self.directory)
        if listing.content is not None:
            self._renew(listing, self._read(listing.content, everything))
        else:
            _log.error("servlets: %s cannot be read, what was loaded goes on", self.directory)
            self.loaded = self.loaded._replace(listing=listing)

    def _read(self, names: list[str], everything: bool) -> dict[str, SourceFile]:
        """The sources of servlets and helpers by name; those that have not changed are the same as before."""
        sources: dict[str, SourceFile] = {}
        for file in filter(self._is_wanted, names):
            name = file.removesuffix(".py")
            source = self._sources.get(name)
            if everything or source is None or source.changed():
                source = SourceFile(self.directory / file)
            sources[name] = source
        return sources

    def _is_wanted(self, file: str) -> bool:
        name = file.removesuffix(".py")
        if _NAME.fullmatch(name) or (name.startswith("_") and name not in sys.stdlib_module_names):
            return True
        if not name.startswith(".") and file not in self._ignored:
            self._ignored.add(file)
            why = "Python has a module of that name" if name.startswith("_") else "that is no name for a servlet"
            _log.warning("servlets: %s is ignored: %s", repr(file), why)
        return False

    def _renew(self, listing: Listing, sources: dict[str, SourceFile]) -> None:
        made_of = {name: with_imports(name, sources) for name in sources}
        known = {name: (sources[name], made_of[name]) for name in sources if name.startswith("_")}
        self._known = _Known(known, self)
        replaced = _helpers.renew(self._suffix, self._known)
        loaded: dict[str, Module] = {}
        try:
            for name in [name for name in sources if name not in known]:
                module = self.modules.get(name)
                if module is None or module.sources != made_of[name]:
                    module = self._load(name, sources[name], made_of[name], replaced)
                loaded[name] = module
        finally:
            for name, helper in replaced.items():
                sys.modules.setdefault(name, helper)  # what goes on may import it again
        modules, table = _settled(loaded)
        self._report(loaded, modules)
        self._forget(modules)
        self.loaded, self._sources = Loaded(modules, table, listing), sources
        self.in_force = self._owned()
        _show(modules.values())
        if self._is_over:
            self.forget_modules()

    def _load(self, name: str, source: SourceFile, sources: SourceFiles, replaced: Iterable[str]) -> Module:
        """The module after another load. sys.modules is as before, but for helpers.

        Those of its helpers that were loaded before (`replaced`) are loaded again with it, though imported inside
        functions only: if they fail, then now.
        """
        before = self.modules.get(name)
        module = Module(name, source.path, sources, good=before.good if before is not None else None)
        loader = _Loader(_PREFIX + name + self._suffix, source, sources, self)
        in_force = sys.modules.get(loader.name)
        try:
            made = sys.modules[loader.name] = module_from_spec(loader.spec())  # before it runs: dataclasses look there
            with self._told_when_late(before, source.path):
                loader.exec_module(made)
                for helper in {each.path.stem + self._suffix for each in sources}.intersection(replaced):
                    __import__(helper)
            return replace(module, wanted=_Version(made, source, tuple(routes_of(made, name))))
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # SystemExit, too: a servlet does not end the server
            return replace(module, error=told(error, _OF_THE_LOADER), reason=line_of(error))
        finally:
            put_back()
            if in_force is not None:
                sys.modules[loader.name] = in_force
            else:
                sys.modules.pop(loader.name, None)

    def _told_when_late(self, before: Module | None, path: Path) -> AbstractContextManager[None]:
        good = before is not None and before.good is not None
        meanwhile = "the last good version goes on" if good else "it is not served"
        return told_when_late(f"{self.directory.name}/{path.name}", meanwhile, self.late)

    def _report(self, loaded: Mapping[str, Module], modules: Mapping[str, Module]) -> None:
        for name, module in modules.items():
            before = self.modules.get(name)
            file = f"{self.directory.name}/{module.file.name}"
            if module.error and (loaded[name] is not before or module.error != before.error):
                what = "the last good version goes on" if module.good is not None else "it is not served"
                _log.error("%s does not load, %s:\n%s", file, what, Block(module.error.rstrip()))
            elif before is not None and not module.error and module.good is not before.good:
                _log.info("%s loaded again", file)

    def _forget(self, modules: Mapping[str, Module]) -> None:
        """Take out of sys.modules what is gone. It lives on in functions that still run."""
        for name in self.modules.keys() - modules.keys():
            version = self.modules[name].good
            if version is not None and sys.modules.get(version.module.__name__) is version.module:
                sys.modules.pop(version.module.__name__, None)

    def _owned(self) -> dict[str, ModuleType]:
        good = [one.good.module for one in self.modules.values() if one.good is not None]
        names = [name for name, loader in _helpers.loaded().items() if loader.owner is self]
        helpers = {name: module for name in names if (module := sys.modules.get(name)) is not None}
        return {**{module.__name__: module for module in good}, **helpers}

    def _own_suffix(self, site: str) -> str:
        first = f"{_SITE}{site}".replace(".", _SITE) if site else ""
        with _lock:
            numbers = (first if n == 1 else f"{first or _SITE}{_NUMBER}{n}" for n in count(1))
            free = next(each for each in numbers if each not in _folders)
            _folders[free] = self
        return free

    def close(self) -> None:
        """Another folder may have the names of its modules; what these refer to refers to nothing of the server's."""
        self.late = Event()
        with _lock:
            if _folders.get(self._suffix) is self:
                del _folders[self._suffix]

    def name_of(self, name: str) -> str:
        """As `Owner.name_of`."""
        return name + self._suffix if name in self._known.sources else name

    def forget_modules(self) -> None:
        """It is used no more: take its modules out of sys.modules, also those that a load brings which hangs yet."""
        self._is_over = True
        _helpers.forget(self._suffix, self)
        for name, module in {**self.in_force, **self._owned()}.items():
            if sys.modules.get(name) is module:
                sys.modules.pop(name, None)  # its load may have taken it out by now


def _settled(loaded: Mapping[str, Module]) -> tuple[dict[str, Module], Table]:
    """Which file gets what it wants, and the table of that.

    What is in force fits together, and what changes nothing goes first. Of the others, the first by name that conflicts
    keeps what it has, and everything is tried again without its wish: so there is an end. A wish that was refused is
    kept, since the other file may give way.
    """
    modules = dict(loaded)
    wishes = sorted(name for name, module in modules.items() if module.wanted is not None)
    while True:
        table = Table()
        try:
            for name in modules.keys() - wishes:
                _add(table, modules[name].good)
            for name in wishes:
                _add(table, modules[name].wanted)
            break
        except ConflictError as error:
            wishes.remove(name)
            modules[name] = replace(modules[name], error=f"{line_of(error)}\n", reason=line_of(error))
    for name in wishes:
        module = modules[name] = replace(modules[name], good=modules[name].wanted, wanted=None, error="", reason="")
        assert module.good is not None
        sys.modules[module.good.module.__name__] = module.good.module
    return modules, table


def _add(table: Table, version: _Version | None) -> None:
    for route in version.routes if version is not None else ():
        table.add(route)


def _show(modules: Iterable[Module]) -> None:
    """Have tracebacks show the lines of what is in force, where something else was tried."""
    for loader in _helpers.loaded().values():
        loader.source.show_lines()
    for module in modules:
        if module.good is not None:
            module.good.source.show_lines()


def told(error: BaseException, loaders: Container[str]) -> str:
    """The traceback of `error`, without the frames of what loaded it: Python's own, and those of the files
    `loaders`."""
    told = traceback.TracebackException.from_exception(error)
    waiting: list[traceback.TracebackException | None] = [told]
    while waiting:
        if (each := waiting.pop()) is not None:
            kept = [frame for frame in each.stack if not _of_a_loader(frame.filename, loaders)]
            each.stack = traceback.StackSummary.from_list(kept)
            waiting += (each.__cause__, each.__context__, *(getattr(each, "exceptions", None) or ()))
    return "".join(told.format() if told.stack else told.format_exception_only())


def _of_a_loader(filename: str, loaders: Container[str]) -> bool:
    return filename in loaders or filename.startswith(("<frozen importlib", importlib.__file__))
