"""The one thing that pyproject.toml cannot say: the compiled lane is optional."""

import os

from setuptools import Extension, setup

setup(
    ext_modules=[
        Extension(
            "zcserve.net._lane",
            ["zcserve/net/_lane.pyx"],
            depends=["zcserve/net/_system.pxd"],
            extra_compile_args=["-O3", "-g0"],
            # Without a compiler the install goes on in Python alone; this makes a failed build fatal.
            optional=not os.environ.get("ZCSERVE_BUILD_NATIVE"),
        )
    ]
)
