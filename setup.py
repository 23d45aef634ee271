"""The one thing that pyproject.toml cannot say: the compiled parts are optional."""

import os
from glob import glob

from setuptools import Extension, setup


def _compiled(module: str, depends: tuple[str, ...] = ()) -> Extension:
    return Extension(
        module,
        [module.replace(".", "/") + ".pyx"],
        depends=list(depends),
        extra_compile_args=["-O3", "-g0"],
        # Without a compiler the install goes on in Python alone; this makes a failed build fatal.
        optional=not os.environ.get("ZCSERVE_BUILD_NATIVE"),
    )


setup(
    ext_modules=[
        _compiled("zcserve.net._lane", tuple(sorted(glob("zcserve/net/lane/*.pxd")))),
        _compiled("zcserve.cache._walk"),
    ]
)
