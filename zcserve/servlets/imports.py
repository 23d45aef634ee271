"""The modules of mounted applications: which there are, whether a file of theirs has changed, and all of them anew.

`Imports` is a finder on sys.meta_path, in front of the others, which it asks. It notes the sources of a mount's
own package, wherever that lies, and of all else that is imported from below the working directory; what is installed
there (site-packages, Python itself) is left, and so is what is no Python file: C extensions, archives, modules that
were there before the server.

`afresh` takes the noted modules out of sys.modules and has them imported anew. When that fails, sys.modules is as it
was. Other threads, those of servlets' folders too, change sys.modules meanwhile: what it had a moment ago may be out of
it by now. Anew means from the sources: Python's .pyc files know a source by its size and whole seconds, and would run
yesterday's code. What runs on meanwhile keeps its modules, also those that it imports inside a function; when all is
loaded such an import finds the new ones.

Each site has an `Imports`, and its own version of each module: what other sites have noted is out of sys.modules, too,
while one imports. One site at a time does: the others wait. Afterwards an import statement in a site's module finds the
site's modules (importers.py), and all else what was imported last.
"""

from __future__ import annotations

import importlib
import os
import sys
import threading
import weakref
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from importlib.util import module_from_spec
from pathlib import Path
from types import CodeType, ModuleType

from zcserve.errors import ZcserveError
from zcserve.log import Log
from zcserve.servlets import importers
from zcserve.servlets.importers import Owner, OwnLoader, loader_of
from zcserve.servlets.loading import TOLD_AFTER_S
from zcserve.servlets.sources import File

_INSTALLED = {"site-packages", "dist-packages"}
_OURS = __name__.partition(".")[0]


class MovingError(ZcserveError):
    """What is loaded is being written."""


class _Loader(OwnLoader):
    def __init__(self, fullname: str, path: str, imports: Imports) -> None:
        super().__init__(fullname, path, imports)
        self._imports = imports

    def get_code(self, fullname: str) -> CodeType | None:
        file = File(Path(self.path))  # before anything is compiled: what is written meanwhile is a change
        self._imports.note(fullname, file)
        if not self._imports.from_sources or file.content is None:
            return super().get_code(fullname)
        file.show_lines()
        code: CodeType = self.source_to_code(file.content, self.path)
        return code


_log = Log(__name__)

_lock = threading.RLock()  # one site's modules are imported anew at a time
_every: list[weakref.ref[Imports]] = []  # those of all sites
_counting = threading.Lock()  # of what changes that list, or adds to what is in force
_thread = threading.local()  # `imports`: whose modules it imports


