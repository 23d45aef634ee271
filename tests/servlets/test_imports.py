"""zcserve.servlets.imports: which modules are noted, what a fresh import changes, and what one that fails leaves."""

from __future__ import annotations

import builtins
import importlib
import linecache
import shutil
import sys
import types
from collections.abc import Callable, Iterator
from importlib.machinery import SourceFileLoader
from pathlib import Path
from typing import Any, cast

import pytest

import zcserve
from tests.support.importing import Here, importing
from zcserve.servlets.imports import Imports, MovingError
from zcserve.servlets.sources import File


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Here]:
    with importing(tmp_path, monkeypatch) as here:
        yield here


def test_what_is_noted(here: Here) -> None:
    here.write(
        "PKG/__init__.py", "import json, fresh_beside, fresh_installed, fresh_elsewhere, zcserve.servlets.files\n"
    )
    here.write("PKG/sub/part.py", "")  # of a package without __init__.py
    here.write("fresh_beside.py", "from PKG.sub import part\n")
    here.write("lib/python3/site-packages/fresh_installed.py")
    here.write("../elsewhere/fresh_elsewhere.py")
    sys.path.append(str(here.directory / "lib/python3/site-packages"))
    here.load()
    assert here.noted() == {"PKG", "PKG.sub.part", "fresh_beside"}
    paths = ("/", "", "/PKG", "/PKG/sub")
    assert here.imports.directories() == {f"{here.directory}{path}".replace("PKG", here.name) for path in paths}


