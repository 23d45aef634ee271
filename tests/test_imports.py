"""The floors of the house: a module imports only what stands below it (the order of zcserve/README.md). Tests import
what they share from `tests.support`, never from each other. What has a private name stays in its module.

Read from the source, so that an import inside a function or under TYPE_CHECKING counts like any other.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import zcserve

PACKAGE = Path(zcserve.__file__).parent
TESTS = Path(__file__).parent

# Lowest first; those on one line do not import each other, but modules of one package do.
FLOORS = (
    ("phrases",),
    ("errors", "collector"),
    ("threads", "progress", "events", "agenda", "replacing"),
    ("outlet", "journal"),
    ("log",),
    ("charsets",),
    ("http", "media_types", "program", "cgroups"),
    ("paths", "forwarded"),
    ("config",),
    ("auth",),
    ("rules",),
    ("cache",),
    ("site",),
    ("net",),
    ("servlets",),
    ("content", "applications", "upgrade", "signals", "drain", "supervisor"),
    ("admin",),
    ("check", "banner", "foresight", "succession", "activation", "sites"),
    ("reconfigure", "foreground", "explain"),
    ("server", "ctl"),
    ("fleet",),
    ("cli",),
    ("command",),
    ("__main__",),
)
FLOOR = {name: floor for floor, names in enumerate(FLOORS) for name in names}

# The same inside of a package, for those whose modules have an order.
FLOORS_WITHIN = {
    "config": (
        ("refusal", "site_names"),
        ("units", "addresses", "hosts", "globs", "log_fields", "places"),
        ("checks", "site"),
        ("option",),
        ("tables", "limits"),
        ("table",),
        ("keys", "slips", "words"),
        ("sites",),
        ("sources",),
    ),
    "site": (
        ("accounts", "reply"),
        ("exchange", "listing_page"),
        ("listings",),
        ("site",),
        ("hosts",),
    ),
    "ctl": (
        ("commands", "client", "figures"),
        ("arguments", "guide", "whereabouts", "waiting", "rates"),
        ("screen", "shell"),
        ("top", "completion"),
    ),
    "content": (
        ("told", "missed", "merging", "garbage", "news", "noted", "heat_file"),
        ("builder", "crews", "looks"),
        ("renewals", "jobs", "live"),
        ("preparing", "rechecks", "filling", "warming", "readiness", "handing"),
        ("releases",),
        ("patches", "pinning"),
        ("purging",),
        ("content",),
        ("contents",),
    ),
}

MODULES = sorted(PACKAGE.rglob("*.py"))
# Modules for talking to clients: only the net and what stands above it may import them.
OF_THE_NETWORK = {"asyncio", "http", "select", "selectors", "socket", "socketserver", "ssl"}


def room(file: Path) -> str:
    """The part of the house: "cache" for cache/loader.py, "http" for http.py."""
    return file.relative_to(PACKAGE).with_suffix("").parts[0]


def statements(body: Sequence[ast.AST]) -> Iterator[ast.AST]:
    """All statements, of functions and classes, too; no expressions, which are ten times as many."""
    for node in body:
        yield node
        for part in ("body", "handlers", "orelse", "finalbody", "cases"):
            yield from statements(getattr(node, part, ()))


@cache
def imports(file: Path) -> tuple[str, ...]:
    """Dotted names of what a module imports; for `from a import b` both a and a.b."""
    found = []
    for node in statements(ast.parse(file.read_bytes()).body):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file.name}:{node.lineno}: a relative import hides its floor"
            assert node.module is not None
            found += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    return tuple(found)


def rooms_imported(file: Path) -> set[str]:
    """The parts of zcserve that a module imports from."""
    parts = [name.split(".") for name in imports(file)]
    named = {part[1] for part in parts if part[0] == "zcserve" and len(part) > 1}
    return named - set(vars(zcserve))  # __version__ and its like belong to no room


def ids(file: Path) -> str:
    return str(file.relative_to(PACKAGE))


@pytest.mark.parametrize(
    "file", [file for file in MODULES if file.parent != PACKAGE or file.stem != "__init__"], ids=ids
)
def test_a_module_imports_only_what_stands_below_it(file: Path) -> None:
    own = room(file)
    assert own in FLOOR, f"{own} has no floor: FLOORS here and zcserve/README.md give every room one"
    too_high = {name for name in rooms_imported(file) if name != own and FLOOR[name] >= FLOOR[own]}
    assert not too_high


@pytest.mark.parametrize("package", FLOORS_WITHIN)
def test_inside_of_a_package_too(package: str) -> None:
    floor = {name: floor for floor, names in enumerate(FLOORS_WITHIN[package]) for name in names}
    files = {file.stem: file for file in MODULES if room(file) == package and file.stem != "__init__"}
    assert files.keys() == floor.keys()
    for name, file in files.items():
        parts = [found.split(".") for found in imports(file)]
        beside = {part[2] for part in parts if part[:2] == ["zcserve", package] and len(part) > 2}
        assert {other for other in beside if floor[other] >= floor[name]} == set(), name


@pytest.mark.parametrize("package", ["cache", "config", "content", "ctl", "net", "rules", "servlets", "site"])
def test_no_modules_of_a_package_import_each_other_in_a_circle(package: str) -> None:
    files = {f"zcserve.{package}.{file.stem}": file for file in MODULES if room(file) == package}
    beside = {name: files.keys() & set(imports(file)) for name, file in files.items()}
    TopologicalSorter(beside).prepare()


@pytest.mark.parametrize("order", [FLOORS[:-1], FLOORS_WITHIN["config"]], ids=["zcserve", "config"])
def test_the_map_gives_this_order(order: tuple[tuple[str, ...], ...]) -> None:
    line = "  <  ".join(" ".join(names) for names in order)
    assert f"\n    {line}\n" in (PACKAGE / "README.md").read_text()


def test_every_floor_is_of_a_room_that_exists() -> None:
    assert FLOOR.keys() == {room(file) for file in MODULES} - {"__init__"}


BELOW_THE_NET = {"site", "cache", "rules", "errors", "http", "phrases", "forwarded", "config"}


@pytest.mark.parametrize(
    "file",
    [file for file in MODULES if room(file) in BELOW_THE_NET],
    ids=ids,
)
def test_what_stands_below_the_net_knows_no_socket(file: Path) -> None:
    allowed = {"http"} if room(file) == "phrases" else set()  # http.HTTPStatus
    assert not {name.partition(".")[0] for name in imports(file)} & (OF_THE_NETWORK - allowed)


UNITS = PACKAGE / "net" / "lane"
COMPILED = [*sorted(UNITS.glob("*.pxd")), PACKAGE / "net" / "_lane.pyx"]


@pytest.mark.parametrize("file", COMPILED, ids=lambda file: file.stem)
def test_a_unit_of_the_lane_is_told_of_and_imports_only_what_stands_below_it(file: Path) -> None:
    theory = (UNITS / "__init__.py").read_text()
    (order,) = re.findall(r" {4}(system .*?)\n\n", theory, re.DOTALL)
    floors = {name: floor for floor, names in enumerate(order.split("<")) for name in names.split()}
    told = {name for name in re.findall(r"^\| (\w+) +\|", theory, re.MULTILINE) if name != "unit"}
    assert floors.keys() == told | {"_lane"} == {unit.stem for unit in COMPILED}
    imported = set(re.findall(r"^from zcserve\.net\.lane\.(\w+) cimport", file.read_text(), re.MULTILINE))
    assert all(floors[name] < floors[file.stem] for name in imported)


def test_a_test_imports_only_what_tests_support_has_for_it() -> None:
    names = [(file, name.split(".")) for file in TESTS.rglob("*.py") for name in imports(file)]
    beside = {(str(file.relative_to(TESTS)), parts[1]) for file, parts in names if parts[0] == "tests" and parts[1:]}
    assert {(file, where) for file, where in beside if where != "support"} == set()


def test_test_files_in_different_folders_may_have_one_name() -> None:
    assert __name__ == "tests.test_imports"  # a module has its full name, from the checkout downwards
    assert len(list(TESTS.rglob("test_request.py"))) == 2


# Compiled modules are called as C extensions are.
COMPILED_NAMES = {"_lane", "_walk"}
# What takes the name of an attribute, `patch.object` among it.
BY_NAME = {"attrgetter", "delattr", "getattr", "hasattr", "methodcaller", "object", "setattr"}
# How a text begins that may be a private name. Most modules have none, and are parsed much faster than walked through.
MAY_BE_PRIVATE = re.compile(r"""["'](?:\w+\.)*_(?!_)""")
HOUSE = ("zcserve", "tests", "tools")