class Imports(Owner, MetaPathFinder):
    """`loaded`: the files by their modules' names. `failed`: those that were tried in vain since, None for no such try.
    `noted` hears of each, in the thread that imports it."""

    def __init__(self, here: str, packages: Iterable[str]) -> None:
        """`here` is the working directory, `packages` are the first names of the applications' modules."""
        super().__init__()
        importers.begin()
        self.loaded: dict[str, File] = {}
        self.failed: dict[str, File] | None = None
        self.from_sources = False
        self.noted: Callable[[], object] = lambda: None
        self._notes = self.loaded
        self._bringing = threading.RLock()
        self._known = 0  # how many of `loaded` were looked at, whether they are in force
        self._taken: set[str] = set()  # what `afresh` has taken out of sys.modules
        self._places: set[str] = set()  # of packages: a directory is one without any file of its own
        self._here = os.path.join(os.path.realpath(here), "")
        self._packages = frozenset(packages) - {_OURS}
        python = (sys.prefix, sys.base_prefix, os.path.dirname(os.__file__))
        places = {os.path.join(os.path.realpath(place), "") for place in python}
        self._elsewhere = tuple(place for place in places if place.startswith(self._here) and place != self._here)
        sys.meta_path.insert(0, self)
        with _counting:
            _every[:] = [*(each for each in _every if each() is not None), weakref.ref(self)]

    def note(self, fullname: str, file: File) -> None:
        """A module is made of a file."""
        self._notes[fullname] = file
        self.noted()

    def close(self) -> None:
        """Have nothing to do with imports any more."""
        self.noted = lambda: None
        if self in sys.meta_path:
            sys.meta_path.remove(self)

    def forget_modules(self) -> None:
        """Once it is closed: take its modules out of sys.modules, which shows others of their names again."""
        with _counting:
            _every[:] = [each for each in _every if each() not in (None, self)]
        with _one_at_a_time():
            for name in self.loaded:
                module = sys.modules.get(name)
                if module is not None and (loader := loader_of(module)) is not None and loader.owner is self:
                    sys.modules.pop(name, None)
                    _unbind(name, module)
            for each in _all():
                if each in sys.meta_path:  # else it is closed, and its modules are used no more
                    _put_back(each.in_force, each.in_force)

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if getattr(_thread, "imports", self) is not self:
            return None  # another one notes it
        finders = sys.meta_path
        for finder in finders[finders.index(self) + 1 :] if self in finders else ():
            find_spec = getattr(finder, "find_spec", None)
            spec: ModuleSpec | None = find_spec(fullname, path, target) if find_spec is not None else None
            if spec is not None:
                self._places.update(spec.submodule_search_locations or ())
                if (
                    type(spec.loader) in (SourceFileLoader, _Loader)
                    and spec.origin
                    and self._has(fullname, spec.origin)
                ):
                    spec.loader = _Loader(fullname, spec.origin, self)
                return spec
        return None

    def _has(self, fullname: str, origin: str) -> bool:
        first = fullname.partition(".")[0]
        return first != _OURS and (first in self._packages or self.is_below(origin))

    def is_below(self, origin: str) -> bool:
        """Whether a file lies below the working directory, and is not installed there."""
        file = os.path.join(os.path.abspath(os.path.dirname(origin)), os.path.basename(origin))
        if not file.startswith(self._here) or file.startswith(self._elsewhere):
            return False
        return _INSTALLED.isdisjoint(file[len(self._here) :].split(os.sep))

    def _is_directory(self, name: str) -> bool:
        """Whether a package has no file of its own, and all of it lies where a change counts."""
        module = sys.modules.get(name)  # another thread may have taken it out meanwhile
        places = getattr(module, "__path__", ())
        has_file = getattr(module, "__file__", None) is not None
        return not has_file and bool(places) and all(self.is_below(os.path.join(place, "")) for place in places)

    def directories(self) -> set[str]:
        """Where the files lie that are below the working directory, that itself, and where else below it modules are
        looked for: what is missing may come there."""
        files = [file.path for file in (*list(self.loaded.values()), *(self.failed or {}).values())]
        places = {os.path.join(place, "") for place in (*sys.path, *list(self._places))}
        return {
            self._here,
            *(str(file.parent) for file in files if self.is_below(str(file))),
            *(place[:-1] for place in places - {self._here} if self.is_below(place)),
        }

    def changed(self) -> bool:
        """Whether a file is not what was loaded, or tried in vain, any more."""
        files = self.loaded if self.failed is None else self.failed
        return any(map(_differs, list(files.values())))

    def import_rest(self) -> None:
        """Within `afresh`: import what was imported before and is not again. A function may do that, when it is called
        (so Django's views come): it would fail then, and the last good version be gone. Raises what that raises; but
        what there is no more is left out."""
        for name in sorted(self._taken - sys.modules.keys()):
            try:
                importlib.import_module(name)
            except ModuleNotFoundError as error:
                if error.name is None or not f"{name}.".startswith(f"{error.name}."):
                    raise

    def require_rest(self) -> None:
        """Within `afresh`: raises MovingError where a file has been written since it was read."""
        if any(map(_differs, list(self._notes.values()))):
            raise MovingError("files were written while they were loaded")

    def show_lines(self) -> None:
        """Have tracebacks show the lines of what is in force. After a try that failed, once it is told what failed."""
        for file in list(self.loaded.values()):
            file.show_lines()

    @contextmanager
    def afresh(self, *, from_sources: bool = True) -> Iterator[None]:
        """What is imported in here is imported anew. An exception has sys.modules be as it was. Waits for other sites
        that import theirs."""
        with _one_at_a_time(), self._notes_all():
            own = {*self.loaded, *filter(self._is_directory, list(sys.modules))}
            self.in_force = {**self._here_of(own), **self.in_force}
            taken = _take(self._names())
            self._taken = self.in_force.keys() & self.loaded.keys()
            self._notes, self.from_sources = {}, from_sources
            importlib.invalidate_caches()
            with self._put_back_where_it_fails(taken):
                yield
            self.loaded, self.failed = self._notes, None
            for name in [name for name in list(sys.modules) if name.rpartition(".")[0] in {*self.loaded, *taken}]:
                _bind(name)  # what was left, a C extension perhaps, is known to its package
            names = {*self.loaded, *filter(self._is_directory, list(sys.modules))}
            self.in_force, self._known = self._here_of(names), len(self.loaded)
            _put_back(taken, {name for each in _all() if each is not self for name in each.in_force})
            if self not in _all():
                self.forget_modules()  # it was closed meanwhile

    def _here_of(self, names: Iterable[str]) -> dict[str, ModuleType]:
        """Modules of these names that sys.modules has, and no other site."""
        here = {name: one for name in names if (one := sys.modules.get(name)) is not None}
        return {name: one for name, one in here.items() if (by := loader_of(one)) is None or by.owner is self}

    def _names(self) -> set[str]:
        """Of modules that are imported anew: its own, directories that are packages, and those of other sites that have
        some of the same packages. What no other site has in common stays: it would be imported twice by what needs it
        meanwhile."""
        names = {*self.loaded, *filter(self._is_directory, list(sys.modules))}
        return names.union(*(self._names_beside(name) for name in {*self._packages, *map(_first, self.loaded)}))

    def _names_beside(self, package: str) -> set[str]:
        """Of modules of other sites that have modules in this package."""
        others = [{*each.in_force, *list(each.loaded)} for each in _all() if each is not self]
        return {name for names in others if package in map(_first, names) for name in names}

    def _is_aside(self, name: str) -> bool:
        """Whether sys.modules has another site's module, or none where one is in force."""
        if (loader := loader_of(found := sys.modules.get(name))) is not None:
            return isinstance(loader.owner, Imports) and loader.owner is not self
        return found is None and name in self.in_force

    @contextmanager
    def _notes_all(self) -> Iterator[None]:
        """What this thread imports in here is noted here."""
        before = _thread.__dict__.get("imports")
        _thread.imports = self
        try:
            yield
        finally:
            if before is None:
                del _thread.imports
            else:
                _thread.imports = before

    @contextmanager
    def importing(self, name: str) -> Iterator[None]:
        """As `Owner.importing`. Another site's module that is in the way of what is loaded here is aside meanwhile."""
        is_loading = _thread.__dict__.get("imports") is self
        with self._notes_all():
            taken = _take(self._names_beside(_first(name))) if is_loading and self._is_aside(name) else {}
            try:
                yield
            finally:
                _put_back(taken, taken)
        if not is_loading:
            self._know_more()

    def bring(self, name: str, fromlist: Sequence[str]) -> bool:
        """As `Owner.bring`: of what is in force here where sys.modules has another site's, or another version is being
        loaded. It waits for no other site's load."""
        parts = name.split(".")
        paths = [".".join(parts[: n + 1]) for n in range(len(parts))]
        if not any(map(self._is_aside, [*paths, *(f"{name}.{each}" for each in fromlist)])):
            return False
        with self._bringing:
            if not all(map(self._bring, paths)):
                return False
            for each in fromlist:
                if each != "*" and not hasattr(self.in_force[name], each):
                    self._bring(f"{name}.{each}")
        return True

    def _bring(self, name: str) -> bool:
        """Load one module, unless it is in force. False where it is none that is noted."""
        if name in self.in_force:
            return True
        package, _, child = name.rpartition(".")
        parent = self.in_force.get(package)
        places = getattr(parent, "__path__", None)
        spec = PathFinder.find_spec(name, places) if places is not None or not package else None
        if spec is None or not spec.origin or type(spec.loader) is not SourceFileLoader:
            return False
        loader = spec.loader = _Loader(name, spec.origin, self)
        module = module_from_spec(spec)
        self.in_force = {**self.in_force, name: module}  # before it runs, as import has it
        if _lock.acquire(blocking=False):  # else sys.modules is another thread's, which imports anew
            if sys.modules.get(package) is parent:
                sys.modules.setdefault(name, module)  # dataclasses look there
            _lock.release()
        try:
            loader.exec_module(module)
        except BaseException:
            self.in_force = {each: found for each, found in self.in_force.items() if each != name}
            if sys.modules.get(name) is module:
                sys.modules.pop(name, None)
            raise
        if parent is not None:
            setattr(parent, child, module)
        return True

    def _know_more(self) -> None:
        """What was imported by now is in force, too."""
        if len(self.loaded) == self._known:
            return
        with _counting:
            self._known = len(self.loaded)
            new = self.loaded.keys() - self.in_force.keys()
            self.in_force = {**self.in_force, **self._here_of(new)}

    @contextmanager
    def _put_back_where_it_fails(self, taken: Mapping[str, ModuleType]) -> Iterator[None]:
        try:
            yield
        except BaseException:
            self.failed, self._notes = self._notes, self.loaded
            for name in list(self.failed):
                sys.modules.pop(name, None)
            sys.modules.update(taken)
            for name in taken:
                _bind(name)
            raise


