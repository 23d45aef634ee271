"""Which engine answers, native or Python's, and how many lanes there are with it.

The native one is there where the lane is built, and of the sources that lie beside it: else its answers might be those
of another version. Where `--engine auto` finds none, Python's engine answers, and `why_not_native` says why. Nothing is
opened here: fastlane.py does that.
"""

from __future__ import annotations

import sys
from functools import cache
from importlib import import_module
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

from zcserve.config.table import Config
from zcserve.config.units import Auto
from zcserve.errors import UsageError
from zcserve.net.lane import digest
from zcserve.net.lanes import number_of

HERE = Path(__file__).parent


def lanes_of(config: Config) -> int:
    """How many lanes there are to be, 1 with the Python engine. Raises UsageError where there cannot be so many."""
    if is_native(config):
        return number_of(config.lanes)
    if config.lanes == 1 or isinstance(config.lanes, Auto):
        return 1
    why = "--engine python has one loop" if config.engine == "python" else why_not_native()
    raise UsageError(f"lanes: {config.lanes} need the native engine: {why}; or use --lanes 1, or auto")


def is_native(config: Config) -> bool:
    """Whether the lane is wanted and built. Raises UsageError where nothing else is wanted, and it is not built."""
    if config.engine == "python":
        return False
    why = why_not_native()
    if why and config.engine == "native":
        raise UsageError(f"engine: {why}, or use --engine auto or python")
    return not why


def why_not_native(here: Path = HERE) -> str:
    """Why there is no lane, and what to do; "" where there is one. `here` is where its file lies."""
    try:
        lane = import_module("zcserve.net._lane")
    except Exception as error:  # a file for another version of something may raise anything
        why = _why_not_loaded(here, error)
    else:
        if (_own_digest() if here is HERE else digest(here)) in ("", getattr(lane, "sources", None)):
            return ""
        why = f"{Path(lane.__file__ or '').name} was compiled from other sources than those beside it"
    return (
        f"native is not built here: {why}; have a C compiler and Python's headers, and run pip install again "
        "(ZCSERVE_BUILD_NATIVE=1 shows what fails)"
    )


@cache
def _own_digest() -> str:
    """A lane that is loaded stays what it is, whatever becomes of its sources: they are read once."""
    return digest(HERE)


def _why_not_loaded(here: Path, error: Exception) -> str:
    files = sorted(path.name for path in here.glob("_lane*.so"))
    fitting = [name for name in files if name.removeprefix("_lane") in EXTENSION_SUFFIXES]
    if fitting:
        return f"{fitting[0]} cannot be loaded ({error})"
    if files:
        return f"{files[0]} is for another Python, this is {sys.implementation.cache_tag}"
    return "there was no C compiler when zcserve was installed, or it is a checkout that was not installed"
