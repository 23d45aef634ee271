"""A folder of servlets, edited while it is served: real files, one after another."""

from __future__ import annotations

import inspect
import io
import json
import linecache
import logging
import os
import pickle
import py_compile
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from zcserve.errors import UsageError
from zcserve.paths import SentPath
from zcserve.servlets import folder as folder_module
from zcserve.servlets import sources
from zcserve.servlets.folder import Folder, Module

IMPORT = "from zcserve.servlets.routes import servlet\n"
ABOUT_LOADING = (str(Path(folder_module.__file__)), "importlib", "routes.py", "sources.py", "importers.py")


class Servlets:
    """A directory of servlets and the Folder that loads them."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir()
        self.directory = directory
        self.folder = Folder(directory)

    def write(self, file: str, source: str) -> Path:
        path = self.directory / file
        path.write_text(source)
        return path

    def save(self, file: str, source: str) -> None:
        """As an editor does: write beside, rename over."""
        beside = self.write(f".{file}.tmp", source)
        beside.replace(self.directory / file)

    def changed(self) -> bool:
        return bool(self.folder.loaded.changes())

    def seen(self) -> Servlets:
        """What a request does first: refresh if something changed; then nothing has."""
        assert self.changed()
        self.folder.refresh()
        assert not self.changed()
        return self

    def call(self, name: str, method: str = "GET") -> Any:
        routes = self.folder.loaded.table.named(name)
        assert routes is not None
        return routes[method].function(None)

    def get(self, path: bytes) -> Any:
        match = self.folder.loaded.table.find(SentPath(path))
        return None if match is None else match.by_method["GET"].function(None, **match.params)

    def module(self, name: str) -> Module:
        return self.folder.modules[name]


@pytest.fixture
def servlets(tmp_path: Path) -> Iterator[Servlets]:
    """An empty folder; what it leaves in sys.modules goes with it."""
    before = set(sys.modules)
    yield Servlets(tmp_path / "servlets")
    for name in set(sys.modules) - before:
        if name.startswith(("_", "zcserve_servlet_")):
            del sys.modules[name]


def returning(value: object) -> str:
    return f"def get(request):\n    return {value!r}\n"


def errors(caplog: pytest.LogCaptureFixture, level: int = logging.ERROR) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno == level]


# --- new, changed, gone -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["missing", "file"])
def test_a_folder_must_be_a_directory(name: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="is not a directory"):
        Folder(tmp_path / name)


def test_new_changed_and_removed_files_are_noticed(servlets: Servlets) -> None:
    servlets.seen()
    assert servlets.folder.modules == {}
    servlets.write("hello.py", returning("one"))
    servlets.write("my-page_2.py", f"{IMPORT}@servlet('/p/{{x}}')\ndef page(request, x): return x")
    servlets.seen()
    assert servlets.call("hello") == "one"
    assert servlets.get(b"/p/1") == "1"
    assert [route.where for route in servlets.module("hello").routes] == ["servlets/hello.py:1"]
    assert servlets.module("hello").file == servlets.directory / "hello.py"

    servlets.write("hello.py", returning("another one"))
    servlets.seen()
    assert servlets.call("hello") == "another one"

    (servlets.directory / "hello.py").unlink()
    assert servlets.module("hello").changed()
    servlets.seen()
    assert servlets.folder.loaded.table.named("hello") is None
    assert set(servlets.folder.modules) == {"my-page_2"}
    assert "zcserve_servlet_hello" not in sys.modules


def test_what_has_not_changed_is_not_loaded_again_unless_everything_is(servlets: Servlets) -> None:
    servlets.write("counter.py", "count = [0]\ndef get(request):\n    count[0] += 1\n    return count[0]\n")
    servlets.seen()
    assert [servlets.call("counter"), servlets.call("counter")] == [1, 2]
    module = servlets.module("counter")
    servlets.write("other.py", returning(""))
    servlets.seen()
    servlets.folder.refresh()
    assert servlets.module("counter") is module
    assert servlets.call("counter") == 3
    servlets.folder.refresh(everything=True)
    assert servlets.call("counter") == 1


def test_modules_and_table_are_replaced_and_not_changed(servlets: Servlets) -> None:
    servlets.write("hello.py", returning("one"))
    servlets.seen()
    modules, table, _ = servlets.folder.loaded
    function = table.named("hello")["GET"].function  # type: ignore[index]
    servlets.write("hello.py", returning("two!"))
    servlets.write("more.py", returning("more"))
    servlets.seen()
    assert set(modules) == {"hello"}
    assert modules["hello"].routes[0].function is function
    assert table.named("more") is None
    assert function(None) == "one"


WRITERS: list[Callable[[Servlets, str, str], object]] = [Servlets.write, Servlets.save]


@pytest.mark.parametrize("write", WRITERS)
def test_a_change_of_the_same_size_within_the_same_second_is_a_change(
    servlets: Servlets, write: Callable[[Servlets, str, str], object]
) -> None:
    write(servlets, "hello.py", returning(0))
    servlets.seen()
    for value in range(1, 10):  # faster than the clock of most file systems ticks
        write(servlets, "hello.py", returning(value))
        servlets.seen()
        assert servlets.call("hello") == value


def test_a_change_that_no_time_shows_is_a_change_while_the_file_is_new(
    servlets: Servlets, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sources, "identity_of", lambda status: b"the same")
    servlets.write("hello.py", returning(1))
    servlets.seen()
    servlets.write("hello.py", returning(2))
    servlets.write("more.py", returning(1))
    servlets.seen()
    assert servlets.call("hello") == 2
    assert servlets.call("more") == 1


def test_a_file_is_looked_at_by_its_identity_alone_once_it_is_old(
    servlets: Servlets, monkeypatch: pytest.MonkeyPatch
) -> None:
    servlets.write("hello.py", returning(1))
    servlets.seen()
    later = time.time_ns() + 10 * sources.SETTLED_NS
    monkeypatch.setattr(time, "time_ns", lambda: later)
    assert not servlets.changed()
    monkeypatch.setattr(Path, "read_bytes", lambda path: pytest.fail(f"{path} is read"))
    monkeypatch.setattr(os, "listdir", lambda path: pytest.fail(f"{path} is listed"))
    assert not servlets.changed()


def test_bytecode_is_neither_read_nor_written(servlets: Servlets) -> None:
    path = servlets.write("hello.py", returning("old"))
    servlets.write("_shared.py", "value = 'old'")
    old = path.stat().st_mtime_ns
    for file in ("hello.py", "_shared.py"):
        py_compile.compile(str(servlets.directory / file), doraise=True)
    kept = {file: file.stat().st_mtime_ns for file in (servlets.directory / "__pycache__").iterdir()}
    assert len(kept) == 2
    servlets.write("hello.py", returning("new"))
    servlets.write("_shared.py", "value = 'new'")
    servlets.write("shows.py", "import _shared\ndef get(request):\n    return _shared.value\n")
    for file in ("hello.py", "_shared.py"):
        os.utime(servlets.directory / file, ns=(old, old))  # as the .pyc files know them: same size, same time
    servlets.seen()
    assert servlets.call("hello") == "new"
    assert servlets.call("shows") == "new"
    assert {file: file.stat().st_mtime_ns for file in (servlets.directory / "__pycache__").iterdir()} == kept


def test_names_that_are_none_are_ignored_with_one_warning_each(
    servlets: Servlets, caplog: pytest.LogCaptureFixture
) -> None:
    for file in ("2nd.py", "a b.py", "é.py", "_json.py", ".hidden.py", "_shared.py", "__init__.py", "notes.txt"):
        servlets.write(file, "raise AssertionError('never loaded')")
    os.symlink("nowhere", servlets.directory / ".#hello.py")
    os.symlink("nowhere", servlets.directory / "dangling.py")
    (servlets.directory / "directory.py").mkdir()
    servlets.write("hello.py", returning("hello"))
    servlets.seen()
    servlets.folder.refresh(everything=True)
    assert set(servlets.folder.modules) == {"hello"}
    ignored = [warning.split("'")[1] for warning in errors(caplog, logging.WARNING)]
    assert ignored == ["2nd.py", "_json.py", "a b.py", "é.py"]
    assert not errors(caplog)


def test_a_folder_that_cannot_be_read_goes_on_with_what_was_loaded(
    servlets: Servlets, caplog: pytest.LogCaptureFixture
) -> None:
    servlets.write("hello.py", returning("hello"))
    servlets.seen()
    away = servlets.directory.rename(servlets.directory.with_name("away"))
    servlets.folder.refresh()
    assert servlets.call("hello") == "hello"
    assert "" not in servlets.folder.loaded.changes()
    assert "cannot be read" in errors(caplog)[0]
    away.rename(servlets.directory)
    servlets.write("hello.py", returning("again"))
    servlets.seen()
    assert servlets.call("hello") == "again"


# --- what breaks ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("broken", "line", "last"),
    [
        ("\ndef get(request:\n", 2, "SyntaxError: "),
        ("def get(request):\n    return 1\n\n1 / 0\n", 4, "ZeroDivisionError: division by zero"),
        ("import sys\nsys.exit('enough')\n", 2, "SystemExit: enough"),
        ("\nimport no_such_module_anywhere\n", 2, "ModuleNotFoundError: No module named 'no_such_module_anywhere'"),
        ("import hello\n", 1, "ModuleNotFoundError: "),
        ("raise GeneratorExit\n", 1, "GeneratorExit"),
        ("def deep():\n    deep()\ndeep()\n", 2, "RecursionError: "),
        ("try:\n    1 / 0\nexcept ZeroDivisionError:\n    raise KeyError(1)\n", 2, "KeyError: 1"),
        (IMPORT + "@servlet('x')\ndef get(request): ...\n", 2, "ValueError: path 'x'"),
        ("return 1\n", 1, "SyntaxError: 'return' outside function"),
        ("# coding: hex\n", 0, "SyntaxError: "),
        ("x = 1\n", 0, "ValueError: servlets/hello.py has no function"),
        ("# \xff\x00\n", 0, "source code string cannot contain null bytes"),
    ],
)
def test_what_breaks_goes_on_as_it_was_until_it_is_repaired(
    servlets: Servlets, broken: str, line: int, last: str, caplog: pytest.LogCaptureFixture
) -> None:
    servlets.write("hello.py", returning("good"))
    servlets.write("other.py", returning("other"))
    servlets.seen()
    good = sys.modules["zcserve_servlet_hello"]
    servlets.write("hello.py", broken)
    servlets.seen()
    assert servlets.call("hello") == "good"
    assert servlets.call("other") == "other"
    assert sys.modules["zcserve_servlet_hello"] is good

    error = servlets.module("hello").error
    assert last in error.splitlines()[-1]
    assert not line or f'File "{servlets.directory / "hello.py"}", line {line}' in error
    assert not [about for about in ABOUT_LOADING if about in error]
    assert errors(caplog) == [f"servlets/hello.py does not load, the last good version goes on:\n{error.rstrip()}"]
    servlets.folder.refresh()
    assert len(errors(caplog)) == 1

    servlets.write("hello.py", returning("repaired"))
    servlets.seen()
    assert servlets.call("hello") == "repaired"
    assert servlets.module("hello").error == ""


def test_what_never_loaded_is_not_served_and_its_error_is_kept(
    servlets: Servlets, caplog: pytest.LogCaptureFixture
) -> None:
    servlets.write("hello.py", "1 / 0")
    servlets.seen()
    assert servlets.module("hello").routes == ()
    assert "ZeroDivisionError" in servlets.module("hello").error
    assert "servlets/hello.py does not load, it is not served" in errors(caplog)[0]
    assert servlets.folder.loaded.table.named("hello") is None
    assert "zcserve_servlet_hello" not in sys.modules


def test_ctrl_c_ends_the_server_and_not_only_the_servlet(servlets: Servlets) -> None:
    servlets.write("hello.py", "raise KeyboardInterrupt")
    with pytest.raises(KeyboardInterrupt):
        servlets.folder.refresh()
    assert "zcserve_servlet_hello" not in sys.modules
    assert servlets.changed()


def test_a_file_that_cannot_be_read_says_so(servlets: Servlets) -> None:
    os.symlink("/proc/self/mem", servlets.directory / "hello.py")  # a regular file whose first bytes cannot be read
    servlets.folder.refresh()
    assert "Input/output error" in servlets.module("hello").error
    assert servlets.module("hello").routes == ()


def test_tracebacks_show_the_lines_that_run_and_not_those_that_were_tried(servlets: Servlets) -> None:
    servlets.write("hello.py", "def get(request):\n    return request.good\n")
    servlets.seen()
    servlets.write("hello.py", "def get(request):\n    return request.tried()\nget(1)\n")
    servlets.seen()
    assert "return request.tried()" in servlets.module("hello").error
    with pytest.raises(AttributeError) as raised:
        servlets.call("hello")
    text = "".join(traceback.format_exception(raised.value))
    assert "return request.good" in text
    assert "return request.good" in inspect.getsource(servlets.module("hello").routes[0].function)
    assert linecache.getline(str(servlets.directory / "hello.py"), 2) == "    return request.good\n"


# --- conflicts --------------------------------------------------------------------------------------------


def answering(*paths: str) -> str:
    decorators = "".join(f"@servlet({path!r})\n" for path in paths)
    return f"{IMPORT}{decorators}def page(request): return __name__[-1]\n"


def test_of_two_files_that_want_the_same_path_the_one_that_has_it_keeps_it(
    servlets: Servlets, caplog: pytest.LogCaptureFixture
) -> None:
    servlets.write("b.py", answering("/x"))
    servlets.seen()
    servlets.write("a.py", answering("/x", "/a"))
    servlets.seen()
    assert servlets.get(b"/x") == "b"
    assert servlets.get(b"/a") is None
    assert servlets.module("a").routes == ()
    where = "GET /x (servlets/a.py:2) is taken by servlets/b.py:2"
    assert servlets.module("a").error == f"ConflictError: {where}\n"
    servlets.folder.refresh()
    assert len(errors(caplog)) == 1
    assert where in errors(caplog)[0]

    servlets.write("b.py", answering("/elsewhere"))  # gives way, and a.py need not be touched
    servlets.seen()
    assert servlets.get(b"/x") == "a"
    assert servlets.get(b"/a") == "a"
    assert servlets.get(b"/elsewhere") == "b"
    assert servlets.module("a").error == ""
    assert sys.modules["zcserve_servlet_a"].__name__ == servlets.module("a").routes[0].function.__module__


def test_of_two_new_files_the_first_by_name_wins(servlets: Servlets) -> None:
    servlets.write("b.py", answering("/x"))
    servlets.write("a.py", answering("/x"))
    servlets.seen()
    assert servlets.get(b"/x") == "a"
    assert "taken by servlets/a.py:2" in servlets.module("b").error


def test_two_files_may_swap_their_paths(servlets: Servlets) -> None:
    servlets.write("a.py", answering("/x"))
    servlets.write("b.py", answering("/y"))
    servlets.seen()
    servlets.write("a.py", answering("/y"))
    servlets.write("b.py", answering("/x"))
    servlets.seen()
    assert (servlets.get(b"/x"), servlets.get(b"/y")) == ("b", "a")


def test_a_last_good_version_keeps_its_paths_from_one_that_would_take_them(servlets: Servlets) -> None:
    servlets.write("a.py", answering("/a"))
    servlets.write("b.py", answering("/b"))
    servlets.write("c.py", answering("/c"))
    servlets.seen()
    servlets.write("a.py", answering("/b"))  # would take what b has
    servlets.write("b.py", "broken")
    servlets.write("c.py", answering("/a"))  # would take what a cannot give up then
    servlets.seen()
    assert [servlets.get(path) for path in (b"/a", b"/b", b"/c")] == ["a", "b", "c"]
    assert "NameError" in servlets.module("b").error
    assert "taken by servlets/b.py" in servlets.module("a").error
    assert "taken by servlets/a.py" in servlets.module("c").error
    servlets.write("b.py", answering("/new"))
    servlets.seen()
    assert [servlets.get(path) for path in (b"/a", b"/b", b"/c", b"/new")] == ["c", "a", None, "b"]


def test_a_file_may_conflict_with_itself(servlets: Servlets) -> None:
    servlets.write("a.py", answering("/x") + "get = servlet('/%78')(lambda request: 1)\n")
    servlets.seen()
    assert "servlets/a.py:4) is taken by servlets/a.py:2" in servlets.module("a").error


# --- helpers ----------------------------------------------------------------------------------------------

SHOWS = "import _shared\ndef get(request):\n    return _shared.value\n"


def test_a_helper_that_changes_reloads_those_that_import_it(servlets: Servlets) -> None:
    servlets.write("_shared.py", "value = 1")
    servlets.write("a.py", SHOWS)
    servlets.write("b.py", "from _deeper import shared\ndef get(request):\n    return shared.value\n")
    servlets.write("_deeper.py", "import _shared as shared")
    servlets.write("c.py", returning("c"))
    servlets.seen()
    untouched = servlets.module("c")
    assert servlets.call("a") == servlets.call("b") == 1
    servlets.write("_shared.py", "value = 2")
    assert [servlets.module(name).changed() for name in "abc"] == [True, True, False]
    servlets.seen()
    assert servlets.call("a") == servlets.call("b") == 2
    assert servlets.module("c") is untouched


def test_servlets_share_a_helper_and_its_state_outlives_their_changes(servlets: Servlets) -> None:
    servlets.write("_shared.py", "value = []")
    servlets.write("a.py", SHOWS)
    servlets.write("b.py", SHOWS)
    servlets.seen()
    servlets.call("a").append(1)
    servlets.write("b.py", SHOWS + "# changed\n")
    servlets.seen()
    assert servlets.call("b") == [1]
    assert servlets.call("b") is servlets.call("a")


def test_a_helper_that_breaks_breaks_nothing_that_goes_on(servlets: Servlets) -> None:
    servlets.write("_shared.py", "value = 'good'")
    servlets.write("top.py", SHOWS)
    servlets.write("inside.py", "def get(request):\n    import _shared\n    return _shared.value\n")
    servlets.seen()
    assert servlets.call("inside") == "good"
    servlets.write("_shared.py", "value = 'bad'\n1 / 0\n")
    servlets.seen()
    assert servlets.call("top") == servlets.call("inside") == "good"
    for name in ("top", "inside"):
        error = servlets.module(name).error
        assert f'"{servlets.directory / "_shared.py"}", line 2' in error
        assert not [about for about in ABOUT_LOADING if about in error]
    servlets.write("_shared.py", "value = 'repaired'\n")
    servlets.seen()
    assert servlets.call("top") == servlets.call("inside") == "repaired"


def test_a_helper_with_a_syntax_error_is_named_with_file_and_line(servlets: Servlets) -> None:
    servlets.write("_shared.py", "value = 1\nvalue = = 2\n")
    servlets.write("a.py", SHOWS)
    servlets.seen()
    error = servlets.module("a").error
    assert f'"{servlets.directory / "a.py"}", line 1' in error
    assert f'"{servlets.directory / "_shared.py"}", line 2' in error
    assert not [about for about in ABOUT_LOADING if about in error]


def test_a_helper_that_comes_late_or_goes_is_noticed(servlets: Servlets) -> None:
    servlets.write("a.py", SHOWS)
    servlets.seen()
    assert "No module named '_shared'" in servlets.module("a").error
    servlets.write("_shared.py", "value = 1")
    servlets.seen()
    assert servlets.call("a") == 1
    (servlets.directory / "_shared.py").unlink()
    servlets.seen()
    assert servlets.call("a") == 1
    assert "No module named '_shared'" in servlets.module("a").error


def test_helpers_that_import_each_other_have_an_end(servlets: Servlets) -> None:
    servlets.write("_left.py", "import _right\nvalue = 1")
    servlets.write("_right.py", "import _left\nvalue = 2")
    servlets.write("a.py", "import _left, _right\ndef get(request):\n    return _left.value + _right.value\n")
    servlets.seen()
    assert servlets.call("a") == 3
    servlets.write("_right.py", "import _left\nvalue = 3")
    servlets.seen()
    assert servlets.call("a") == 4


def test_two_folders_have_their_own_helpers(servlets: Servlets, tmp_path: Path) -> None:
    other = Servlets(tmp_path / "other")
    for each, value in ((servlets, 1), (other, 2)):
        each.write("_shared.py", f"value = {value}")
        each.write("a.py", SHOWS)
        each.seen()
    assert (servlets.call("a"), other.call("a")) == (1, 2)
    servlets.write("a.py", SHOWS + "# changed\n")
    servlets.seen()
    assert (servlets.call("a"), other.call("a")) == (1, 2)


# --- modules as Python knows them -------------------------------------------------------------------------


def test_a_servlet_may_be_named_as_a_module_of_python(servlets: Servlets, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("json", "colorsys"):
        servlets.write(f"{name}.py", returning(f"the servlet {name}"))
    servlets.write("user.py", "import colorsys, json\ndef get(request):\n    return json.dumps(colorsys.__file__)\n")
    monkeypatch.delitem(sys.modules, "colorsys", raising=False)
    servlets.seen()
    assert servlets.call("json") == "the servlet json"
    assert str(servlets.directory) not in servlets.call("user")
    assert sys.modules["json"] is json
    assert str(servlets.directory) not in sys.path


def test_dataclasses_pickle_and_inspect_work_in_a_servlet(servlets: Servlets) -> None:
    source = """from __future__ import annotations