def test_modules_that_another_thread_takes_out_meanwhile_do_no_harm(
    here: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Takes(types.ModuleType):
        @property
        def __path__(self) -> list[str]:  # type: ignore[override]  # which is asked of each: as if another thread ran just then
            sys.modules.pop("fresh_taken", None)
            return []

    here.write("PKG/__init__.py", "N = 1\n")
    first = here.load()
    monkeypatch.setitem(sys.modules, "fresh_takes", Takes("fresh_takes"))
    monkeypatch.setitem(sys.modules, "fresh_taken", types.ModuleType("fresh_taken"))
    with here.imports.afresh():
        assert "fresh_taken" not in sys.modules
        assert here.load() is not first


def test_a_package_is_noted_wherever_it_lies_and_watched_here_alone(here: Here) -> None:
    here.write("../elsewhere/PKG/__init__.py", "from fresh_other import N\n")
    here.write("../elsewhere/fresh_other.py", "N = 1\n")
    first = here.load()
    assert here.noted() == {"PKG"}
    assert here.imports.directories() == {f"{here.directory}/"}
    with here.imports.afresh():
        assert here.load() is not first


def test_a_change_shows(here: Here) -> None:
    here.write("PKG/__init__.py", "from PKG import part\n")
    part = here.write("PKG/part.py", "N = 1\n")
    here.load()
    assert not here.imports.changed()
    part.touch()
    assert not here.imports.changed()
    part.write_text("N = 2\n")  # of the same size, and perhaps of the same time
    assert here.imports.changed()
    with here.imports.afresh():
        assert here.load().part.N == 2
    assert not here.imports.changed()
    part.unlink()
    assert here.imports.changed()


def test_all_is_new_but_what_cannot_be(here: Here) -> None:
    here.write("PKG/__init__.py", "from PKG import part\n")
    here.write("PKG/part.py", "from fresh_mutual import names\n")
    here.write("fresh_mutual.py", "names = []\n")
    first = here.load()
    extension = types.ModuleType(f"{here.name}.speedups")  # as a C extension: of no file that is noted
    sys.modules[extension.__name__] = first.speedups = extension
    with here.imports.afresh():
        second = here.load()
    assert second is not first
    assert second.part is not first.part
    assert second.part.names is not first.part.names
    assert second.speedups is extension
    assert first.part.names == []  # what runs on has its own


@pytest.mark.parametrize("fault", ["1 / 0\n", "def\n", "raise SystemExit(1)\n", "import fresh_nowhere\n"])
def test_a_failure_leaves_no_trace(here: Here, fault: str) -> None:
    here.write("PKG/__init__.py", "def fail():\n    raise KeyError\n")
    web = here.write("PKG/web.py", "from PKG import part\ndef fail():\n    raise KeyError  # the good\n")
    here.write("PKG/part.py")
    first = here.load("PKG.web")
    modules = {name: module for name, module in sys.modules.items() if name.startswith(here.name)}
    for _ in range(2):
        web.write_text("from PKG import part, new\n".replace("PKG", here.name) + fault)
        here.write("PKG/new.py")
        with pytest.raises(BaseException), here.imports.afresh():  # noqa: B017, PT011
            here.load("PKG.web")
        assert {name: module for name, module in sys.modules.items() if name.startswith(here.name)} == modules
        assert (modules[here.name].web, modules[here.name].part) == (first, first.part)
        assert "good" not in linecache.getline(str(web), 3)  # what failed is to be told yet
        here.imports.show_lines()
        assert linecache.getline(str(web), 3) == "    raise KeyError  # the good\n"
        assert not here.imports.changed()  # since it was tried
        assert here.imports.failed is not None
    web.write_text("N = 5\n")
    assert here.imports.changed()
    with here.imports.afresh():
        assert here.load("PKG.web").N == 5
    assert here.imports.failed is None
    assert linecache.getline(str(web), 1) == "N = 5\n"


def test_two_servers_of_one_process_do_not_ask_each_other_for_ever(here: Here) -> None:
    other = Imports(str(here.directory), [])
    here.write("PKG.py", "N = 1\n")
    try:
        with here.imports.afresh():
            assert here.load().N == 1
        assert importlib.util.find_spec("fresh_nowhere") is None
    finally:
        other.close()
    assert "PKG" in here.noted() or other.loaded


def test_an_import_is_heard_of(here: Here) -> None:
    heard: list[None] = []
    here.imports.noted = lambda: heard.append(None)
    here.write("PKG.py", "import json\n")
    here.load()
    assert len(heard) == 1


def test_other_finders_have_their_say(here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    class Finder:
        def find_spec(self, name: str, path: Any, target: Any) -> Any:
            return importlib.util.spec_from_loader(name, cast(Any, Loader())) if name == here.name else None

    class Loader:
        create_module: Callable[..., None] = staticmethod(lambda spec: None)

        def exec_module(self, module: Any) -> None:
            module.N = "of another kind"

    here.write("PKG.py", "N = 1\n")
    monkeypatch.setattr(sys, "meta_path", [here.imports, Finder(), *sys.meta_path[1:]])
    assert here.load().N == "of another kind"
    assert here.noted() == set()
    monkeypatch.undo()


def test_a_package_without_a_file_of_its_own_is_new_too(here: Here) -> None:
    here.write("PKG/__init__.py", "from .sub import part\nN = part.N\n")
    part = here.write("PKG/sub/part.py", "N = 1\n")
    old = here.load()
    part.write_text("N = 22\n")
    with here.imports.afresh():
        assert here.load().N == 22
    assert "PKG.sub.part" in here.noted()
    part.write_text("N = =\n")
    with pytest.raises(SyntaxError), here.imports.afresh():
        here.load()
    assert (here.load().N, old.sub.part.N) == (22, 1)
    part.unlink()
    shutil.rmtree(part.parent)  # with what Python has compiled
    here.write("PKG/sub.py", "class part: N = 3\n")  # a module in the place of the package
    with here.imports.afresh():
        assert here.load().N == 3


def test_where_a_missing_module_may_come_is_watched(here: Here) -> None:
    (here.directory / here.name / "sub").mkdir(parents=True)
    here.write("PKG/__init__.py", "from .sub import part\n")
    with pytest.raises(ImportError), here.imports.afresh():
        here.load()
    assert str(here.directory / here.name / "sub") in here.imports.directories()


LATE = """
def ask():
    import PKG.part, PKG.part as same, json
    from . import part
    from .part import N
    return {N, part.N, PKG.part.N, same.N}
"""


def test_what_is_imported_inside_a_function_meanwhile_is_old(here: Here) -> None:
    here.write("PKG/__init__.py", LATE)
    part = here.write("PKG/part.py", "N = 1\n")
    old = here.load()
    assert old.ask() == {1}
    part.write_text("N = 22\n")
    with here.imports.afresh():
        assert old.ask() == {1}
        assert here.load().ask() == {22}
        assert old.ask() == {1}
    part.write_text("N = =\n")
    with pytest.raises(SyntaxError), here.imports.afresh():
        here.imports.import_rest()
    assert here.load().ask() == {22}


def test_what_was_imported_before_is_imported_with_the_rest_unless_it_is_gone(here: Here) -> None:
    here.write("PKG/__init__.py")
    views, gone = here.write("PKG/views.py", "N = 1\n"), here.write("PKG/gone.py")
    for name in ("PKG", "PKG.views", "PKG.gone"):
        here.load(name)
    gone.unlink()
    with here.imports.afresh():
        here.load()
        here.imports.import_rest()
    assert here.noted() == {"PKG", "PKG.views"}
    views.write_text("import fresh_nowhere\n")
    with pytest.raises(ModuleNotFoundError, match="fresh_nowhere"), here.imports.afresh():
        here.imports.import_rest()
    assert here.load("PKG.views").N == 1


def test_what_is_written_while_it_is_loaded_is_told(here: Here) -> None:
    file = here.write("PKG.py", "N = 1\n")
    here.load()
    with here.imports.afresh():
        here.load()
        here.imports.require_rest()

    def load_what_is_written_meanwhile() -> None:
        with here.imports.afresh():
            here.load()
            file.write_text("N = 2\n")
            here.imports.require_rest()

    with pytest.raises(MovingError):
        load_what_is_written_meanwhile()


def test_after_a_failure_imports_are_noted_and_done_as_before(here: Here) -> None:
    before = builtins.__import__
    file = here.write("PKG.py", "N = 1\n")
    here.load()
    file.write_text("N = =\n")
    with pytest.raises(SyntaxError), here.imports.afresh():
        here.load()
    assert builtins.__import__ is before
    here.write("fresh_later.py")
    here.load("fresh_later")
    assert here.noted() == {"PKG", "fresh_later"}


def test_python_itself_is_not_noted_though_it_lies_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "prefix", str(tmp_path / "here" / "venv"))
    with importing(tmp_path, monkeypatch) as here:
        sys.path.append(str(here.write("venv/bin/fresh_of_python.py").parent))
        here.write("PKG.py", "import fresh_of_python\n")
        here.load()
        assert here.noted() == {"PKG"}


def test_a_working_directory_below_what_is_installed_is_one_like_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "site-packages").mkdir()
    with importing(tmp_path / "site-packages", monkeypatch) as here:
        here.write("fresh_beside.py")
        here.load("fresh_beside")
        assert here.noted() == {"fresh_beside"}


