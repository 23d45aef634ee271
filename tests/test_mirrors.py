"""Each module of the package has a file of tests with its name in it, so that what is said of a module is easy to find.
What a module means for a client stands in tests/wire."""

from __future__ import annotations

from pathlib import Path

import pytest

import zcserve

PACKAGE = Path(zcserve.__file__).parent
TESTS = Path(__file__).parent

# Without one, and why.
EXCEPTIONS = {
    "__main__": "calls cli.py, which test_cli.py runs as a command",
    "fleet/sources/source": "a protocol class, what it returns and its error; each source's own tests have them",
    "fleet/node_words": "data alone: what test_node_state.py tells a node, and is told",
    "fleet/rollout_words": "the same of test_rollout.py",
    "net/asker": "a protocol class; test_answering.py has an asker",
    "net/owner": "a protocol class and the names of states; test_http1.py and test_sending.py are owners",
}

MODULES = sorted(
    file.relative_to(PACKAGE).with_suffix("").as_posix() for file in PACKAGE.rglob("*.py") if file.name != "__init__.py"
)


def mirrors(module: str) -> list[Path]:
    """A module's test files: test_NAME.py and test_NAME_MORE.py in its own folder, and what tests/wire has by that
    name."""
    folder, _, name = module.rpartition("/")
    name = "test_" + name.strip("_")
    own = [*(TESTS / folder).glob(f"{name}.py"), *(TESTS / folder).glob(f"{name}_*.py")]
    return own + [file for file in (TESTS / "wire").glob(f"{name}*.py") if file.stem in (name, name + "s")]


@pytest.mark.parametrize("module", sorted(set(MODULES) - set(EXCEPTIONS)))
def test_a_module_has_a_file_of_tests_with_its_name(module: str) -> None:
    assert mirrors(module)


def test_an_exception_is_a_module_that_has_none() -> None:
    assert EXCEPTIONS.keys() <= set(MODULES)
    assert [module for module in EXCEPTIONS if mirrors(module)] == []