def is_private(name: str) -> bool:
    return any(part.startswith("_") and part[:2] != "__" and part not in COMPILED_NAMES for part in name.split("."))


def private_names(source: str) -> set[str]:
    """The private names of others that a module imports, or gets by their names. Attributes are what ruff looks at
    (SLF001)."""
    tree = ast.parse(source)
    found: set[str] = set()
    for node in statements(tree.body):
        match node:
            case ast.Import(names=names):
                found |= {alias.name for alias in names if alias.name.startswith(HOUSE)}
            case ast.ImportFrom(module=str(module), names=names) if module.startswith(HOUSE):
                found |= {f"{module}.{alias.name}" for alias in names}
    for node in ast.walk(tree) if MAY_BE_PRIVATE.search(source) else ():
        match node:
            case ast.Call(func=ast.Name(id=called) | ast.Attribute(attr=called), args=args) if called in BY_NAME:
                found |= {arg.value for arg in args[:2] if isinstance(arg, ast.Constant) and isinstance(arg.value, str)}
            case ast.Subscript(
                value=ast.Call(func=ast.Name(id="vars")) | ast.Attribute(attr="__dict__"),
                slice=ast.Constant(value=str(name)),
            ):
                found.add(name)
    return {name for name in found if is_private(name)}


@pytest.mark.parametrize("folder", [PACKAGE, TESTS, TESTS.parent / "tools"], ids=lambda folder: folder.name)
def test_no_module_has_private_names_of_another(folder: Path) -> None:
    found = {file: private_names(file.read_text()) for file in folder.rglob("*.py")}
    assert {file: names for file, names in found.items() if names} == {}


