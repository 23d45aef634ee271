"""The tests of the compiled parts in a build that watches memory: `python tools/sanitize.py`.

Copies the package into a temporary directory, builds them there with -fsanitize=address,undefined, and runs the
tests that drive it, and ten seconds of the parser's fuzzing, against that copy. Nothing in the checkout changes.
Needs gcc (or what CC names) with its libasan, Cython, setuptools, and what the tests need.

Odd: the interpreter is not built with the sanitizer, so the runtime is preloaded; Python's own allocator is
bypassed (PYTHONMALLOC), or it would hide what is written behind the end of an object; and leaks are not looked for,
since the interpreter frees nothing at its end: the tests see by weak references what the lane lets go.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

CHECKOUT = Path(__file__).parents[1]
TESTS = (
    "tests/net/test_grammar.py",
    "tests/net/test_lane.py",
    "tests/net/test_lane_conditions.py",
    "tests/net/test_lane_mapped.py",
    "tests/net/test_lane_parts.py",
    "tests/net/test_lane_quick.py",
    "tests/net/test_lane_scan.py",
    "tests/net/test_lane_uses.py",
    "tests/net/test_fastlane.py",
    "tests/net/test_sampler.py",
    "tests/wire/test_differential.py",
    "tests/wire/test_first_sight.py",
    "tests/wire/test_lane_conditions_wire.py",
    "tests/wire/test_pending_laws.py",
    "tests/wire/test_proxies.py",
    "tests/cache/test_walk.py",
    "tests/cache/test_walk_laws.py",
    "tests/fuzz",
)
FLAGS = "-O1 -g -fno-omit-frame-pointer -fsanitize=address,undefined -fno-sanitize-recover=undefined"
FUZZ_SECONDS = 10


def build(copy: Path) -> None:
    """The package with watched compiled parts, in `copy`. Raises CalledProcessError."""
    ignore = shutil.ignore_patterns("*.so", "*.c", "__pycache__")
    shutil.copytree(CHECKOUT / "zcserve", copy / "zcserve", ignore=ignore)
    shutil.copytree(CHECKOUT / "tests", copy / "tests", ignore=ignore)
    for name in ("setup.py", "pyproject.toml"):
        shutil.copy(CHECKOUT / name, copy)
    environ = os.environ | {"CFLAGS": FLAGS, "LDFLAGS": "-fsanitize=address,undefined", "ZCSERVE_BUILD_NATIVE": "1"}
    made = subprocess.run(
        [sys.executable, "setup.py", "-q", "build_ext", "--inplace"],
        cwd=copy,
        env=environ,
        capture_output=True,
        text=True,
    )
    if made.returncode:
        raise SystemExit(f"the build failed:\n{made.stdout}{made.stderr}")


def runtime() -> str:
    """What LD_PRELOAD must name: the sanitizers, and libstdc++, without which libasan cannot see exceptions."""
    compiler = os.environ.get("CC", "gcc").split()
    found = []
    for name in ("libasan.so", "libubsan.so", "libstdc++.so"):
        path = subprocess.run([*compiler, f"-print-file-name={name}"], capture_output=True, text=True).stdout.strip()
        if os.path.isabs(path):
            found.append(path)
        elif name == "libasan.so":
            raise SystemExit(f"{compiler[0]} has no {name}: install its sanitizers")
    return " ".join(found)


def watched(copy: Path) -> dict[str, str]:
    """The environment in which the copy is tested."""
    return os.environ | {
        "LD_PRELOAD": runtime(),
        "PYTHONPATH": str(copy),
        "PYTHONMALLOC": "malloc",
        "PYTHONDONTWRITEBYTECODE": "1",
        # A server's thread that aborts the process must say so in the test's output.
        "ASAN_OPTIONS": "detect_leaks=0:abort_on_error=1:allocator_may_return_null=1:detect_stack_use_after_return=0",
        "UBSAN_OPTIONS": "print_stacktrace=1:halt_on_error=1",
        "ZCSERVE_SANITIZED": "1",
    }


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; the exit code is the first that is not 0."""
    options = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    options.add_argument("tests", nargs="*", default=TESTS, help="what pytest is given instead of the lane's tests")
    options.add_argument("--fuzz-seconds", type=float, default=FUZZ_SECONDS)
    chosen = options.parse_args(argv)
    with tempfile.TemporaryDirectory(prefix="zcserve-sanitize-") as directory:
        copy = Path(directory)
        build(copy)
        environ = watched(copy)
        commands = [[sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *chosen.tests]]
        if chosen.fuzz_seconds:
            commands.append([sys.executable, "-m", "tests.support.fuzz_parse", "--seconds", str(chosen.fuzz_seconds)])
        for command in commands:
            code = subprocess.run(command, cwd=copy, env=environ).returncode
            if code:
                return code if code > 0 else 1
    print("the sanitizers found nothing")
    return 0


if __name__ == "__main__":
    sys.exit(main())