def test_where_modules_are_looked_for_is_watched_if_it_lies_here(here: Here) -> None:
    (here.directory / "lib").mkdir()
    sys.path.append(str(here.directory / "lib"))
    here.write("PKG.py")
    here.load()
    assert here.imports.directories() == {f"{here.directory}/", str(here.directory), str(here.directory / "lib")}


def test_what_was_closed_hears_of_no_import(here: Here) -> None:
    heard: list[None] = []
    here.imports.noted = lambda: heard.append(None)
    here.imports.close()
    here.imports.close()
    here.imports.note("PKG", File(here.write("PKG.py")))
    assert not heard


def test_zcserve_is_no_module_of_an_application_even_where_it_lies_here() -> None:
    imports = Imports(str(Path(__file__).parents[2]), ["zcserve"])
    try:
        spec = imports.find_spec("zcserve.phrases", zcserve.__path__)
    finally:
        imports.close()
    assert spec is not None
    assert type(spec.loader) is SourceFileLoader


def test_an_old_functions_relative_import_from_above_is_old(here: Here) -> None:
    here.write("PKG/__init__.py", "N = 1\n")
    here.write("PKG/sub/__init__.py")
    here.write("PKG/sub/deep.py", "def ask():\n    from .. import N\n    return N\n")
    old = here.load("PKG.sub.deep")
    here.write("PKG/__init__.py", "N = 22\n")
    with here.imports.afresh():
        assert old.ask() == 1
        here.load()
        assert old.ask() == 1


# --- sites beside each other ------------------------------------------------------------------------------------------


@pytest.fixture
def other(here: Here) -> Iterator[Imports]:
    """Those of another site, with the same package."""
    made = Imports(str(here.directory), [here.name])
    yield made
    made.close()
    made.forget_modules()


def test_each_site_has_a_version_of_its_own_and_late_imports_find_it(here: Here, other: Imports) -> None:
    here.write("PKG/__init__.py", "N = 1\ndef ask():\n    from PKG import late\n    return N, late.N, late.ask()\n")
    here.write("PKG/late.py", "from PKG import N\ndef ask():\n    import PKG.words as words\n    return words.N\n")
    words = here.write("PKG/words.py", "N = 1\n")
    with here.imports.afresh():
        old = here.load()
    here.write("PKG/__init__.py", (here.directory / here.name / "__init__.py").read_text().replace("N = 1", "N = 22"))
    words.write_text("N = 22\n")
    with other.afresh():
        new = here.load()
    assert sys.modules[here.name] is new
    words.write_text("N = 1\n")
    assert old.ask() == (1, 1, 1)  # imported now, beside the other site's
    words.write_text("N = 22\n")
    assert new.ask() == (22, 22, 22)
    assert old.ask() == (1, 1, 1)
    other.close()
    other.forget_modules()
    assert sys.modules[here.name] is old


def test_what_fails_for_one_site_is_nothing_to_the_other(here: Here, other: Imports) -> None:
    here.write("PKG.py", "N = 1\n")
    with here.imports.afresh():
        old = here.load()
    here.write("PKG.py", "1 / 0\n")
    with pytest.raises(ZeroDivisionError), other.afresh():
        here.load()
    assert sys.modules[here.name] is old


def test_a_module_that_two_sites_share_by_name_is_loaded_for_each(here: Here) -> None:
    """Another site has another package, and both import what no package holds."""
    here.write("PKG.py", "import PKG_shared as shared\n")
    here.write("PKG_other.py", "import PKG_shared as shared\n")
    here.write("PKG_shared.py", "N = []\n")
    other = Imports(str(here.directory), [f"{here.name}_other"])
    try:
        with here.imports.afresh():
            one = here.load()
        with other.afresh():
            two = here.load("PKG_other")
            assert sys.modules[here.name] is one  # it is not in the way
        assert one.shared is not two.shared
    finally:
        other.close()
        other.forget_modules()
    assert sys.modules[f"{here.name}_shared"] is one.shared
