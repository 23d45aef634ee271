"""The one thing that pyproject.toml cannot say: the compiled parts are optional."""

import os
from glob import glob
from pathlib import Path
from runpy import run_path

from setuptools import Extension, setup


def _compiled(module: str, depends: tuple[str, ...] = (), macros: tuple[tuple[str, str], ...] = ()) -> Extension:
    return Extension(
        module,
        [module.replace(".", "/") + ".pyx"],
        depends=list(depends),
        define_macros=list(macros),
        # tools/sanitize.py wants lines in its reports.
        extra_compile_args=os.environ.get("ZCSERVE_BUILD_FLAGS", "-O3 -g0").split(),
        # Without a compiler the install goes on in Python alone; this makes a failed build fatal.
        optional=not os.environ.get("ZCSERVE_BUILD_NATIVE"),
    )


# A lane that was compiled from other sources than those beside it would answer wrongly: net/fastlane.py compares.
_SOURCES = run_path("zcserve/net/lane/__init__.py")["digest"](Path("zcserve/net"))

setup(
    ext_modules=[
        _compiled(
            "zcserve.net._lane", tuple(sorted(glob("zcserve/net/lane/*.pxd"))), (("ZC_SOURCES", f'"{_SOURCES}"'),)
        ),
        _compiled("zcserve.cache._walk"),
    ]
)