import dataclasses, typing
@dataclasses.dataclass
class Point:
    x: int
    Kind: typing.ClassVar[str] = "point"
def get(request):
    return Point(1)
"""
    servlets.write("points.py", source)
    servlets.seen()
    point = servlets.call("points")
    assert pickle.loads(pickle.dumps(point)) == point
    assert type(point).__module__ == "zcserve_servlet_points"
    assert "class Point" in inspect.getsource(type(point))
    servlets.write("points.py", source + "broken")
    servlets.seen()
    assert pickle.loads(pickle.dumps(point)) == point
    servlets.write("points.py", source.replace("Point(1)", "Point(2)"))
    servlets.seen()
    assert pickle.load(io.BytesIO(pickle.dumps(servlets.call("points")))).x == 2
    assert point.x == 1


def test_a_servlet_does_not_inherit_how_we_are_compiled(servlets: Servlets) -> None:
    servlets.write("a.py", "def get(request, x: int = 0):\n    return get.__annotations__\n")
    servlets.seen()
    assert servlets.call("a") == {"x": int}


def test_a_warning_of_the_compiler_is_shown_once(servlets: Servlets) -> None:
    servlets.write("a.py", "def get(request):\n    return 1 is 1, '\\d'\n")
    with warnings.catch_warnings(record=True) as shown:
        warnings.simplefilter("always")
        servlets.seen()
    assert len({str(each.message) for each in shown}) == len(shown) == 2