@pytest.mark.parametrize(
    "source",
    [
        "from zcserve.net import _x",
        "from zcserve.net.loop import Loop, _x as x",
        "from tests._x import y",
        "import zcserve.net._x as x",
        "monkeypatch.setattr(server, '_x', 1)",
        "monkeypatch.setattr('zcserve.net.loop._x', 1)",
        "getattr(server, '_x')",
        "patch.object(server, '_x')",
        "vars(server)['_x']",
        "server.__dict__['_x'] = 1",
    ],
)
def test_a_private_name_is_found_however_it_is_got(source: str) -> None:
    assert len(private_names(source)) == 1
    assert private_names(source.replace("_x", "x")) == set()


def loaded_by(statement: str) -> set[str]:
    """What is in sys.modules after a statement in a fresh interpreter."""
    code = f"import sys; sys.path.insert(0, {str(PACKAGE.parent)!r}); {statement}; print(*sys.modules)"
    return set(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split())


@pytest.mark.parametrize(
    ("statement", "lowest_not_loaded"),
    [("import zcserve", "errors"), ("import zcserve.config.sources", "cache"), ("import zcserve.cli", "cache")],
)
def test_importing_little_loads_little(statement: str, lowest_not_loaded: str) -> None:
    loaded = {name.split(".")[1] for name in loaded_by(statement) if name.startswith("zcserve.")}
    above = {name for name in loaded if FLOOR[name] >= FLOOR[lowest_not_loaded] and name != "cli"}
    assert not above


def test_config_and_server_are_found_in_the_package_when_asked_for() -> None:
    loaded = loaded_by("from zcserve import Config, Server")
    assert {"zcserve.config.table", "zcserve.server"} <= loaded
    with pytest.raises(AttributeError, match="no attribute 'Sever'"):
        zcserve.Sever  # noqa: B018