def _first(name: str) -> str:
    """The package of all that it belongs to, or a module that belongs to none."""
    return name.partition(".")[0]


def _all() -> list[Imports]:
    """Those of all sites."""
    return [found for each in list(_every) if (found := each()) is not None]


@contextmanager
def _one_at_a_time() -> Iterator[None]:
    """Wait until no other thread imports modules anew; a long wait is told."""
    if not _lock.acquire(timeout=TOLD_AFTER_S):
        _log.warning("mounts: applications of another site have not loaded within %g s: others wait", TOLD_AFTER_S)
        _lock.acquire()
    try:
        yield
    finally:
        _lock.release()


def _take(names: Iterable[str]) -> dict[str, ModuleType]:
    """Take modules out of sys.modules."""
    taken = {name: module for name in names if (module := sys.modules.pop(name, None)) is not None}
    for name, module in taken.items():
        _unbind(name, module)
    return taken


def _put_back(taken: Mapping[str, ModuleType], names: Container[str]) -> None:
    """Have sys.modules show modules of other sites again, where what was imported meanwhile has neither their names nor
    those of their packages."""
    for name, module in sorted(taken.items()):
        package = name.rpartition(".")[0]
        if name in names and name not in sys.modules and sys.modules.get(package) is taken.get(package):
            sys.modules[name] = module
            _bind(name)


def _differs(file: File) -> bool:
    """Whether it holds something else than what was read: a touch, or a checkout to and fro, changes nothing."""
    return file.changed() and File(file.path).content != file.content


def _unbind(name: str, module: ModuleType) -> None:
    """Have its package not know it: one that is left, as a directory without `__init__.py` is, would give it away."""
    package, _, child = name.rpartition(".")
    parent = sys.modules.get(package)
    if parent is not None and vars(parent).get(child) is module:
        vars(parent).pop(child, None)


def _bind(name: str) -> None:
    """Have a module be an attribute of its package, as import has it."""
    package, _, child = name.rpartition(".")
    parent, module = sys.modules.get(package), sys.modules.get(name)
    if parent is not None and module is not None:
        setattr(parent, child, module)
