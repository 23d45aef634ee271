"""What all tests share: a tree to serve, a server in a thread, a server as a process, and waiting without luck.

Everything a test starts ends with it. A server listens on a port of the kernel's choosing, so that any number of tests
run beside each other. With ZCSERVE_TEST_STRICT=1 (`.ci/run`, where everything is installed) a skip is a failure; with
ZCSERVE_TEST_UNHURRIED=1 a change shows in many small and late steps, and what fails is a test that does not wait; with
ZCSERVE_TEST_LANES=2 the servers have so many lanes.
"""

from __future__ import annotations

import gc
import itertools
import os
import re
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from tests.support import collector, lanes, unhurried, waiting
from tests.support.command import Command, StartCommand
from tests.support.site import Serve, Site
from tests.support.waiting import Growth, WaitUntil
from zcserve import Config, Server

try:
    from hypothesis import settings
except ImportError:
    pass
else:
    # The same inputs in every run: whether a change lands depends on it alone. New inputs are looked for by
    # --hypothesis-profile=thorough -o faulthandler_timeout=0
    settings.register_profile("zcserve", deadline=None, derandomize=True)
    settings.register_profile("thorough", deadline=None, max_examples=20_000)
    settings.load_profile("zcserve")


# A closed server is cyclic garbage that holds descriptors until it is collected; without garbage, a worker between two
# tests has about 14 open, however many it has run; what a test's own fixtures made is still held when they are counted,
# and five stores have 175. A process may have 1,024.
DESCRIPTORS_MAX = 250

# Where the environment has Python keep no compiled modules, each of the hundreds of processes would compile them all.
sys.dont_write_bytecode = False
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

STRICT = os.environ.get("ZCSERVE_TEST_STRICT") == "1"
if unhurried.IS_WANTED:
    unhurried.begin()
if lanes.IS_WANTED:
    lanes.begin()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """`-n auto`: tests wait for deadlines and processes half of their time, so two share a core."""
    return 2 * len(os.sched_getaffinity(0))


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if lanes.IS_WANTED:
        config.hook.pytest_deselected(items=[item for item in items if not lanes.may_have(item)])
        items[:] = filter(lanes.may_have, items)


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Iterator[None]:
    """Nothing of what is collected becomes garbage."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()
        collector.hide_what_lasts()


def _fail_if_skipped(report: Any) -> None:
    if STRICT and report.skipped and not hasattr(report, "wasxfail"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
        report.outcome = "failed"
        report.longrepr = f"ZCSERVE_TEST_STRICT: nothing may be skipped here: {reason}"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Iterator[None]:
    report = yield
    _fail_if_skipped(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Iterator[None]:
    report = yield
    _fail_if_skipped(report)
    return report


def _descriptors() -> list[str]:
    """What each open descriptor of this process leads to."""
    names = []
    for fd in os.listdir("/proc/self/fd"):
        with suppress(FileNotFoundError):
            names.append(os.readlink(f"/proc/self/fd/{fd}"))
    return names


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> Iterator[None]:
    """A test that leaves descriptors open fails, and not one that has too few of them an hour later."""
    yield
    for param in item.callspec.params.values() if hasattr(item, "callspec") else ():
        if isinstance(param, BaseException):  # it lives as long as the run does, and would hold the frames it went by
            param.__traceback__ = param.__context__ = None
    if nextitem is None or nextitem.path != item.path:  # what the module had is gone
        collector.hide_what_lasts()
    if len(os.listdir("/proc/self/fd")) > DESCRIPTORS_MAX:
        gc.collect()
        gc.collect()  # the first one's finalizers leave some for the second
        left = _descriptors()
        if len(left) > DESCRIPTORS_MAX:
            pytest.fail(f"{len(left)} descriptors are open after this test: {sorted(left)}")


@pytest.fixture
def wait_until() -> WaitUntil:
    """`wait_until(predicate, timeout=20.0)`."""
    return waiting.wait_until


@pytest.fixture
def growth() -> Growth:
    """`growth(work, size)`: less than 8 is linear."""
    return waiting.growth


_tests = itertools.count()


@pytest.fixture
def tmp_path(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As pytest's own, which first looks at the directories of all tests before: two milliseconds of a processor."""
    name = re.sub(r"\W", "_", request.node.name)[:30]
    path = tmp_path_factory.getbasetemp() / f"{name}-{next(_tests)}"
    path.mkdir(0o700)
    return path


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """An empty root with a `write`."""
    return Site(tmp_path / "site")


@contextmanager
def _servers() -> Iterator[Serve]:
    with ExitStack() as stack:

        def start(root: Path, **config: Any) -> Server:
            return stack.enter_context(Server(Config(root=root, **{"port": 0} | config)))

        yield start


@pytest.fixture
def serve() -> Iterator[Serve]:
    """`serve(root, **config)`: a Server that serves from a thread, on 127.0.0.1 and any free port unless told."""
    with _servers() as start:
        yield start


@pytest.fixture(scope="module")
def lasting_site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    """As `site`: what all tests of a module ask for, and none changes."""
    return Site(tmp_path_factory.mktemp("lasting") / "site")


@pytest.fixture(scope="module")
def serve_lasting() -> Iterator[Serve]:
    """As `serve`, until the module's last test: a server that tests do nothing to but ask."""
    with _servers() as start:
        yield start


@pytest.fixture
def command(tmp_path: Path) -> Iterator[StartCommand]:
    """`command(root, *flags, environ={}, **popen)`: a process that serves, ready; `--port 0` unless flags tell."""
    with ExitStack() as stack:
        count = 0

        def start(root: Path, *flags: str, environ: dict[str, str] | None = None, **popen: Any) -> Command:
            nonlocal count
            count += 1
            where = () if {"--port", "--listen"} & {flag.partition("=")[0] for flag in flags} else ("--port", "0")
            argv = ("--root", str(root), *where, *flags)
            started = Command(argv, environ or {}, tmp_path / f"stdout-{count}", **popen)
            stack.callback(started.end)
            started.wait_ready()
            return started

        yield start
